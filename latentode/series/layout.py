"""Roles of the columns of a long table: from table to series, and answers back in the caller's types."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.asked_times import asked_times
from latentode.series.categories import Categories
from latentode.series.columns import (
    check_columns,
    check_frame,
    check_keys,
    check_names,
    check_numeric,
    check_present,
    factorize,
    numeric_columns,
    place,
    positions_of,
    some,
)
from latentode.series.controls import ControlPaths
from latentode.series.covariates import read_controls, read_static
from latentode.series.forms import OpenedTable, open_table
from latentode.series.plain_values import as_plain, from_plain
from latentode.series.table import FloatArray, IntArray, SeriesTable
from latentode.series.times import Clock, TimeKind

_LISTS = ("target_cols", "static_cols", "control_cols")


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
    static_cols : tuple of hashable (S,)
        Columns that are constant within a series.
    control_cols : tuple of hashable (C,)
        Columns that are known at all times, also in the future.
    control_interpolation : {"linear", "step"}
        Between the times at which controls are given.
    error_cols : mapping from target to column
        Standard deviations of the measurement errors of some targets.
    categories : mapping from target to Categories
        Labels of the targets that are categories; their values in a `SeriesTable` are codes.
    single : bool
        Whether the table of `fit` was one series without an id; later tables without one are no surprise then.
    """

    id_col: Hashable
    time_col: Hashable
    target_cols: tuple[Hashable, ...]
    clock: Clock
    static_cols: tuple[Hashable, ...] = ()
    control_cols: tuple[Hashable, ...] = ()
    control_interpolation: str = "linear"
    error_cols: Mapping[Hashable, Hashable] = field(default_factory=dict)
    categories: Mapping[Hashable, Categories] = field(default_factory=dict)
    single: bool = False

    @classmethod
    def infer(
        cls,
        df: pd.DataFrame,
        *,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
        target_cols: Sequence[Hashable] | None = None,
        static_cols: Sequence[Hashable] = (),
        control_cols: Sequence[Hashable] = (),
        control_interpolation: str = "linear",
        error_cols: Mapping[Hashable, Hashable] | None = None,
        categorical: Sequence[Hashable] = (),
    ) -> TableLayout:
        """Learn the layout of a training table.

        Parameters
        ----------
        df : DataFrame
            One row per series and time, in any order.
        id_col, time_col : hashable
            Names of the columns of series and times.
        target_cols : sequence of hashable, optional
            Columns to learn; None takes all numeric (also bool) columns that have no other role, and those named in
            `categorical`.
        static_cols, control_cols, control_interpolation, error_cols
            As the fields of these names.
        categorical : sequence of hashable
            Targets whose values are labels of any kind.

        Raises
        ------
        DataError
            When a column is missing, comes twice or holds the wrong kind of values.
        ValueError
            When the names do not make sense together.
        """
        check_frame(df)
        errors = dict(error_cols or {})
        others = {
            "static_cols": static_cols,
            "control_cols": control_cols,
            "error_cols": list(errors.values()),
        }
        check_names(id_col, time_col, target_cols, others)
        check_keys(df, id_col, time_col)
        clock = Clock.learn(df[time_col])
        for role, names in others.items():
            check_present(df, names, role)
            check_numeric(df, names, role)
        taken = {id_col, time_col, *static_cols, *control_cols, *errors.values()}
        targets = tuple(target_cols) if target_cols is not None else numeric_columns(df, taken, categorical)
        _check_of_targets(categorical, targets, "likelihood")
        _check_of_targets(errors, targets, "error_cols")
        layout = cls(
            id_col,
            time_col,
            targets,
            clock,
            tuple(static_cols),
            tuple(control_cols),
            control_interpolation,
            errors,
        )
        layout._check_targets(df, categorical)
        return replace(layout, categories={name: Categories.learn(df[name]) for name in categorical})

    @property
    def time_kind(self) -> TimeKind:
        """ "numeric", "datetime", "period" or "timedelta"."""
        return self.clock.kind

    def open(self, table: Any, *, single: bool = False, what: str = "table") -> OpenedTable:
        """A caller's table of any form (see `open_table`) in the long pandas form that all other methods take."""
        roles = {*self.target_cols, *self.static_cols, *self.control_cols, *self.error_cols.values()}
        alone = single or self.single
        return open_table(table, self.id_col, self.time_col, single=alone, roles=roles, what=what)

    def read(
        self,
        df: pd.DataFrame,
        *,
        require_targets: bool = True,
        require_observed: bool = False,
        read_errors: bool = True,
        times: Any = None,
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
        read_errors : bool
            False leaves the columns of measurement errors alone.
        times : DataFrame, optional
            Queries; the control columns that these have count, too, and before those of `df` at the same time. Anything
            else is ignored.

        Raises
        ------
        DataError
            When a column is missing or of the wrong kind; when an id or a time is missing; when a time or a
            value is infinite. The message names column, series and row (counted from 0).
        """
        check_frame(df)
        check_keys(df, self.id_col, self.time_col)
        check_present(df, self.static_cols, "static_cols")
        check_numeric(df, self.static_cols, "static_cols")
        if not require_targets:
            missing = [name for name in self.target_cols if name not in df.columns]
            df = df.assign(**{str(name): np.nan for name in missing})
        self._check_targets(df, self.categories)
        codes, ids = factorize(df[self.id_col])
        at = self._read_times(df)
        values = self._read_targets(df)
        if require_observed:
            self._check_observed(values)
        errors = self._read_errors(df, values) if read_errors else None
        table = SeriesTable.from_rows(ids, codes, at, values, errors=errors)
        if self.static_cols:
            self._check_finite(df, self.static_cols)
            table = replace(table, static=read_static(df, self.static_cols, codes, ids))
        return (
            replace(table, paths=self._read_paths(df, codes, at, ids, times)) if self.control_cols else table
        )

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
        codes = positions_of(keys[self.id_col], table.ids)
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
        column = asked_times(times, self.clock, self.clock.dtype)
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
        """Everything learned, as plain values that JSON can hold."""
        return {
            **{role: as_plain(getattr(self, role)) for role in ("id_col", "time_col")},
            **{role: as_plain(list(getattr(self, role))) for role in _LISTS},
            "clock": self.clock.state(),
            "control_interpolation": self.control_interpolation,
            "error_cols": as_plain(dict(self.error_cols)),
            "categories": [[as_plain(name), labels.state()] for name, labels in self.categories.items()],
            "single": self.single,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TableLayout:
        """The layout that `state()` came from."""
        return cls(
            **{role: from_plain(state[role]) for role in ("id_col", "time_col")},
            **{role: tuple(from_plain(state[role])) for role in _LISTS},
            clock=Clock.from_state(state["clock"]),
            control_interpolation=state["control_interpolation"],
            error_cols=from_plain(state["error_cols"]),
            categories={
                from_plain(name): Categories.from_state(labels) for name, labels in state["categories"]
            },
            single=state["single"],
        )

    def _read_times(self, df: pd.DataFrame) -> FloatArray:
        return self.clock.read(df[self.time_col], lambda row: place(df[self.id_col], row))

    def _keys_of_table(self, times: pd.DataFrame, table: SeriesTable) -> pd.DataFrame:
        check_columns(times, "table `times`")
        check_keys(times, self.id_col, self.time_col)
        ids = times[self.id_col]
        factorize(ids)
        unknown = pd.Index(ids[positions_of(ids, table.ids) < 0].unique(), dtype=object)
        if len(unknown):
            raise DataError(
                f"`times` asks for series that are not in the table: {some(unknown)}; "
                f"its series are {some(table.ids)}"
            )
        return self.keys(times).reset_index(drop=True)

    def _check_targets(
        self, df: pd.DataFrame, categorical: Sequence[Hashable] | Mapping[Hashable, Any]
    ) -> None:
        check_present(df, self.target_cols, "targets")
        check_numeric(df, [name for name in self.target_cols if name not in categorical], "target")

    def _read_targets(self, df: pd.DataFrame) -> FloatArray:
        """Target cells (R, D); labels as their codes, NaN where nothing was observed."""
        numeric = [name for name in self.target_cols if name not in self.categories]
        self._check_finite(df, numeric)
        values = np.empty((len(df), len(self.target_cols)))
        for d, name in enumerate(self.target_cols):
            if name in self.categories:
                values[:, d] = self.categories[name].codes(df[name], lambda row: place(df[self.id_col], row))
            else:
                values[:, d] = df[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return values

    def _read_errors(self, df: pd.DataFrame, values: FloatArray) -> FloatArray | None:
        """Measurement errors (R, D), 0 for targets without a column and for cells that were not observed."""
        if not self.error_cols:
            return None
        check_present(df, list(self.error_cols.values()), "error_cols")
        check_numeric(df, list(self.error_cols.values()), "error_cols")
        errors = np.zeros_like(values)
        for name, column in self.error_cols.items():
            d = self.target_cols.index(name)
            given = df[column].to_numpy(dtype=np.float64, na_value=np.nan)
            observed = ~np.isnan(values[:, d])
            wrong = observed & ~(np.isfinite(given) & (given >= 0))
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"measurement error {column!r} of target {name!r} is {given[row]} at "
                    f"{place(df[self.id_col], row)}: every observed value needs its standard deviation, 0 or more"
                )
            errors[observed, d] = given[observed]
        return errors

    def _read_paths(
        self, df: pd.DataFrame, codes: IntArray, at: FloatArray, ids: pd.Index, times: Any
    ) -> ControlPaths:
        """Controls of the rows of `df`, and then of `times` where it has them."""
        check_present(df, self.control_cols, "control_cols")
        rows = [(codes, at, self._controls(df))]
        keys = {self.id_col, self.time_col}
        if isinstance(times, pd.DataFrame) and keys <= set(times.columns) and self._given_controls(times):
            times = times.reindex(columns=[self.id_col, self.time_col, *self.control_cols])
            positions = positions_of(times[self.id_col], ids)
            known = positions >= 0
            rows.append((positions[known], self._read_times(times)[known], self._controls(times)[known]))
        return read_controls(rows, ids, self.control_cols, self.control_interpolation)

    def _given_controls(self, times: pd.DataFrame) -> list[Hashable]:
        return [name for name in self.control_cols if name in times.columns]

    def _controls(self, df: pd.DataFrame) -> FloatArray:
        check_numeric(df, self.control_cols, "control_cols")
        self._check_finite(df, self.control_cols)
        return df[list(self.control_cols)].to_numpy(dtype=np.float64, na_value=np.nan)

    def _check_finite(self, df: pd.DataFrame, columns: Sequence[Hashable]) -> None:
        for name in columns:
            infinite = np.isinf(df[name].to_numpy(dtype=np.float64, na_value=np.nan))
            if infinite.any():
                what = "target" if name in self.target_cols else "column"
                raise DataError(
                    f"infinite value in {what} {name!r} at {place(df[self.id_col], int(infinite.argmax()))}: "
                    f"{what}s must be finite; use NaN for values that were not observed"
                )

    def _check_observed(self, values: FloatArray) -> None:
        never = np.flatnonzero(np.isnan(values).all(axis=0))
        if len(never):
            names = [self.target_cols[i] for i in never]
            raise DataError(
                f"never observed (all NaN): target {some(names)}; leave it out with target_cols= "
                "or drop the column"
            )


def _check_of_targets(
    names: Sequence[Hashable] | Mapping[Hashable, Any], targets: Sequence[Hashable], role: str
) -> None:
    unknown = [name for name in names if name not in targets]
    if unknown:
        raise ValueError(f"{role} names {some(unknown)}, which is no target; the targets are {some(targets)}")
