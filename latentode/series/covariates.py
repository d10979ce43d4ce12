"""Columns beside the targets: static covariates and controls, read from a long table and scaled."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.columns import plain
from latentode.series.controls import ControlPaths
from latentode.series.plain_values import as_plain, from_plain
from latentode.series.table import FloatArray, IntArray, SeriesTable, offsets_of


def read_static(df: pd.DataFrame, columns: Sequence[Hashable], codes: IntArray, ids: pd.Index) -> FloatArray:
    """Covariates (N, S) of each series, NaN where a series has none.

    Raises
    ------
    DataError
        For a covariate that changes within a series.
    """
    static = np.full((len(ids), len(columns)), np.nan)
    for s, name in enumerate(columns):
        values = df[name].to_numpy(dtype=np.float64, na_value=np.nan)
        present = ~np.isnan(values)
        static[codes[present], s] = values[present]
        changed = present & (values != static[codes, s])
        if changed.any():
            row = int(changed.argmax())
            raise DataError(
                f"static column {name!r} changes within series {plain(ids[codes[row]])!r}: {values[row]:g} at row "
                f"{row}, {static[codes[row], s]:g} elsewhere; make it a target, or a control if its future is known"
            )
    return static


def read_controls(
    rows: Sequence[tuple[IntArray, FloatArray, FloatArray]],
    ids: pd.Index,
    columns: Sequence[Hashable],
    interpolation: str,
) -> ControlPaths:
    """Control paths of N series from rows of one or several tables, in the unit of their times.

    Parameters
    ----------
    rows : sequence of (codes (r,), times (r,), values (r, C))
        Position in `ids`, time and controls of each row; NaN where a control is not given. At one time those of a later
        table count.
    ids : pandas Index (N,)
    columns : sequence of C names
    interpolation : {"linear", "step"}

    Raises
    ------
    DataError
        For a series without any value of a control, and for two values of one control at one time of a table.
    """
    for part in rows:
        _refuse_contradictions(*part, ids, columns)
    codes, times, values = (np.concatenate(parts) for parts in zip(*rows))
    order = np.lexsort((times, codes))  # stable: later rows at one time stay later
    frame = pd.DataFrame(values[order]).assign(code=codes[order], time=times[order])
    knots = frame.groupby(["code", "time"], sort=False).last()  # of each column the last value that is given
    code, time = (knots.index.get_level_values(name).to_numpy() for name in ("code", "time"))
    offsets = offsets_of(np.bincount(code, minlength=len(ids)))
    filled = np.column_stack(
        [
            _filled(column, time, offsets, ids, name, interpolation)
            for column, name in zip(knots.to_numpy().T, columns)
        ]
    )
    return ControlPaths.of(
        torch.as_tensor(time.astype(np.float64)),
        torch.as_tensor(filled),
        torch.as_tensor(offsets),
        interpolation,
    )


def _refuse_contradictions(
    codes: IntArray, times: FloatArray, values: FloatArray, ids: pd.Index, columns: Sequence[Hashable]
) -> None:
    groups = pd.DataFrame(values).groupby([codes, times])
    twice = (groups.max() > groups.min()).to_numpy()  # NaN is smaller than nothing
    if twice.any():
        row, column = np.argwhere(twice)[0]
        code, time = groups.max().index[row]
        raise DataError(
            f"the control {columns[column]!r} of series {plain(ids[code])!r} has two values at one time "
            f"({time:g} in the unit of fit): keep one of the rows, or their mean"
        )


def _filled(
    column: FloatArray, time: FloatArray, offsets: IntArray, ids: pd.Index, name: Hashable, interpolation: str
) -> FloatArray:
    """A control at the knots of the others, too: on its own path, which more knots on it do not change."""
    if not np.isnan(column).any():
        return column
    filled = column.copy()
    for i, (start, stop) in enumerate(pairwise(offsets)):
        part, at = column[start:stop], time[start:stop]
        given = ~np.isnan(part)
        if not given.any():
            raise DataError(
                f"series {plain(ids[i])!r} has no value of the control {name!r}: a control must be known "
                "at least once for every series"
            )
        if interpolation == "linear":
            filled[start:stop] = np.interp(at, at[given], part[given])
        else:
            knot = np.searchsorted(at[given], at, side="right") - 1
            filled[start:stop] = part[given][np.maximum(knot, 0)]
    return filled


@dataclass(frozen=True, eq=False)
class CovariateScaler:
    """Covariates and controls of order 1 for the model, learned from training series.

    Parameters
    ----------
    static_loc, static_scale : array (S,)
    flagged : array (S,), bool
        Covariates that some training series lack: the model reads a 0 and a flag for those.
    control_loc, control_scale : array (C,)
    columns : tuple of S names
        Of the static covariates, for messages.
    """

    static_loc: FloatArray
    static_scale: FloatArray
    flagged: NDArray[np.bool_]
    control_loc: FloatArray
    control_scale: FloatArray
    columns: tuple[Hashable, ...]

    @classmethod
    def fit(
        cls, table: SeriesTable, columns: Sequence[Hashable], everything: SeriesTable | None = None
    ) -> CovariateScaler:
        """Mean and standard deviation over the training series (covariates) and over their knots (controls).

        Which covariates may be missing is told by `everything`, validation series too; default: `table`.

        Raises
        ------
        DataError
            For a covariate that no training series has.
        """
        static = np.empty((len(table), 0)) if table.static is None else table.static
        never = np.isnan(static).all(axis=0)
        if never.any():
            raise DataError(
                f"static column {columns[int(never.argmax())]!r} is NaN in every training series: leave it out of "
                "static_cols"
            )
        known = static if everything is None or everything.static is None else everything.static
        paths = table.paths
        knots = np.empty((0, 0)) if paths is None else _knots_of(paths)
        return cls(
            *_level_and_spread(static),
            np.atleast_1d(np.isnan(known).any(axis=0)),
            *_level_and_spread(knots),
            tuple(columns),
        )

    @property
    def n_static(self) -> int:
        """Width of the scaled covariates: one per column, and one flag per column that may be missing."""
        return len(self.flagged) + int(self.flagged.sum())

    @property
    def n_controls(self) -> int:
        """C."""
        return len(self.control_loc)

    def apply(self, table: SeriesTable, to_model: Callable[[FloatArray], FloatArray]) -> SeriesTable:
        """The table with scaled covariates and controls, and with the times of these in model time.

        Raises
        ------
        DataError
            For a series without a covariate that all training series had.
        """
        paths = table.paths
        if paths is not None:
            values = (paths.values.numpy() - self.control_loc) / self.control_scale
            knots = to_model(paths.knots.numpy())
            paths = paths.rescaled(torch.as_tensor(knots), torch.as_tensor(values))
        static = None if table.static is None else self._static(table.static, table.ids)
        return replace(table, static=static, paths=paths)

    def _static(self, static: FloatArray, ids: pd.Index) -> FloatArray:
        missing = np.isnan(static)
        surprising = missing & ~self.flagged
        if surprising.any():
            series, column = np.argwhere(surprising)[0]
            raise DataError(
                f"series {plain(ids[series])!r} has no value of the static column {self.columns[column]!r}, which "
                "every series of the training had: give its value (one row of the series is enough)"
            )
        scaled = np.where(missing, 0.0, (static - self.static_loc) / self.static_scale)
        return np.concatenate([scaled, missing[:, self.flagged]], axis=1)

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold."""
        names = ("static_loc", "static_scale", "flagged", "control_loc", "control_scale")
        return {
            **{name: getattr(self, name).tolist() for name in names},
            "columns": as_plain(list(self.columns)),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CovariateScaler:
        """The scaler that `state()` came from."""
        numbers = ("static_loc", "static_scale", "control_loc", "control_scale")
        arrays = {name: np.asarray(state[name], dtype=np.float64) for name in numbers}
        flagged = np.asarray(state["flagged"], dtype=bool)
        return cls(**arrays, flagged=flagged, columns=tuple(from_plain(state["columns"])))


def _knots_of(paths: ControlPaths) -> FloatArray:
    """Controls at the knots of the paths that these series have."""
    offsets = paths.offsets.numpy()
    used = np.unique(paths.index.numpy())
    parts = [paths.values[offsets[path] : offsets[path + 1]].numpy() for path in used]
    return np.concatenate(parts)


def _level_and_spread(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each column, over what is there; a column that never varies keeps its unit."""
    level, spread = np.zeros(values.shape[1]), np.ones(values.shape[1])
    for i, column in enumerate(values.T):
        there = column[~np.isnan(column)]
        if len(there):
            level[i] = there.mean()
            spread[i] = there.std() if there.min() < there.max() else 1.0
    return level, spread
