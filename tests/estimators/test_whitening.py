"""Whitening against covariances, and what it spares a flow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from small_flows import small

from latentode.estimators.whitening import Whitening

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(4, 4)) * [1e-3, 1.0, 50.0, 1e6]
X = RNG.normal(size=(500, 4)) @ MIXING + [5.0, -1.0, 1e4, 0.0]
EVEN = np.ones(500)


def test_white_rows_are_white():
    white = Whitening.of(X, EVEN).apply(X)
    np.testing.assert_allclose(white.mean(0), 0.0, atol=1e-10)
    np.testing.assert_allclose(
        np.cov(white.T, bias=True), np.eye(4), atol=0.05
    )  # drawn by (4 / 500)², not quite


def test_the_way_back():
    whitening = Whitening.of(X, EVEN)
    np.testing.assert_allclose(whitening.undo(whitening.apply(X)), X, rtol=1e-10, atol=1e-10)


def test_the_log_determinant_is_that_of_the_map():
    whitening = Whitening.of(X, EVEN)
    jacobian = whitening.undo(np.eye(4)) - whitening.undo(np.zeros((4, 4)))
    assert whitening.log_scale == pytest.approx(np.linalg.slogdet(jacobian)[1])


def test_columns_without_correlation_are_only_scaled():
    apart = np.stack(np.meshgrid([-3.0, 0.0, 3.0], [10.0, 20.0]), -1).reshape(-1, 2)
    whitening = Whitening.of(apart, np.ones(6))
    np.testing.assert_allclose(whitening.apply(apart), (apart - apart.mean(0)) / apart.std(0), atol=1e-12)


def test_the_order_of_columns_does_not_matter():
    order = [2, 0, 3, 1]
    np.testing.assert_allclose(
        Whitening.of(X[:, order], EVEN).apply(X[:, order]),
        Whitening.of(X, EVEN).apply(X)[:, order],
        atol=1e-9,
    )


def test_fewer_rows_than_columns_are_only_scaled():
    few = X[:4]
    np.testing.assert_allclose(Whitening.of(few, EVEN[:4]).root, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("which", ["continuous", "planar"])
def test_a_column_that_others_give_has_no_density(which):
    twice = np.column_stack([X, X[:, 1] * 2 - X[:, 0]])
    with pytest.raises(ValueError, match=r"column \d of X is a combination of others"):
        small(which).fit(twice)


@pytest.mark.parametrize("which", ["continuous", "planar"])
def test_a_normal_distribution_costs_no_training(which):
    """Strongly correlated columns: a flow of standardised ones was 2 nats off after many epochs."""
    scale = X.std(0)  # whose units SciPy would take for a singular covariance
    truth = (
        multivariate_normal(X.mean(0) / scale, np.cov((X / scale).T)).logpdf(X / scale) - np.log(scale).sum()
    )
    model = small(which, max_epochs=1, lr=1e-4).fit(X)
    assert model.score(X) / len(X) == pytest.approx(truth.mean(), abs=0.3)
