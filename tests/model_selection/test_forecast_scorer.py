"""Which rows the scorer shows, asks for and scores, and that the scores are those of `latentode.metrics`."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from known_answers import LastValue
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from tables import by_hand, dated, ragged

from latentode import metrics
from latentode.exceptions import DataError
from latentode.model_selection import SeriesKFold, SeriesTimeCutSplit, TimeCutSplit, forecast_scorer
from latentode.model_selection.forecast_metrics import METRICS

ROUNDING = 1e-12


@pytest.fixture(autouse=True)
def _forget():
    LastValue.shown.clear()
    LastValue.trained.clear()


def scored_rows(df, cv, scorer):
    """(context, truth) rows of `df` in every split, as the estimator is shown them."""
    df = df.assign(x=np.arange(len(df), dtype=float))[["id", "time", "x"]]
    scores = cross_val_score(LastValue(), df, cv=cv, scoring=scorer, error_score="raise")
    assert len(scores) == cv.get_n_splits() == len(LastValue.shown)
    return [
        ({*context["x"].astype(int)}, {*df.reset_index().merge(times, on=["id", "time"])["x"].astype(int)})
        for context, times in LastValue.shown
    ]


def distinct(seed=0):
    """A table whose keys differ in every row, so that a row is known by them."""
    return ragged(seed).drop_duplicates(["id", "time"])


@pytest.mark.parametrize("zone", [None, "numbers", "Europe/Zurich"])
@pytest.mark.parametrize("horizon", [None, 4.0])
def test_series_are_cut_where_training_ended(zone, horizon):
    numbers = distinct()
    df = numbers if zone == "numbers" else dated(numbers, zone)
    length = horizon if horizon is None or zone == "numbers" else pd.Timedelta(hours=horizon)
    start = 0.0 if zone == "numbers" else pd.Timestamp("2026-03-28 20:00", tz=zone)
    cutoffs = [start + (cut if zone == "numbers" else pd.Timedelta(hours=cut)) for cut in (4.0, 6.5)]
    cv = TimeCutSplit(cutoffs=cutoffs, horizon=length)
    for cut, (context, truth) in zip((4.0, 6.5), scored_rows(df, cv, forecast_scorer())):
        past, test = by_hand(numbers, cut, horizon)
        assert context == test & past
        assert truth == test - past


@pytest.mark.parametrize("horizon", [None, 3.0])
def test_series_are_cut_on_their_own_clock(horizon):
    df = distinct()
    cv = TimeCutSplit(2, per_series=True, horizon=horizon)
    found = scored_rows(df, cv, forecast_scorer())
    for (train, test), (context, truth) in zip(cv.split(df), found):
        assert context == set(test) & set(train)
        assert truth == set(test) - set(train)


@pytest.mark.parametrize("shape", [{"cutoffs": [4.0, 6.5]}, {"cutoffs": [0.3, 0.6], "per_series": True}])
@pytest.mark.parametrize("horizon", [None, 4.0])
def test_unseen_series_are_cut_where_the_splitter_cut(shape, horizon):
    df = distinct()
    cv = SeriesTimeCutSplit(2, horizon=horizon, random_state=0, **shape)
    cuts = cv.cuts(df)
    found = scored_rows(df, cv, forecast_scorer(cuts=cuts))
    for place, ((_, test), (context, truth)) in enumerate(zip(cv.split(df), found)):
        past, _ = by_hand(df, cuts.iloc[:, place // 2].to_dict())
        assert context == set(test) & past
        assert truth == set(test) - past


def test_unseen_series_are_cut_at_the_latest_training_time():
    df = distinct()
    cv = SeriesTimeCutSplit(2, cutoffs=[5.0], random_state=0)
    for (train, test), (context, truth) in zip(cv.split(df), scored_rows(df, cv, forecast_scorer())):
        latest = df["time"].iloc[train].max()
        rows = df.iloc[test]
        times = rows.groupby("id")["time"]
        both = (times.transform("min") <= latest) & (latest < times.transform("max"))
        assert context == set(test[(both & (rows["time"] <= latest)).to_numpy()])
        assert truth == set(test[(both & (rows["time"] > latest)).to_numpy()])
        assert df["time"].iloc[train].max() < df["time"].iloc[list(truth)].min()


def test_unseen_series_are_cut_at_a_share():
    df = distinct()
    cv = SeriesKFold(2, random_state=0)
    by_share = scored_rows(df, cv, forecast_scorer(share=0.4))
    LastValue.shown.clear()
    own = TimeCutSplit(cutoffs=[0.4], per_series=True).cuts(df)
    assert scored_rows(df, cv, forecast_scorer(cuts=own)) == by_share
    LastValue.shown.clear()
    assert scored_rows(df, cv, forecast_scorer(cuts=own[0.4])) == by_share
    ((_, test),) = TimeCutSplit(cutoffs=[0.4], per_series=True).split(df)
    assert set.union(*(context | truth for context, truth in by_share)) == set(test)


def test_a_mixture_of_seen_and_unseen_series():
    df = distinct()
    train = df[(df["id"] != "s0") & (df["time"] <= 5.0)]
    model = LastValue().fit(train)
    forecast_scorer(share=0.5)(model, df)
    ((context, times),) = LastValue.shown
    half = df[df["id"] == "s0"]["time"].agg(["min", "max"]).mean()
    assert context[context["id"] == "s0"]["time"].max() <= half < times[times["id"] == "s0"]["time"].min()
    context, times = (table[table["id"].isin(train["id"])] for table in (context, times))
    assert context["time"].max() <= 5.0 < times["time"].min()


# --- values


@pytest.fixture
def asked():
    """A fitted estimator, a table, its context and its truth, with a gap."""
    df = ragged()
    df.iloc[3, 2] = np.nan
    model = LastValue(0.5, 2.0).fit(df[df["time"] <= 5.0])
    _, test = by_hand(df, 5.0)
    rows = df.iloc[sorted(test)]
    return model, df, rows[rows["time"] <= 5.0], rows[rows["time"] > 5.0]


def expected(name, model, context, truth):
    mean, std = model.predict(context, truth, return_std=True)
    if name == "log_score":
        return -metrics.gaussian_log_score(truth, mean, std)
    if name == "crps":
        return -metrics.crps_samples(truth, model.sample(context, truth, 100, random_state=0), fair=True)
    if name == "pinball":
        ends = [model._plus(mean, 1.0, 2.0 * z) for z in (-1.2815515655446004, 0.0, 1.2815515655446004)]
        return -np.mean([metrics.pinball(truth, end, q) for end, q in zip(ends, (0.1, 0.5, 0.9))])
    if name == "coverage":
        low, high = (model._plus(mean, 1.0, z * 2.0 * 1.6448536269514722) for z in (-1, 1))
        return -abs(metrics.interval_coverage(truth, low, high) - 0.9)
    if name == "r2":
        seen = [truth[name].notna().to_numpy() for name in "xy"]
        return np.mean(
            [r2_score(truth[name][rows], mean[name].to_numpy()[rows]) for name, rows in zip("xy", seen)]
        )
    return -getattr(metrics, name)(truth, mean)


@pytest.mark.parametrize("name", METRICS)
def test_scores_are_those_of_the_metrics(name, asked):
    model, df, context, truth = asked
    assert forecast_scorer(name)(model, df) == pytest.approx(expected(name, model, context, truth), rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_a_better_forecast_scores_higher(name):
    df = ragged().assign(x=1.0, y=lambda d: d["x"] + (d["time"] > 9) * 0.01)[["id", "time", "x", "y"]]
    good, bad = (LastValue(shift, 0.01).fit(df[df["time"] <= 5]) for shift in (0.0, 3.0))
    scorer = forecast_scorer(name)
    assert scorer(good, df) > scorer(bad, df)


def test_options_of_metrics(asked):
    model, df, context, truth = asked
    drawn = model.sample(context, truth, 7, random_state=3)
    found = forecast_scorer("crps", n_samples=7, random_state=3)(model, df)
    assert found == pytest.approx(-metrics.crps_samples(truth, drawn, fair=True), rel=ROUNDING)
    assert np.isfinite(forecast_scorer("crps", n_samples=1)(model, df))
    median = forecast_scorer("pinball", quantiles=[0.5])(model, df)
    assert median == pytest.approx(forecast_scorer("mae")(model, df) / 2, rel=ROUNDING)
    assert forecast_scorer("coverage", coverage=0.5)(model, df) != forecast_scorer("coverage")(model, df)


def test_chosen_targets_and_functions(asked):
    model, df, context, truth = asked
    mean = model.predict(context, truth)
    only = forecast_scorer("mae", target_cols=["y"])(model, df)
    assert only == pytest.approx(-metrics.mae(truth, mean, per_target=True)["y"], rel=ROUNDING)
    assert forecast_scorer(lambda truth, mean: metrics.mae(truth, mean))(model, df) == -metrics.mae(
        truth, mean
    )


def test_other_names_of_columns(asked):
    model, df, _, _ = asked
    named = {"id": "patient", "time": "hour"}
    other = LastValue(0.5, 2.0, "patient", "hour").fit(df[df["time"] <= 5.0].rename(columns=named))
    for name in METRICS:
        assert forecast_scorer(name)(other, df.rename(columns=named)) == forecast_scorer(name)(model, df)


def test_it_can_be_pickled_and_shows_its_arguments(asked):
    model, df, _, _ = asked
    scorer = forecast_scorer("pinball", quantiles=[0.25, 0.75], share=0.5)
    assert pickle.loads(pickle.dumps(scorer))(model, df) == scorer(model, df)
    assert repr(scorer) == "forecast_scorer('pinball', share=0.5, quantiles=[0.25, 0.75])"
    cuts = TimeCutSplit(2).cuts(df)
    assert repr(forecast_scorer(metrics.mae, cuts=cuts)) == "forecast_scorer(mae, cuts=...)"


def test_searches_can_be_scored_themselves():
    df = distinct()
    search = GridSearchCV(
        LastValue(), {"shift": [0.0, 5.0]}, cv=TimeCutSplit(2), scoring=forecast_scorer(), error_score="raise"
    )
    cv = TimeCutSplit(cutoffs=[8.0])
    nested = cross_val_score(search, df, cv=cv, scoring=forecast_scorer(), error_score="raise")
    plain = cross_val_score(LastValue(), df, cv=cv, scoring=forecast_scorer(), error_score="raise")
    assert nested == plain


# --- mistakes


def test_arguments():
    with pytest.raises(
        ValueError, match=r"metric must be one of rmse, .*; got 'crsp' \(did you mean 'crps'\?\)"
    ):
        forecast_scorer("crsp")
    with pytest.raises(ValueError, match="metric must be a name or a function of truth and forecast, got 3"):
        forecast_scorer(3)
    for name in ("quantiles", "coverage", "n_samples", "random_state"):
        with pytest.raises(ValueError, match=f"{name} has no effect on metric 'rmse': leave it out"):
            forecast_scorer("rmse", **{name: 1})
    with pytest.raises(ValueError, match="cuts and share both say where series are cut"):
        forecast_scorer(cuts=pd.Series({"a": 1.0}), share=0.5)
    with pytest.raises(
        ValueError, match=r"cuts must be what a splitter's method cuts\(df\) returns, got float"
    ):
        forecast_scorer(cuts=3.0)
    with pytest.raises(
        ValueError, match=r"share must be a number in \(0, 1\), of the span of a series; got 50"
    ):
        forecast_scorer(share=50)
    with pytest.raises(ValueError, match=r"target_cols must be a list of names, got 'x': write \['x'\]"):
        forecast_scorer(target_cols="x")
    for quantiles in ([], [5, 95], 0.5, "0.5"):
        with pytest.raises(
            ValueError, match="quantiles must be a sequence of numbers strictly between 0 and 1"
        ):
            forecast_scorer("pinball", quantiles=quantiles)
    with pytest.raises(ValueError, match=r"coverage must be a number in \(0, 1\); got 90"):
        forecast_scorer("coverage", coverage=90)
    with pytest.raises(ValueError, match="n_samples must be an int of at least 1; got 0"):
        forecast_scorer("crps", n_samples=0)
    with pytest.raises(ValueError, match="random_state must be an int"):
        forecast_scorer("crps", random_state="zero")


def test_questions_without_an_answer(asked):
    model, df, _, _ = asked
    with pytest.raises(ValueError, match="LastValue has no seen_until_"):
        forecast_scorer()(LastValue(), df)
    with pytest.raises(ValueError, match="y must be None"):
        forecast_scorer()(model, df, df["x"])
    with pytest.raises(
        ValueError, match=r"target_cols names 'xx', but the estimator predicts .*did you mean 'x'"
    ):
        forecast_scorer(target_cols=["xx"])(model, df)
    with pytest.raises(DataError, match=r"nothing to score: no series has rows both .* with cuts= or share="):
        forecast_scorer()(LastValue().fit(df), df)
    cuts = pd.DataFrame({5.0: [5.0], 6.0: [6.0]}, index=["s1"])
    with pytest.raises(DataError, match="cuts has no time for series 'new'"):
        forecast_scorer(cuts=cuts)(model, df.assign(id="new"))
    late = LastValue().fit(df[df["id"] != "s0"])
    with pytest.raises(DataError, match="trained beyond all of the 2 columns of cuts"):
        forecast_scorer(cuts=TimeCutSplit(2).cuts(df))(late, df)
    model.layout_.categories["x"] = None
    with pytest.raises(ValueError, match="target 'x' is a category, which metric 'rmse' does not score"):
        forecast_scorer()(model, df)
    assert np.isfinite(forecast_scorer(target_cols=["y"])(model, df))


def test_too_little_for_r2():
    df = pd.DataFrame({"id": "a", "time": [1.0, 2.0], "x": [1.0, 2.0]})
    with pytest.raises(DataError, match="no target has two observations after the cuts"):
        forecast_scorer("r2")(LastValue().fit(df[:1]), df)
