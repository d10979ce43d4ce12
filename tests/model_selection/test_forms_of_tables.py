"""Splitters, scorer and back-test on every form of a table that `fit` takes: the same rows, scores and forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from estimators.small_models import small, spirals
from sklearn.model_selection import GridSearchCV
from tables import ragged

from latentode.model_selection import (
    SeriesKFold,
    SeriesTimeCutSplit,
    TimeCutSplit,
    cross_validate_forecasts,
    forecast_scorer,
)

NIXTLA = {"id": "unique_id", "time": "ds", "x": "y", "y": "z"}
FORMS = {
    "levels": lambda df: df.set_index(["id", "time"]),
    "levels without names": lambda df: df.set_index(["id", "time"]).rename_axis([None, None]),
    "levels of other names": lambda df: df.set_index(["id", "time"]).rename_axis(["patient", "hour"]),
    "id in the index": lambda df: df.set_index("id"),
    "polars": pl.from_pandas,
    "nixtla": lambda df: df.rename(columns=NIXTLA),
}
SPLITTERS = {
    "series": SeriesKFold(3, random_state=0),
    "time": TimeCutSplit(2, horizon=2.0),
    "both": SeriesTimeCutSplit(2, random_state=0),
}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def lists(splitter, table):
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(table)]


def quick():
    return small(max_epochs=1, early_stopping=False)


def one_series():
    time = np.arange(24) / 4
    return pd.DataFrame({"time": time, "x": np.sin(time)})


@every_form
@pytest.mark.parametrize("splitter", SPLITTERS.values(), ids=SPLITTERS)
def test_the_rows_of_a_split_do_not_depend_on_the_form(form, splitter):
    df = ragged().reset_index(drop=True)
    assert lists(splitter, form(df)) == lists(splitter, df)


@every_form
def test_cuts_do_not_depend_on_the_form(form):
    df = ragged()
    splitter = TimeCutSplit(2, per_series=True)
    pd.testing.assert_frame_equal(splitter.cuts(form(df)), splitter.cuts(df), check_names=False)


def test_folds_need_no_times():
    df = ragged()
    expected = lists(SPLITTERS["series"], df)
    assert lists(SPLITTERS["series"], df.drop(columns="time")) == expected
    assert lists(SPLITTERS["series"], pl.from_pandas(df.rename(columns={"time": "hour"}))) == expected
    named = SeriesKFold(3, random_state=0, id_col="who")
    assert lists(named, df.rename(columns={"id": "who"}).set_index(["who", "time"])) == expected


@every_form
def test_scores_and_forecasts_do_not_depend_on_the_form(form):
    like = spirals()[["id", "time", "x"]]  # of Nixtla's tables, only `y` is learned
    given, cutoff = form(like), float(like["time"].median())
    score = {}
    for name, table in (("long", like), ("form", given)):
        search = GridSearchCV(
            quick(),
            {"latent_dim": [2]},
            cv=TimeCutSplit(cutoffs=[cutoff]),
            scoring=forecast_scorer(),
            refit=False,
        )
        score[name] = search.fit(table).best_score_
    assert score["form"] == pytest.approx(score["long"], rel=1e-6)
    expected = cross_validate_forecasts(quick(), like, [cutoff])
    found = cross_validate_forecasts(quick(), given, [cutoff])
    assert isinstance(found, pd.DataFrame)
    assert len(found.columns) == len(expected.columns)
    for own, other in zip(expected, found):
        np.testing.assert_allclose(
            found[other].to_numpy(np.float64), expected[own].to_numpy(np.float64), rtol=1e-6
        )


def test_keys_from_the_index_are_columns_of_the_back_test():
    df = spirals()
    found = cross_validate_forecasts(quick(), FORMS["levels of other names"](df), [df["time"].median()])
    assert list(found.columns[:3]) == ["patient", "hour", "cutoff"]


@pytest.mark.parametrize("as_index", [False, True])
def test_one_series_without_an_id(as_index):
    df = one_series()
    if as_index:
        start = pd.Timestamp("2026-01-01")
        df = df.assign(time=start + pd.to_timedelta(df["time"], unit="D")).set_index("time")
        cutoff = start + pd.Timedelta("4D")
    else:
        cutoff = 4.0
    splitter = TimeCutSplit(cutoffs=[cutoff])
    assert lists(splitter, df) == [(list(range(17)), list(range(24)))]
    model = quick().fit(df[:17])
    assert forecast_scorer("mae")(model, df) < 0
    assert forecast_scorer("mae")(model, df) == forecast_scorer("mae", cuts=splitter.cuts(df))(model, df)
    found = cross_validate_forecasts(quick(), df, [cutoff])
    assert "id" not in found
    assert len(found) == 7
    named = quick().set_params(id_col=None)
    pd.testing.assert_frame_equal(cross_validate_forecasts(named, df, [cutoff]), found)
    assert lists(TimeCutSplit(cutoffs=[cutoff], id_col=None), df) == lists(splitter, df)
