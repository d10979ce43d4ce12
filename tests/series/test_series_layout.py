"""Queries and answers in the caller's own types; the texts of the errors."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from latentode.exceptions import DataError
from latentode.series import TableLayout

IDS = {
    "int": pd.array([7, 7, 3, 3], dtype="int32"),
    "str": pd.Series(["p", "p", "a", "a"]),
    "object": pd.Series(["p", "p", "a", "a"], dtype=object),
    "category": pd.Categorical(["p", "p", "a", "a"], categories=["a", "unused", "p"], ordered=True),
    "nullable": pd.array([7, 7, 3, 3], dtype="Int64"),
    "datetime": pd.DatetimeIndex(["2020", "2020", "2019", "2019"]),
}
TIMES = {
    "int": np.array([4, 1, 2, 3]),
    "float32": np.array([0.5, 0.1, 0.2, 0.3], dtype="float32"),
    "nullable": pd.array([4, 1, 2, 3], dtype="Int16"),
    "seconds": pd.date_range("2021-01-01", periods=4).as_unit("s"),
    "nanoseconds": pd.to_datetime([1, 7, 3, 2], unit="ns", origin="2021-01-01"),
    "zone": pd.date_range("2021-10-30 23:30", periods=4, freq="h", tz="Europe/Berlin"),
    "offset": pd.date_range("2021-10-30", periods=4, tz="+02:00"),
}


def table_of(ids=IDS["str"], times=TIMES["int"]) -> pd.DataFrame:
    df = pd.DataFrame({"id": ids, "time": times, "x": [1.0, 2.0, 3.0, 4.0], "y": [5.0, 6.0, 7.0, 8.0]})
    return df.iloc[[2, 0, 3, 1]].set_index(pd.Index([9, 9, 1, 0], name="label"))


def learned(df: pd.DataFrame):
    layout = TableLayout.infer(df)
    return layout, layout.read(df)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("times", TIMES)
def test_answers_at_every_row_are_the_table_itself(ids, times):
    df = table_of(IDS[ids], TIMES[times])
    layout, table = learned(df)
    answers = table.in_row_order(table.values)
    written = layout.write(layout.keys(df), {"x": answers[:, 0], "y": answers[:, 1]})
    pd.testing.assert_frame_equal(written, df)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("times", TIMES)
def test_a_table_of_queries_comes_back_unchanged(ids, times):
    df = table_of(IDS[ids], TIMES[times])
    layout, table = learned(df)
    queries = layout.read_queries(df, table)
    assert queries.values.shape == (4, 0)
    np.testing.assert_array_equal(queries.times, table.times)
    np.testing.assert_array_equal(queries.rows, table.rows)
    written = layout.write(layout.query_keys(df, table), {"x": np.arange(4.0)})
    expected = df[["id", "time"]].reset_index(drop=True).assign(x=np.arange(4.0))
    pd.testing.assert_frame_equal(written, expected)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("times", TIMES)
def test_a_sequence_of_queries_goes_to_every_series_in_the_order_given(ids, times):
    df = table_of(IDS[ids], TIMES[times])
    layout, table = learned(df)
    asked = df["time"].iloc[:3]
    queries, keys = layout.read_queries(asked, table), layout.query_keys(asked, table)
    assert queries.lengths.tolist() == [3, 3]
    pd.testing.assert_series_equal(keys["time"], pd.concat([asked, asked]).reset_index(drop=True))
    first_appearance = df["id"].iloc[[0, 0, 0, 1, 1, 1]].reset_index(drop=True)
    pd.testing.assert_series_equal(keys["id"], first_appearance)
    own = layout.read(df.iloc[:3].assign(id=df["id"].iloc[0])).times
    np.testing.assert_array_equal(queries.times, np.tile(own, 2))
    np.testing.assert_array_equal(queries.rows[3:], queries.rows[:3] + 3)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("form", ["list", "tuple", "scalar"])
def test_lists_take_the_dtype_of_the_training_times(times, form):
    df = table_of(times=TIMES[times])
    layout, table = learned(df)
    asked = df["time"].iloc[[0]].tolist()
    given = {"list": asked, "tuple": tuple(asked), "scalar": asked[0]}[form]
    keys = layout.query_keys(given, table)
    pd.testing.assert_series_equal(keys["time"], df["time"].iloc[[0, 0]].reset_index(drop=True))


def test_lists_that_the_training_dtype_cannot_hold_keep_their_own():
    layout, table = learned(table_of(times=TIMES["int"]))
    assert layout.query_keys([0.5, 2.0], table)["time"].tolist() == [0.5, 2.0, 0.5, 2.0]
    layout, table = learned(table_of(times=TIMES["seconds"]))
    half = pd.Timestamp("2021-01-01 00:00:00.5")
    assert layout.query_keys([half], table)["time"].tolist() == [half, half]


@pytest.mark.parametrize(
    "times",
    [np.array([1.5, 2.5]), pd.Index([1.5, 2.5]), pd.Series([1.5, 2.5], index=[5, 5]), pd.array([1.5, 2.5])],
    ids=lambda times: type(times).__name__,
)
def test_sequences_of_every_type(times):
    layout, table = learned(table_of())
    keys = layout.query_keys(times, table)
    assert keys["time"].tolist() == [1.5, 2.5, 1.5, 2.5]
    assert keys["time"].dtype == pd.Series(times).dtype
    assert isinstance(keys.index, pd.RangeIndex)


@pytest.mark.parametrize(
    "moment", [datetime.datetime(2021, 1, 2), np.datetime64("2021-01-02"), pd.Timestamp(2021, 1, 2)]
)
def test_one_moment_of_every_type(moment):
    layout, table = learned(table_of(times=TIMES["seconds"]))
    assert layout.read_queries(moment, table).times.tolist() == [86400.0, 86400.0]


def test_queries_before_the_training_times_are_negative():
    layout, table = learned(table_of(times=TIMES["seconds"]))
    assert layout.read_queries(pd.Timestamp("2020-12-31"), table).times.tolist() == [-86400.0] * 2


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("form", ["list", "table"])
def test_no_times_give_no_answers(times, form):
    df = table_of(times=TIMES[times])
    layout, table = learned(df)
    asked = [] if form == "list" else df.iloc[:0]
    queries, keys = layout.read_queries(asked, table), layout.query_keys(asked, table)
    assert queries.lengths.tolist() == [0, 0]
    written = layout.write(keys, {"x": np.empty(0)})
    assert written.shape == (0, 3)
    assert written.dtypes["id"] == df.dtypes["id"]
    assert written.dtypes["time"] == df.dtypes["time"]


def test_series_without_a_query_are_empty():
    layout, table = learned(table_of())
    queries = layout.read_queries(pd.DataFrame({"time": [9, 8], "id": ["p", "p"]}), table)
    assert list(queries.ids) == ["a", "p"]
    assert queries.lengths.tolist() == [0, 2]
    assert queries.times.tolist() == [8.0, 9.0]
    assert queries.rows.tolist() == [1, 0]


def test_any_hashable_is_a_column_name():
    df = pd.DataFrame({0: [1, 1], 1: [0.0, 1.0], 2: [3.0, 4.0]})
    layout = TableLayout.infer(df, id_col=0, time_col=1)
    assert layout.target_cols == (2,)
    assert list(layout.write(layout.keys(df), {2: np.zeros(2)}).columns) == [0, 1, 2]


@pytest.mark.parametrize("times", TIMES)
def test_state_survives_json(times):
    layout = TableLayout.infer(table_of(times=TIMES[times]), target_cols=["y"])
    assert TableLayout.from_state(json.loads(json.dumps(layout.state()))) == layout


def test_kind_of_time_is_learned():
    assert TableLayout.infer(table_of()).time_kind == "numeric"
    assert TableLayout.infer(table_of(times=TIMES["zone"])).time_kind == "datetime"


def changed(**columns) -> pd.DataFrame:
    return table_of().assign(**columns)


NAN, INF = [1.0, np.nan, 2.0, 3.0], [1.0, 2.0, -np.inf, 3.0]
DAYS = pd.date_range("2020", periods=4)


@pytest.mark.parametrize(
    ("df", "text"),
    [
        (table_of().iloc[:0], "the table is empty"),
        (table_of().drop(columns="id"), r"no id column 'id'; the columns are \['time', 'x', 'y'\]"),
        (table_of().drop(columns="time"), r"no time column 'time'; the columns are \['id', 'x', 'y'\]"),
        (table_of().set_axis(["id", "time", "x", "x"], axis=1), "duplicated column name in the table: 'x'"),
        (table_of()[["id", "time"]], "no numeric column is left to learn; .*'time': 'int64'"),
        (changed(time=NAN), r"missing time .* at series 'p', row 1"),
        (changed(time=[*DAYS[:2], pd.NaT, DAYS[3]]), r"missing time \(NaN or NaT\) at series 'a', row 2"),
        (changed(time=INF), "infinite time -inf at series 'a', row 2: times must be finite"),
        (
            changed(time="2020-01-01"),
            r"times must be numbers, datetimes, periods or timedeltas, got .*'2020-01-01'.*pd\.to_datetime",
        ),
        (changed(time=[DAYS[0], 1, 2, 3]), r"got object .*pd\.to_datetime"),
        (changed(time=True), "got bool .*time_col="),
        (changed(time=1j), "got complex128 .*time_col="),
        (
            changed(time=pd.Series([None] * 4, dtype=object, index=[9, 9, 1, 0]).array),
            "got object .all missing",
        ),
        (changed(id=["a", None, "b", "c"]), "missing id .NaN. at row 1"),
        (changed(y=INF), "infinite value in target 'y' at series 'a', row 2"),
        (changed(y=np.nan), "never observed .all NaN.: target 'y'; leave it out"),
    ],
)
def test_a_table_that_cannot_be_fitted_is_refused(df, text):
    with pytest.raises(DataError, match=text):
        TableLayout.infer(df).read(df, require_observed=True)


@pytest.mark.parametrize(
    "df", [None, [[1, 2]], np.zeros((2, 3)), pd.Series([1.0])], ids=lambda x: type(x).__name__
)
def test_only_data_frames_are_tables(df):
    layout = TableLayout.infer(table_of())
    for method in (TableLayout.infer, layout.read):
        with pytest.raises(TypeError, match=f"expected a pandas DataFrame .* got {type(df).__name__}"):
            method(df)


@pytest.mark.parametrize(
    ("names", "error", "text"),
    [
        ({"target_cols": "x"}, ValueError, "target_cols must be a list of column names or None, got 'x'"),
        ({"target_cols": 3}, ValueError, "target_cols must be a list of column names or None, got 3"),
        ({"target_cols": []}, ValueError, "target_cols is empty"),
        ({"target_cols": ["x", "x"]}, ValueError, "must name different columns"),
        ({"target_cols": ["x", "time"]}, ValueError, "none of them the id or the time column"),
        ({"id_col": "time"}, ValueError, "id_col and time_col must differ, both are 'time'"),
        ({"target_cols": ["x", "q", "r"]}, DataError, r"no target column 'q', 'r'; the columns are \['id'"),
        ({"target_cols": ["note"]}, DataError, r"target 'note' is not numeric .*pd\.to_numeric"),
        ({"target_cols": ["day"]}, DataError, r"target 'day' is not numeric \(datetime64"),
        ({"target_cols": ["wave"]}, DataError, r"target 'wave' is not numeric \(complex128\)"),
    ],
)
def test_roles_that_do_not_fit_are_refused(names, error, text):
    df = changed(note="a", day=pd.Timestamp("2020-01-01"), wave=1j)
    with pytest.raises(error, match=text):
        TableLayout.infer(df, **names)


def test_the_other_columns_may_be_anything():
    df = changed(note="a", id2=None)
    assert TableLayout.infer(df, target_cols=["y"]).read(df).values.shape == (4, 1)
    layout = TableLayout.infer(table_of())
    np.testing.assert_array_equal(layout.read(df).values, layout.read(table_of()).values)


AWARE = DAYS.tz_localize("UTC")


@pytest.mark.parametrize(
    ("fitted", "df", "text"),
    [
        (table_of(), table_of().drop(columns="x"), "no target column 'x'; .* a table needs all targets"),
        (table_of(), changed(x="a"), "target 'x' is not numeric"),
        (table_of(), changed(time=DAYS), r"were numbers \(int64\) in fit, but are datetimes \(datetime64"),
        (changed(time=DAYS), table_of(), r"were datetimes .* in fit, but are numbers \(int64\) here"),
        (
            changed(time=DAYS),
            changed(time=AWARE),
            r"had no time zone .* have a time zone .*tz_localize\(None\)",
        ),
        (
            changed(time=AWARE),
            changed(time=DAYS),
            r"had a time zone .* have no time zone .*tz_localize\(\.\.\.",
        ),
    ],
)
def test_a_table_unlike_that_of_fit_is_refused(fitted, df, text):
    with pytest.raises(DataError, match=text):
        TableLayout.infer(fitted).read(df)


@pytest.mark.parametrize(
    ("times", "error", "text"),
    [
        ({"a": [1.0]}, TypeError, "times must be a time, a sequence of times .* got dict"),
        (None, TypeError, "got NoneType"),
        ({1.0}, TypeError, "got set"),
        (np.zeros((2, 2)), ValueError, "times must have one dimension, got 2"),
        ("tomorrow", DataError, r"'tomorrow'.*pd\.to_datetime"),
        (["2020-01-01"], DataError, r"'2020-01-01'.*pd\.to_datetime"),
        ([[1.0, 2.0]], DataError, "times must be numbers, datetimes, periods or timedeltas, got object"),
        (True, DataError, "got bool"),
        ([1.0, None], DataError, "missing time .* at position 1 of `times`"),
        ([1.0, np.inf], DataError, "infinite time inf at position 1 of `times`"),
        (DAYS, DataError, "were numbers .* but are datetimes"),
        (pd.DataFrame({"time": [1]}), DataError, r"no id column 'id'; the columns are \['time'\]"),
        (pd.DataFrame({"id": ["a"]}), DataError, r"no time column 'time'; the columns are \['id'\]"),
        (
            pd.DataFrame({"id": ["a", "z"], "time": 1}),
            DataError,
            "not in the table: 'z'; its series are 'a', 'p'",
        ),
        (pd.DataFrame({"id": range(9), "time": 1}), DataError, "0, 1, 2, 3, 4 and 4 more; its series"),
        (pd.DataFrame({"id": ["a", None], "time": 1}), DataError, "missing id .NaN. at row 1"),
        (pd.DataFrame({"id": ["a"], "time": np.nan}), DataError, "missing time .* at series 'a', row 0"),
        (
            pd.DataFrame([["a", 1, 1]], columns=["id", "time", "time"]),
            DataError,
            "in the table `times`: 'time'",
        ),
    ],
)
def test_times_that_cannot_be_asked_for_are_refused(times, error, text):
    layout, table = learned(table_of())
    with pytest.raises(error, match=text):
        layout.read_queries(times, table)
