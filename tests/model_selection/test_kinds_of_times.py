"""Periods and timedeltas as times: the splits of the same table with numbers, and answers in the caller's dtype."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from estimators.small_models import small
from known_answers import LastValue
from tables import ragged

from latentode.exceptions import DataError
from latentode.model_selection import (
    SeriesTimeCutSplit,
    TimeCutSplit,
    cross_validate_forecasts,
    forecast_scorer,
)

START = pd.Timestamp("2026-03-01")


def in_hours():
    """Times that are whole hours."""
    df = ragged().reset_index(drop=True)
    return df.assign(time=np.round(10 * df["time"]))


def lengths(hours):
    return pd.to_timedelta(hours, unit="h")


def periods(hours):
    return pd.Series(START + lengths(hours)).dt.to_period("h").array


KINDS = {"period": periods, "timedelta": lengths}
every_kind = pytest.mark.parametrize("write", KINDS.values(), ids=KINDS)


def lists(splitter, table):
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(table)]


def moments(write, hours):
    return list(pd.Series(write(pd.Series(hours))))


@every_kind
def test_splits_are_those_of_numbers(write):
    df = in_hours()
    told = df.assign(time=write(df["time"]))
    for numbers, splitter in (
        (TimeCutSplit(2), TimeCutSplit(2)),
        (TimeCutSplit(2, horizon=20), TimeCutSplit(2, horizon=pd.Timedelta("20h"))),
        (TimeCutSplit(2, per_series=True), TimeCutSplit(2, per_series=True)),
        (TimeCutSplit(cutoffs=[50.0, 70.0]), TimeCutSplit(cutoffs=moments(write, [50.0, 70.0]))),
        (TimeCutSplit(cutoffs=[50.0]), TimeCutSplit(cutoffs=[str(moments(write, [50.0])[0])])),
        (SeriesTimeCutSplit(2, random_state=0), SeriesTimeCutSplit(2, random_state=0)),
    ):
        assert lists(splitter, told) == lists(numbers, df)


@every_kind
def test_cuts_are_told_in_the_dtype_of_the_times(write):
    df = in_hours()
    told = df.assign(time=write(df["time"]))
    cutoffs = moments(write, [50.0, 70.0])
    cuts = TimeCutSplit(cutoffs=cutoffs).cuts(told)
    assert list(cuts.columns) == cutoffs
    assert all((cuts[cutoff] == cutoff).all() for cutoff in cutoffs)
    own, numbers = TimeCutSplit(2, per_series=True).cuts(told), TimeCutSplit(2, per_series=True).cuts(df)
    for share in own:
        expected = pd.Series(write(numbers[share]), index=own.index)
        if write is periods:
            assert (own[share] == expected).all()
        else:
            assert ((own[share] - expected).abs() < pd.Timedelta("1ms")).all()


@every_kind
def test_scores_and_forecasts_are_those_of_numbers(write):
    df = in_hours()
    told = df.assign(time=write(df["time"]))
    cut, own_cut = 60.0, moments(write, [60.0])[0]
    model, own = LastValue().fit(df[df["time"] <= cut]), LastValue().fit(told[told["time"] <= own_cut])
    assert forecast_scorer()(own, told) == forecast_scorer()(model, df)
    some = df["id"] < "s4"
    model, own = LastValue().fit(df[some]), LastValue().fit(told[some])
    assert forecast_scorer(share=0.5)(own, told[~some]) == forecast_scorer(share=0.5)(model, df[~some])
    splitter, numbers = TimeCutSplit(cutoffs=[own_cut]), TimeCutSplit(cutoffs=[cut])
    assert forecast_scorer(cuts=splitter.cuts(told))(own, told[~some]) == forecast_scorer(
        cuts=numbers.cuts(df)
    )(model, df[~some])
    found = cross_validate_forecasts(LastValue(), told, [own_cut], pd.Timedelta("20h"))
    expected = cross_validate_forecasts(LastValue(), df, [cut], 20.0)
    assert found["cutoff"].dtype == found["time"].dtype == told["time"].dtype
    assert (found["cutoff"] == own_cut).all()
    pd.testing.assert_frame_equal(
        found.drop(columns=["time", "cutoff"]), expected.drop(columns=["time", "cutoff"])
    )


@every_kind
def test_a_model_in_the_back_test(write):
    df = pd.DataFrame({"id": np.repeat(list("abcdef"), 12), "time": np.tile(np.arange(12.0), 6)})
    df = df.assign(x=np.sin(df["time"]), time=write(df["time"]))
    cutoff = moments(write, [7.0])[0]
    found = cross_validate_forecasts(small(max_epochs=1, early_stopping=False), df, [cutoff])
    assert len(found) == 6 * 4
    assert found["time"].dtype == df["time"].dtype
    assert np.isfinite(found["x_forecast"]).all()


def test_months_are_cut_at_their_starts():
    months = pd.period_range("2026-01", periods=12, freq="M")
    df = pd.DataFrame({"id": "a", "time": months, "x": 1.0})
    splitter = TimeCutSplit(1, horizon=pd.Timedelta("61D"))  # from 1 October to 1 December
    assert lists(splitter, df) == [(list(range(10)), list(range(12)))]
    assert list(splitter.cuts(df).columns) == [pd.Period("2026-10", "M")]


def test_cutoffs_of_another_kind():
    df = in_hours()
    for cutoff in (START, 5, "soon", pd.Period("2026-03-02", "D"), pd.NaT):
        with pytest.raises(
            ValueError, match=r"cutoffs must be periods of the same frequency .*\(period\[h\]\)"
        ):
            next(TimeCutSplit(cutoffs=[cutoff]).split(df.assign(time=periods(df["time"]))))
    for cutoff in (START, 5, "soon", pd.NaT):
        with pytest.raises(ValueError, match=r"cutoffs must be timedeltas, as the times are \(timedelta"):
            next(TimeCutSplit(cutoffs=[cutoff]).split(df.assign(time=lengths(df["time"]))))
    with pytest.raises(ValueError, match=r"horizon must be a positive duration, .* for periods; got 3"):
        next(TimeCutSplit(horizon=3).split(df.assign(time=periods(df["time"]))))
    dates = df.assign(time=START + lengths(df["time"]))
    with pytest.raises(ValueError, match="cutoffs must be datetimes, as the times are"):
        next(TimeCutSplit(cutoffs=moments(periods, [5.0])).split(dates))


def test_cuts_of_another_kind():
    df = in_hours()
    dates = df.assign(time=START + lengths(df["time"]))
    cuts = TimeCutSplit(1).cuts(df)
    with pytest.raises(DataError, match=r"cuts are numbers .*, but the times of the table are datetimes"):
        forecast_scorer(cuts=cuts)(LastValue().fit(dates), dates)
    with pytest.raises(DataError, match=r"the last training times are datetimes .* are numbers"):
        forecast_scorer()(LastValue().fit(dates), df)
    aware = dates.assign(time=dates["time"].dt.tz_localize("UTC"))
    with pytest.raises(DataError, match=r"cuts have no time zone .*, unlike the times"):
        forecast_scorer(cuts=TimeCutSplit(1).cuts(dates))(LastValue().fit(aware), aware)
