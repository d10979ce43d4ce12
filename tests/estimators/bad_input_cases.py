"""Mistakes that users make, and what they are answered: the cases behind `examples/bad_input.md`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.exceptions import NotFittedError
from small_models import small, spirals

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.exceptions import DataError, ModelFileError
from latentode.metrics import crps_gaussian, crps_samples, interval_coverage, mae, rmse, standardised_mse
from latentode.model_selection import (
    SeriesKFold,
    SeriesTimeCutSplit,
    TimeCutSplit,
    cross_validate_forecasts,
    forecast_scorer,
)


@dataclass(frozen=True)
class World:
    """What the mistakes are made with: a table of spirals (id, time, x, y), fitted models, and an empty folder."""

    df: pd.DataFrame
    model: LatentODERegressor
    classifier: LatentODEClassifier
    folder: Path

    @property
    def dated(self) -> pd.DataFrame:
        return self.df.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(self.df["time"], unit="D"))

    def file(self, content: bytes) -> Path:
        path = self.folder / "model.latentode"
        path.write_bytes(content)
        return path

    def saved(self, model: Any) -> Path:
        path = self.folder / "saved.latentode"
        model.save(path)
        return path


@dataclass(frozen=True)
class Mistake:
    """What was given, in the words and code of a user; the type of the answer; and the call."""

    given: str
    error: type[Exception]
    call: Callable[[World], Any]


def make_world(folder: Path) -> World:
    df = spirals(6, 8)
    classifier = LatentODEClassifier(
        latent_dim=2, hidden_dim=4, max_epochs=1, random_state=0, verbose=0, batch_size=6
    )
    labels = df.groupby("id")["x"].mean().gt(0)
    labels.iloc[:2] = [True, False]
    return World(df, small(max_epochs=1).fit(df), classifier.fit(df, labels), folder)


def fit(change: Callable[[pd.DataFrame], Any], **params: Any) -> Callable[[World], Any]:
    """Fit a changed table."""
    return lambda w: small(max_epochs=1, **params).fit(change(w.df))


def predict(change: Callable[[pd.DataFrame], Any]) -> Callable[[World], Any]:
    """Ask a fitted model about a changed table."""
    return lambda w: w.model.predict(change(w.df))


def at(times: Any) -> Callable[[World], Any]:
    return lambda w: w.model.predict(w.df, times=times)


def param(**params: Any) -> Callable[[World], Any]:
    """Fit with a parameter."""
    return lambda w: small(max_epochs=1).set_params(**params).fit(w.df)


def counts(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(x=np.arange(len(df)) % 4)


def damaged(w: World) -> Path:
    return w.file(w.saved(w.model).read_bytes()[:2000])


FIT_TABLES = [
    Mistake("an empty table", DataError, fit(lambda df: df[df["id"] == "nobody"])),
    Mistake("a table without id column, several series", DataError, fit(lambda df: df.drop(columns="id"))),
    Mistake("the ids are called `ID`", DataError, fit(lambda df: df.rename(columns={"id": "ID"}))),
    Mistake("the times are called `date`", DataError, fit(lambda df: df.rename(columns={"time": "date"}))),
    Mistake('`id_col="patient"`, not in the table', DataError, fit(lambda df: df, id_col="patient")),
    Mistake('`target_cols=["X"]` for column x', DataError, fit(lambda df: df, target_cols=["X"])),
    Mistake('`target_cols="x"`, a name and no list', ValueError, fit(lambda df: df, target_cols="x")),
    Mistake("`target_cols=[]`", ValueError, fit(lambda df: df, target_cols=[])),
    Mistake("the time as a target", ValueError, fit(lambda df: df, target_cols=["x", "time"])),
    Mistake('`time_col="id"`', ValueError, fit(lambda df: df, time_col="id")),
    Mistake("two columns called x", DataError, fit(lambda df: df.set_axis(["id", "time", "x", "x"], axis=1))),
    Mistake(
        'numbers as text ("1,5") in a target',
        DataError,
        fit(lambda df: df.assign(x="1,5"), target_cols=["x", "y"]),
    ),
    Mistake("only texts besides id and time", DataError, fit(lambda df: df[["id", "time"]].assign(x="high"))),
    Mistake("complex numbers in a target", DataError, fit(lambda df: df.assign(x=1j), target_cols=["x"])),
    Mistake("inf in a target", DataError, fit(lambda df: df.assign(y=df["y"].mask(df.index == 14, np.inf)))),
    Mistake("a target that is never observed", DataError, fit(lambda df: df.assign(x=np.nan))),
    Mistake(
        "a row without time (NaN)", DataError, fit(lambda df: df.assign(time=df["time"].mask(df.index == 9)))
    ),
    Mistake(
        "a row without date (NaT)",
        DataError,
        lambda w: small().fit(w.dated.assign(time=w.dated["time"].mask(w.df.index == 9))),
    ),
    Mistake(
        "an infinite time", DataError, fit(lambda df: df.assign(time=df["time"].mask(df.index == 9, -np.inf)))
    ),
    Mistake("dates as text", DataError, lambda w: small().fit(w.dated.astype({"time": str}))),
    Mistake("truths as times", DataError, fit(lambda df: df.assign(time=df["time"] > 1))),
    Mistake(
        "dates with different time zones",
        DataError,
        lambda w: small().fit(
            w.df.assign(
                time=[
                    pd.Timestamp(f"2024-01-{1 + i % 8:02d}", tz=("UTC", "Europe/Paris")[i % 2])
                    for i in range(len(w.df))
                ]
            )
        ),
    ),
    Mistake("a row without id (NaN)", DataError, fit(lambda df: df.assign(id=df["id"].mask(df.index == 3)))),
    Mistake("lists as ids", DataError, fit(lambda df: df.assign(id=[[1]] * len(df)))),
    Mistake("one row per series", DataError, fit(lambda df: df.drop_duplicates("id"))),
    Mistake("all rows at one time", DataError, fit(lambda df: df.assign(time=3.0))),
    Mistake(
        "a wide table, a column per time",
        DataError,
        fit(lambda df: df.assign(n=df.groupby("id").cumcount()).pivot(index="id", columns="n", values="x")),
    ),
    Mistake("a Series, `df['x']`", TypeError, fit(lambda df: df["x"])),
    Mistake("a dict of columns", TypeError, fit(lambda df: df.to_dict("list"))),
    Mistake("a list of tables", TypeError, fit(lambda df: [df, df])),
    Mistake("the name of a file", TypeError, fit(lambda df: "series.csv")),
    Mistake("None", TypeError, fit(lambda df: None)),
    Mistake("a lazy table of polars", TypeError, fit(lambda df: pl.LazyFrame(df.to_dict("list")))),
    Mistake("a grouped table", TypeError, fit(lambda df: df.groupby("id"))),
    Mistake("`fit(df, df['x'])`, targets given apart", ValueError, lambda w: small().fit(w.df, w.df["x"])),
]

ROLES = [
    Mistake("a static column that varies within a series", DataError, fit(lambda df: df, static_cols=["x"])),
    Mistake('`static_cols=["age"]`, not in the table', DataError, fit(lambda df: df, static_cols=["age"])),
    Mistake(
        "a static column of texts",
        DataError,
        fit(lambda df: df.assign(sex="f"), static_cols=["sex"]),
    ),
    Mistake('`static_cols="x"`, a name and no list', ValueError, fit(lambda df: df, static_cols="x")),
    Mistake(
        "one column as target and as control",
        ValueError,
        fit(lambda df: df, target_cols=["x"], control_cols=["x"]),
    ),
    Mistake(
        "a series without any value of a control",
        DataError,
        fit(lambda df: df.assign(u=df["x"].where(df["id"] > 0)), control_cols=["u"]),
    ),
    Mistake(
        "two values of a control at one time",
        DataError,
        fit(lambda df: pd.concat([df.assign(u=0.0), df.assign(u=1.0)]), control_cols=["u"]),
    ),
    Mistake(
        "an infinite control",
        DataError,
        fit(lambda df: df.assign(u=np.inf), control_cols=["u"]),
    ),
    Mistake(
        "a table to predict from without the control",
        DataError,
        lambda w: small(max_epochs=1, control_cols=["u"]).fit(w.df.assign(u=w.df["x"])).predict(w.df, [5.0]),
    ),
    Mistake(
        "a table to predict from without the static column",
        DataError,
        lambda w: small(max_epochs=1, static_cols=["s"]).fit(w.df.assign(s=w.df["id"])).predict(w.df, [5.0]),
    ),
    Mistake(
        "a negative measurement error",
        DataError,
        fit(lambda df: df.assign(e=-0.1), error_cols={"x": "e"}),
    ),
    Mistake(
        "measurement errors of a column that is no target",
        ValueError,
        fit(lambda df: df.assign(e=0.1), target_cols=["y"], error_cols={"x": "e"}),
    ),
]

LIKELIHOODS = [
    Mistake(
        "a count of -1, `likelihood='poisson'`",
        DataError,
        fit(lambda df: counts(df).assign(y=-1), likelihood="poisson"),
    ),
    Mistake("numbers that are no counts", DataError, fit(lambda df: df, likelihood="negative_binomial")),
    Mistake(
        "the classes 1 and 2, `likelihood='bernoulli'`",
        DataError,
        fit(lambda df: df.assign(x=1 + df.index % 2), likelihood={"x": "bernoulli"}),
    ),
    Mistake(
        "a categorical target of one label",
        DataError,
        fit(lambda df: df.assign(x="low"), likelihood={"x": "categorical"}),
    ),
    Mistake(
        "an infinite number as a label",
        DataError,
        fit(
            lambda df: df.assign(x=df["x"].round().mask(df.index == 3, np.inf)),
            likelihood={"x": "categorical"},
        ),
    ),
    Mistake(
        "a label that the training did not have",
        DataError,
        lambda w: (
            small(max_epochs=1, likelihood={"x": "categorical"})
            .fit(w.df.assign(x=np.where(w.df["x"] > 0, "high", "low")))
            .predict(w.df.assign(x="higher"), [5.0])
        ),
    ),
    Mistake("`likelihood='normal'`", ValueError, param(likelihood="normal")),
    Mistake("`likelihood={'x': 'gauss'}`", ValueError, param(likelihood={"x": "gauss"})),
    Mistake("`likelihood={'z': 'poisson'}`, no column z", ValueError, param(likelihood={"z": "poisson"})),
    Mistake("`predict_proba` of numbers", AttributeError, lambda w: w.model.predict_proba(w.df)),
    Mistake(
        "`predict_intensity` without `event_times`", AttributeError, lambda w: w.model.predict_intensity(w.df)
    ),
]

PARAMETERS = [
    Mistake("`LatentODERegressor(latent_dims=4)`", TypeError, lambda w: LatentODERegressor(latent_dims=4)),
    Mistake("`LatentODERegressor('id')`, by position", TypeError, lambda w: LatentODERegressor("id")),
    Mistake("`set_params(max_epoch=5)`", ValueError, lambda w: small().set_params(max_epoch=5)),
    Mistake("`latent_dim=0`", ValueError, param(latent_dim=0)),
    Mistake("`hidden_dim=16.0`", ValueError, param(hidden_dim=16.0)),
    Mistake("`encoder='GRU'`", ValueError, param(encoder="GRU")),
    Mistake("`field='mpl'`", ValueError, param(field="mpl")),
    Mistake("`solver='dopri'`", ValueError, param(solver="dopri")),
    Mistake("`rtol=0`", ValueError, param(rtol=0)),
    Mistake("`lr=-0.01`", ValueError, param(lr=-0.01)),
    Mistake("`max_epochs='10'`", ValueError, param(max_epochs="10")),
    Mistake("`context=1.5`", ValueError, param(context=1.5)),
    Mistake("`anchor='first'`", ValueError, param(anchor="first")),
    Mistake("`scaler='standart'`", ValueError, param(scaler="standart")),
    Mistake("`validation_fraction=1`", ValueError, param(validation_fraction=1)),
    Mistake("`calibrate='yes'`", ValueError, param(calibrate="yes")),
    Mistake(
        "`calibrate=True` without validation series", DataError, param(calibrate=True, validation_fraction=0)
    ),
    Mistake("`free_bits=0.5, n_samples=5`", ValueError, param(free_bits=0.5, n_samples=5)),
    Mistake("`window=1e-9`, shorter than all gaps", ValueError, param(window=1e-9)),
    Mistake("`window='3D'` for times that are numbers", ValueError, param(window="3D")),
    Mistake("`window=3` for datetimes", ValueError, lambda w: small(max_epochs=1, window=3).fit(w.dated)),
    Mistake("`random_state='lucky'`", ValueError, param(random_state="lucky")),
    Mistake("`device='gpu'`", ValueError, param(device="gpu")),
    Mistake("`callbacks=[None]`", ValueError, param(callbacks=[None])),
]

QUESTIONS = [
    Mistake("`predict` before `fit`", NotFittedError, lambda w: small().predict(w.df)),
    Mistake("`save` before `fit`", NotFittedError, lambda w: small().save(w.folder / "m.latentode")),
    Mistake("`update` before `fit`", NotFittedError, lambda w: small().update(w.df)),
    Mistake("`plot_history` before `fit`", NotFittedError, lambda w: small().plot_history()),
    Mistake("a table without target y", DataError, predict(lambda df: df.drop(columns="y"))),
    Mistake("an empty table", DataError, predict(lambda df: df.iloc[:0])),
    Mistake("an array", TypeError, predict(lambda df: [[1.0, 2.0]])),
    Mistake("datetimes where `fit` had numbers", DataError, lambda w: w.model.predict(w.dated)),
    Mistake(
        "numbers where `fit` had datetimes",
        DataError,
        lambda w: small(max_epochs=1).fit(w.dated).predict(w.df),
    ),
    Mistake(
        "times with a time zone where `fit` had none",
        DataError,
        lambda w: (
            small(max_epochs=1)
            .fit(w.dated)
            .predict(w.dated.assign(time=w.dated["time"].dt.tz_localize("UTC")))
        ),
    ),
    Mistake("`times=['tomorrow']`", DataError, at(["tomorrow"])),
    Mistake("`times=[1.0, nan]`", DataError, at([1.0, np.nan])),
    Mistake("`times=[inf]`", DataError, at([np.inf])),
    Mistake("`times=[Timestamp]` for numbers", DataError, at([pd.Timestamp("2024-01-01")])),
    Mistake("`times={'time': [1.0]}`", TypeError, at({"time": [1.0]})),
    Mistake("`times=np.ones((2, 2))`", ValueError, at(np.ones((2, 2)))),
    Mistake(
        "`times` for a series that is not in the table",
        DataError,
        at(pd.DataFrame({"id": [77], "time": [1.0]})),
    ),
    Mistake("`times` as a table without ids", DataError, at(pd.DataFrame({"time": [1.0, 2.0]}))),
    Mistake(
        "`times=['soon']` for datetimes",
        DataError,
        lambda w: small(max_epochs=1).fit(w.dated).predict(w.dated, ["soon"]),
    ),
    Mistake("`quantiles=[5, 95]`", ValueError, lambda w: w.model.predict_quantiles(w.df, [1.0], [5, 95])),
    Mistake("`quantiles=[]`", ValueError, lambda w: w.model.predict_quantiles(w.df, [1.0], [])),
    Mistake("`coverage=90`", ValueError, lambda w: w.model.predict_interval(w.df, [1.0], 90)),
    Mistake("`n_samples=0`", ValueError, lambda w: w.model.sample(w.df, [1.0], 0)),
    Mistake(
        "`sample(..., random_state='a')`",
        ValueError,
        lambda w: w.model.sample(w.df, [1.0], 2, random_state="a"),
    ),
    Mistake("`score(df, df['x'])`", ValueError, lambda w: w.model.score(w.df, w.df["x"])),
    Mistake("`score` of series of one row", DataError, lambda w: w.model.score(w.df.drop_duplicates("id"))),
    Mistake(
        "`log_likelihood` of series of one row",
        DataError,
        lambda w: w.model.log_likelihood(w.df.drop_duplicates("id")),
    ),
    Mistake("`impute` of a table without targets", DataError, lambda w: w.model.impute(w.df[["id", "time"]])),
    Mistake("`plot_forecast(series=[77])`", ValueError, lambda w: w.model.plot_forecast(w.df, series=[77])),
    Mistake(
        "`plot_forecast(target_cols=['z'])`",
        ValueError,
        lambda w: w.model.plot_forecast(w.df, target_cols=["z"]),
    ),
    Mistake("`update(df, max_epochs=0)`", ValueError, lambda w: w.model.update(w.df, max_epochs=0)),
    Mistake(
        "`update` with series of one row", DataError, lambda w: w.model.update(w.df.drop_duplicates("id"))
    ),
]

LABELS = [
    Mistake("labels of one class", DataError, lambda w: w.classifier.fit(w.df, dict.fromkeys(range(6), "a"))),
    Mistake(
        "labels of series that the table does not have",
        DataError,
        lambda w: w.classifier.fit(w.df, {0: "a", 1: "b", 9: "a"}),
    ),
    Mistake("two labels within a series", DataError, lambda w: w.classifier.fit(w.df, w.df.index % 2 == 0)),
    Mistake("a list of another length", DataError, lambda w: w.classifier.fit(w.df, [0, 1, 0])),
    Mistake("the name of a column that is not there", DataError, lambda w: w.classifier.fit(w.df, "label")),
    Mistake("labels of two types", DataError, lambda w: w.classifier.fit(w.df, {0: "a", 1: 2})),
    Mistake("labels as a table", DataError, lambda w: w.classifier.fit(w.df, w.df[["id", "x"]])),
    Mistake("labels as one number", DataError, lambda w: w.classifier.fit(w.df, 1)),
    Mistake("labels None", ValueError, lambda w: w.classifier.fit(w.df, None)),
    Mistake(
        "a target that holds the labels",
        DataError,
        lambda w: w.classifier.fit(w.df.assign(c=w.df["id"] % 2), w.df["id"] % 2),
    ),
    Mistake(
        "`class_weight` of an unknown class",
        ValueError,
        lambda w: LatentODEClassifier(max_epochs=1, verbose=0, class_weight={"c": 2.0}).fit(
            w.df, {0: "a", 1: "b"}
        ),
    ),
    Mistake(
        "`labels_per='patient'`",
        ValueError,
        lambda w: LatentODEClassifier(labels_per="patient").fit(w.df, {0: 0, 1: 1}),
    ),
    Mistake(
        "a classifier's `score` without any label", DataError, lambda w: w.classifier.score(w.df, {0: None})
    ),
    Mistake(
        "a classifier's `predict_proba` before `fit`",
        NotFittedError,
        lambda w: LatentODEClassifier().predict_proba(w.df),
    ),
]

FILES = [
    Mistake(
        "`save` into a folder that is not there",
        FileNotFoundError,
        lambda w: w.model.save(w.folder / "no" / "m.latentode"),
    ),
    Mistake("`save` to a folder", IsADirectoryError, lambda w: w.model.save(w.folder)),
    Mistake(
        "`load` of a missing file",
        FileNotFoundError,
        lambda w: LatentODERegressor.load(w.folder / "none.latentode"),
    ),
    Mistake("`load` of an empty file", ModelFileError, lambda w: LatentODERegressor.load(w.file(b""))),
    Mistake(
        "`load` of a table",
        ModelFileError,
        lambda w: LatentODERegressor.load(w.file(b"id,time,x\n0,1.0,2.0\n" * 9)),
    ),
    Mistake("`load` of a file cut short", ModelFileError, lambda w: LatentODERegressor.load(damaged(w))),
    Mistake(
        "`load` of a regressor as a classifier",
        ModelFileError,
        lambda w: LatentODEClassifier.load(w.saved(w.model)),
    ),
    Mistake("`load` of a folder", OSError, lambda w: LatentODERegressor.load(w.folder)),
    Mistake("`load(None)`", TypeError, lambda w: LatentODERegressor.load(None)),
    Mistake(
        "`load(path, field='mlp')`",
        ValueError,
        lambda w: LatentODERegressor.load(w.saved(w.model), field="mlp"),
    ),
]

JUDGING = [
    Mistake("`SeriesKFold(1)`", ValueError, lambda w: SeriesKFold(1)),
    Mistake("more folds than series", DataError, lambda w: list(SeriesKFold(50).split(w.df))),
    Mistake(
        "`random_state` without `shuffle`",
        ValueError,
        lambda w: SeriesKFold(3, shuffle=False, random_state=0),
    ),
    Mistake(
        "a splitter for another id column", DataError, lambda w: list(SeriesKFold(3, id_col="ID").split(w.df))
    ),
    Mistake("a splitter for an array", TypeError, lambda w: list(SeriesKFold(3).split(w.df.to_numpy()))),
    Mistake("`cutoffs=1.0`", ValueError, lambda w: TimeCutSplit(cutoffs=1.0)),
    Mistake("`cutoffs` that fall", ValueError, lambda w: list(TimeCutSplit(cutoffs=[2.0, 1.0]).split(w.df))),
    Mistake("a cutoff after all times", DataError, lambda w: list(TimeCutSplit(cutoffs=[99.0]).split(w.df))),
    Mistake("a cutoff before all times", DataError, lambda w: list(TimeCutSplit(cutoffs=[-9.0]).split(w.df))),
    Mistake(
        "a date as cutoff of numbers",
        ValueError,
        lambda w: list(TimeCutSplit(cutoffs=["2024-01-01"]).split(w.df)),
    ),
    Mistake("`horizon=-1`", ValueError, lambda w: list(TimeCutSplit(horizon=-1).split(w.df))),
    Mistake(
        "horizons longer than the table", DataError, lambda w: list(TimeCutSplit(3, horizon=50.0).split(w.df))
    ),
    Mistake("`SeriesTimeCutSplit(n_splits=1)`", ValueError, lambda w: SeriesTimeCutSplit(n_splits=1)),
    Mistake("`forecast_scorer('rsme')`", ValueError, lambda w: forecast_scorer("rsme")),
    Mistake(
        "`forecast_scorer('rmse', coverage=0.9)`", ValueError, lambda w: forecast_scorer("rmse", coverage=0.9)
    ),
    Mistake("`forecast_scorer(share=2)`", ValueError, lambda w: forecast_scorer(share=2)),
    Mistake(
        "`forecast_scorer(target_cols=['z'])`",
        ValueError,
        lambda w: forecast_scorer(share=0.5, target_cols=["z"])(w.model, w.df),
    ),
    Mistake(
        "a scorer where nothing comes after the training",
        DataError,
        lambda w: forecast_scorer()(w.model, w.df),
    ),
    Mistake(
        "a scorer of a model that was not fitted", ValueError, lambda w: forecast_scorer()(small(), w.df)
    ),
    Mistake(
        "`cross_validate_forecasts` with a cutoff after all times",
        DataError,
        lambda w: cross_validate_forecasts(small(), w.df, [99.0]),
    ),
    Mistake(
        "`cross_validate_forecasts` with no cutoff",
        ValueError,
        lambda w: cross_validate_forecasts(small(), w.df, []),
    ),
    Mistake(
        "`cross_validate_forecasts` of no estimator",
        TypeError,
        lambda w: cross_validate_forecasts("mlp", w.df, [2.0]),
    ),
    Mistake(
        "`rmse` of arrays of different shapes", ValueError, lambda w: rmse(np.ones((3, 2)), np.ones((2, 2)))
    ),
    Mistake("`mae` of a table and an array", ValueError, lambda w: mae(w.df, np.ones((48, 2)))),
    Mistake("`rmse` of tables with other rows", DataError, lambda w: rmse(w.df, w.df.iloc[:9])),
    Mistake("`rmse` of nothing but NaN", ValueError, lambda w: rmse([np.nan], [1.0])),
    Mistake("`rmse` of texts", ValueError, lambda w: rmse(["a"], ["b"])),
    Mistake("`crps_gaussian` with std 0", ValueError, lambda w: crps_gaussian([1.0], [1.0], [0.0])),
    Mistake(
        "`crps_samples` of another number of rows",
        ValueError,
        lambda w: crps_samples(np.ones(4), np.ones((10, 3))),
    ),
    Mistake(
        "`interval_coverage` with the ends swapped",
        ValueError,
        lambda w: interval_coverage([1.0], [2.0], [0.0]),
    ),
    Mistake(
        "`standardised_mse` with scale 0",
        ValueError,
        lambda w: standardised_mse([1.0], [2.0], loc=0.0, scale=0.0),
    ),
]

CHAPTERS = {
    "Tables to learn from: `fit(...)`": FIT_TABLES,
    "Roles of columns": ROLES,
    "Likelihoods": LIKELIHOODS,
    "Parameters": PARAMETERS,
    "Questions to a fitted model": QUESTIONS,
    "Labels of classifiers": LABELS,
    "Files": FILES,
    "Splitters, scorers and metrics": JUDGING,
}


def answer_of(mistake: Mistake, world: World) -> Exception | None:
    """The error that the mistake is answered with, or None."""
    try:
        mistake.call(world)
    except Exception as error:  # whatever it is: the test says what it should be
        return error
    return None


def readable(error: Exception, world: World) -> str:
    """The text without what differs between machines."""
    text = str(error)
    for path in (world.folder.resolve(), world.folder):
        text = text.replace(os.fspath(path), "models")
    return text


def as_markdown(answers: Iterator[tuple[str, str, str, str]]) -> str:
    """The page of (chapter, given, type, text)."""
    lines = ["# What bad input is answered", "", PREFACE]
    chapter = ""
    for of, given, kind, text in answers:
        if of != chapter:
            chapter = of
            lines += ["", f"## {chapter}", "", "| given | answered |", "|---|---|"]
        cell = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
        lines.append(f"| {given} | `{kind}`: {cell} |")
    return "\n".join(lines) + "\n"


PREFACE = (
    "Mistakes that are easily made with `latentode`, and the full text of the error that each one gets; the tests make "
    "every one of them and hold this page to what they are told (`LATENTODE_WRITE_BAD_INPUT=1 python -m pytest "
    "tests/estimators/test_bad_input_table.py` writes it anew)."
)
