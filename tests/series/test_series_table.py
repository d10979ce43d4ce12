"""Reading long tables: order of rows, kinds of times, repeated times, gaps; padding to batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentode.exceptions import DataError
from latentode.series import BatchSource, SeriesBatch, TableLayout, pad

unhurried = settings(deadline=None)  # no test depends on timing
NANOSECOND = 1e-9


def small_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["b", "a", "b", "a", "c"],
            "time": [2.0, 0.5, 1.0, 0.25, 7.0],
            "x": [1.0, 2.0, np.nan, 4.0, 5.0],
            "y": [10, 20, 30, 40, 50],
        }
    )


def read(df: pd.DataFrame, **roles):
    return TableLayout.infer(df, **roles).read(df)


@st.composite
def ragged_tables(draw):
    """(series, time, x, y) rows: few distinct times, so that they repeat; gaps; series down to one row."""
    cell = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))
    row = st.tuples(st.integers(0, 4), st.integers(-3, 3), cell, cell)
    rows = draw(st.lists(row, min_size=1, max_size=30))
    return pd.DataFrame(rows, columns=["id", "time", "x", "y"]).astype({"x": float, "y": float})


def test_rows_are_sorted_into_series_in_order_of_first_appearance():
    table = read(small_table())
    assert list(table.ids) == ["b", "a", "c"]
    assert table.offsets.tolist() == [0, 2, 4, 5]
    assert table.times.tolist() == [1.0, 2.0, 0.25, 0.5, 7.0]
    assert table.rows.tolist() == [2, 0, 3, 1, 4]
    np.testing.assert_array_equal(table.values, [[np.nan, 30], [1, 10], [4, 40], [2, 20], [5, 50]])
    assert table.spans.tolist() == [1.0, 0.25, 0.0]


@unhurried
@given(ragged_tables())
def test_read_agrees_with_pandas_series_by_series(df):
    table = read(df)
    assert table.lengths.sum() == len(df)
    for i, (name, group) in enumerate(df.groupby("id", sort=False)):
        group = group.sort_values("time", kind="stable")
        rows = slice(table.offsets[i], table.offsets[i + 1])
        assert table.ids[i] == name
        np.testing.assert_array_equal(table.times[rows], group["time"])
        np.testing.assert_array_equal(table.values[rows], group[["x", "y"]])
        np.testing.assert_array_equal(table.rows[rows], group.index)


@unhurried
@given(ragged_tables())
def test_padded_batches_hold_their_invariants(df):
    table = read(df)
    batch = pad(table, dtype=torch.float64)
    for i in range(len(table)):
        n = table.lengths[i]
        own = slice(table.offsets[i], table.offsets[i + 1])
        seen = np.where(batch.mask[i, :n], batch.values[i, :n], np.nan)
        np.testing.assert_array_equal(seen, table.values[own])
        np.testing.assert_array_equal(batch.times[i, :n], table.times[own])
        assert (batch.times[i, n:] == batch.times[i, n - 1]).all()
        assert not batch.mask[i, n:].any()
    assert (batch.values[~batch.mask] == 0).all()
    assert batch.times.shape[1] == table.lengths.max()


@unhurried
@given(ragged_tables(), st.randoms(use_true_random=False))
def test_order_of_rows_and_columns_does_not_matter(df, random):
    df = df.drop_duplicates(["id", "time"])  # rows at one time keep the caller's order
    shuffled = df.sample(frac=1, random_state=random.randrange(2**31))[["y", "time", "x", "id"]]
    layout = TableLayout.infer(df)
    one, other = layout.read(df), layout.read(shuffled)
    other = other.take(other.ids.get_indexer(one.ids))
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.values, other.values)


def test_rows_at_one_time_keep_their_order():
    df = pd.DataFrame({"id": 1, "time": [1, 1, 0, 1], "x": [3.0, 1.0, 9.0, 2.0]})
    assert read(df).values[:, 0].tolist() == [9.0, 3.0, 1.0, 2.0]


def test_take_repeats_and_reorders_series():
    table = read(small_table()).take([2, 0, 2])
    assert list(table.ids) == ["c", "b", "c"]
    assert table.times.tolist() == [7.0, 1.0, 2.0, 7.0]
    assert table.rows.tolist() == [4, 2, 0, 4]


def test_take_rows_may_leave_a_series_empty():
    table = read(small_table())
    kept = table.take_rows(table.times < 1.5)
    assert kept.lengths.tolist() == [1, 2, 0]
    assert kept.times.tolist() == [1.0, 0.25, 0.5]
    assert kept.spans.tolist() == [0.0, 0.25, 0.0]


def test_flatten_and_in_row_order_undo_padding_and_sorting():
    df = small_table()
    table = read(df)
    answers = table.in_row_order(table.flatten(pad(table, dtype=torch.float64).values.numpy()))
    np.testing.assert_array_equal(answers[:, 1], df["y"])


def test_default_targets_are_the_numeric_and_bool_columns():
    df = small_table().assign(
        flag=[True, False, True, True, False], note="text", day=pd.Timestamp("2020-01-01")
    )
    layout = TableLayout.infer(df)
    assert layout.target_cols == ("x", "y", "flag")
    assert layout.read(df).values[:, 2].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "Int8", "float32", "boolean"])
def test_nullable_and_narrow_targets(dtype):
    df = pd.DataFrame({"id": 0, "time": [0, 1, 2], "x": pd.array([1, 0, 1], dtype=dtype)})
    if dtype != "float32":
        df.loc[1, "x"] = pd.NA
        np.testing.assert_array_equal(read(df).values[:, 0], [1, np.nan, 1])
    else:
        np.testing.assert_array_equal(read(df).values[:, 0], [1, 0, 1])


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "Int32", "Float64"])
def test_numeric_times_stay_as_they_are(dtype):
    df = pd.DataFrame({"id": 0, "time": pd.array([3, 1, 2], dtype=dtype), "x": 1.0})
    table = read(df)
    assert table.times.dtype == np.float64
    assert table.times.tolist() == [1, 2, 3]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+02:00"])
def test_datetimes_become_seconds_of_the_same_length(unit, zone):
    stamps = pd.DatetimeIndex(["2024-03-31 00:30:00", "2024-03-31 04:30:00"]).as_unit(unit).tz_localize(zone)
    times = read(pd.DataFrame({"id": 0, "time": stamps, "x": 1.0})).times
    assert times[1] - times[0] == (stamps[1] - stamps[0]).total_seconds()  # 3 h in Berlin: clocks changed


def test_datetimes_keep_nanoseconds_near_the_epoch_of_the_table():
    stamps = pd.to_datetime([0, 1, 7], unit="ns", origin="2024-01-01")
    times = read(pd.DataFrame({"id": 0, "time": stamps, "x": 1.0})).times
    np.testing.assert_allclose(times, [0, NANOSECOND, 7 * NANOSECOND], rtol=1e-12)


def test_datetimes_far_from_the_epoch_do_not_overflow():
    df = pd.DataFrame({"id": 0, "time": np.array(["1000-01-01", "9000-01-01"], "datetime64[s]"), "x": 1.0})
    layout = TableLayout.infer(df)
    later = pd.DataFrame({"id": 0, "time": pd.DatetimeIndex(["2020-01-01"]).as_unit("ns"), "x": 1.0})
    since = (np.datetime64("2020-01-01", "s") - np.datetime64("1000-01-01", "s")).astype(float)
    assert layout.read(later).times.tolist() == [since]


def test_one_epoch_for_every_zone_and_unit():
    df = pd.DataFrame({"id": 0, "time": pd.date_range("2024-01-01", periods=3, tz="UTC"), "x": 1.0})
    layout = TableLayout.infer(df)
    elsewhere = df.assign(time=df["time"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns"))
    np.testing.assert_array_equal(layout.read(elsewhere).times, layout.read(df).times)


def test_missing_targets_are_unobserved_on_request():
    df = small_table()
    table = TableLayout.infer(df).read(df.drop(columns="x"), require_targets=False)
    assert np.isnan(table.values[:, 0]).all()
    assert table.values[:, 1].tolist() == [30, 10, 40, 20, 50]


def test_batches_refuse_an_empty_series():
    table = read(small_table())
    with pytest.raises(ValueError, match=r"a batch needs series with rows; series 'c' is empty"):
        BatchSource(table.take_rows(table.times < 5))


def test_select_drops_padding_that_nobody_needs():
    batch = pad(read(small_table()))
    one = batch.select(torch.tensor([2]))
    assert one.times.tolist() == [[7.0]]
    assert one.values.shape == (1, 1, 2)
    assert batch.n_observed.tolist() == [3, 4, 2]


def batch_parts() -> dict[str, torch.Tensor]:
    return {
        "times": torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=torch.float64),
        "values": torch.zeros(2, 2, 1),
        "mask": torch.tensor([[[True], [True]], [[True], [False]]]),
        "lengths": torch.tensor([2, 1]),
    }


@pytest.mark.parametrize(
    ("name", "bad", "text"),
    [
        ("times", torch.zeros(2), r"expected times \(N, T\) and values \(N, T, D\), got times \(2,\)"),
        ("lengths", torch.tensor([2]), r"expected mask like values and lengths \(N,\)"),
        ("lengths", torch.tensor([2.0, 1.0]), "expected a bool mask and int64 lengths"),
        ("lengths", torch.tensor([2, 0]), "lengths must lie between 1 and T = 2"),
        ("lengths", torch.tensor([3, 1]), "lengths must lie between 1 and T = 2"),
        ("times", torch.tensor([[0.0, np.nan], [2.0, 2.0]]), "times must be finite"),
        ("times", torch.tensor([[1.0, 0.0], [2.0, 2.0]]), "times must not decrease within a series"),
        ("values", torch.full((2, 2, 1), torch.inf), "values must be finite"),
        ("mask", torch.ones(2, 2, 1, dtype=torch.bool), "mask must be False in the padding"),
    ],
)
def test_batches_are_checked_when_built(name, bad, text):
    SeriesBatch(**batch_parts())
    with pytest.raises(DataError, match=text):
        SeriesBatch(**{**batch_parts(), name: bad})


@pytest.mark.parametrize(
    ("part", "place", "bad", "text"),
    [
        ("times", 2, np.nan, "times must be finite"),
        ("times", 0, 99.0, "times must not decrease within a series"),
        ("values", (1, 0), 1e39, "values must be finite"),  # in float32 they are not
    ],
)
def test_tables_are_checked_once_for_all_their_batches(part, place, bad, text):
    table = read(small_table())
    BatchSource(table)
    numbers = getattr(table, part).copy()
    numbers[place] = bad
    with pytest.raises(DataError, match=text), np.errstate(over="ignore"):
        BatchSource(replace(table, **{part: numbers}))


def test_the_head_is_the_first_rows():
    parts = batch_parts() | {"errors": torch.ones(2, 2, 1), "row_labels": torch.tensor([[4, 5], [6, -1]])}
    batch, lengths = SeriesBatch(**parts), torch.tensor([1, 1])
    head, rows = batch.head(lengths), batch.rows(torch.tensor([0, 0]), lengths)
    for name in ("times", "values", "mask", "lengths", "errors", "row_labels"):
        assert torch.equal(getattr(head, name), getattr(rows, name)), name
    assert head.row_labels.tolist() == [[4], [6]]
    assert batch.head(batch.lengths).times.tolist() == [[0, 1], [2, 2]]
