"""Every form of table, through every public method: the same numbers as for the long pandas table, in the same form."""

from __future__ import annotations

import datetime
import functools
import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib import pyplot as plt
from small_models import numbers, small, spirals
from table_forms import FORMS, arrow_of, plain, polars_of

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.exceptions import DataError

TIMES = [0.5, 4.0]


def covered(n_series: int = 6) -> pd.DataFrame:
    """Spirals with a static column, a control, an error column and a gap."""
    df = spirals(n_series, 6)
    df["x"] = df["x"].where(df.index % 5 > 0)
    return df.assign(
        id=df["id"].map("s{}".format), mass=df["id"] / 2.0, dose=np.round(df["time"]), x_error=0.25
    )


ROLES = {
    "static_cols": ["mass"],
    "control_cols": ["dose"],
    "error_cols": {"x": "x_error"},
    "target_cols": ["x", "y"],
}


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    return covered()


def quick(**params: Any) -> LatentODERegressor:
    """Forms are at stake here, not solutions: long fixed steps."""
    return small(**({"max_epochs": 1, "solver": "euler", "step_size": 1.0} | params))


@pytest.fixture(scope="module")
def model(df: pd.DataFrame) -> LatentODERegressor:
    return quick(event_times="poisson", **ROLES).fit(df)


def future(df: pd.DataFrame) -> pd.DataFrame:
    """Times to ask about, with the control there, the series in another order."""
    ids = list(reversed(df["id"].unique()))
    return pd.DataFrame({"id": np.repeat(ids, 2), "time": [4.0, 4.5] * len(ids), "dose": 1.0})


METHODS = {
    "predict": lambda model, df, times: model.predict(df, times),
    "std": lambda model, df, times: model.predict(df, times, return_std=True)[1],
    "intensity": lambda model, df, times: model.predict_intensity(df, times),
    "quantiles": lambda model, df, times: model.predict_quantiles(df, times, (0.1, 0.9)),
    "interval": lambda model, df, times: model.predict_interval(df, times),
    "sample": lambda model, df, times: model.sample(df, times, 3),
}


@pytest.fixture(scope="module")
def expected(model: LatentODERegressor, df: pd.DataFrame) -> Any:
    """Answers for the long pandas table, each computed once."""

    @functools.cache
    def of(method: str, at: str) -> pd.DataFrame:
        return METHODS[method](model, df, {"rows": None, "list": TIMES, "table": future(df)}[at])

    return of


def assert_same(answer: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        plain(answer.reset_index(drop=True)), plain(expected.reset_index(drop=True)), rtol=0, atol=0
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMS)
def test_answers_at_the_rows_are_those_of_the_long_table(form, method, model, df, expected):
    given = FORMS[form].of(df)
    answer = METHODS[method](model, given, None)
    assert type(answer) is type(given)
    assert_same(FORMS[form].long(answer), expected(method, "rows"))


@pytest.mark.parametrize("method", ["predict", "quantiles", "sample"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:times go beyond the last row that tells")
def test_answers_at_a_sequence_are_those_of_the_long_table(form, method, model, df, expected):
    given = FORMS[form].of(df)
    answer = METHODS[method](model, given, TIMES)
    assert type(answer) is type(given)
    assert_same(FORMS[form].long(answer), expected(method, "list"))


@pytest.mark.parametrize("method", ["predict", "sample"])
@pytest.mark.parametrize("asked", ["long", "polars", "levels"])
@pytest.mark.parametrize("form", FORMS)
def test_answers_at_a_table_of_times_in_another_form(form, asked, method, model, df, expected):
    given = FORMS[form].of(df)
    answer = METHODS[method](model, given, FORMS[asked].of(future(df)))
    assert type(answer) is type(given)
    assert_same(FORMS[form].long(answer), expected(method, "table"))


@pytest.mark.parametrize("form", FORMS)
def test_scores_are_those_of_the_long_table(form, model, df, scores):
    assert scores_of(model, FORMS[form].of(df)) == scores


@pytest.fixture(scope="module")
def scores(model: LatentODERegressor, df: pd.DataFrame) -> tuple[float, float]:
    return scores_of(model, df)


def scores_of(model: LatentODERegressor, given: Any) -> tuple[float, float]:
    return model.score(given), model.log_likelihood(given)


@pytest.mark.parametrize("form", FORMS)
def test_pictures_are_those_of_the_long_table(form, model, df, lines):
    found = drawn_lines(model, FORMS[form].of(df), future(df))
    assert len(found) == len(lines) == 4
    for one, other in zip(lines, found):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def lines(model: LatentODERegressor, df: pd.DataFrame) -> list[np.ndarray]:
    return drawn_lines(model, df, future(df))


def drawn_lines(model: LatentODERegressor, table: Any, times: pd.DataFrame) -> list[np.ndarray]:
    axes = model.plot_forecast(table, times, series=["s3"], truth=table)
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes[0, 0].lines]
    plt.close("all")
    return lines


@pytest.mark.parametrize("form", FORMS)
def test_training_is_that_of_the_long_table(form, df, trained):
    fitted = quick(**ROLES).fit(FORMS[form].of(df))
    assert_same(fitted.predict(df), trained.predict(df))
    assert fitted.layout_.target_cols == trained.layout_.target_cols


@pytest.fixture(scope="module")
def trained(df: pd.DataFrame) -> LatentODERegressor:
    return quick(**ROLES).fit(df)


# --- dtypes of the keys

POLARS_IDS = {
    "string": pl.String,
    "categorical": pl.Categorical,
    "enum": pl.Enum(["unused", "s1", "s0", *[f"s{i}" for i in range(2, 6)]]),
}


@pytest.mark.parametrize("dtype", POLARS_IDS)
@pytest.mark.parametrize("times", [None, TIMES], ids=["rows", "list"])
@pytest.mark.filterwarnings("ignore:times go beyond the last row that tells")
def test_ids_of_polars_keep_their_dtype(dtype, times, model, df):
    given = polars_of(df).with_columns(pl.col("id").cast(POLARS_IDS[dtype]))
    for method in METHODS.values():
        answer = method(model, given, times)
        assert answer.schema["id"] == given.schema["id"]
        assert answer.schema["time"] == given.schema["time"]
    assert_same(model.predict(given, times).to_pandas(), model.predict(df, times))


@pytest.mark.parametrize("type_", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
@pytest.mark.parametrize("times", [None, TIMES], ids=["rows", "list"])
@pytest.mark.filterwarnings("ignore:times go beyond the last row that tells")
def test_ids_of_pyarrow_keep_their_type(type_, times, model, df):
    table = arrow_of(df)
    given = table.set_column(0, "id", table["id"].cast(pa.string()).combine_chunks().cast(type_))
    for method in METHODS.values():
        assert method(model, given, times).schema.field("id").type == type_
    assert_same(model.predict(given, times).to_pandas(), model.predict(df, times))


PANDAS_IDS = {
    "uint8": lambda i: i.astype("uint8"),
    "float16": lambda i: i.astype("float16"),
    "Int64": lambda i: i.astype("Int64"),
    "string": lambda i: i.astype("string"),
    "string[pyarrow]": lambda i: i.astype("string[pyarrow]"),
    "int32[pyarrow]": lambda i: i.astype("int32[pyarrow]"),
    "boolean": lambda i: (i > 2).astype("boolean"),
    "category of numbers": lambda i: i.astype("category"),
    "mixed": lambda i: i.astype(object).map(lambda n: n if n % 2 else f"s{n}"),
    "dates": lambda i: pd.to_datetime(i, unit="D"),
}


@pytest.fixture(scope="module")
def simple() -> tuple[LatentODERegressor, pd.DataFrame]:
    df = spirals(6, 6)
    return quick().fit(df), df


@pytest.mark.parametrize("dtype", PANDAS_IDS)
@pytest.mark.parametrize("at", ["rows", "list", "table"])
def test_ids_of_pandas_keep_their_dtype(dtype, at, simple):
    model, df = simple
    given = df.assign(id=PANDAS_IDS[dtype](df["id"]))
    times = {"rows": None, "list": TIMES, "table": given[["id"]].assign(time=2.0)}[at]
    answer = model.predict(given, times)
    assert answer["id"].dtype == given["id"].dtype
    assert model.sample(given, times, 2)["id"].dtype == given["id"].dtype
    if dtype != "boolean":  # which merges series
        order = {"rows": None, "list": TIMES, "table": df[["id"]].assign(time=2.0)}[at]
        np.testing.assert_array_equal(numbers(answer), numbers(model.predict(df, order)))
    quick().fit(given)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA], ids=str)
@pytest.mark.parametrize("dtype", ["object", "string", "category"])
def test_missing_ids_are_refused(missing, dtype, simple):
    model, df = simple
    ids = df["id"].map("s{}".format).astype(object)
    ids[3] = missing
    with pytest.raises(DataError, match=re.escape("missing id (NaN) at row 3")):
        model.predict(df.assign(id=ids.astype(dtype)))


VALUES = ["Float32", "Int64", "boolean", "float16", "double[pyarrow]", "bool[pyarrow]", "uint8", "bool"]


@pytest.mark.parametrize("dtype", VALUES)
def test_values_of_every_numeric_dtype_are_read(dtype, simple):
    model, df = simple
    x = (df["x"] > 0).astype(float)
    gap = df.index == 7 if dtype not in ("uint8", "bool") else np.zeros(len(df), dtype=bool)
    plain_x = x.mask(gap)
    given = df.assign(x=x.astype(dtype).mask(gap) if gap.any() else x.astype(dtype))
    assert given["x"].dtype == dtype
    np.testing.assert_array_equal(numbers(model.predict(given)), numbers(model.predict(df.assign(x=plain_x))))


def test_decimals_are_refused_with_the_repair(simple):
    from decimal import Decimal

    _, df = simple
    with pytest.raises(
        DataError, match=re.escape("target 'x' is not numeric (object): convert it with pd.to_numeric")
    ):
        quick(target_cols=["x"]).fit(df.assign(x=df["x"].map(Decimal)))


def test_decimals_of_polars_are_numbers(simple):
    model, df = simple
    rounded = df.assign(x=df["x"].round(2))
    given = polars_of(rounded).with_columns(pl.col("x").cast(pl.Decimal(10, 2)))
    assert_same(model.predict(given).to_pandas(), model.predict(rounded))


def test_a_column_of_nothing_is_not_observed(simple):
    model, df = simple
    given = polars_of(df).with_columns(pl.lit(None).alias("y"))
    assert_same(model.predict(given).to_pandas(), model.predict(df.assign(y=np.nan)))


# --- times

START = pd.Timestamp("2024-01-01")


def hourly(n_series: int = 4, n_rows: int = 6) -> pd.DataFrame:
    """Two targets at whole days, irregularly."""
    rng = np.random.default_rng(1)
    rows = [
        {"id": f"s{i}", "day": int(day)}
        for i in range(n_series)
        for day in np.sort(rng.choice(60, n_rows, replace=False))
    ]
    df = pd.DataFrame(rows)
    return df.assign(x=np.sin(df["day"] / 9), y=np.cos(df["day"] / 9))


CALENDARS = {
    "datetime": lambda day: START + pd.to_timedelta(day, unit="D"),
    "zone": lambda day: (START + pd.to_timedelta(day, unit="D")).dt.tz_localize("Europe/Berlin"),
    "period": lambda day: (START + pd.to_timedelta(day, unit="D")).dt.to_period("D"),
    "timedelta": lambda day: pd.to_timedelta(day, unit="D"),
    "arrow": lambda day: (START + pd.to_timedelta(day, unit="D")).astype("timestamp[us][pyarrow]"),
    "arrow dates": lambda day: (START + pd.to_timedelta(day, unit="D")).astype(pd.ArrowDtype(pa.date32())),
    "arrow duration": lambda day: pd.to_timedelta(day, unit="D").astype("duration[us][pyarrow]"),
}


def at(calendar: str, df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(time=CALENDARS[calendar](df["day"]))[["id", "time", "x", "y"]]


@pytest.fixture(scope="module", params=[name for name in CALENDARS if name != "zone"])
def clocked(request, in_seconds) -> tuple[str, LatentODERegressor, LatentODERegressor, pd.DataFrame]:
    """A model of a calendar, and one of the same times in seconds."""
    df, name = hourly(), request.param
    return name, quick(event_times="poisson").fit(at(name, df)), in_seconds, df


@pytest.fixture(scope="module")
def in_seconds() -> LatentODERegressor:
    seconds = hourly().assign(time=lambda df: df["day"] * 86400.0)
    return quick(event_times="poisson").fit(seconds[["id", "time", "x", "y"]])


def test_every_calendar_is_read_as_seconds(clocked):
    name, model, in_seconds, df = clocked
    given = at(name, df)
    answer = model.predict(given)
    assert answer["time"].dtype == given["time"].dtype
    pd.testing.assert_frame_equal(answer[["id", "time"]], given[["id", "time"]])
    seconds = df.assign(time=df["day"] * 86400.0)
    np.testing.assert_allclose(numbers(answer), numbers(in_seconds.predict(seconds)), rtol=0, atol=1e-6)
    per_day = model.predict_intensity(given)["intensity"]
    np.testing.assert_allclose(per_day, 86400 * in_seconds.predict_intensity(seconds)["intensity"], rtol=1e-6)


@pytest.mark.parametrize("form", ["list", "scalar", "index", "series", "table", "levels"])
def test_times_of_every_calendar_keep_their_dtype(form, clocked):
    name, model, in_seconds, df = clocked
    given = at(name, df)
    column = given["time"].iloc[[2, 0]].reset_index(drop=True)
    table = pd.DataFrame({"id": ["s2", "s0"], "time": column.array})
    times: Any = {
        "list": column.tolist(),
        "scalar": column[0],
        "index": pd.Index(column),
        "series": column,
        "table": table,
        "levels": table.set_index(["id", "time"]),
    }[form]
    answer = model.predict(given, times)
    assert answer["time"].dtype == given["time"].dtype
    seconds = df["day"].iloc[[2, 0]].to_numpy() * 86400.0
    asked = {
        "scalar": seconds[0],
        "table": table.assign(time=seconds),
        "levels": table.assign(time=seconds),
    }.get(form, seconds)
    expected = in_seconds.predict(df.assign(time=df["day"] * 86400.0), asked)
    np.testing.assert_allclose(numbers(answer), numbers(expected), rtol=0, atol=1e-6)
    assert answer["id"].tolist() == expected["id"].tolist()


def test_texts_are_times_of_a_calendar(clocked):
    name, model, _, df = clocked
    given = at(name, df)
    texts = ["3 days", "36h"] if "dur" in name or name == "timedelta" else ["2024-01-03", "2024-02-01"]
    answer = model.predict(given, texts)
    expected = pd.to_timedelta(texts) if texts[0] == "3 days" else pd.to_datetime(texts)
    if name == "period":
        expected = expected.to_period("D")
    pd.testing.assert_frame_equal(
        answer, model.predict(given, expected).astype({"time": answer["time"].dtype})
    )
    pd.testing.assert_frame_equal(answer, model.predict(given, pd.Series(texts)))


def test_dates_of_python_are_times(clocked):
    name, model, _, df = clocked
    if name not in ("datetime", "arrow", "arrow dates"):
        pytest.skip("datetimes only")
    days = [datetime.date(2024, 1, 3), datetime.date(2024, 2, 1)]
    answer = model.predict(at(name, df), days)
    assert pd.DatetimeIndex(answer["time"]).tolist() == 4 * [pd.Timestamp(day) for day in days]


@pytest.mark.parametrize(
    ("calendar", "texts", "error"),
    [
        ("datetime", ["01/02/2024"], "times that are texts must be ISO dates such as '2024-05-01' or"),
        ("datetime", ["tomorrow"], "convert others with pd.to_datetime(...); got ['tomorrow']"),
        ("period", ["soon"], "times that are texts must be periods such as '2024-05-01'; got ['soon']"),
        (
            "timedelta",
            ["5"],
            "times that are texts must be durations with a unit, such as '3 days' or '90min'",
        ),
        ("zone", ["2024-01-01"], "times had a time zone"),
    ],
)
def test_ambiguous_texts_are_refused(calendar, texts, error):
    given = at(calendar, hourly())
    with pytest.raises(DataError, match=re.escape(error)):
        quick().fit(given).predict(given, texts)


@pytest.mark.parametrize(
    ("fitted", "asked", "text"),
    [
        (
            "datetime",
            "period",
            "times were datetimes .* but are periods .*: turn them into datetimes with .dt.to_time",
        ),
        (
            "period",
            "datetime",
            r"times were periods \(period\[D\]\) in fit, but are datetimes .*\.dt\.to_period",
        ),
        (
            "timedelta",
            "datetime",
            "times were timedeltas .* in fit, but are datetimes .*: use the same kind of time",
        ),
    ],
)
def test_times_of_another_calendar_are_refused(fitted, asked, text):
    df = hourly()
    model = quick().fit(at(fitted, df))
    with pytest.raises(DataError, match=text):
        model.predict(at(fitted, df), at(asked, df)["time"])
    with pytest.raises(DataError, match=text):
        model.predict(at(asked, df))


@pytest.mark.parametrize("calendar", ["period", "timedelta"])
@pytest.mark.parametrize("window", ["20D", pd.Timedelta(20, "D"), np.timedelta64(20, "D")], ids=str)
def test_windows_are_durations_in_every_calendar(calendar, window):
    df = hourly(1, 30)
    model = quick(window=window).fit(at(calendar, df))
    assert model._learned.window == 20 * 86400.0
    with pytest.raises(ValueError, match=f"since the time column 'time' holds {calendar}s; got 20"):
        quick(window=20).fit(at(calendar, df))


@pytest.mark.parametrize("calendar", CALENDARS)
def test_pictures_of_windows_show_every_calendar(calendar):
    df = hourly(1, 30)
    given = at(calendar, df)
    ax = quick(window="20D").fit(given).plot_forecast(given, truth=given)[0, 0]
    on_axis = {line.get_label(): np.asarray(line.get_xdata()) for line in ax.lines}
    end, day = on_axis["truth"].max(), np.timedelta64(1, "D") if on_axis["truth"].dtype.kind == "M" else 1.0
    days = {name: (on_axis[name] - end) / day for name in ("observed", "forecast")}
    assert days["observed"].min() >= -20
    assert days["forecast"].min() == pytest.approx(-20, abs=1)
    assert days["forecast"].max() == pytest.approx(10, abs=1)
    plt.close("all")


DATES = {
    "us": pl.Datetime("us"),
    "ns": pl.Datetime("ns"),
    "ms": pl.Datetime("ms"),
    "zone": pl.Datetime("us", "America/New_York"),
    "date": pl.Date,
    "duration": pl.Duration("ms"),
}


@pytest.mark.parametrize("dtype", DATES)
@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_times_of_other_libraries_keep_their_dtype(dtype, library):
    df = hourly()
    calendar = "timedelta" if dtype == "duration" else "datetime"
    given = polars_of(at(calendar, df)).with_columns(
        pl.col("time").dt.replace_time_zone("UTC").cast(DATES[dtype])
        if dtype == "zone"
        else pl.col("time").cast(DATES[dtype])
    )
    later = given["time"].max() + datetime.timedelta(days=3)
    forms = {"list": [later], "series": given["time"].head(2), "table": given.select("id", "time").head(2)}
    if library == "pyarrow":
        given = given.to_arrow()
        forms = {
            "list": [later],
            "chunks": given["time"].slice(0, 2),
            "array": given["time"].slice(0, 2).combine_chunks(),
            "table": given.select(["id", "time"]).slice(0, 2),
        }
    model = quick().fit(given)
    for times in (None, *forms.values()):
        answer = model.predict(given, times)
        assert type(answer) is type(given)
        assert (
            answer.schema.field("time") == given.schema.field("time")
            if library == "pyarrow"
            else (answer.schema["time"] == given.schema["time"])
        )
    if calendar == "datetime" and dtype != "zone":
        np.testing.assert_array_equal(
            model.predict(given)["x"].to_numpy(), model.predict(at(calendar, df))["x"].to_numpy()
        )


def test_a_time_that_a_date_cannot_hold_is_answered_as_a_datetime():
    given = polars_of(at("datetime", hourly())).with_columns(pl.col("time").cast(pl.Date))
    noon = datetime.datetime(2024, 3, 1, 12)
    answer = quick().fit(given).predict(given, [noon])
    assert answer["time"].to_list() == [noon] * 4


# --- names, and tables without an id


def test_the_names_of_nixtla_are_known():
    df = spirals(6, 6).rename(columns={"id": "unique_id", "time": "ds", "x": "y", "y": "price"})
    model = quick().fit(df)
    assert model.layout_.target_cols == ("y",)
    assert list(model.predict(df)) == ["unique_id", "ds", "y"]
    assert model.predict(polars_of(df)).columns == ["unique_id", "ds", "y"]
    levels = df.set_index(["unique_id", "ds"])
    pd.testing.assert_frame_equal(model.predict(levels).reset_index(), model.predict(df))
    both = quick(target_cols=["y", "price"]).fit(df)
    assert both.layout_.target_cols == ("y", "price")
    named = quick(id_col="unique_id", time_col="ds").fit(df)
    assert named.layout_.target_cols == ("y", "price")


def alone() -> pd.DataFrame:
    """One series without an id."""
    return spirals(1, 20).drop(columns="id")


ALONE = {
    "columns": (lambda df: df, lambda df: df),
    "index": (lambda df: df.set_index("time"), lambda df: df.reset_index()),
    "polars": (polars_of, lambda df: df.to_pandas()),
    "pyarrow": (arrow_of, lambda df: df.to_pandas()),
}


@pytest.fixture(scope="module")
def with_id() -> LatentODERegressor:
    """What the same series with an id makes."""
    return quick().fit(alone().assign(id=0))


@pytest.fixture(scope="module")
def of_with_id(with_id) -> Any:
    """Its answers without the id, each computed once."""
    df = alone().assign(id=0)[["id", "time", "x", "y"]]

    @functools.cache
    def of(method: str, asked: bool) -> pd.DataFrame:
        times = pd.DataFrame({"id": 0, "time": TIMES}) if asked else None
        return METHODS[method](with_id, df, times).drop(columns="id")

    return of


@pytest.mark.parametrize("form", ALONE)
@pytest.mark.parametrize("id_col", ["id", None])
def test_one_series_needs_no_id(form, id_col, with_id, of_with_id):
    of, long = ALONE[form]
    df = alone()
    model = quick(id_col=id_col).fit(of(df))
    for method in ("predict", "sample"):
        for times in (None, TIMES, of(pd.DataFrame({"time": TIMES}))):
            answer = METHODS[method](model, of(df), times)
            assert type(answer) is type(of(df))
            assert_same(long(answer), of_with_id(method, times is not None))
    assert model.score(of(df)) == with_id.score(df.assign(id=0))
    axes = model.plot_forecast(of(df), truth=of(df))
    assert axes[0, 0].get_title(loc="left") == ""
    plt.close("all")


def test_an_unnamed_index_of_datetimes_is_the_time():
    df = alone()
    days = pd.DatetimeIndex(START + pd.to_timedelta(df["time"], unit="D"))
    given = df.set_index(days)[["x", "y"]]
    given.index.name = None
    model = quick().fit(given)
    answer = model.predict(given)
    assert answer.index.equals(given.index)
    assert answer.index.name is None
    assert list(answer) == ["x", "y"]
    later = model.predict(given, [days[-1] + pd.Timedelta("1D")])
    assert isinstance(later.index, pd.DatetimeIndex)
    named = model.predict(given.rename_axis("time"))
    np.testing.assert_array_equal(numbers(named), numbers(answer))
    assert named.index.name == "time"


def test_id_col_none_takes_rows_in_any_order_and_ties():
    df = alone()
    model = quick(id_col=None).fit(df)
    shuffled = df.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(numbers(model.predict(shuffled).sort_index()), numbers(model.predict(df)))
    twice = pd.concat([df, df.iloc[[0]]], ignore_index=True)
    assert len(model.predict(twice)) == 21


def test_a_model_of_one_series_takes_later_tables_without_id_as_they_are():
    df = alone()
    model = quick().fit(df)
    noted = df.assign(note="a").sample(frac=1, random_state=0)
    np.testing.assert_array_equal(numbers(model.predict(noted).sort_index()), numbers(model.predict(df)))
    states = np.where(df["x"] > df["x"].median(), "high", "low")
    found = classifier(labels_per="row").fit(df.assign(state=states), "state")
    assert len(found.predict(df.assign(state=states))) == len(df)


@pytest.mark.parametrize("form", ["long", "levels", "pyarrow dtypes", "polars", "pyarrow"])
@pytest.mark.parametrize("times", ["list", "table"])
def test_no_times_give_an_empty_answer_of_the_same_form(form, times, model, df):
    given = FORMS[form].of(df)
    answer = model.predict(given, [] if times == "list" else FORMS[form].of(future(df)[:0]))
    assert type(answer) is type(given)
    assert len(answer) == 0
    assert list(FORMS[form].long(answer).columns) == ["id", "time", "x", "y"]
    if form in ("polars", "pyarrow"):
        of = answer.schema.field if form == "pyarrow" else answer.schema.__getitem__
        own = given.schema.field if form == "pyarrow" else given.schema.__getitem__
        assert (of("id"), of("time")) == (own("id"), own("time"))


def test_further_levels_of_the_index_stay_in_answers_at_the_rows(model, df):
    given = df.assign(visit=range(len(df))).set_index(["visit", "id", "time"])
    assert model.predict(given).index.equals(given.index)
    assert model.predict(given, future(df)).index.names == ["id", "time"]


def test_times_and_table_must_agree_about_the_id():
    df = alone()
    model = quick().fit(df)
    with pytest.raises(
        DataError, match="`times` names series in 'id', but the table is one series without an id"
    ):
        model.predict(df, pd.DataFrame({"id": [0], "time": [1.0]}))


# --- refusals


def test_lazy_tables_are_refused(model, df):
    with pytest.raises(TypeError, match=re.escape("call .collect() on it first")):
        model.predict(polars_of(df).lazy())
    with pytest.raises(TypeError, match=re.escape("call .collect() on it first")):
        model.predict(df, polars_of(future(df)).lazy())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda df: df.rename(columns={"time": "times"}), "no time column 'time' (did you mean 'times'?)"),
        (lambda df: df.rename(columns={"id": "iid"}), "no id column 'id' (did you mean 'iid'?)"),
        (
            lambda df: df.rename(columns={"mass": "Mass"}),
            "named in static_cols (did you mean 'Mass'?)",
        ),
    ],
)
def test_near_names_are_suggested(change, text, model, df):
    with pytest.raises(DataError, match=re.escape(text)):
        model.predict(change(df))
    with pytest.raises(DataError, match=re.escape(text)):
        model.predict(polars_of(change(df)))


# --- classifier


@pytest.fixture(scope="module")
def labelled() -> pd.DataFrame:
    df = spirals(8, 6)
    return df.assign(
        id=df["id"].map("s{}".format), side=np.where(df["id"] % 2, "left", "right"), high=df["y"] > 0
    )


def classifier(**params: Any) -> LatentODEClassifier:
    defaults = {
        "latent_dim": 3,
        "hidden_dim": 8,
        "max_epochs": 1,
        "solver": "euler",
        "step_size": 1.0,
        "random_state": 0,
        "verbose": 0,
    }
    return LatentODEClassifier(**(defaults | {"target_cols": ["x", "y"]} | params))


@pytest.fixture(scope="module")
def by_series(labelled) -> LatentODEClassifier:
    return classifier().fit(labelled, "side")


@pytest.fixture(scope="module")
def by_row(labelled) -> LatentODEClassifier:
    return classifier(labels_per="row").fit(labelled, "high")


@pytest.mark.parametrize("form", FORMS)
def test_classes_of_series_in_every_form(form, by_series, labelled):
    given = FORMS[form].of(labelled)
    expected, label = by_series.predict_proba(labelled), by_series.predict(labelled)
    found, classes = by_series.predict_proba(given), by_series.predict(given)
    if form in ("polars", "pyarrow"):
        assert type(found) is type(given)
        assert type(classes) is type(given)
        found = found.to_pandas().set_index("id")
        classes = classes.to_pandas().set_index("id")["label"]
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())
    assert list(found.columns) == ["left", "right"]
    assert found.index.tolist() == expected.index.tolist()
    assert found.index.name == "id"
    assert classes.tolist() == label.tolist()
    assert by_series.score(given, "side") == by_series.score(labelled, "side")
    by_id = labelled.groupby("id")["side"].first()
    assert by_series.score(given, by_id) == by_series.score(labelled, by_id)
    again = classifier().fit(given, by_id)
    np.testing.assert_array_equal(
        again.predict_proba(given).to_pandas()["left"]
        if form in ("polars", "pyarrow")
        else again.predict_proba(given)["left"],
        expected["left"],
    )


@pytest.mark.parametrize("form", FORMS)
def test_classes_of_rows_in_every_form(form, by_row, labelled):
    given = FORMS[form].of(labelled)
    expected, label = by_row.predict_proba(labelled), by_row.predict(labelled)
    found, classes = by_row.predict_proba(given), by_row.predict(given)
    if form == "polars":
        assert isinstance(found, pl.DataFrame)
        assert isinstance(classes, pl.Series)
        labels: Any = given["high"]
    elif form == "pyarrow":
        assert isinstance(found, pa.Table)
        assert isinstance(classes, pa.ChunkedArray)
        labels = given["high"]
    else:
        assert found.index.equals(given.index)
        assert classes.index.equals(given.index)
        labels = given["high"].sample(frac=1, random_state=0) if given.index.is_unique else given["high"]
    columns = found.to_pandas() if form in ("polars", "pyarrow") else found
    np.testing.assert_array_equal(columns.to_numpy(), expected.to_numpy())
    assert list(classes.to_pandas() if form == "pyarrow" else classes) == label.tolist()
    assert by_row.score(given, "high") == by_row.score(given, labels) == by_row.score(labelled, "high")
    again = classifier(labels_per="row").fit(given, labels)
    pd.testing.assert_frame_equal(again.predict_proba(labelled), expected)


@pytest.mark.parametrize("form", ["polars", "pyarrow"])
def test_categorical_targets_keep_the_dtype_of_the_table(form, labelled):
    df = labelled.drop(columns="high")
    model = quick(likelihood={"side": "categorical"}).fit(df)
    given = FORMS[form].of(df)
    answer = model.predict(given)
    assert answer.to_pandas()["side"].tolist() == model.predict(df)["side"].tolist()
    if form == "polars":
        enum = pl.Enum(["left", "right"])
        given = given.with_columns(pl.col("side").cast(enum))
        assert model.predict(given).schema["side"] == enum
        assert model.predict_proba(given).columns == ["id", "time", "side_left", "side_right"]
    else:
        assert answer.schema.field("side").type == given.schema.field("side").type
