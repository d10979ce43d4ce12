"""Answers come back in the caller's rows, ids, times, dtypes and names; `times` may be anything that holds times."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from small_models import COMPANY, OTHER_STEPS, numbers, small

TIMES = [-1.0, 0.5, 2.0, 7.5]
START = pd.Timestamp("2021-03-27 22:00")  # an hour is skipped that night in Berlin

# ids of twelve series: dtypes that pandas users have
IDS = {
    "int": list(range(12)),
    "int32": pd.Series(range(12), dtype="int32"),
    "Int64": pd.Series(range(12), dtype="Int64"),
    "float": [i / 2 for i in range(12)],
    "str": [f"s{i:02d}" for i in range(12)],
    "object": pd.Series([f"s{i:02d}" for i in range(12)], dtype=object),
    "category": pd.Categorical([f"s{i:02d}" for i in range(12)], categories=[f"s{i:02d}" for i in range(20)]),
    "datetime": pd.date_range("2020-01-01", periods=12),
    "tuples": pd.Series([(i, "a") for i in range(12)], dtype=object),
}

# numbers of days, on a grid of 1/1024 that all of these hold exactly -> a column of times
CLOCKS = {
    "float32": lambda days: days.astype("float32"),
    "int": lambda days: (days * 1024).astype("int64"),
    "uint16": lambda days: (days * 1024 + 5000).astype("uint16"),
    "Float64": lambda days: days.astype("Float64"),
    "Int32": lambda days: (days * 1024).astype("Int32"),
    "datetime64[ns]": lambda days: dates(days).astype("datetime64[ns]"),
    "datetime64[ms]": lambda days: dates(days).astype("datetime64[ms]"),
    "datetime64[us, Europe/Berlin]": lambda days: (
        dates(days).astype("datetime64[us]").dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    ),
}


def dates(days: pd.Series) -> pd.Series:
    return START + pd.to_timedelta(days, unit="D")


@pytest.fixture(params=CLOCKS)
def clocked(request, table):
    """A table in each kind of time, and how to turn days into such times."""
    turn = CLOCKS[request.param]
    return table.assign(time=turn(table["time"])), lambda days: turn(pd.Series(days))


@pytest.mark.parametrize("kind", IDS)
def test_ids_keep_their_dtype_and_order(kind, table):
    names = pd.Series(IDS[kind])
    df = table.assign(id=names.iloc[table["id"]].array)[::-1]
    model = small(max_epochs=1).fit(df)
    at_rows, at_times = model.predict(df), model.predict(df, TIMES)
    pd.testing.assert_frame_equal(at_rows[["id", "time"]], df[["id", "time"]])
    assert at_times["id"].dtype == df["id"].dtype
    assert list(at_times["id"]) == [name for name in names[::-1] for _ in TIMES]
    assert at_times.index.equals(pd.RangeIndex(12 * len(TIMES)))
    asked = at_times[["id", "time"]].iloc[[5, 0, 30]]
    pd.testing.assert_frame_equal(model.predict(df, asked)[["id", "time"]], asked.reset_index(drop=True))
    stacked = model.sample(df, TIMES, 2)
    assert stacked["id"].dtype == df["id"].dtype


def test_times_keep_their_dtype_and_zone(clocked):
    df, turn = clocked
    model = small(max_epochs=1).fit(df)
    for answer in (model.predict(df), model.predict_interval(df), model.sample(df, n_samples=1)):
        pd.testing.assert_frame_equal(
            answer[["id", "time"]].reset_index(drop=True), df[["id", "time"]].reset_index(drop=True)
        )
    asked = turn([1.0, 4.0, 0.0])
    answer = model.predict(df, asked)
    expected = pd.concat([asked] * 12, ignore_index=True)
    pd.testing.assert_series_equal(answer["time"], expected, check_names=False)


def test_the_kind_of_time_does_not_matter_to_the_numbers(clocked, table):
    df, turn = clocked
    model, plain = small(max_epochs=2).fit(df), small(max_epochs=2).fit(table)
    got, expected = model.predict(df, turn([1.0, 4.0])), plain.predict(table, [1.0, 4.0])
    np.testing.assert_allclose(numbers(got), numbers(expected), rtol=0, atol=COMPANY)


@pytest.mark.parametrize(
    "times",
    [
        [1.5, 4],
        (1.5, 4.0),
        np.array([1.5, 4.0]),
        np.array([1.5, 4.0], dtype=np.float32),
        pd.Index([1.5, 4.0]),
        pd.Series([1.5, 4.0], index=[7, 7]),
        pd.array([1.5, 4.0], dtype="Float64"),
    ],
    ids=lambda times: type(times).__name__,
)
def test_any_sequence_of_times_will_do(times, fitted, table):
    expected = fitted.predict(
        table, pd.DataFrame({"id": np.repeat(np.arange(12), 2), "time": [1.5, 4.0] * 12})
    )
    answer = fitted.predict(table, times)
    np.testing.assert_array_equal(numbers(answer), numbers(expected))
    assert answer["id"].tolist() == expected["id"].tolist()


@pytest.mark.parametrize("time", [4, 4.0, np.float32(4), np.int64(4)])
def test_one_time_will_do(time, fitted, table):
    answer = fitted.predict(table, time)
    assert answer["id"].tolist() == list(range(12))
    assert (answer["time"] == 4).all()
    np.testing.assert_array_equal(numbers(answer), numbers(fitted.predict(table, [4.0])))


@pytest.mark.parametrize(
    "time",
    ["2021-03-29", datetime.datetime(2021, 3, 29), np.datetime64("2021-03-29"), pd.Timestamp("2021-03-29")],
)
def test_one_datetime_will_do(time, table):
    df = table.assign(time=CLOCKS["datetime64[ns]"](table["time"]))
    model = small(max_epochs=1).fit(df)
    answer = model.predict(df, time)
    assert (answer["time"] == pd.Timestamp("2021-03-29")).all()
    assert answer["time"].dtype == df["time"].dtype


def test_ranges_of_whole_times_will_do(table):
    df = table.assign(time=CLOCKS["int"](table["time"]))
    answer = small(max_epochs=1).fit(df).predict(df, range(0, 5120, 1024))
    assert answer["time"].dtype == "int64"
    assert answer["time"].tolist() == [0, 1024, 2048, 3072, 4096] * 12


def test_times_keep_the_order_given_and_may_repeat(fitted, table):
    answer = fitted.predict(table, [4.0, -1.0, 4.0, 0.5])
    assert answer["time"].tolist() == [4.0, -1.0, 4.0, 0.5] * 12
    ordered = fitted.predict(table, [-1.0, 0.5, 4.0])
    found = numbers(answer).reshape(12, 4, 2)
    expected = numbers(ordered).reshape(12, 3, 2)
    np.testing.assert_allclose(found[:, [1, 3, 0]], expected, rtol=0, atol=COMPANY)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])


def test_a_table_of_times_asks_what_it_asks(fitted, table):
    asked = pd.DataFrame(
        {"time": [3.0, -1.0, 8.0, 3.0], "id": [5, 2, 5, 0], "extra": "e"}, index=[9, 8, 7, 6]
    )
    answer = fitted.predict(table, asked)
    pd.testing.assert_frame_equal(answer[["id", "time"]], asked[["id", "time"]].reset_index(drop=True))
    for _, row in answer.iterrows():
        one = fitted.predict(table[table["id"] == row["id"]], [row["time"]])
        np.testing.assert_allclose(numbers(one)[0], row[["x", "y"]].to_numpy(float), atol=OTHER_STEPS)


@pytest.mark.parametrize(
    "nothing",
    [[], (), np.array([]), pd.Series([], dtype=float), pd.DataFrame({"id": [0], "time": [1.0]}).iloc[:0]],
    ids=lambda nothing: type(nothing).__name__,
)
def test_no_times_get_no_answers(nothing, fitted, table):
    answer = fitted.predict(table, nothing)
    assert answer.shape == (0, 4)
    assert answer.dtypes.equals(fitted.predict(table).dtypes)
    mean, std = fitted.predict(table, nothing, return_std=True)
    assert mean.shape == std.shape == (0, 4)
    assert list(fitted.predict_quantiles(table, nothing)) == ["id", "time", "quantile", "x", "y"]
    assert fitted.sample(table, nothing, 3).shape == (0, 5)
    assert fitted.predict_interval(table, nothing).shape == (0, 6)


def test_the_default_is_the_rows_with_their_index(fitted, table):
    df = table.set_axis(np.arange(len(table)) * 3 + 1)[::-1]
    answer = fitted.predict(df)
    assert answer.index.equals(df.index)
    pd.testing.assert_frame_equal(answer[["id", "time"]], df[["id", "time"]])
    by_table = fitted.predict(df, df[["id", "time"]])
    np.testing.assert_array_equal(numbers(by_table), numbers(answer))


def test_answers_before_inside_and_beyond_join_smoothly(fitted, table):
    """One curve through all times: neighbours 1/64 apart differ by little, across first and last row too."""
    times = np.arange(-2.0, 8.0, 1 / 64)
    curves = numbers(fitted.predict(table, times)).reshape(12, len(times), 2)
    assert np.isfinite(curves).all()
    assert np.abs(np.diff(curves, axis=1)).max() < 0.5


def test_names_of_columns_are_kept(table):
    df = table.set_axis(["patient", "hour", "Heart rate", 7], axis=1)
    model = small(id_col="patient", time_col="hour", max_epochs=1).fit(df)
    assert list(model.predict(df)) == ["patient", "hour", "Heart rate", 7]
    assert list(model.predict_interval(df)) == [
        "patient",
        "hour",
        "Heart rate_lower",
        "Heart rate_upper",
        "7_lower",
        "7_upper",
    ]
    assert list(model.sample(df, 1.0, 2)) == ["patient", "hour", "sample", "Heart rate", 7]
    asked = pd.DataFrame({"patient": [3], "hour": [1.0]})
    assert model.predict(df, asked).shape == (1, 4)
    assert -10 < model.score(df) <= 1


def test_targets_are_answered_in_the_order_named(table):
    model = small(target_cols=["y", "x"], max_epochs=2).fit(table)
    assert list(model.predict(table)) == ["id", "time", "y", "x"]
    assert list(model.predict_quantiles(table)) == ["id", "time", "quantile", "y", "x"]


def test_one_target_of_several(table):
    model = small(target_cols=["y"], max_epochs=2).fit(table)
    assert list(model.predict(table.drop(columns="x"))) == ["id", "time", "y"]
    np.testing.assert_array_equal(
        numbers(model.predict(table), ["y"]), numbers(model.predict(table.drop(columns="x")), ["y"])
    )


@pytest.mark.parametrize("dtype", ["float32", "int64", "Int64", "Float64", "bool"])
def test_numeric_targets_of_other_dtypes_are_answered_in_float(dtype, table):
    whole = (table["x"] * 10).round()
    df = table.assign(x=(whole > 0) if dtype == "bool" else whole.astype(dtype))
    answer = small(max_epochs=1).fit(df).predict(df, TIMES)
    assert answer["x"].dtype == "float64"
    as_float = table.assign(x=df["x"].astype("float64"))
    expected = small(max_epochs=1).fit(as_float).predict(as_float, TIMES)
    np.testing.assert_array_equal(numbers(answer), numbers(expected))


def test_new_series_are_answered_too(fitted, table):
    assert set(table["id"]).isdisjoint({100})
    answer = fitted.predict(table[table["id"] == 4].assign(id=100), TIMES)
    expected = fitted.predict(table[table["id"] == 4], TIMES)
    np.testing.assert_allclose(numbers(answer), numbers(expected), rtol=0, atol=COMPANY)


def test_quantiles_and_samples_repeat_the_rows_of_predict(fitted, table):
    keys = fitted.predict(table, TIMES)[["id", "time"]]
    stacked = fitted.predict_quantiles(table, TIMES, [0.2, 0.7, 0.5])
    assert stacked["quantile"].tolist() == np.repeat([0.2, 0.7, 0.5], len(keys)).tolist()
    drawn = fitted.sample(table, TIMES, 3)
    assert drawn["sample"].tolist() == np.repeat([0, 1, 2], len(keys)).tolist()
    for answer in (stacked, drawn):
        expected = pd.concat([keys] * 3, ignore_index=True)
        pd.testing.assert_frame_equal(answer[["id", "time"]], expected)
