"""The cells that are scored: truth and forecast brought side by side."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentode.exceptions import DataError
from latentode.metrics.groups import Groups, column_to_group_by

Array = NDArray[np.float64]
Score = Any  # float, or one per target or group (array, Series, DataFrame): a union would force callers to narrow it


@dataclass(frozen=True)
class Cells:
    """Arrays of one shape, the last axis being the targets; the cell is the unit that is scored or ignored.

    Parameters
    ----------
    arrays : tuple of float arrays, all of one shape ``(..., D)``
        A cell that is NaN in one of them becomes NaN in all, so that what an ignored cell holds (a scale of
        0 in padding, say) can neither reach a score nor cause a warning.
    targets : list of D names, or None
        Given for tables only; decides whether a score per target is a Series or an array.
    groups : Groups, optional
        Of the rows, which are the entries of the first axis: a score is then one per group.
    """

    arrays: tuple[Array, ...]
    targets: list[Hashable] | None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        scored = ~np.logical_or.reduce([np.isnan(array) for array in self.arrays])
        object.__setattr__(self, "arrays", tuple(np.where(scored, array, np.nan) for array in self.arrays))

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Where no array is NaN."""
        return ~np.isnan(self.arrays[0])

    def require(self, holds: NDArray[np.bool_], message: str) -> None:
        """Raise a ValueError if ``holds`` is False in a scored cell."""
        wrong = np.argwhere(self.scored & ~holds)
        if len(wrong):
            raise ValueError(f"{message} ({len(wrong)} cells, the first at index {tuple(wrong[0].tolist())})")

    def mean(self, losses: Array, per_target: bool) -> Score:
        """Mean loss over the scored cells, of all or of each group and target.

        A group or target without a scored cell is NaN; a table without any is refused.
        """
        scored = self.scored
        if not scored.any():
            raise ValueError("nothing to score: every cell is NaN in the truth or in the forecast")
        if per_target and losses.ndim < 2:
            raise ValueError(
                f"per_target=True needs tables or arrays of shape (..., targets), got shape {losses.shape}: "
                "reshape one target to (n, 1)"
            )
        if self.groups is None and not per_target:
            return float(losses[scored].mean())
        width = losses.shape[-1] if per_target else 1
        means = self._mean_per_group(np.where(scored, losses, 0.0), scored, width)
        return self._labelled(means, per_target)

    def _mean_per_group(self, losses: Array, scored: NDArray[np.bool_], width: int) -> Array:
        """Means (G, D), or (G, 1) over all targets; G is 1 without groups."""
        rows = len(losses)
        codes = np.zeros(rows, dtype=np.intp) if self.groups is None else self.groups.codes
        n_groups = 1 if self.groups is None else len(self.groups.names)
        member = codes >= 0
        sums, counts = np.zeros((2, n_groups, width))
        # (R, cells of a row and target, D): a row may have further axes before that of the targets
        np.add.at(sums, codes[member], losses.reshape(rows, -1, width).sum(axis=1)[member])
        np.add.at(counts, codes[member], scored.reshape(rows, -1, width).sum(axis=1)[member])
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

    def _labelled(self, means: Array, per_target: bool) -> Score:
        """Means by group and by target, as far as these have names."""
        if self.groups is None:
            return means[0] if self.targets is None else pd.Series(means[0], index=self.targets)
        if not per_target:
            return pd.Series(means[:, 0], index=self.groups.names)
        return pd.DataFrame(means, index=self.groups.names, columns=self.targets)

    def like_truth(self, values: Array, truth: Any, id_col: str | None, time_col: str) -> Any:
        """Values, one per cell, in the form of the truth: an array, or a table with its keys and its index."""
        if self.targets is None:
            return values
        keys = [column for column in (id_col, time_col) if column is not None]
        answer = truth[keys].copy()
        answer[self.targets] = values
        return answer

    def one_per_target(self, name: str, values: float | ArrayLike | Mapping[Hashable, float]) -> Array:
        """A number, D numbers, or a mapping or Series from target to number, as an array that broadcasts."""
        if isinstance(values, (Mapping, pd.Series)):
            return np.array(self._by_name(name, values))
        array = np.asarray(values, dtype=np.float64)
        width = self.arrays[0].shape[-1:]
        if array.shape not in ((), width):
            raise ValueError(
                f"{name} must be one number or one per target, shape {width}; got shape {array.shape}"
            )
        return array

    def _by_name(self, name: str, values: Any) -> list[float]:
        if self.targets is None:
            raise ValueError(
                f"{name} names its targets, which arrays do not: give an array of one per target"
            )
        missing = [target for target in self.targets if target not in values]
        if missing:
            raise ValueError(f"{name} has no entry for target(s) {missing}: it must name every target")
        return [values[target] for target in self.targets]


def align(inputs: Mapping[str, Any], id_col: str | None, time_col: str, by: Any = None) -> Cells:
    """Bring the named inputs, all arrays or all long tables, into arrays of one shape.

    Tables are matched row by row: their id and time columns must agree at every position (the index is
    ignored), and every column that is neither is a target. A plain number stands for an array filled with it.
    `by` groups the rows: labels, or the name of a column of the first table, which is then no target.
    """
    numbers = {name for name, value in inputs.items() if np.isscalar(value)}
    tables = {name for name, value in inputs.items() if isinstance(value, pd.DataFrame)}
    arrays = set(inputs) - numbers - tables
    if tables and arrays:
        raise ValueError(
            f"{_listed(tables, inputs)} given as table(s) but {_listed(arrays, inputs)} as array(s): "
            "give all as long tables or all as arrays"
        )
    if tables:
        return _align_tables(inputs, [name for name in inputs if name in tables], id_col, time_col, by)
    return _align_arrays(inputs, by)


def _listed(names: set[str], inputs: Mapping[str, Any]) -> str:
    return ", ".join(name for name in inputs if name in names)


def _align_arrays(inputs: Mapping[str, Any], by: Any) -> Cells:
    arrays = {name: _array(name, value) for name, value in inputs.items()}
    shapes = {name: array.shape for name, array in arrays.items() if array.shape}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            "arrays must have one shape, got "
            + ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        )
    shape = next(iter(shapes.values()), (1,))
    groups = None if by is None else Groups.of(by, shape[0])
    return Cells(tuple(np.broadcast_to(array, shape) for array in arrays.values()), None, groups)


def _array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be numbers in the form of an array, or a long table: {error}"
        ) from error


def _align_tables(
    inputs: Mapping[str, Any], tables: list[str], id_col: str | None, time_col: str, by: Any
) -> Cells:
    first = tables[0]
    column = column_to_group_by(by, first, inputs[first])
    targets = _targets(first, inputs[first], id_col, time_col, column)
    for name in tables[1:]:
        found = _targets(name, inputs[name], id_col, time_col, column)
        if set(found) != set(targets):
            raise DataError(
                f"{first} has target columns {targets}, {name} has {found}: "
                "both must have the same, in any order"
            )
        _check_rows(first, inputs[first], name, inputs[name], id_col, time_col)
    shape = (len(inputs[first]), len(targets))
    arrays = [
        _numbers(name, value, targets) if name in tables else np.full(shape, float(value))
        for name, value in inputs.items()
    ]
    labels = by if column is None else inputs[first][column]
    return Cells(tuple(arrays), targets, None if by is None else Groups.of(labels, len(inputs[first])))


def _targets(
    name: str, table: pd.DataFrame, id_col: str | None, time_col: str, group_col: Hashable | None
) -> list[Hashable]:
    columns = list(table.columns)
    repeated = table.columns[table.columns.duplicated()].tolist()
    if repeated:
        raise DataError(f"{name} has the column(s) {repeated} more than once: rename or drop them")
    keys = [column for column in (id_col, time_col) if column is not None]
    missing = [key for key in keys if key not in columns]
    if missing:
        raise DataError(
            f"{name} has no column {missing[0]!r}, only {columns}: name the columns with id_col= and "
            "time_col= (id_col=None for one series without an id)"
        )
    targets: list[Hashable] = [column for column in columns if column not in (*keys, group_col)]
    if not targets:
        raise DataError(f"{name} has no target column beside {keys}")
    return targets


def _numbers(name: str, table: pd.DataFrame, targets: list[Hashable]) -> Array:
    for target in targets:
        if not pd.api.types.is_numeric_dtype(table[target]):
            raise DataError(
                f"target {target!r} of {name} has dtype {table[target].dtype}, expected numbers: "
                "convert the column, or drop it from the tables if it is not a target"
            )
    return table[targets].to_numpy(dtype=np.float64, na_value=np.nan)


def _check_rows(
    first: str, left: pd.DataFrame, second: str, right: pd.DataFrame, id_col: str | None, time_col: str
) -> None:
    if len(left) != len(right):
        raise DataError(
            f"{first} has {len(left)} rows, {second} has {len(right)}: "
            "both must hold the same (id, time) rows"
        )
    for column in (id_col, time_col):
        if column is None:
            continue
        rows = _disagreeing(left[column], right[column])
        if len(rows):
            raise DataError(
                f"{first} and {second} differ in column {column!r} in {len(rows)} row(s); the first is row "
                f"{rows[0]}: {left[column].iloc[rows[0]]!r} and {right[column].iloc[rows[0]]!r}. "
                "Bring both into the same order of rows"
            )


def _disagreeing(left: pd.Series, right: pd.Series) -> NDArray[np.intp]:
    a, b = (column.reset_index(drop=True) for column in (left, right))
    if (
        a.dtype != b.dtype
    ):  # pandas refuses to compare some pairs, such as two categoricals of other categories
        a, b = a.astype(object), b.astype(object)
    return np.flatnonzero((a != b).to_numpy(dtype=bool, na_value=True))
