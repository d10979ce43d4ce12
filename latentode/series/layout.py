"""Roles of the columns of a long table: from table to series, and answers back in the caller's types."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.table import FloatArray, IntArray, SeriesTable
from latentode.series.times import Clock, TimeKind

SCALARS = (int, float, np.number, np.datetime64, datetime.datetime, str)
SEQUENCES = (list, tuple, range, np.ndarray, pd.Index, pd.Series, pd.api.extensions.ExtensionArray)
SHOWN = 5  # names that a message lists before it says how many more there are


@dataclass(frozen=True)
class TableLayout:
    """Which column of a long table is what, learned in `fit` and held to in every later call.

    Parameters
    ----------
    id_col, time_col : hashable
        Names of the columns that hold the series and the times.
    target_cols : tuple of hashable (D,)
        Names of the target columns, in the order of the last axis of `SeriesTable.values`.
    clock : Clock
        How times become float64.
    """

    id_col: Hashable
    time_col: Hashable
    target_cols: tuple[Hashable, ...]
    clock: Clock

    @classmethod
    def infer(
        cls,
        df: pd.DataFrame,
        *,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
        target_cols: Sequence[Hashable] | None = None,
    ) -> TableLayout:
        """Learn the layout of a training table.

        Parameters
        ----------
        df : DataFrame
            One row per series and time, in any order.
        id_col, time_col : hashable
            Names of the columns of series and times.
        target_cols : sequence of hashable, optional
            Columns to learn; None takes all numeric (also bool) columns that have no other role.

        Raises
        ------
        DataError
            When a column is missing, comes twice or holds the wrong kind of values.
        ValueError
            When the names do not make sense together.
        """
        _check_frame(df)
        _check_names(id_col, time_col, target_cols)
        _check_keys(df, id_col, time_col)
        clock = Clock.learn(df[time_col])
        targets = _numeric_columns(df, (id_col, time_col)) if target_cols is None else tuple(target_cols)
        _check_targets(df, targets)
        return cls(id_col, time_col, targets, clock)

    @property
    def time_kind(self) -> TimeKind:
        """ "numeric" or "datetime"."""
        return self.clock.kind

    def read(
        self, df: pd.DataFrame, *, require_targets: bool = True, require_observed: bool = False
    ) -> SeriesTable:
        """Series of a table that has this layout; columns without a role are ignored.

        Parameters
        ----------
        df : DataFrame
            One row per series and time, in any order.
        require_targets : bool
            False reads target columns that are missing as never observed.
        require_observed : bool
            True (in `fit`) refuses a target that has no observed value.

        Raises
        ------
        DataError
            When a column is missing or of the wrong kind; when an id or a time is missing; when a time or a
            target is infinite. The message names column, series and row (counted from 0).
        """
        _check_frame(df)
        _check_keys(df, self.id_col, self.time_col)
        if not require_targets:
            df = df.reindex(columns=[self.id_col, self.time_col, *self.target_cols])
        _check_targets(df, self.target_cols)
        codes, ids = _factorize(df[self.id_col])
        times = self._read_times(df)
        values = df[list(self.target_cols)].to_numpy(dtype=np.float64, na_value=np.nan)
        self._check_finite(df, values)
        if require_observed:
            self._check_observed(values)
        return SeriesTable.from_rows(ids, codes, times, values)

    def read_queries(self, times: Any, table: SeriesTable) -> SeriesTable:
        """Times at which answers are wanted, for the series of `table`.

        Parameters
        ----------
        times : scalar, sequence or DataFrame
            One sequence of times for all series, or a table with the id and the time column.
        table : SeriesTable
            The series that are asked about.

        Returns
        -------
        SeriesTable
            The series of `table` in its order, with D = 0; series without a query are empty. `rows` are the
            positions in `query_keys(times, table)`.
        """
        keys = self.query_keys(times, table)
        codes = table.ids.get_indexer(pd.Index(keys[self.id_col])).astype(np.int64)
        no_values = np.empty((len(keys), 0))
        if len(keys) == 0:
            return SeriesTable.from_rows(table.ids, codes, np.empty(0), no_values)
        return SeriesTable.from_rows(table.ids, codes, self._read_times(keys), no_values)

    def query_keys(self, times: Any, table: SeriesTable) -> pd.DataFrame:
        """Id and time column of the answer to `times`, in the caller's own types, with a fresh index.

        A sequence gives the series in order of first appearance, each with all times in the order given;
        a table gives its own rows.
        """
        if isinstance(times, pd.DataFrame):
            return self._keys_of_table(times, table)
        column = self._sequence(times)
        ids = table.ids.repeat(len(column))
        tiled = column.iloc[np.tile(np.arange(len(column)), len(table))]
        return pd.DataFrame({self.id_col: ids, self.time_col: tiled.array})

    def keys(self, df: pd.DataFrame) -> pd.DataFrame:
        """Id and time column of `df` itself, with its index: the answer at every row."""
        return df[[self.id_col, self.time_col]]

    def write(self, keys: pd.DataFrame, columns: Mapping[Hashable, NDArray]) -> pd.DataFrame:
        """Table of answers: the id and the time column as the caller gave them, then `columns`.

        Parameters
        ----------
        keys : DataFrame
            From `keys` or `query_keys`; also gives the index.
        columns : mapping of arrays (R,)
            Answers by column name, in the order of the rows of `keys` (see `SeriesTable.in_row_order`).
        """
        answers = pd.DataFrame(dict(columns), index=keys.index)
        return pd.concat([self.keys(keys), answers], axis=1)

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold (column names: strings or numbers)."""
        return {
            "id_col": _plain(self.id_col),
            "time_col": _plain(self.time_col),
            "target_cols": [_plain(name) for name in self.target_cols],
            "clock": self.clock.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TableLayout:
        """The layout that `state()` came from."""
        clock = Clock.from_state(state["clock"])
        return cls(state["id_col"], state["time_col"], tuple(state["target_cols"]), clock)

    def _read_times(self, df: pd.DataFrame) -> FloatArray:
        return self.clock.read(df[self.time_col], lambda row: _place(df[self.id_col], row))

    def _sequence(self, times: Any) -> pd.Series:
        """One sequence of times, checked; scalars and lists, which have no dtype, take that of the training times."""
        column = _as_column(times)
        if len(column) == 0:
            return pd.Series([], dtype=object).astype(self.clock.dtype)  # type: ignore[call-overload]
        self.clock.read(column, lambda position: f"position {position} of `times`")
        has_dtype = hasattr(times, "dtype") and not isinstance(times, np.generic)
        return column if has_dtype else self.clock.in_learned_dtype(column)

    def _keys_of_table(self, times: pd.DataFrame, table: SeriesTable) -> pd.DataFrame:
        _check_columns(times, "table `times`")
        _check_keys(times, self.id_col, self.time_col)
        ids = times[self.id_col]
        _factorize(ids)
        unknown = pd.Index(ids[table.ids.get_indexer(pd.Index(ids)) < 0]).unique()
        if len(unknown):
            raise DataError(
                f"`times` asks for series that are not in the table: {_some(unknown)}; "
                f"its series are {_some(table.ids)}"
            )
        return self.keys(times).reset_index(drop=True)

    def _check_finite(self, df: pd.DataFrame, values: FloatArray) -> None:
        infinite = np.isinf(values)
        if infinite.any():
            row, column = np.argwhere(infinite)[0]
            raise DataError(
                f"infinite value in target {self.target_cols[column]!r} at {_place(df[self.id_col], row)}: "
                "targets must be finite; use NaN for values that were not observed"
            )

    def _check_observed(self, values: FloatArray) -> None:
        never = np.flatnonzero(np.isnan(values).all(axis=0))
        if len(never):
            names = [self.target_cols[i] for i in never]
            raise DataError(
                f"never observed (all NaN): target {_some(names)}; leave it out with target_cols= "
                "or drop the column"
            )


def _check_frame(df: object) -> None:
    if not isinstance(df, pd.DataFrame):
        raise TypeError(
            "expected a pandas DataFrame in long format (one row per series and time), "
            f"got {type(df).__name__}"
        )
    if len(df) == 0:
        raise DataError("the table is empty: expected at least one row per series")
    _check_columns(df, "table")


def _check_columns(df: pd.DataFrame, what: str) -> None:
    repeated = df.columns[df.columns.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"duplicated column name in the {what}: {_some(repeated)}; names must be unique: "
            "rename or drop one of the columns"
        )


def _check_names(id_col: Hashable, time_col: Hashable, target_cols: Sequence[Hashable] | None) -> None:
    if id_col == time_col:
        raise ValueError(f"id_col and time_col must differ, both are {id_col!r}")
    if target_cols is None:
        return
    if isinstance(target_cols, str) or not isinstance(target_cols, (Sequence, pd.Index, np.ndarray)):
        raise ValueError(f"target_cols must be a list of column names or None, got {target_cols!r}")
    names = list(target_cols)
    if not names:
        raise ValueError(
            "target_cols is empty: name at least one target, or use None for all numeric columns"
        )
    if len(set(names)) < len(names) or {id_col, time_col} & set(names):
        raise ValueError(
            f"target_cols must name different columns, none of them the id or the time column; got {names}"
        )


def _check_keys(df: pd.DataFrame, id_col: Hashable, time_col: Hashable) -> None:
    if time_col not in df.columns:
        raise DataError(
            f"no time column {time_col!r}; the columns are {list(df.columns)}: name it with time_col="
            + _hint_of_index(df, time_col)
        )
    if id_col not in df.columns:
        raise DataError(
            f"no id column {id_col!r}; the columns are {list(df.columns)}: name it with id_col=, or for a "
            f"single series add one with df.assign({id_col}=0)" + _hint_of_index(df, id_col)
        )


def _hint_of_index(df: pd.DataFrame, name: Hashable) -> str:
    return f" ({name!r} is in the index: use df.reset_index())" if name in df.index.names else ""


def _check_targets(df: pd.DataFrame, targets: tuple[Hashable, ...]) -> None:
    missing = [name for name in targets if name not in df.columns]
    if missing:
        raise DataError(
            f"no target column {_some(missing)}; the columns are {list(df.columns)}: "
            "a table needs all targets (NaN where they were not observed)"
        )
    for name in targets:
        if not _is_number(df[name]):
            raise DataError(
                f"target {name!r} is not numeric ({df[name].dtype}): convert it with pd.to_numeric(...) "
                "or leave it out with target_cols="
            )


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)


def _numeric_columns(df: pd.DataFrame, roles: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    names = tuple(name for name in df.columns if name not in roles and _is_number(df[name]))
    if not names:
        kinds = {name: str(df[name].dtype) for name in df.columns}
        raise DataError(
            f"no numeric column is left to learn; the columns are {kinds}: convert targets with "
            "pd.to_numeric(...) or add them"
        )
    return names


def _factorize(ids: pd.Series) -> tuple[IntArray, pd.Index]:
    codes, uniques = pd.factorize(ids)
    if len(codes) and codes.min() < 0:
        row = int((codes < 0).argmax())
        raise DataError(f"missing id (NaN) at row {row}: every row needs the id of its series")
    return codes.astype(np.int64), pd.Index(uniques)


def _as_column(times: Any) -> pd.Series:
    if isinstance(times, SCALARS):
        times = [times]
    if not isinstance(times, SEQUENCES):
        raise TypeError(
            "times must be a time, a sequence of times (list, array, Index, Series) or a table with the id "
            f"and the time column, got {type(times).__name__}"
        )
    n_axes = getattr(times, "ndim", 1)
    if n_axes != 1:
        raise ValueError(f"times must have one dimension, got {n_axes}")
    return pd.Series(times).reset_index(drop=True)


def _place(ids: pd.Series, row: int) -> str:
    return f"series {_plain(ids.iloc[row])!r}, row {row}"


def _plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def _some(names: Sequence[Any] | pd.Index) -> str:
    shown = ", ".join(repr(_plain(name)) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
