"""Points in the plane against SciPy's distributions, and against their formulas undone."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chisquare, kstest, multivariate_normal, norm, uniform

from latentode.datasets import (
    eight_gaussians_log_density,
    make_eight_gaussians,
    make_pinwheel,
    make_two_spirals,
    plane,
)

EXACT = 1e-12  # rounding of a few float64 operations on numbers of order 1 to 10
UNLIKELY = 1e-6  # a right sample has a smaller p value once in a million

MAKERS = {
    "eight gaussians": make_eight_gaussians,
    "pinwheel": make_pinwheel,
    "two spirals": lambda *args, **kwargs: make_two_spirals(*args, **kwargs)[0],
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_points_are_an_array_in_scikit_learns_form(make):
    X = make(37, random_state=0)
    assert X.shape == (37, 2)
    assert X.dtype == np.float64
    assert make(1, random_state=0).shape == (1, 2)


def test_same_seed_same_points_other_seed_others(make):
    X = make(50, random_state=7)
    np.testing.assert_array_equal(X, make(50, random_state=7))
    np.testing.assert_array_equal(X, make(50, random_state=np.random.default_rng(7)))
    assert not np.array_equal(X, make(50, random_state=8))
    assert not np.array_equal(make(50), make(50))


def test_global_random_state_is_left_alone(make):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make(10)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# --- eight Gaussians


def test_eight_gaussians_come_from_eight_equal_lumps():
    X = make_eight_gaussians(8000, radius=3.0, std=0.2, random_state=0)
    corners = 3.0 * np.array(
        [[1, 0], [0, 1], [-1, 0], [0, -1], *(np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2**0.5)]
    )
    away = X[:, None] - corners
    nearest = np.square(away).sum(axis=-1).argmin(axis=1)
    assert chisquare(np.bincount(nearest, minlength=8)).pvalue > UNLIKELY
    error = away[np.arange(8000), nearest] / 0.2  # the lumps are 11 standard deviations apart
    assert kstest(error[:, 0], norm.cdf).pvalue > UNLIKELY
    assert kstest(error[:, 1], norm.cdf).pvalue > UNLIKELY
    assert abs(np.corrcoef(error.T)[0, 1]) < 6 / np.sqrt(8000)


@pytest.mark.parametrize(("radius", "std"), [(4.0, 0.5), (1.0, 2.0), (0.0, 1.0), (7.0, 0.01)])
def test_log_density_is_that_of_the_mixture(radius, std):
    X = np.random.default_rng(0).normal(scale=5.0, size=(200, 2))
    turns = np.exp(2j * np.pi * np.arange(8) / 8)
    parts = [multivariate_normal([radius * t.real, radius * t.imag], std**2).logpdf(X) for t in turns]
    expected = logsumexp(parts, axis=0) - np.log(8)
    np.testing.assert_allclose(eight_gaussians_log_density(X, radius=radius, std=std), expected, rtol=1e-11)


def test_log_density_has_the_defaults_of_the_points():
    X = make_eight_gaussians(20_000, random_state=1)
    # E log p = -H; the lumps are 6 standard deviations apart, so H is log 8 and the entropy of one, almost
    entropy = np.log(8) + 1 + np.log(2 * np.pi * 0.5**2)
    # log p has the standard deviation of half a chi-squared with 2 degrees of freedom: 1
    assert eight_gaussians_log_density(X).mean() == pytest.approx(-entropy, abs=6 / np.sqrt(20_000) + 0.01)


def test_log_density_far_away_is_finite_and_takes_lists():
    found = eight_gaussians_log_density([[1e6, 0.0], [0.0, -1e6]], radius=1.0, std=1.0)
    np.testing.assert_allclose(found, -0.5 * (1e6 - 1.0) ** 2, rtol=1e-10)
    assert eight_gaussians_log_density(np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize(
    ("X", "text"),
    [
        ([1.0, 2.0], r"X must be points in the plane, an array of shape \(n, 2\); got shape \(2,\)"),
        (np.zeros((4, 3)), r"X must be points in the plane.* got shape \(4, 3\)"),
        ([[0.0, np.nan]], "X must be finite; it has NaN or infinity: drop or repair these points"),
        ([[np.inf, 0.0]], "X must be finite"),
    ],
)
def test_bad_points_are_refused(X, text):
    with pytest.raises(ValueError, match=text):
        eight_gaussians_log_density(X)


# --- pinwheel


def test_pinwheel_arms_undone_are_one_gaussian():
    """A point's radius tells how far it was turned, where arms have no width; and rate 0 does not turn at all."""
    X = make_pinwheel(6000, n_arms=3, radial_std=0.1, tangential_std=0.0, rate=0.4, random_state=0)
    r = np.hypot(*X.T)
    assert kstest((r - 1) / 0.1, norm.cdf).pvalue > UNLIKELY
    arm = (np.arctan2(X[:, 1], X[:, 0]) - 0.4 * np.exp(r)) * 3 / (2 * np.pi)
    np.testing.assert_allclose(arm, np.rint(arm), atol=EXACT)
    assert chisquare(np.bincount(np.rint(arm).astype(int) % 3, minlength=3)).pvalue > UNLIKELY


def test_pinwheel_arms_have_the_wanted_width():
    X = make_pinwheel(5000, n_arms=1, radial_std=0.3, tangential_std=0.05, rate=0.0, random_state=0)
    assert kstest((X[:, 0] - 1) / 0.3, norm.cdf).pvalue > UNLIKELY
    assert kstest(X[:, 1] / 0.05, norm.cdf).pvalue > UNLIKELY


def test_pinwheel_keeps_the_distance_of_its_clouds():
    """Turning keeps the distance from the origin: E |x|² = 1 + radial_std² + tangential_std², bent or not."""
    bent, straight = (
        make_pinwheel(4000, rate=rate, radial_std=0.4, tangential_std=0.2, random_state=3)
        for rate in (0.5, 0.0)
    )
    np.testing.assert_allclose(np.hypot(*bent.T), np.hypot(*straight.T), atol=EXACT)
    assert np.square(bent).sum(axis=1).mean() == pytest.approx(1 + 0.4**2 + 0.2**2, abs=0.1)


# --- two spirals


@pytest.mark.parametrize("turns", [0.5, 1.5, 3.0])
def test_spirals_are_archimedean_and_each_others_half_turn(turns):
    X, y = make_two_spirals(4000, turns=turns, random_state=0)
    assert y.dtype == np.int64
    z = (X[:, 0] + 1j * X[:, 1]) * np.where(y == 0, 1, -1)
    r, end = np.abs(z), np.pi / 2 + 2 * np.pi * turns
    np.testing.assert_allclose(z, r * np.exp(1j * end * r), atol=EXACT)
    lowest = (np.pi / 2 / end) ** 2
    for arm in (0, 1):  # even along the arm: the square of the radius is uniform
        assert kstest(r[y == arm] ** 2, uniform(lowest, 1 - lowest).cdf).pvalue > UNLIKELY


@pytest.mark.parametrize(("n_samples", "counts"), [(100, [50, 50]), (7, [4, 3]), (1, [1])])
def test_spirals_are_balanced_and_in_random_order(n_samples, counts):
    _, y = make_two_spirals(n_samples, random_state=0)
    assert np.bincount(y).tolist() == counts
    if n_samples == 100:
        assert 20 < np.count_nonzero(np.diff(y)) < 80  # 50 ± 5 changes of a fair order


def test_spirals_do_not_meet_without_noise():
    X, y = make_two_spirals(2000, random_state=0)
    gap = np.sqrt(np.square(X[y == 0][:, None] - X[y == 1]).sum(axis=-1)).min()
    # radially π / θ_end = 0.286 apart; along the normal less, by no more than the slope of the innermost turn
    assert 0.2 < gap < 0.29


def test_noise_of_spirals_has_the_wanted_spread_and_keeps_their_places():
    clean, y = make_two_spirals(10_000, random_state=4)
    noisy, same = make_two_spirals(10_000, noise=0.05, random_state=4)
    np.testing.assert_array_equal(y, same)
    assert kstest(((noisy - clean) / 0.05).ravel(), norm.cdf).pvalue > UNLIKELY


# --- arguments


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (
            make_eight_gaussians,
            {"n_samples": 0},
            "make_eight_gaussians: n_samples must be an int of at least 1; got 0",
        ),
        (make_eight_gaussians, {"radius": -1.0}, "radius must be a number of at least 0; got -1.0"),
        (make_eight_gaussians, {"std": 0.0}, "std must be a number greater than 0; got 0.0"),
        (
            eight_gaussians_log_density,
            {"X": [[0.0, 0.0]], "std": 0.0},
            "eight_gaussians_log_density: std must be",
        ),
        (
            eight_gaussians_log_density,
            {"X": [[0.0, 0.0]], "radius": np.nan},
            "radius must be a number .* got nan",
        ),
        (make_pinwheel, {"n_samples": 2.5}, "make_pinwheel: n_samples must be an int of at least 1; got 2.5"),
        (make_pinwheel, {"n_arms": 0}, "n_arms must be an int of at least 1; got 0"),
        (make_pinwheel, {"radial_std": -0.1}, "radial_std must be a number of at least 0; got -0.1"),
        (make_pinwheel, {"tangential_std": np.inf}, "tangential_std must be a number of at least 0; got inf"),
        (make_pinwheel, {"rate": "much"}, "rate must be a number of at least 0; got 'much'"),
        (
            make_two_spirals,
            {"n_samples": True},
            "make_two_spirals: n_samples must be an int of at least 1; got True",
        ),
        (make_two_spirals, {"noise": -0.1}, "noise must be a number of at least 0; got -0.1"),
        (make_two_spirals, {"turns": 0}, "turns must be a number greater than 0; got 0"),
        (make_two_spirals, {"random_state": "seed"}, "random_state must be an int"),
    ],
)
def test_bad_arguments_are_refused(function, arguments, text):
    with pytest.raises(ValueError, match=text):
        function(**arguments)


def test_examples_in_the_docstrings():
    result = doctest.testmod(plane)
    assert result.attempted > 0
    assert result.failed == 0
