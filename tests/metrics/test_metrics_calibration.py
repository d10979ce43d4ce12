"""PIT values and calibration curves against closed forms and simulated honest forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from latentode.metrics import calibration_curve, interval_coverage, pit_gaussian, pit_samples

ROUNDING = 1e-12


def keyed(values):
    keys = {"id": "a", "time": np.arange(len(values)) + 0.5}
    return pd.DataFrame(keys | {"x": values[:, 0], "y": values[:, 1]}, index=np.arange(len(values)) + 7)


def test_pit_of_a_gaussian_is_scipys_distribution_function():
    rng = np.random.default_rng(0)
    truth, mean, std = rng.normal(size=(9, 2)), rng.normal(size=(9, 2)), rng.uniform(0.5, 2, size=(9, 2))
    truth[0, 1] = np.nan
    expected = stats.norm.cdf(truth, mean, std)
    np.testing.assert_allclose(pit_gaussian(truth, mean, std), expected, rtol=ROUNDING)
    table = pit_gaussian(keyed(truth), keyed(mean), keyed(std))
    assert list(table.columns) == ["id", "time", "x", "y"]
    assert table[["id", "time"]].equals(keyed(truth)[["id", "time"]])
    np.testing.assert_allclose(table[["x", "y"]], expected, rtol=ROUNDING)


def test_a_std_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="std must be positive"):
        pit_gaussian(np.ones(3), 0.0, 0.0)


def test_pit_of_samples_is_the_middle_of_the_ranks():
    samples = np.array([1.0, 2.0, 2.0, 4.0])[:, None]
    for truth, rank in ((0.0, 0.0), (1.5, 1.0), (2.0, 2.0), (3.0, 3.0), (9.0, 4.0), (1.0, 0.5)):
        assert pit_samples(np.array([truth]), samples).tolist() == [(rank + 0.5) / 5]


def test_pit_of_many_samples_tends_to_that_of_their_distribution():
    samples = stats.norm.ppf((np.arange(1000) + 0.5) / 1000)[:, None]
    for truth in (-2.0, 0.1, 1.0):
        found = pit_samples(np.array([truth]), samples)
        assert found == pytest.approx(pit_gaussian(np.array([truth]), 0.0, 1.0), abs=1e-3)


def test_pit_of_samples_in_tables_keeps_keys_and_gaps():
    rng = np.random.default_rng(0)
    truth, samples = rng.normal(size=(6, 2)), rng.normal(size=(4, 6, 2))
    truth[2, 0] = np.nan
    tables = pd.concat([keyed(sample).assign(sample=s) for s, sample in enumerate(samples)])
    found = pit_samples(keyed(truth), tables)
    np.testing.assert_array_equal(found[["x", "y"]], pit_samples(truth, samples))
    assert np.isnan(found["x"].iloc[2])
    assert list(found.index) == list(range(7, 13))


def test_the_curve_is_the_coverage_of_the_central_intervals():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 2)) * [1.0, 3.0]
    truth[rng.random(truth.shape) < 0.1] = np.nan
    curve = calibration_curve(pit_gaussian(truth, 0.0, 1.0), per_target=True)
    assert list(curve.columns) == ["nominal", 0, 1]
    np.testing.assert_allclose(curve["nominal"], np.arange(1, 20) / 20)
    for row in curve.itertuples(index=False):
        low, high = stats.norm.interval(row[0])
        np.testing.assert_allclose(
            row[1:], interval_coverage(truth, low, high, per_target=True), rtol=ROUNDING
        )


def test_evenly_spread_values_lie_on_the_diagonal():
    curve = calibration_curve((np.arange(2000) + 0.5) / 2000)
    np.testing.assert_allclose(curve["observed"], curve["nominal"], rtol=1e-9)


@pytest.mark.parametrize("n_samples", [9, 19, 50])
def test_every_rank_of_an_honest_ensemble_once_has_no_bias(n_samples):
    ranks = np.arange(n_samples + 1) - 0.5  # the truth between all neighbours among the samples 0, 1, ...
    pit = pit_samples(ranks, np.arange(n_samples)[:, None] * np.ones(n_samples + 1))
    np.testing.assert_allclose(pit, (np.arange(n_samples + 1) + 0.5) / (n_samples + 1), rtol=ROUNDING)
    curve = calibration_curve(pit)
    assert np.abs(curve["observed"] - curve["nominal"]).max() <= 1 / (n_samples + 1) + 1e-9


def test_the_end_of_an_interval_belongs_to_it():
    assert calibration_curve(np.array([0.05, 0.95]), [0.9])["observed"].tolist() == [1.0]


def test_levels_keep_their_order_and_targets_their_names():
    pit = keyed(np.array([[0.5, 0.01], [0.4, 0.99], [np.nan, 0.5]]))
    curve = calibration_curve(pit, [0.9, 0.1], per_target=True)
    assert curve["nominal"].tolist() == [0.9, 0.1]
    assert curve["x"].tolist() == [1.0, 0.5]
    assert curve["y"].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_what_is_no_curve():
    with pytest.raises(ValueError, match="PIT values must lie between 0 and 1"):
        calibration_curve(np.array([0.5, 1.5]))
    for levels in ([0.0, 0.5], [90], []):
        with pytest.raises(ValueError, match="nominal must be coverages strictly between 0 and 1"):
            calibration_curve(np.array([0.5]), levels)
    with pytest.raises(ValueError, match="needs the name 'nominal'"):
        calibration_curve(keyed(np.ones((2, 2))).rename(columns={"x": "nominal"}), per_target=True)
