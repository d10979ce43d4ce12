"""The CRPS of samples against its definition, other implementations and the Gaussian limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from latentode.exceptions import DataError
from latentode.metrics import crps_gaussian, crps_samples, mae, pit_samples

ROUNDING = 1e-12  # sums of a few dozen float64 terms


def cases(seed=0, n_samples=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(10, 2)), rng.normal(0.3, 2.0, size=(n_samples, 10, 2))


def pairs(truth, samples, fair):
    """The defining double sum."""
    n = len(samples)
    spread = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)) / (2 * n * (n - 1 if fair else n))
    return np.abs(samples - truth).mean(axis=0) - spread


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize("n_samples", [2, 3, 8])
def test_it_is_the_double_sum_over_pairs(fair, n_samples):
    truth, samples = cases(n_samples=n_samples)
    expected = pairs(truth, samples, fair)
    assert crps_samples(truth, samples, fair=fair) == pytest.approx(expected.mean(), rel=ROUNDING)
    found = crps_samples(truth, samples, fair=fair, per_target=True)
    np.testing.assert_allclose(found, expected.mean(axis=0), rtol=ROUNDING)


@pytest.mark.parametrize("truth", [-2.0, 0.5, 0.7, 3.0])
def test_it_is_the_integral_over_the_empirical_distribution(truth):
    samples = np.array([-1.0, 0.5, 0.5, 2.0])
    edges = np.unique([*samples, truth])
    expected = sum(
        integrate.quad(lambda x: ((samples <= x).mean() - (truth <= x)) ** 2, low, high)[0]
        for low, high in pairwise(edges)
    )
    assert crps_samples(np.array([truth]), samples[:, None]) == pytest.approx(expected, rel=1e-10)


def test_other_implementations_agree():
    truth, samples = cases(n_samples=9)
    last = np.moveaxis(samples, 0, -1)
    scoringrules = pytest.importorskip("scoringrules")
    for fair, estimator in ((False, "nrg"), (True, "fair")):
        expected = scoringrules.crps_ensemble(truth, last, estimator=estimator).mean()
        assert crps_samples(truth, samples, fair=fair) == pytest.approx(expected, rel=1e-10)
    properscoring = pytest.importorskip("properscoring")
    assert crps_samples(truth, samples) == pytest.approx(
        properscoring.crps_ensemble(truth, last).mean(), rel=1e-10
    )


def test_evenly_spread_quantiles_of_a_normal_score_like_the_normal():
    truth = np.array([-1.3, 0.0, 2.5])
    samples = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)[:, None] * np.ones(3)
    # the distribution of n quantiles is within 1/n of the normal one, and the two tails beyond them weigh ~ 1/n
    assert crps_samples(truth, samples) == pytest.approx(crps_gaussian(truth, 0.0, 1.0), abs=1e-4)


def test_the_fair_score_has_the_same_mean_for_any_number_of_samples():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200_000)
    expected = crps_gaussian(truth, 0.0, 1.0)
    error = (
        5 * 0.8 / np.sqrt(200_000)
    )  # five standard errors; scores of a normal forecast spread by less than 0.8
    for n in (2, 5):
        samples = rng.normal(size=(n, 200_000))
        assert crps_samples(truth, samples, fair=True) == pytest.approx(expected, abs=error)
        assert crps_samples(truth, samples) > expected + error


def test_one_sample_scores_its_absolute_error():
    truth, samples = cases(n_samples=1)
    assert crps_samples(truth, samples) == pytest.approx(mae(truth, samples[0]), rel=ROUNDING)
    with pytest.raises(ValueError, match="fair=True needs at least 2 samples, got 1"):
        crps_samples(truth, samples, fair=True)


def test_a_far_origin_costs_no_digits():
    truth, samples = cases()
    shift = 2.0**30
    near = crps_samples(truth, samples)
    assert crps_samples(truth + shift, samples + shift) == pytest.approx(near, rel=1e-6)


def test_ignored_cells():
    truth, samples = cases()
    expected = crps_samples(truth[2:], samples[:, 2:])
    truth[0] = np.nan
    samples[3, 1] = np.nan
    samples[0, 0] = 1e30
    assert crps_samples(truth, samples) == pytest.approx(expected, rel=ROUNDING)


# --- tables


def as_tables(truth, samples):
    keys = pd.DataFrame({"id": np.repeat(["a", "b"], 5), "time": np.tile(np.arange(5.0), 2)})
    drawn = [
        keys.assign(sample=s, y=sample[:, 1], x=sample[:, 0]) for s, sample in enumerate(samples)
    ]  # targets in another order
    return keys.assign(x=truth[:, 0], y=truth[:, 1]), pd.concat(drawn, ignore_index=True)


def test_tables_score_like_arrays():
    truth, samples = cases()
    tables = as_tables(truth, samples)
    assert crps_samples(*tables) == crps_samples(truth, samples)
    expected = crps_samples(truth, samples, per_target=True)
    assert crps_samples(*tables, per_target=True)[["x", "y"]].tolist() == pytest.approx(
        expected, rel=ROUNDING
    )
    drawn = tables[1].sort_values(
        ["id", "time", "sample"], kind="stable"
    )  # samples side by side, rows in order
    assert crps_samples(tables[0], drawn) == pytest.approx(crps_samples(truth, samples), rel=ROUNDING)


def test_samples_that_do_not_fit():
    truth, samples = cases()
    tables = as_tables(truth, samples)
    with pytest.raises(DataError, match=r"samples has no column 'sample', only .*sample_col="):
        crps_samples(tables[0], tables[1].rename(columns={"sample": "draw"}))
    with pytest.raises(DataError, match="truth has 10 rows, sample 6 has 9"):
        crps_samples(tables[0], tables[1].iloc[:-1])
    with pytest.raises(DataError, match="truth and sample 0 differ in column 'time'"):
        crps_samples(tables[0], tables[1].assign(time=tables[1]["time"] + 1))
    with pytest.raises(DataError, match="must name the sample of every row"):
        crps_samples(tables[0], tables[1].assign(sample=np.nan))
    with pytest.raises(ValueError, match=r"behind an axis of samples, \(S, \*\(10, 2\)\); got \(10, 2\)"):
        crps_samples(truth, samples[0])
    with pytest.raises(ValueError, match=r"shape \(S, ..., D\) with S of at least 1, got \(0, 10, 2\)"):
        crps_samples(truth, samples[:0])
    with pytest.raises(ValueError, match=r"truth given as table\(s\) but samples\[0\]"):
        crps_samples(tables[0], samples)


def test_columns_that_only_the_truth_has_are_no_targets():
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"id": "a", "time": np.arange(4.0), "x": rng.normal(size=4)})
    drawn = pd.concat([truth.assign(x=rng.normal(size=4)).assign(sample=i) for i in range(5)])
    rich = truth.assign(dose=1.0, sex="f")
    assert crps_samples(rich, drawn) == crps_samples(truth, drawn)
    pd.testing.assert_frame_equal(pit_samples(rich, drawn), pit_samples(truth, drawn))
