"""Splitters, scorer and back-test with `LatentODERegressor` in scikit-learn's searches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from estimators.small_models import small, spirals
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score

from latentode import metrics
from latentode.model_selection import (
    SeriesKFold,
    SeriesTimeCutSplit,
    TimeCutSplit,
    cross_validate_forecasts,
    forecast_scorer,
)
from latentode.model_selection.forecast_metrics import METRICS


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def table():
    return spirals().sample(frac=1, random_state=0)


def quick(**params):
    return small(max_epochs=1, early_stopping=False, **params)


def in_days(df, zone):
    return df.assign(
        time=pd.Timestamp("2026-03-28", tz=zone) + pd.to_timedelta(df["time"], unit="D").dt.round("us")
    )


def test_a_fitted_model_tells_what_it_has_seen(table):
    for df in (table, in_days(table, "Europe/Zurich"), table.astype({"id": "category"})):
        model = quick().fit(df)
        seen = model.seen_until_
        assert seen.dtype == df["time"].dtype
        assert len(seen) == df["id"].nunique()
        for name, rows in df.groupby("id", observed=True):
            assert seen[name] == rows["time"].max()


def test_a_grid_over_sizes(table):
    search = GridSearchCV(
        quick(),
        {"latent_dim": [2, 3]},
        cv=TimeCutSplit(2, horizon=0.8),
        scoring={"error": forecast_scorer(), "crps": forecast_scorer("crps", n_samples=10)},
        refit="error",
        error_score="raise",
    ).fit(table)
    assert search.best_params_["latent_dim"] in (2, 3)
    assert np.isfinite(search.cv_results_["mean_test_crps"]).all()
    assert search.best_estimator_.seen_until_.max() == table["time"].max()  # fitted once more, on all
    cv = TimeCutSplit(2, horizon=0.8)
    for place, (train, test) in enumerate(cv.split(table)):  # the scores are those of models fitted by hand
        model = quick(latent_dim=3).fit(table.iloc[train])
        context, truth = table.iloc[np.intersect1d(train, test)], table.iloc[np.setdiff1d(test, train)]
        expected = -metrics.rmse(truth, model.predict(context, truth[["id", "time"]]))
        assert search.cv_results_[f"split{place}_test_error"][1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
def test_a_random_search_on_dates(table, zone):
    df = in_days(table, zone)
    cv = SeriesTimeCutSplit(2, horizon="30h", random_state=0)
    search = RandomizedSearchCV(
        quick(),
        {"hidden_dim": [6, 8, 10]},
        n_iter=1,
        cv=cv,
        scoring=forecast_scorer("mae", cuts=cv.cuts(df)),
        random_state=0,
        error_score="raise",
    ).fit(df)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_asks_what_a_model_answers(table, name):
    model = quick().fit(table[table["time"] < 2.0])
    assert np.isfinite(forecast_scorer(name)(model, table))


def test_whole_series(table):
    scores = cross_val_score(
        quick(),
        table,
        cv=SeriesKFold(2, random_state=0),
        scoring=forecast_scorer(share=0.5),
        error_score="raise",
    )
    assert np.isfinite(scores).all()


def test_controls_of_the_future_are_told(table):
    df = table.assign(u=np.sin(table["time"]))
    model = quick(control_cols=["u"], target_cols=["x", "y"])
    scores = cross_val_score(model, df, cv=TimeCutSplit(1), scoring=forecast_scorer(), error_score="raise")
    assert np.isfinite(scores).all()
    past = df[df["time"] <= 2.0]
    fitted = quick(control_cols=["u"], target_cols=["x", "y"]).fit(past)
    told = cross_validate_forecasts(model, df, [2.0])
    future = df[df["time"] > 2.0].reset_index(drop=True)
    expected = fitted.predict(past, future[["id", "time", "u"]])
    np.testing.assert_allclose(told["x_forecast"], expected["x"], rtol=1e-6)


def test_labels_have_forecasts_without_intervals(table):
    df = table.assign(mood=np.where(table["x"] > 0, "up", "down"))
    model = quick(target_cols=["x", "mood"], likelihood={"mood": "categorical"})
    found = cross_validate_forecasts(model, df, [2.0])
    assert list(found.columns)[3:] == ["x", "x_forecast", "x_lower", "x_upper", "mood", "mood_forecast"]
    assert set(found["mood_forecast"]) <= {"up", "down"}


def test_the_model_is_left_as_it_was(table):
    model = quick()
    before = model.get_params()
    found = cross_validate_forecasts(model, table, [1.5, 2.0], 0.8, refit=False)
    assert model.get_params() == before
    assert not hasattr(model, "model_")
    assert found["cutoff"].unique().tolist() == [1.5, 2.0]
    assert (found["x_lower"] < found["x_upper"]).all()
