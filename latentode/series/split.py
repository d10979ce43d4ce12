"""Parts of series: for validation, as windows of long series, as context and target of a piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latentode.series.batch import SeriesBatch
from latentode.series.table import FloatArray, IntArray, SeriesTable

ROUNDING = 1e-9  # of a window or a span: a row at a border is inside, whatever the unit of time rounds it to
MOST_HIDDEN = 0.5  # of the cells of a series that `with_gaps` hides some of
FEWEST_ROWS = 3  # rows that a random piece keeps, where the series has them


def split_series(
    n_series: int, fraction: float, rng: np.random.Generator, strata: IntArray | None = None
) -> tuple[IntArray, IntArray]:
    """Random split of whole series into training and validation.

    Parameters
    ----------
    n_series : int
        Number of series.
    fraction : float
        Part that goes to validation, from 0 up to but not including 1.
    rng : numpy Generator
        Source of the split.
    strata : array (n_series,), optional
        Class of each series: about the same part of each goes to validation, and never all of one.

    Returns
    -------
    train, validation : array, int64
        Increasing positions of series. With `fraction` 0 or a single series, validation is empty; otherwise
        neither part is.
    """
    _check_fraction(fraction)
    n_validation = 0
    if n_series >= 2 and fraction > 0:
        n_validation = min(max(round(fraction * n_series), 1), n_series - 1)
    order = rng.permutation(n_series).astype(np.int64)
    if strata is None or not n_validation:
        return np.sort(order[n_validation:]), np.sort(order[:n_validation])
    held_out = np.zeros(n_series, dtype=bool)
    groups = [order[strata[order] == stratum] for stratum in np.unique(strata)]
    for members in groups:
        held_out[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    largest = max(groups, key=len)
    if not held_out.any() and len(largest) > 1:  # too few of each to round up
        held_out[largest[0]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def split_time(table: SeriesTable, fraction: float) -> tuple[SeriesTable, SeriesTable]:
    """Split every series by time: the last part of its rows goes to validation.

    For tables of one or few series, where whole series cannot be spared.

    Parameters
    ----------
    table : SeriesTable
        Series to split.
    fraction : float
        Part of the rows of each series, rounded up, from 0 up to but not including 1.

    Returns
    -------
    train, validation : SeriesTable
        All series in `train`; those that have rows to spare (two or more) in `validation`.
    """
    _check_fraction(fraction)
    lengths = table.lengths
    n_validation = np.minimum(np.ceil(fraction * lengths - 1e-9).astype(np.int64), np.maximum(lengths - 1, 0))
    everything = np.arange(len(table), dtype=np.int64)
    starts, stops = table.offsets[:-1], table.offsets[1:]
    cut = stops - n_validation
    spared = everything[n_validation > 0]
    return (
        table.take_ranges(everything, starts, cut),
        table.take_ranges(spared, cut[spared], stops[spared]),
    )


def draw_windows(
    table: SeriesTable, window: float, rng: np.random.Generator, n_windows: int | None = None
) -> SeriesTable:
    """Random windows of long series, each a series of its own.

    A window begins at a random row and holds the rows within `window` of it. Only rows with a full window
    ahead begin one; a series shorter than `window` comes once, whole.

    Parameters
    ----------
    table : SeriesTable
        Series to draw from; an empty series gives no window.
    window : float
        Length of a window, in the unit of the table's times.
    rng : numpy Generator
        Source of the windows.
    n_windows : int, optional
        Windows per series; by default twice as many as cover it, and never more than it has full windows.

    Returns
    -------
    SeriesTable
        One series per window; `ids` repeat.
    """
    if not (np.isfinite(window) and window > 0):
        raise ValueError(f"window must be a positive number in the unit of the time column, got {window}")
    if n_windows is not None and n_windows < 1:
        raise ValueError(f"n_windows must be at least 1, got {n_windows}")
    filled = np.flatnonzero(table.lengths > 0)
    starts, stops = table.offsets[:-1][filled], table.offsets[1:][filled]
    slack = ROUNDING * window
    last_begin = table.times[stops - 1] - window + slack
    n_begins = _search(table.times, starts, stops, last_begin, right=True) - starts
    wanted = (
        2 * np.ceil(table.spans[filled] / window - ROUNDING)
        if n_windows is None
        else np.full(len(filled), n_windows)
    )
    counts = np.maximum(np.minimum(wanted, n_begins), 1).astype(np.int64)
    of = np.repeat(np.arange(len(filled)), counts)
    begins = starts[of] + np.floor(rng.random(len(of)) * n_begins[of]).astype(np.int64)
    first = table.times[begins]
    return table.take_ranges(
        filled[of],
        _search(table.times, starts[of], stops[of], first, right=False),  # equal times belong together
        _search(table.times, starts[of], stops[of], first + window + slack, right=True),
    )


@dataclass(frozen=True)
class Piece:
    """What the encoder reads and what the likelihood scores, of the same N series.

    Parameters
    ----------
    context, target : SeriesBatch
        The target holds the rows of the context and those after it. Times are relative to `origin`.
    origin : Tensor (N,), float64
        Time of the first row of the context (of the last one with `anchored(piece, "end")`), in the times of
        the batch that was cut.
    """

    context: SeriesBatch
    target: SeriesBatch
    origin: Tensor


def cut_pieces(
    batch: SeriesBatch,
    context: str | float,
    generator: torch.Generator | None = None,
    *,
    longest: float = 1.0,
) -> Piece:
    """Cut each series into a context and a target that begins with it.

    Parameters
    ----------
    batch : SeriesBatch
        N series.
    context : "all", "random" or float
        "all": context and target are the whole series (Chen et al. 2018). A number between 0 and 1: the
        rows in this first part of the time between first and last row, at least one; the target is the
        whole series (Rubanova et al. 2019). "random": a random first row that leaves `FEWEST_ROWS` rows,
        a random cut after it; the target is everything from the first row on, up to `longest`.
    generator : torch Generator
        Source of "random"; the others need none.
    longest : float in (0, 1], default 1
        Share of the rows of a series that a random piece may hold: dynamics with many turns are learned on short
        pieces first.

    Raises
    ------
    ValueError
        When `context` is none of these, or a generator is missing.
    """
    if isinstance(context, str) and context == "all":
        whole, origin = _from_its_first_row(batch.trimmed())
        return Piece(whole, whole, origin)
    if isinstance(context, str) and context == "random":
        start, cut, stop = _random_rows(batch.lengths, generator, longest)
        target, origin = _from_its_first_row(batch.rows(start, stop))
        return Piece(target.head(cut - start), target, origin)
    if isinstance(context, float) and 0 < context < 1:
        target, origin = _from_its_first_row(batch.trimmed())
        return Piece(target.head(_n_rows_within(batch, context)), target, origin)
    raise ValueError(f"context must be 'all', 'random' or a number between 0 and 1, got {context!r}")


def anchored(piece: Piece, anchor: str) -> Piece:
    """The same piece with its times relative to another row of the context.

    Parameters
    ----------
    piece : Piece
        As `cut_pieces` makes it.
    anchor : {"start", "end"}
        "start": the first row of the context, as it is. "end": the last one, so that the context has times up to
        0 and what follows has later ones.

    Raises
    ------
    ValueError
        When `anchor` is neither.
    """
    if anchor == "start":
        return piece
    if anchor != "end":
        raise ValueError(f"anchor must be 'start' or 'end', got {anchor!r}")
    last = piece.context.times[:, -1]  # padding repeats the last time
    context, target = piece.context.since(last), piece.target.since(last)
    return Piece(context, target, piece.origin + last)


def with_gaps(batch: SeriesBatch, share: float, generator: torch.Generator) -> SeriesBatch:
    """The batch with cells hidden at random in some of its series.

    A model that only ever reads complete rows makes nothing sensible of an incomplete one; a few series with gaps teach
    it to. Series of one target have no incomplete rows, and stay as they are.

    Parameters
    ----------
    batch : SeriesBatch
    share : float in [0, 1]
        Of the series; each of them loses between none and half of its cells.
    generator : torch Generator
    """
    n_series, _, n_targets = batch.values.shape
    if share == 0 or n_targets == 1:
        return batch
    dtype, device = (
        torch.float32,
        generator.device,
    )  # not the caller's default, so that a seed means the same gaps
    chosen, part = torch.rand((2, n_series), generator=generator, dtype=dtype, device=device)
    hidden = torch.where(chosen < share, MOST_HIDDEN * part, 0.0)[:, None, None]
    drawn = torch.rand(batch.mask.shape, generator=generator, dtype=dtype, device=device)
    mask = batch.mask & (drawn >= hidden).to(batch.mask.device)
    errors = None if batch.errors is None else torch.where(mask, batch.errors, 0.0)
    return batch.with_parts(mask=mask, values=torch.where(mask, batch.values, 0.0), errors=errors)


def _n_rows_within(batch: SeriesBatch, share: float) -> Tensor:
    """Rows of each series in the first `share` of its time, (N,)."""
    begin, end = batch.times[:, 0], batch.times[:, -1]  # padding repeats the last time
    until = begin + (share + ROUNDING) * (end - begin)
    return ((batch.times <= until[:, None]) & ~batch.padding).sum(dim=1)


def _random_rows(
    lengths: Tensor, generator: torch.Generator | None, longest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """First row of a random piece, the row behind its context, and the row behind its target, (N,) each."""
    if generator is None:
        raise ValueError("context='random' needs a torch Generator to draw from, got None")
    if not 0 < longest <= 1:
        raise ValueError(f"longest must be a share of the rows in (0, 1], got {longest!r}")
    fewest = lengths.clamp(max=FEWEST_ROWS)
    start = _below(lengths - fewest + 1, generator)
    size = (longest * lengths).ceil().long().maximum(fewest)
    stop = (start + size).minimum(lengths)
    return start, start + 1 + _below(stop - start, generator), stop


def _below(limits: Tensor, generator: torch.Generator) -> Tensor:
    """A random integer from 0 up to but not including each limit."""
    draws = torch.rand(limits.shape, generator=generator, dtype=torch.float64, device=generator.device)
    return (draws.to(limits.device) * limits).long().minimum(limits - 1)


def _from_its_first_row(batch: SeriesBatch) -> tuple[SeriesBatch, Tensor]:
    """The same series with times relative to their first rows, and these rows' times (N,)."""
    origin = batch.times[:, 0]
    return batch.since(origin), origin


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and less than 1, got {fraction}")


def _search(times: FloatArray, low: IntArray, high: IntArray, wanted: FloatArray, *, right: bool) -> IntArray:
    """`np.searchsorted` of each wanted time in its own range `low:high` of flat rows, by bisection."""
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = np.where(open_, (low + high) // 2, 0)
        before = times[middle] <= wanted if right else times[middle] < wanted
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return low
