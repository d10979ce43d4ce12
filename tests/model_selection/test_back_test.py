"""The table of forecasts from several cutoffs against forecasts made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from known_answers import LastValue
from tables import by_hand, dated, ragged

from latentode.exceptions import DataError
from latentode.metrics import mae
from latentode.model_selection import cross_validate_forecasts

CUTOFFS = [4.0, 6.5]


@pytest.fixture(autouse=True)
def _forget():
    LastValue.shown.clear()
    LastValue.trained.clear()


@pytest.mark.parametrize("horizon", [None, 4.0])
def test_rows_are_the_horizons_in_the_order_of_the_table(horizon):
    df = ragged()
    found = cross_validate_forecasts(LastValue(0.5), df, CUTOFFS, horizon)
    ends = [f"{name}{end}" for name in "xy" for end in ("", "_forecast", "_lower", "_upper")]
    assert list(found.columns) == ["id", "time", "cutoff", *ends]
    assert found.index.equals(pd.RangeIndex(len(found)))
    for cut in CUTOFFS:
        past, test = by_hand(df, cut, horizon)
        part = found[found["cutoff"] == cut].reset_index(drop=True)
        expected = df.iloc[sorted(test - past)].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[["id", "time", "x", "y"]], expected)
        known = df.iloc[sorted(past)].sort_values("time", kind="stable").groupby("id").last()
        np.testing.assert_array_equal(part["x_forecast"], known["x"].loc[part["id"]].to_numpy() + 0.5)


def test_learning_anew_or_once():
    df = ragged()
    model = LastValue()
    cross_validate_forecasts(model, df, CUTOFFS, 4.0)
    assert [len(train) for train in LastValue.trained] == [len(by_hand(df, cut)[0]) for cut in CUTOFFS]
    assert [train["time"].max() <= cut for train, cut in zip(LastValue.trained, CUTOFFS)] == [True, True]
    assert not hasattr(model, "seen_until_")
    LastValue.trained.clear()
    LastValue.shown.clear()
    cross_validate_forecasts(model, df, CUTOFFS, 4.0, refit=False)
    (train,) = LastValue.trained
    assert train["time"].max() <= CUTOFFS[0]
    assert CUTOFFS[0] < LastValue.shown[-1][0]["time"].max() <= CUTOFFS[1]  # a longer context


def test_intervals_have_the_coverage_asked_for():
    found = cross_validate_forecasts(LastValue(std=2.0), ragged(), CUTOFFS, coverage=0.5)
    np.testing.assert_allclose(found["x_upper"] - found["x_lower"], 2 * 2.0 * 0.6744897501960817)


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_dtypes_are_kept(zone, unit):
    df = dated(ragged(), zone).astype({"id": "category", "x": "float32"})
    df["time"] = df["time"].dt.as_unit(unit)
    start = pd.Timestamp("2026-03-28 20:00", tz=zone)
    found = cross_validate_forecasts(
        LastValue(), df, [start + pd.Timedelta(hours=cut) for cut in CUTOFFS], "4h"
    )
    numbers = cross_validate_forecasts(LastValue(), ragged().astype({"x": "float32"}), CUTOFFS, 4.0)
    for name in ("id", "time", "x", "y"):
        assert found[name].dtype == df[name].dtype
    assert found["cutoff"].dtype == df["time"].dtype
    assert found["x"].tolist() == numbers["x"].tolist()
    assert found["x_forecast"].tolist() == numbers["x_forecast"].tolist()


def test_whole_numbers_stay_whole():
    df = pd.DataFrame(
        {"id": 7, "time": np.arange(8), "x": pd.array([1, 2, None, 4, 5, None, 7, 8], dtype="Int64")}
    )
    found = cross_validate_forecasts(LastValue(), df, [3, 5], 2)
    assert found["time"].tolist() == [4, 5, 6, 7]
    assert found["cutoff"].dtype == found["time"].dtype == df["time"].dtype
    assert found["x"].dtype == "Int64"
    assert cross_validate_forecasts(LastValue(), df, [2.5], 2)["cutoff"].tolist() == [2.5, 2.5]


def test_a_score_per_cutoff():
    found = cross_validate_forecasts(LastValue(), ragged(), CUTOFFS, 4.0)
    truth = found[["id", "time", "cutoff", "x"]]
    scores = mae(truth, truth.assign(x=found["x_forecast"]), by="cutoff")
    assert list(scores.index) == CUTOFFS


def test_names_of_targets_that_are_no_strings():
    df = ragged().rename(columns={"x": 0, "y": 1})
    assert cross_validate_forecasts(LastValue(), df, [5.0])[1].dtype == float


def test_cutoffs_that_leave_nothing_are_named_before_any_training():
    for cutoffs, text in (
        ([-1.0, 4.0], "cutoff -1.0 leaves nothing to train"),
        ([4.0, 99.0], "cutoff 99.0 leaves nothing to test: no series has rows both up to it and after it"),
    ):
        with pytest.raises(DataError, match=text):
            cross_validate_forecasts(LastValue(), ragged(), cutoffs)
    assert not LastValue.trained


def test_arguments():
    df = ragged()
    with pytest.raises(
        ValueError, match="cross_validate_forecasts: refit must be one of True, False; got 'no'"
    ):
        cross_validate_forecasts(LastValue(), df, CUTOFFS, refit="no")
    with pytest.raises(ValueError, match=r"coverage must be a number in \(0, 1\); got 90"):
        cross_validate_forecasts(LastValue(), df, CUTOFFS, coverage=90)
    with pytest.raises(ValueError, match=r"cutoffs must be a sequence of times, got 4.0"):
        cross_validate_forecasts(LastValue(), df, 4.0)
    with pytest.raises(ValueError, match="horizon must be a positive number"):
        cross_validate_forecasts(LastValue(), df, CUTOFFS, 0)
    for name in ("cutoff", "x_lower"):
        with pytest.raises(DataError, match=f"the answer needs the name '{name}' twice"):
            cross_validate_forecasts(LastValue(), df.rename(columns={"y": name}), CUTOFFS)
    with pytest.raises(DataError, match=r"no time column 'time' \(did you mean 'times'"):
        cross_validate_forecasts(LastValue(), df.rename(columns={"time": "times"}), CUTOFFS)
