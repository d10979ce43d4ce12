"""Validation parts, windows of long series, context and target of a piece."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from latentode.series import (
    SeriesBatch,
    SeriesTable,
    TableLayout,
    anchored,
    cut_pieces,
    draw_windows,
    pad,
    split_series,
    split_time,
)
from latentode.series.split import FEWEST_ROWS

unhurried = settings(deadline=None)  # no test depends on timing
CONTEXTS = ["all", "random", 0.5, 0.01, 0.99]


def table_of(lengths: list[int], seed: int = 0, decimals: int = 1) -> SeriesTable:
    """Series of these lengths; rounding makes some times repeat."""
    rng = np.random.default_rng(seed)
    df = pd.DataFrame({"id": np.repeat(np.arange(len(lengths)), lengths)})
    df["time"] = rng.uniform(50, 60, len(df)).round(decimals)
    df["x"], df["y"] = np.arange(len(df)) + 1.0, rng.normal(size=len(df))
    df.loc[rng.random(len(df)) < 0.3, "y"] = np.nan
    return TableLayout.infer(df).read(df)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@unhurried
@given(st.integers(0, 50), st.floats(0, 0.99))
@example(2, 0.9)
@example(50, 0.001)
def test_every_series_is_in_one_part(n_series, fraction):
    train, validation = split_series(n_series, fraction, rng())
    assert sorted([*train, *validation]) == list(range(n_series))
    if n_series >= 2 and fraction > 0:
        assert len(train)
        assert len(validation)
        assert abs(len(validation) - fraction * n_series) <= 1
    else:
        assert len(validation) == 0


def test_the_split_comes_from_the_generator():
    splits = [split_series(100, 0.2, rng(seed))[1].tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_the_end_of_each_series_is_split_off():
    table = table_of([10, 1, 2, 5])
    train, validation = split_time(table, 0.2)
    assert train.lengths.tolist() == [8, 1, 1, 4]
    assert list(validation.ids) == [0, 2, 3]
    assert validation.lengths.tolist() == [2, 1, 1]
    for i, name in enumerate(validation.ids):
        assert train.times[train.offsets[name + 1] - 1] <= validation.times[validation.offsets[i]]
    assert sorted([*train.rows, *validation.rows]) == list(range(18))


def test_no_fraction_no_validation():
    train, validation = split_time(table_of([4, 3]), 0.0)
    assert train.lengths.tolist() == [4, 3]
    assert len(validation) == 0


def test_most_of_a_series_still_leaves_a_row_to_train_on():
    assert split_time(table_of([4, 1]), 0.99)[0].lengths.tolist() == [1, 1]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_outside_0_to_1_are_refused(fraction):
    with pytest.raises(ValueError, match=f"fraction must be at least 0 and less than 1, got {fraction}"):
        split_series(5, fraction, rng())
    with pytest.raises(ValueError, match=f"fraction must be at least 0 and less than 1, got {fraction}"):
        split_time(table_of([5]), fraction)


@pytest.mark.parametrize("n_windows", [None, 30])
@pytest.mark.parametrize("decimals", [0, 3])
def test_windows_hold_all_rows_within_reach_of_their_begin(n_windows, decimals):
    table = table_of([200, 40, 3], decimals=decimals)
    windows = draw_windows(table, 3.0, rng(), n_windows)
    for i, name in enumerate(windows.ids):
        own = slice(table.offsets[name], table.offsets[name + 1])
        begin = windows.times[windows.offsets[i]]
        reach = (table.times[own] >= begin) & (table.times[own] <= begin + 3.0)
        got = slice(windows.offsets[i], windows.offsets[i + 1])
        np.testing.assert_array_equal(windows.rows[got], table.rows[own][reach])
        np.testing.assert_array_equal(windows.values[got], table.values[own][reach])
        assert begin <= table.times[own][-1] - 3.0  # a full window lies ahead


def test_windows_are_as_many_as_asked_for():
    table = table_of([200, 150])
    asked = draw_windows(table, 3.0, rng(), 30)
    assert asked.ids.value_counts().to_dict() == {0: 30, 1: 30}
    default = draw_windows(table, 3.0, rng())
    assert default.ids.value_counts().to_dict() == {0: 8, 1: 8}  # spans just below 10


def test_windows_begin_everywhere_they_can():
    table = table_of([60])
    begins = {draw_windows(table, 3.0, rng(seed), 50).times[0] for seed in range(200)}
    assert begins == set(table.times[table.times <= table.times[-1] - 3.0])


def test_short_series_come_once_and_whole_and_empty_ones_not_at_all():
    table = table_of([30, 1, 5, 4])
    table = table.take_rows(table.series != 2)
    windows = draw_windows(table, 100.0, rng(), 7)
    assert list(windows.ids) == [0, 1, 3]
    np.testing.assert_array_equal(windows.times, table.times)


@pytest.mark.parametrize("window", [0.0, -1.0, float("inf"), float("nan")])
def test_windows_need_a_length(window):
    with pytest.raises(ValueError, match=f"window must be a positive number .* got {window}"):
        draw_windows(table_of([5]), window, rng())


def test_windows_need_a_number():
    with pytest.raises(ValueError, match="n_windows must be at least 1, got 0"):
        draw_windows(table_of([5]), 1.0, rng(), 0)


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def rows_of(batch: SeriesBatch, i: int) -> list[float]:
    """Column x numbers the rows of the table, so it tells which rows a series holds."""
    return batch.values[i, : batch.lengths[i], 0].tolist()


@unhurried
@given(LENGTHS, st.sampled_from(CONTEXTS), st.integers(0, 10**6))
def test_the_target_begins_with_the_context_and_goes_on_to_the_end(lengths, context, seed):
    batch = pad(table_of(lengths, seed), dtype=torch.float64)
    piece = cut_pieces(batch, context, generator(seed))
    for i in range(len(batch)):
        ours, scored, whole = rows_of(piece.context, i), rows_of(piece.target, i), rows_of(batch, i)
        assert 1 <= len(ours) <= len(scored)
        assert scored[: len(ours)] == ours
        assert whole[-len(scored) :] == scored
        n = len(scored)
        absolute = piece.target.times[i, :n] + piece.origin[i]
        torch.testing.assert_close(absolute, batch.times[i, : batch.lengths[i]][-n:], rtol=0, atol=1e-12)
        assert torch.equal(piece.target.mask[i, :n], batch.mask[i, : batch.lengths[i]][-n:])
        assert piece.context.times[i, 0] == piece.target.times[i, 0] == 0


@unhurried
@given(LENGTHS, st.sampled_from(CONTEXTS), st.integers(0, 10**6))
def test_nothing_reaches_the_padding(lengths, context, seed):
    batch = pad(table_of(lengths, seed))
    piece = cut_pieces(batch, context, generator(seed))
    for part in (piece.context, piece.target):  # SeriesBatch itself checks times, mask and finite values
        assert (part.values[~part.mask] == 0).all()
        last = part.times.gather(1, part.lengths[:, None] - 1)
        assert (part.times == last)[part.padding].all()
        assert part.times.shape[1] == part.lengths.max()
        assert part.values.dtype == torch.float32


@unhurried
@given(LENGTHS, st.sampled_from([0.25, 0.5, 0.9]), st.integers(0, 10**6))
def test_a_number_cuts_at_its_part_of_the_span(lengths, context, seed):
    batch = pad(table_of(lengths, seed), dtype=torch.float64)
    piece = cut_pieces(batch, context)
    for i, n in enumerate(lengths):
        times = batch.times[i, :n].numpy()
        assert (
            piece.context.lengths[i]
            == (
                times <= times[0] + context * (times[-1] - times[0]) + 1e-9  # borders are free of rounding
            ).sum()
        )
        assert piece.target.lengths[i] == n


def test_all_is_the_whole_series_twice():
    batch = pad(table_of([3, 5, 1]))
    piece = cut_pieces(batch, "all")
    for part in (piece.context, piece.target):
        assert torch.equal(part.values, batch.values)
        assert torch.equal(part.times, batch.times - batch.times[:, :1])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_random_reaches_every_start_and_every_cut(n):
    batch = pad(table_of([n]).take(np.zeros(2000, dtype=int)), dtype=torch.float64)
    piece = cut_pieces(batch, "random", generator())
    start = n - piece.target.lengths
    pairs = set(zip(start.tolist(), piece.context.lengths.tolist()))
    fewest = min(n, FEWEST_ROWS)
    assert pairs == {(i, k) for i in range(n - fewest + 1) for k in range(1, n - i + 1)}


def test_random_starts_are_uniform():
    n, n_draws = 12, 20_000
    batch = pad(table_of([n]).take(np.zeros(n_draws, dtype=int)))
    start = n - cut_pieces(batch, "random", generator()).target.lengths
    n_starts = n - FEWEST_ROWS + 1
    share = torch.bincount(start, minlength=n_starts) / n_draws
    five_sigma = 5 * (1 / n_starts / n_draws) ** 0.5
    torch.testing.assert_close(share, torch.full((n_starts,), 1 / n_starts), rtol=0, atol=five_sigma)


def test_random_pieces_come_from_the_generator_alone():
    batch = pad(table_of([9] * 20))
    state = torch.get_rng_state()
    origins = [cut_pieces(batch, "random", generator(seed)).origin.tolist() for seed in (0, 0, 1)]
    assert origins[0] == origins[1] != origins[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_more_padding_changes_nothing():
    table = table_of([4, 9, 6])
    batch, wide = pad(table, [0, 2]), pad(table)
    wide = SeriesBatch(*(getattr(wide, name)[[0, 2]] for name in ("times", "values", "mask", "lengths")))
    for context in CONTEXTS:
        one, other = cut_pieces(batch, context, generator()), cut_pieces(wide, context, generator())
        assert torch.equal(one.context.values, other.context.values)
        assert torch.equal(one.target.times, other.target.times)


@pytest.mark.parametrize("context", ["rnd", 0.0, 1.0, 1, -0.5, float("nan"), None, True])
def test_other_contexts_are_refused(context):
    with pytest.raises(ValueError, match=f"context must be 'all', 'random' or a number .* got {context!r}"):
        cut_pieces(pad(table_of([3])), context, generator())


def test_random_pieces_need_a_generator():
    with pytest.raises(ValueError, match="context='random' needs a torch Generator to draw from, got None"):
        cut_pieces(pad(table_of([3])), "random", None)


@unhurried
@given(LENGTHS, st.sampled_from(CONTEXTS), st.integers(0, 10**6))
def test_an_anchor_at_the_end_is_the_last_row_of_the_context(lengths, context, seed):
    batch = pad(table_of(lengths, seed), dtype=torch.float64)
    start = cut_pieces(batch, context, generator(seed))
    end = anchored(start, "end")
    last = start.context.times.gather(1, start.context.lengths[:, None] - 1)[:, 0]
    for before, after in ((start.context, end.context), (start.target, end.target)):
        absolute = [part.times + piece.origin[:, None] for part, piece in ((before, start), (after, end))]
        torch.testing.assert_close(absolute[1], absolute[0], rtol=0, atol=1e-12)
        for name in ("values", "mask", "lengths"):
            assert torch.equal(getattr(after, name), getattr(before, name))
    torch.testing.assert_close(end.origin, start.origin + last, rtol=0, atol=0)
    at_anchor = end.context.times.gather(1, end.context.lengths[:, None] - 1)
    assert (at_anchor == 0).all()
    assert (end.context.times <= 0).all()
    for i, n in enumerate(start.context.lengths):  # what follows comes later
        assert (end.target.times[i, n:] >= 0).all()


def test_an_anchor_at_the_start_is_the_piece_itself():
    piece = cut_pieces(pad(table_of([3, 5])), "all")
    assert anchored(piece, "start") is piece


@pytest.mark.parametrize("anchor", ["middle", None, 0])
def test_other_anchors_are_refused(anchor):
    piece = cut_pieces(pad(table_of([3])), "all")
    with pytest.raises(ValueError, match=f"anchor must be 'start' or 'end', got {anchor!r}"):
        anchored(piece, anchor)


@pytest.mark.parametrize(("factor", "shift"), [(0.1, 0.0), (1 / 24, 0.0), (1.0, 1 / 3), (1.0, 1000.1)])
def test_windows_of_a_regular_grid_do_not_depend_on_rounding(factor, shift):
    times = np.arange(60.0) * factor + shift
    table = SeriesTable(
        pd.Index([0]), np.array([0, 60]), times, np.zeros((60, 1)), np.arange(60, dtype=np.int64)
    )
    lengths = draw_windows(table, 20 * factor, np.random.default_rng(0), 40).lengths
    assert set(lengths.tolist()) == {21}


def test_strata_are_split_alike_and_never_emptied():
    strata = np.array([0] * 40 + [1] * 10 + [2])
    for seed in range(20):
        train, validation = split_series(51, 0.2, np.random.default_rng(seed), strata)
        assert sorted([*train, *validation]) == list(range(51))
        assert np.bincount(strata[validation], minlength=3).tolist() == [8, 2, 0]
    lonely, none = split_series(3, 0.5, np.random.default_rng(0), np.array([0, 1, 2]))
    assert (len(lonely), len(none)) == (3, 0)
    _, one = split_series(6, 0.1, np.random.default_rng(0), np.array([0, 0, 0, 1, 1, 1]))
    assert len(one) == 1
