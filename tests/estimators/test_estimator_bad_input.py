"""What cannot be used is refused with what was expected, what came and how to repair it."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import numbers, small, waves

from latentode.exceptions import DataError, LatentODEWarning, SolverError

TEXT = pd.Series(["a"]).dtype  # object in pandas 2

# (a way to spoil the table, parameters, error, text)
TABLES = {
    "empty": (
        lambda df: df.iloc[:0],
        {},
        DataError,
        "the table is empty: expected at least one row per series",
    ),
    "no id column": (
        lambda df: df.drop(columns="id"),
        {},
        DataError,
        "no id column 'id'; the columns are ['time', 'x', 'y']: name it with id_col=, or for one series pass "
        "id_col=None (without an id, times must increase from row to row; row 12 is not after the one before it)",
    ),
    "no time column": (
        lambda df: df.rename(columns={"time": "t"}),
        {},
        DataError,
        "no time column 'time'; the columns are ['id', 't', 'x', 'y']: name it with time_col=",
    ),
    "id in the index under another name": (
        lambda df: df.set_index("id").rename_axis("who"),
        {},
        DataError,
        "no id column 'id'; the columns are ['time', 'x', 'y']: name it with id_col=",
    ),
    "no target column": (
        lambda df: df,
        {"target_cols": ["x", "z"]},
        DataError,
        "no target column 'z'; the columns are ['id', 'time', 'x', 'y']",
    ),
    "duplicated column": (
        lambda df: df.set_axis(["id", "time", "x", "x"], axis=1),
        {},
        DataError,
        "duplicated column name in the table: 'x'; names must be unique: rename or drop one of the columns",
    ),
    "duplicated key": (
        lambda df: df.set_axis(["id", "time", "time", "y"], axis=1),
        {},
        DataError,
        "duplicated column name in the table: 'time'",
    ),
    "text as target": (
        lambda df: df.assign(x="high"),
        {"target_cols": ["x", "y"]},
        DataError,
        f"target 'x' is not numeric ({TEXT}): convert it with pd.to_numeric(...), leave it out with target_cols=",
    ),
    "no numeric target": (
        lambda df: df[["id", "time"]].assign(x="high"),
        {},
        DataError,
        "no numeric column is left to learn",
    ),
    "infinite target": (
        lambda df: df.assign(y=df["y"].mask(df.index == 14, -np.inf)),
        {},
        DataError,
        "infinite value in target 'y' at series 1, row 14: targets must be finite; use NaN for values that were "
        "not observed",
    ),
    "target never observed": (
        lambda df: df.assign(x=np.nan),
        {},
        DataError,
        "never observed (all NaN): target 'x'; leave it out with target_cols= or drop the column",
    ),
    "NaN time": (
        lambda df: df.assign(time=df["time"].mask(df.index == 14)),
        {},
        DataError,
        "missing time (NaN or NaT) at series 1, row 14: every row needs a time; drop such rows or fill them in",
    ),
    "NaT time": (
        lambda df: df.assign(time=pd.to_datetime(df["time"], unit="D").mask(df.index == 14)),
        {},
        DataError,
        "missing time (NaN or NaT) at series 1, row 14",
    ),
    "infinite time": (
        lambda df: df.assign(time=df["time"].mask(df.index == 14, np.inf)),
        {},
        DataError,
        "infinite time inf at series 1, row 14: times must be finite",
    ),
    "text as time": (
        lambda df: df.assign(time="yesterday"),
        {},
        DataError,
        f"times must be numbers, datetimes, periods or timedeltas, got {TEXT} (for example 'yesterday'): convert with "
        "pd.to_datetime(...) if they are dates, with pd.to_numeric(...) if they are numbers",
    ),
    "missing id": (
        lambda df: df.assign(id=df["id"].mask(df.index == 3)),
        {},
        DataError,
        "missing id (NaN) at row 3: every row needs the id of its series",
    ),
    "a dictionary": (
        lambda df: {"id": [0]},
        {},
        TypeError,
        "expected a pandas DataFrame in long format (one row per series and time), or a table of polars, pyarrow or "
        "another library that narwhals reads; got dict",
    ),
    "an array": (
        lambda df: df.to_numpy(),
        {},
        ValueError,
        "requires y to be passed, but the target y is None",
    ),
    "one row": (
        lambda df: df.iloc[:1],
        {},
        DataError,
        "nothing to learn dynamics from: no series has observations at two different times (1 series, 1 rows with "
        "observations)",
    ),
    "one time": (
        lambda df: df.assign(time=3.0),
        {},
        DataError,
        "nothing to learn dynamics from: no series has observations at two different times (12 series, 144 rows",
    ),
    "one observed row per series": (
        lambda df: df.assign(x=df["x"].where(df.index % 12 == 5), y=np.nan).assign(y=lambda d: d["x"]),
        {},
        DataError,
        "nothing to learn dynamics from: no series has observations at two different times (12 series, 12 rows",
    ),
    "id and time are one": (
        lambda df: df,
        {"time_col": "id"},
        ValueError,
        "id_col and time_col must differ, both are 'id'",
    ),
    "a target with two roles": (
        lambda df: df,
        {"target_cols": ["x", "time"]},
        ValueError,
        "target_cols must name different columns, none of them the id or the time column",
    ),
    "no target at all": (lambda df: df, {"target_cols": []}, ValueError, "target_cols is empty"),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_cannot_be_learned_is_refused(case, table):
    spoil, params, error, text = TABLES[case]
    with pytest.raises(error, match=re.escape(text)):
        small(**params).fit(spoil(table))


AT_PREDICTION = (
    "empty",
    "no id column",
    "no time column",
    "id in the index under another name",
    "duplicated column",
    "infinite target",
    "NaN time",
    "infinite time",
    "text as time",
    "missing id",
    "a dictionary",
)


@pytest.mark.parametrize("case", AT_PREDICTION)
@pytest.mark.parametrize(
    "method", ["predict", "predict_interval", "predict_quantiles", "sample", "score", "plot_forecast"]
)
def test_a_table_that_cannot_be_answered_is_refused(case, method, fitted, table):
    spoil, _, error, text = TABLES[case]
    with pytest.raises(error, match=re.escape(text)):
        getattr(fitted, method)(spoil(table))


def test_a_table_without_a_target_of_fit_is_refused(fitted, table):
    text = (
        "no target column 'y'; the columns are ['id', 'time', 'x']: a table needs all targets (NaN where they were "
        "not observed)"
    )
    with pytest.raises(DataError, match=re.escape(text)):
        fitted.predict(table.drop(columns="y"))
    with pytest.raises(DataError, match="target 'y' is not numeric"):
        fitted.predict(table.assign(y="?"))


def test_a_table_with_another_kind_of_time_is_refused(fitted, table):
    dated = table.assign(time=pd.to_datetime(table["time"], unit="D"))
    with pytest.raises(DataError, match=r"times were numbers \(float64\) in fit, but are datetimes"):
        fitted.predict(dated)
    model = small(max_epochs=1).fit(dated)
    with pytest.raises(
        DataError, match=r"times were datetimes \(datetime64\[\w+\]\) in fit, but are numbers"
    ):
        model.predict(table)
    with pytest.raises(DataError, match=r"times had no time zone .* \.dt\.tz_localize\(None\)"):
        model.predict(dated.assign(time=dated["time"].dt.tz_localize("UTC")))


NO_TIMES = (
    "times must be a time, a sequence of times (list, array, Index, Series) or a table with the id and the time "
    "column"
)

# (what is given as `times`, error, text)
TIMES = {
    "a mapping": ({"time": [1.0]}, TypeError, f"{NO_TIMES}, got dict"),
    "a set": ({1.0, 2.0}, TypeError, f"{NO_TIMES}, got set"),
    "a generator": ((t for t in [1.0]), TypeError, f"{NO_TIMES}, got generator"),
    "a tensor": (torch.ones(2), TypeError, f"{NO_TIMES}, got Tensor"),
    "an object": (object(), TypeError, f"{NO_TIMES}, got object"),
    "a timedelta": (pd.Timedelta("1D"), DataError, "times were numbers (float64) in fit, but are timedeltas"),
    "two axes": (np.ones((2, 2)), ValueError, "times must have one dimension, got 2"),
    "text": ("1.0", DataError, "times must be numbers, datetimes, periods or timedeltas, got"),
    "texts": (["a", "b"], DataError, "times must be numbers, datetimes, periods or timedeltas, got"),
    "truths": ([True, False], DataError, "times must be numbers, datetimes, periods or timedeltas, got bool"),
    "dates": (
        [pd.Timestamp("2020-01-01")],
        DataError,
        "times were numbers (float64) in fit, but are datetimes",
    ),
    "NaN": ([1.0, np.nan], DataError, "missing time (NaN or NaT) at position 1 of `times`"),
    "None": ([1.0, None], DataError, "missing time (NaN or NaT) at position 1 of `times`"),
    "infinity": ([-np.inf], DataError, "infinite time -inf at position 0 of `times`: times must be finite"),
    "an unknown series": (
        pd.DataFrame({"id": [3, 77], "time": 1.0}),
        DataError,
        "`times` asks for series that are not in the table: 77; its series are 0, 1, 2, 3, 4 and 7 more",
    ),
    "a table without id": (
        pd.DataFrame({"time": [1.0]}),
        DataError,
        "no id column 'id' in the table `times`: name the series of each time, or give a sequence of times for all",
    ),
    "a table without time": (pd.DataFrame({"id": [1]}), DataError, "no time column 'time'"),
    "a table with two times": (
        pd.DataFrame([[1, 2.0, 3.0]], columns=["id", "time", "time"]),
        DataError,
        "duplicated column name in the table `times`: 'time'",
    ),
    "a table with a missing time": (
        pd.DataFrame({"id": [3, 4], "time": [1.0, np.nan]}),
        DataError,
        "missing time (NaN or NaT) at series 4, row 1",
    ),
}


@pytest.mark.parametrize("case", TIMES)
@pytest.mark.parametrize(
    "method", ["predict", "predict_interval", "predict_quantiles", "sample", "plot_forecast"]
)
def test_times_of_another_kind_are_refused(case, method, fitted, table):
    times, error, text = TIMES[case]
    with pytest.raises(error, match=re.escape(text)):
        getattr(fitted, method)(table, times)


def test_y_is_refused(fitted, table):
    text = re.escape("y must be None: the targets are columns of the table; name them with target_cols=")
    with pytest.raises(ValueError, match=text):
        small().fit(table, table["x"])
    text = "y and sample_weight must be None: the targets are columns of the table"
    with pytest.raises(ValueError, match=text):
        fitted.score(table, table["x"])
    with pytest.raises(ValueError, match=text):
        fitted.score(table, sample_weight=np.ones(len(table)))


@pytest.mark.parametrize(
    "levels", [0, 1, 1.5, -0.1, [], [0.5, 1.0], [0.5, "0.9"], "0.5", None, [True], np.nan]
)
def test_levels_outside_0_to_1_are_refused(levels, fitted, table):
    text = re.escape(f"quantiles must be numbers strictly between 0 and 1; got {levels!r}")
    with pytest.raises(ValueError, match=text):
        fitted.predict_quantiles(table, [1.0], levels)


@pytest.mark.parametrize("coverage", [0, 1, 90, -0.5, "0.9", None, True, np.nan])
def test_coverages_outside_0_to_1_are_refused(coverage, fitted, table):
    text = re.escape(f"coverage must be a number strictly between 0 and 1; got {coverage!r}")
    with pytest.raises(ValueError, match=text):
        fitted.predict_interval(table, [1.0], coverage)
    with pytest.raises(ValueError, match=text):
        fitted.plot_forecast(table, [1.0], coverage=coverage)


@pytest.mark.parametrize("n_samples", [0, -3, 2.0, "9", None, True])
def test_numbers_of_samples_below_1_are_refused(n_samples, fitted, table):
    text = re.escape(f"n_samples must be an int of at least 1; got {n_samples!r}")
    with pytest.raises(ValueError, match=text):
        fitted.sample(table, [1.0], n_samples)


@pytest.mark.parametrize(("name", "method"), [("sample", "sample"), ("quantile", "predict_quantiles")])
def test_a_target_with_the_name_of_an_answers_column_is_refused_there(name, method, table):
    df = table.rename(columns={"x": name})
    model = small(max_epochs=1).fit(df)
    assert list(model.predict(df)) == ["id", "time", name, "y"]
    text = f"the answer needs the name '{name}' for its own column: rename that of the table"
    with pytest.raises(DataError, match=text):
        getattr(model, method)(df)


FAR_TEXT = (
    r"times reach [\d.e+]+ training spans beyond the observations \(one span is [\d.]+ in the unit of the time "
    r"column\): "
    r"the model has never seen such distances; beyond [\d.]+ spans the forecast keeps its last value"
)
CALLS = {
    "predict": lambda model, df, times: model.predict(df, times),
    "std": lambda model, df, times: model.predict(df, times, return_std=True)[1],
    "interval": lambda model, df, times: model.predict_interval(df, times),
    "quantiles": lambda model, df, times: model.predict_quantiles(df, times),
    "sample": lambda model, df, times: model.sample(df, times, 5),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_times_far_beyond_training_get_a_warning_and_finite_numbers(call, sign, fitted, table):
    span = 4.0  # the longest series of the table is shorter
    times = sign * np.array([1000.0, 5000.0, 1e9, 1e15]) * span
    with pytest.warns(LatentODEWarning, match=FAR_TEXT) as caught:
        answer = CALLS[call](fitted, table, times)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # where the user called
    values = answer.drop(columns=["id", "time"]).to_numpy(dtype=float)
    assert np.isfinite(values).all()
    assert answer["time"].isin(times).all()  # asked and answered


def test_beyond_the_farthest_distance_a_forecast_keeps_its_value(fitted, table):
    with pytest.warns(LatentODEWarning):
        answer = numbers(fitted.predict(table, [1e4, 1e6])).reshape(12, 2, 2)
    np.testing.assert_array_equal(answer[:, 0], answer[:, 1])


def test_far_answers_take_no_more_steps_than_the_farthest(fitted, table):
    """The number of evaluations of the field is bounded: a time 1e12 spans away costs what 100 spans cost."""
    calls = []
    handle = fitted.model_.field.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.warns(LatentODEWarning):
            fitted.predict(table, [1e4])
        far = len(calls)
        with pytest.warns(LatentODEWarning):
            fitted.predict(table, [1e12])
    finally:
        handle.remove()
    assert 0 < len(calls) - far <= far + 5


class Turning(torch.nn.Module):
    """Turns round and round, once per unit of model time."""

    time_dependent = False

    def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return 2 * np.pi * torch.stack([z[:, 1], -z[:, 0], -0.01 * z[:, 2]], dim=1)


def test_far_answers_of_fast_dynamics_are_finite_too(table, monkeypatch):
    """Series that last long in model time, and turn there: a solve over a hundred of them would not end."""
    monkeypatch.setattr("latentode.series.scaling.SPAN", 60.0)
    model = small(max_epochs=1, solver="rk4", step_size=5.0).fit(table)
    model.model_.options = replace(model.model_.options, solver="dopri5", step_size=None)
    model.model_.field = Turning()
    with pytest.warns(LatentODEWarning, match=FAR_TEXT):
        answer = model.predict(table[table["id"] == 0], [4e3])
    assert np.isfinite(numbers(answer)).all()


def test_rows_that_only_ask_are_no_observations_to_be_far_from(fitted, table):
    """NaN rows far away, and answers at the rows of the table: the same warning."""
    asking = pd.DataFrame({"id": [0, 5], "time": [9e4, 9e5], "x": np.nan, "y": np.nan})
    with pytest.warns(LatentODEWarning, match=FAR_TEXT):
        answer = fitted.predict(pd.concat([table, asking], ignore_index=True))
    assert np.isfinite(numbers(answer)).all()


def test_times_within_reach_get_no_warning(fitted, table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.predict(table, [-20.0, 30.0])


def test_scores_of_far_times_warn_where_the_user_called(fitted, table):
    one = table[table["id"] == 0]
    late = one.assign(time=one["time"].where(one.index < 9, one["time"] + 1e4))
    with pytest.warns(LatentODEWarning, match=FAR_TEXT) as caught:
        assert np.isfinite(fitted.score(late))
    assert caught[0].filename == __file__


def test_datetimes_far_away_warn_in_seconds():
    df = waves(40).assign(time=lambda d: pd.Timestamp("2020-01-01") + pd.to_timedelta(d["time"], unit="s"))
    model = small(max_epochs=1).fit(df)
    with pytest.warns(LatentODEWarning, match=r"one span is [\d.]+ seconds\)"):
        answer = model.predict(df, pd.Timestamp("2060-01-01"))
    assert np.isfinite(answer["x"]).all()


def test_a_series_that_cannot_be_solved_is_named(table):
    model = small(max_epochs=1).fit(table.assign(id=table["id"].map("p{}".format)))
    with torch.no_grad():
        model.model_.field.mlp.layers[-1].bias.fill_(float("nan"))
    with pytest.raises(SolverError, match=r"series 'p3' .*could not be solved"):
        model.predict(table[table["id"] == 3].assign(id="p3"), [5.0])
