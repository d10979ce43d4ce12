"""What densities by flows are for, at full size: `pytest -m slow tests/estimators/test_flow_claims.py`, some minutes.

Each flow is the default one, as a newcomer calls it, but for those that are compared at equal parameters.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits, make_moons
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from small_flows import mixture, mixture_log_density

from latentode import ContinuousFlowDensity, PlanarFlowDensity

pytestmark = pytest.mark.slow
QUIET = {"random_state": 0, "verbose": 0}


@pytest.fixture(scope="module")
def of_mixture():
    return ContinuousFlowDensity(**QUIET).fit(mixture(5000))


def test_a_known_mixture_is_found_within_a_twentieth_of_a_nat(of_mixture):
    held_out = mixture(4000, seed=1)
    assert (mixture_log_density(held_out) - of_mixture.score_samples(held_out)).mean() < 0.05


def test_the_density_integrates_to_one(of_mixture):
    side = np.linspace(-12, 12, 301)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert np.exp(of_mixture.score_samples(grid)).sum() * 0.08**2 == pytest.approx(1.0, abs=0.01)


def test_samples_follow_the_density(of_mixture):
    """The truth is as likely under the samples' moments: mean and covariance of 20,000 draws."""
    drawn, truth = of_mixture.sample(20_000, random_state=0), mixture(20_000, seed=2)
    np.testing.assert_allclose(drawn.mean(0), truth.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(truth.T), atol=0.2)


def moons():
    return (make_moons(n, noise=0.05, random_state=seed)[0] for n, seed in ((5000, 0), (4000, 1)))


def test_two_moons_above_kernel_density():
    train, test = moons()
    flow = ContinuousFlowDensity(**QUIET).fit(train)
    kernel = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.01, 0.5, 20)}).fit(train)
    assert flow.score(test) > kernel.score(test)


def test_two_moons_above_the_discrete_planar_flow_of_equal_parameters_where_these_are_few():
    """8 hidden units against 8 layers, 5 parameters each, both with their defaults: about 800 steps against 3,000.

    Not so from some dozens of layers on: `examples/paper/densities.py --equal` has the figures.
    """
    train, test = moons()
    discrete = PlanarFlowDensity(n_layers=8, **QUIET).fit(train)
    continuous = ContinuousFlowDensity(field="planar", hidden_dim=8, **QUIET).fit(train)
    sizes = [sum(part.numel() for part in flow.model_.parameters()) for flow in (discrete, continuous)]
    assert sizes == [40, 40]
    assert continuous.score(test) > discrete.score(test)


def test_digits_above_the_best_gaussian_mixture():
    rows = load_digits().data[np.random.default_rng(0).permutation(1797)]
    pca = PCA(8, random_state=0).fit(rows[:1400])
    train, test = pca.transform(rows[:1400]), pca.transform(rows[1400:])
    mixtures = [
        GaussianMixture(k, covariance_type=kind, random_state=0).fit(train)
        for k in (1, 2, 4, 6, 8, 10, 12, 16)
        for kind in ("full", "diag")
    ]
    chosen = min(mixtures, key=lambda one: one.bic(train))
    assert ContinuousFlowDensity(**QUIET).fit(train).score(test) > chosen.score(test) * len(test)
