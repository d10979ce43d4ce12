"""Padded batches of irregular series, with their invariants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from latentode.exceptions import DataError
from latentode.series.controls import ControlPaths
from latentode.series.table import SeriesTable

PER_ROW = ("times", "values", "mask", "errors", "row_labels")
PER_SERIES = ("lengths", "static", "labels")


@dataclass(frozen=True)
class SeriesBatch:
    """N irregular series, padded to the longest of them.

    Parameters
    ----------
    times : Tensor (N, T), float64
        Non-decreasing up to `lengths`; beyond it the last time is repeated.
    values : Tensor (N, T, D)
        Finite; 0 where nothing was observed.
    mask : Tensor (N, T, D), bool
        True where a value was observed; False in the padding.
    lengths : Tensor (N,), int64
        Rows of each series, at least 1 and at most T.
    errors : Tensor (N, T, D), optional
        Standard deviation of the measurement error of each cell, in the scale of `values`; 0 where unobserved.
    static : Tensor (N, S), optional
        Covariates of each series.
    paths : ControlPaths, optional
        Controls of each series, in absolute model time, also where `times` are relative to an origin.
    labels, row_labels : Tensor (N,) and (N, T), int64, optional
        Class of each series and of each row, -1 where there is none.

    Raises
    ------
    DataError
        When one of these invariants does not hold.
    """

    times: Tensor
    values: Tensor
    mask: Tensor
    lengths: Tensor
    errors: Tensor | None = None
    static: Tensor | None = None
    paths: ControlPaths | None = None
    labels: Tensor | None = None
    row_labels: Tensor | None = None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise DataError(f"invalid SeriesBatch: {problem}")

    def _problem(self) -> str | None:
        if self.times.ndim != 2 or self.values.ndim != 3 or self.values.shape[:2] != self.times.shape:
            return f"expected times (N, T) and values (N, T, D), got {self._shapes()}"
        if self.mask.shape != self.values.shape or self.lengths.shape != self.times.shape[:1]:
            return f"expected mask like values and lengths (N,), got {self._shapes()}"
        if self.mask.dtype != torch.bool or self.lengths.dtype != torch.int64:
            return f"expected a bool mask and int64 lengths, got {self.mask.dtype} and {self.lengths.dtype}"
        if len(self) == 0:
            return None
        if self.errors is not None and self.errors.shape != self.values.shape:
            return (
                f"expected errors like values, got {tuple(self.errors.shape)} and {tuple(self.values.shape)}"
            )
        n_times = self.times.shape[1]
        if int(self.lengths.min()) < 1 or int(self.lengths.max()) > n_times:
            return f"lengths must lie between 1 and T = {n_times}"
        problem = _problem_of_rows(self.times, self.times[:, 1:] >= self.times[:, :-1], self.values)
        if problem:
            return problem
        if bool((self.mask & self.padding[..., None]).any()):
            return "mask must be False in the padding"
        return None

    def _shapes(self) -> str:
        parts = {name: tuple(getattr(self, name).shape) for name in ("times", "values", "mask", "lengths")}
        return ", ".join(f"{name} {shape}" for name, shape in parts.items())

    def __len__(self) -> int:
        return self.times.shape[0]

    @property
    def padding(self) -> Tensor:
        """True beyond the length of a series, (N, T)."""
        position = torch.arange(self.times.shape[1], device=self.times.device)
        return position >= self.lengths[:, None]

    @property
    def n_observed(self) -> Tensor:
        """Observed cells per series, (N,)."""
        return self.mask.sum(dim=(1, 2))

    def select(self, index: Tensor) -> SeriesBatch:
        """The series at `index`, in that order, without padding that none of them needs."""
        longest = int(self.lengths[index].max())
        rows = {name: part[:, :longest].index_select(0, index) for name, part in self._present(PER_ROW)}
        series = {name: part[index] for name, part in self._present(PER_SERIES)}
        return self.with_parts(**rows, **series, paths=None if self.paths is None else self.paths.take(index))

    def to(self, device: torch.device | str) -> SeriesBatch:
        """The same batch on another device."""
        moved = {name: part.to(device) for name, part in self._present((*PER_ROW, *PER_SERIES, "paths"))}
        return self.with_parts(**moved)

    def since(self, origin: Tensor) -> SeriesBatch:
        """The same with times that count from the origin (N,) of each series."""
        return self.with_parts(times=self.times - origin[:, None])

    def with_parts(self, **parts: Any) -> SeriesBatch:
        """The same but for these parts, which are as they should be wherever this batch is: nothing is checked."""
        return _unchecked(**vars(self) | parts)

    def _present(self, names: tuple[str, ...]) -> list[tuple[str, Any]]:
        """The parts of these names that the batch has."""
        parts = [(name, getattr(self, name)) for name in names]
        return [(name, part) for name, part in parts if part is not None]

    def trimmed(self) -> SeriesBatch:
        """The same without padding that no series needs."""
        longest = int(self.lengths.max()) if len(self) else 0
        if longest == self.times.shape[1]:
            return self
        return self.with_parts(**{name: part[:, :longest] for name, part in self._present(PER_ROW)})

    def rows(self, start: Tensor, stop: Tensor) -> SeriesBatch:
        """Rows `start:stop` (N,) of each series, at least one, padded anew."""
        lengths = stop - start
        n_series, n_times = self.times.shape
        position = torch.arange(int(lengths.max()) if n_series else 0, device=lengths.device)
        row = start[:, None] + position.minimum(lengths[:, None] - 1)  # (N, T)
        series = torch.arange(0, n_series * n_times, max(n_times, 1), device=lengths.device)
        flat = (row + series[:, None]).flatten()  # one index is found faster than two
        picked = {
            name: part.flatten(0, 1).index_select(0, flat).unflatten(0, row.shape)
            for name, part in self._present(PER_ROW)
        }
        return self.with_parts(**picked)._cleared(position < lengths[:, None], lengths)

    def head(self, lengths: Tensor) -> SeriesBatch:
        """The first `lengths` (N,) rows of each series, of which it has at least as many, padded anew."""
        longest = int(lengths.max()) if len(self) else 0
        parts = {name: part[:, :longest] for name, part in self._present(PER_ROW)}
        last = self.times.gather(1, lengths[:, None] - 1)
        parts["times"] = parts["times"].minimum(last)  # times do not decrease
        position = torch.arange(longest, device=lengths.device)
        return self.with_parts(**parts)._cleared(position < lengths[:, None], lengths)

    def _cleared(self, valid: Tensor, lengths: Tensor) -> SeriesBatch:
        """The same with nothing observed where rows (N, T) are not valid."""
        mask = self.mask & valid[..., None]
        errors, labels = self.errors, self.row_labels
        return self.with_parts(
            values=torch.where(mask, self.values, 0.0),
            mask=mask,
            lengths=lengths,
            errors=None if errors is None else torch.where(mask, errors, 0.0),
            row_labels=None if labels is None else torch.where(valid, labels, -1),
        )


def _unchecked(**parts: Any) -> SeriesBatch:
    """A batch of all these parts, which are known to be as they should."""
    batch = object.__new__(SeriesBatch)
    vars(batch).update(parts)
    return batch


def _problem_of_rows(times: Tensor, later: Tensor, values: Tensor) -> str | None:
    """What is wrong with the numbers in some rows; `later` is whether each comes after the one before."""
    if not bool(torch.isfinite(times).all()):
        return "times must be finite"
    if not bool(later.all()):
        return "times must not decrease within a series (padding repeats the last time)"
    if not bool(torch.isfinite(values).all()):
        return "values must be finite (0 where unobserved)"
    return None


class BatchSource:
    """Tensors of a whole table, from which batches of any of its series are padded.

    Parameters
    ----------
    table : SeriesTable
        Series with at least one row each, already scaled.
    dtype : torch dtype
        Of the values; times are float64.

    Raises
    ------
    ValueError
        For a series without rows.
    DataError
        When the numbers of the table are not those of a `SeriesBatch`.
    """

    def __init__(self, table: SeriesTable, dtype: torch.dtype = torch.float32) -> None:
        empty = np.flatnonzero(table.lengths == 0)
        if len(empty):
            raise ValueError(f"a batch needs series with rows; series {table.ids[empty[0]]!r} is empty")
        mask = ~np.isnan(table.values)
        self._times = torch.as_tensor(table.times, dtype=torch.float64)
        self._values = torch.as_tensor(np.where(mask, table.values, 0.0), dtype=dtype)
        self._mask = torch.as_tensor(mask)
        self._starts = torch.as_tensor(table.offsets[:-1])
        self._lengths = torch.as_tensor(table.lengths)
        self._static = None if table.static is None else torch.as_tensor(table.static, dtype=dtype)
        self._labels = None if table.labels is None else torch.as_tensor(table.labels)
        self._row_labels = None if table.row_labels is None else torch.as_tensor(table.row_labels)
        self._paths = None if table.paths is None else table.paths.with_dtype(dtype)
        self._errors = None
        if table.errors is not None:
            self._errors = torch.as_tensor(np.where(mask, table.errors, 0.0), dtype=dtype)
        self._check()

    def _check(self) -> None:
        """Refuse here, once, what no batch may hold."""
        later = torch.ones_like(self._times, dtype=torch.bool)
        later[1:] = self._times[1:] >= self._times[:-1]
        later[self._starts] = True
        problem = _problem_of_rows(self._times, later, self._values)
        if problem:
            raise DataError(f"invalid SeriesBatch: {problem}")

    def batch(self, index: ArrayLike) -> SeriesBatch:
        """The series at these positions, in that order, padded to the longest of them."""
        picked = torch.as_tensor(np.asarray(index, dtype=np.int64))
        lengths = self._lengths[picked]
        position = torch.arange(int(lengths.max()) if len(lengths) else 0)
        valid = (position < lengths[:, None])[..., None]  # (N, T, 1)
        row = self._starts[picked, None] + position.minimum(lengths[:, None] - 1)
        return _unchecked(
            times=self._times[row],
            values=self._values[row] * valid,
            mask=self._mask[row] & valid,
            lengths=lengths,
            errors=None if self._errors is None else self._errors[row] * valid,
            static=None if self._static is None else self._static[picked],
            paths=None if self._paths is None else self._paths.take(picked),
            labels=None if self._labels is None else self._labels[picked],
            row_labels=None
            if self._row_labels is None
            else torch.where(valid[..., 0], self._row_labels[row], -1),
        )


def pad(
    table: SeriesTable, index: ArrayLike | None = None, dtype: torch.dtype = torch.float32
) -> SeriesBatch:
    """One batch of the series at `index` (None: all); `BatchSource` serves many batches of one table."""
    return BatchSource(table, dtype).batch(np.arange(len(table)) if index is None else index)
