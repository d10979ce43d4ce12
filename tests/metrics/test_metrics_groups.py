"""A score per group is the score of the group's rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentode.exceptions import DataError
from latentode.metrics import (
    crps_gaussian,
    crps_samples,
    gaussian_log_score,
    interval_coverage,
    interval_width,
    mae,
    mse,
    pinball,
    rmse,
    standardised_mse,
)

ROUNDING = 1e-12  # a mean of a few dozen float64 terms, summed in another order
METRICS = {
    "mse": lambda y, m, s, **k: mse(y, m, **k),
    "rmse": lambda y, m, s, **k: rmse(y, m, **k),
    "mae": lambda y, m, s, **k: mae(y, m, **k),
    "standardised_mse": lambda y, m, s, **k: standardised_mse(y, m, [1.0, 2.0], [2.0, 5.0], **k),
    "interval_coverage": lambda y, m, s, **k: interval_coverage(y, m, s, **k),
    "interval_width": lambda y, m, s, **k: interval_width(m, s, **k),
    "pinball": lambda y, m, s, **k: pinball(y, m, 0.3, **k),
    "gaussian_log_score": lambda y, m, s, **k: gaussian_log_score(y, m, s, **k),
    "crps_gaussian": lambda y, m, s, **k: crps_gaussian(y, m, s, **k),
    "crps_samples": lambda y, m, s, **k: crps_samples(y, in_samples(m, s), **k),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
KEYS = {"id": np.repeat(["b", "a", "c"], [3, 5, 4]), "time": np.arange(12.0)}


def in_samples(one, other):
    if isinstance(one, pd.DataFrame):
        return pd.concat([one.assign(sample=0), other.assign(sample=1)], ignore_index=True)
    return np.stack([one, other])


def arrays():
    rng = np.random.default_rng(0)
    truth, mean = rng.normal(size=(2, 12, 2))
    truth[rng.random(truth.shape) < 0.2] = np.nan
    return truth, mean, np.abs(mean) + 1.0


def tables():
    return [pd.DataFrame(KEYS | {"x": a[:, 0], "y": a[:, 1]}) for a in arrays()]


@every_metric
def test_a_group_scores_like_its_rows_alone(metric):
    whole = metric(*tables(), by="id")
    assert list(whole.index) == ["a", "b", "c"]
    for name in "abc":
        alone = [table[table["id"] == name] for table in tables()]
        assert whole[name] == pytest.approx(metric(*alone), rel=ROUNDING)


@every_metric
def test_groups_and_targets(metric):
    whole = metric(*tables(), by="id", per_target=True)
    assert isinstance(whole, pd.DataFrame)
    assert list(whole.columns) == ["x", "y"]
    for name in "abc":
        alone = metric(*(table[table["id"] == name] for table in tables()), per_target=True)
        np.testing.assert_allclose(whole.loc[name, ["x", "y"]], alone[["x", "y"]], rtol=ROUNDING)


@every_metric
def test_labels_group_arrays_by_position(metric):
    by_name = metric(*tables(), by="id", per_target=True)
    labels = pd.Series(KEYS["id"], index=np.arange(12)[::-1])  # the index of labels means nothing
    found = metric(*arrays(), by=labels, per_target=True)
    np.testing.assert_array_equal(found, by_name)
    assert found.index.equals(by_name.index)


def test_groups_of_rows_with_more_axes():
    truth, mean, _ = (a.reshape(3, 4, 2) for a in arrays())
    found = mae(truth, mean, by=[1, 0, 1])
    assert found[0] == pytest.approx(mae(truth[1], mean[1]), rel=ROUNDING)
    assert found[1] == pytest.approx(mae(truth[[0, 2]], mean[[0, 2]]), rel=ROUNDING)


def test_cells_and_not_rows_weigh():
    truth = np.array([[1.0, 3.0], [5.0, np.nan], [np.nan, np.nan]])
    assert mae(truth, 0.0 * truth, by=["a", "a", "b"]).to_dict() == pytest.approx(
        {"a": 3.0, "b": np.nan}, nan_ok=True
    )


def test_a_row_without_a_label_is_not_scored():
    truth = np.array([1.0, 2.0, 1000.0])
    assert mae(truth, 0.0, by=["a", "a", None]).to_dict() == {"a": 1.5}


def test_a_column_of_labels_is_no_target():
    truth, mean, _ = tables()
    arm = np.tile([1, 0], 6)  # numbers: without by= it would be a target
    expected = mae(truth, mean, by=arm)
    assert mae(truth.assign(arm=arm), mean, by="arm").equals(expected)
    assert mae(truth.assign(arm=arm), mean.assign(arm=arm), by="arm").equals(expected)


def test_categories_keep_their_order_and_their_dtype():
    labels = pd.Categorical(["late", "early", "late"], categories=["early", "never", "late"], ordered=True)
    found = mae(np.array([1.0, 2.0, 3.0]), 0.0, by=labels)
    assert found.tolist() == [2.0, 2.0]
    assert list(found.index) == ["early", "late"]


def test_labels_of_several_types():
    found = mae(np.array([1.0, 2.0, 3.0]), 0.0, by=np.array([1, "a", 1], dtype=object))
    assert found.to_dict() == {1: 2.0, "a": 2.0}


def test_labels_that_do_not_fit():
    truth, mean, _ = tables()
    with pytest.raises(DataError, match=r"by='ids' is no column of truth, .* \(did you mean 'id'\?\)"):
        mae(truth, mean, by="ids")
    with pytest.raises(ValueError, match=r"one label per row, shape \(12,\); got shape \(3,\)"):
        mae(truth, mean, by=[1, 2, 3])
    with pytest.raises(ValueError, match=r"by must be labels, one per row, .* got 'id'"):
        mae(*arrays()[:2], by="id")
    with pytest.raises(ValueError, match="nothing to score: every label in by is missing"):
        mae(truth, mean, by=[None] * 12)
