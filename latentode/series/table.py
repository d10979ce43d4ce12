"""Ragged NumPy form of a long table: the rows of each series together, in order of time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from latentode.series.controls import ControlPaths

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SeriesTable:
    """N series of different lengths, end to end in flat arrays of R rows.

    `TableLayout.read` makes it from a data frame; a series may be empty only in tables of queries.

    Parameters
    ----------
    ids : pandas Index (N,)
        Names of the series, in order of first appearance; windows of one series repeat its name.
    offsets : array (N + 1,), int64
        Series i holds the rows `offsets[i]:offsets[i + 1]`.
    times : array (R,), float64
        Non-decreasing inside each series; rows with equal times keep the caller's order.
    values : array (R, D), float64
        NaN where nothing was observed. D is 0 in tables of queries.
    rows : array (R,), int64
        Position of each row in the caller's table.
    errors : array (R, D), float64, optional
        Standard deviation of the measurement error of each cell, 0 where there is none.
    row_labels : array (R,), int64, optional
        Class of each row, -1 where it has none.
    static : array (N, S), float64, optional
        Covariates that are constant within a series.
    paths : ControlPaths, optional
        Controls of each series, in the unit of `times`.
    labels : array (N,), int64, optional
        Class of each series, -1 where it has none.
    """

    ids: pd.Index
    offsets: IntArray
    times: FloatArray
    values: FloatArray
    rows: IntArray
    errors: FloatArray | None = None
    row_labels: IntArray | None = None
    static: FloatArray | None = None
    paths: ControlPaths | None = None
    labels: IntArray | None = None

    @classmethod
    def from_rows(
        cls,
        ids: pd.Index,
        codes: IntArray,
        times: FloatArray,
        values: FloatArray,
        *,
        errors: FloatArray | None = None,
        row_labels: IntArray | None = None,
    ) -> SeriesTable:
        """Sort rows in any order into series.

        Parameters
        ----------
        ids : pandas Index (N,)
            Names of the series.
        codes : array (R,), int64
            Position in `ids` of the series that each row belongs to.
        times : array (R,)
            Time of each row.
        values : array (R, D)
            NaN where nothing was observed.
        errors, row_labels : array (R, D) and (R,), optional
            As the fields of these names.
        """
        order = np.lexsort((times, codes)).astype(np.int64)  # stable: equal times keep their order
        offsets = offsets_of(np.bincount(codes, minlength=len(ids)))
        extras = {"errors": _picked(errors, order), "row_labels": _picked(row_labels, order)}
        return cls(ids, offsets, times[order], values[order], order, **extras)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_rows(self) -> int:
        """Rows of all series together, R."""
        return len(self.times)

    @property
    def n_targets(self) -> int:
        """Target columns, D."""
        return self.values.shape[1]

    @property
    def lengths(self) -> IntArray:
        """Rows of each series, (N,)."""
        return np.diff(self.offsets)

    @property
    def series(self) -> IntArray:
        """Position in `ids` of the series of each row, (R,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @property
    def spans(self) -> FloatArray:
        """Last time minus first time of each series, 0 for an empty one, (N,)."""
        spans = np.zeros(len(self))
        filled = self.lengths > 0
        first, last = self.offsets[:-1][filled], self.offsets[1:][filled] - 1
        spans[filled] = self.times[last] - self.times[first]
        return spans

    def take(self, series_index: ArrayLike) -> SeriesTable:
        """The series at these positions, in that order; a position may come several times."""
        index = np.asarray(series_index, dtype=np.int64)
        return self.take_ranges(index, self.offsets[index], self.offsets[index + 1])

    def take_ranges(self, series_index: IntArray, starts: IntArray, stops: IntArray) -> SeriesTable:
        """One new series per range of flat rows `starts:stops`, named after the series at `series_index`."""
        lengths = stops - starts
        rows = self.with_rows(ranges(starts, lengths), offsets_of(lengths))
        paths = None if self.paths is None else self.paths.take(torch.as_tensor(series_index))
        return replace(
            rows,
            ids=self.ids.take(series_index),
            static=_picked(self.static, series_index),
            paths=paths,
            labels=_picked(self.labels, series_index),
        )

    def take_rows(self, keep: NDArray[np.bool_]) -> SeriesTable:
        """All series, each with only the flat rows where `keep` (R,) is True; some may become empty."""
        counts = np.bincount(self.series[keep], minlength=len(self))
        return self.with_rows(keep, offsets_of(counts))

    def with_rows(self, index: NDArray, offsets: IntArray) -> SeriesTable:
        """The same series with other rows: those at these flat positions (or where a mask is True)."""
        return replace(
            self,
            offsets=offsets,
            times=self.times[index],
            values=self.values[index],
            rows=self.rows[index],
            errors=_picked(self.errors, index),
            row_labels=_picked(self.row_labels, index),
        )

    def order_of_ids(self) -> IntArray:
        """Positions of the series in the order of their ids."""
        try:
            order = self.ids.argsort()
        except TypeError:  # ids of several types
            order = np.argsort([f"{type(name).__name__} {name!r}" for name in self.ids])
        return np.asarray(order, dtype=np.int64)

    def flatten(self, padded: NDArray) -> NDArray:
        """Rows (R, ...) of an array (N, T, ...) that is padded at the end, T at least the longest series."""
        valid = np.arange(padded.shape[1]) < self.lengths[:, None]
        return padded[valid]

    def in_row_order(self, flat: NDArray) -> NDArray:
        """Rows (R, ...) of this table, brought into the order of the caller's rows."""
        restored = np.empty_like(flat)
        restored[self.rows] = flat
        return restored


def _picked(array: Any, index: NDArray) -> Any:
    return None if array is None else array[index]


def offsets_of(lengths: NDArray) -> IntArray:
    """Begin of each series, and the end of the last one, (N + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """The numbers `start, ..., start + length - 1` of every range, end to end."""
    offsets = offsets_of(lengths)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
