"""A caller's long table, checked, from which pictures take one series at a time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError


@dataclass(frozen=True)
class LongTable:
    """One argument of a plot: its name for messages, its rows, and the roles of its columns.

    Parameters
    ----------
    name : str
        Name of the argument.
    frame : DataFrame
        One row per (series, time), rows in any order.
    id_col : str or None
        None if the table holds one series without an id.
    time_col : str
    """

    name: str
    frame: pd.DataFrame
    id_col: str | None
    time_col: str

    def __post_init__(self) -> None:
        if not isinstance(self.frame, pd.DataFrame):
            raise DataError(
                f"{self.name} must be a pandas DataFrame in long form, got {type(self.frame).__name__}"
            )
        self.require([column for column in (self.id_col, self.time_col) if column is not None])

    def require(self, columns: Sequence[Hashable]) -> None:
        """Raise a DataError that lists the columns the table lacks."""
        missing = [column for column in columns if column not in self.frame.columns]
        if missing:
            raise DataError(
                f"{self.name} has no column {missing[0]!r}, only {list(self.frame.columns)}: "
                "check id_col=, time_col= and the names of the targets"
            )

    def targets(self) -> list[Hashable]:
        """The numeric columns that are neither id nor time."""
        numeric = self.frame.select_dtypes("number").columns
        found: list[Hashable] = [column for column in numeric if column not in (self.id_col, self.time_col)]
        if not found:
            raise DataError(f"{self.name} has no numeric column beside {self.id_col!r} and {self.time_col!r}")
        return found

    def ids(self) -> list[Any]:
        """Series in the order of their first row; [None] for a table without an id column."""
        return [None] if self.id_col is None else list(self.frame[self.id_col].unique())

    def check_ids(self, wanted: Sequence[Any]) -> None:
        """Raise a DataError for the first series that has no row."""
        known = self.ids()
        for series in wanted:
            if series not in known:
                some = ", ".join(repr(name) for name in known[:5]) + (", ..." if len(known) > 5 else "")
                raise DataError(f"series {series!r} is not in {self.name}, which holds {len(known)}: {some}")

    def series(self, series: Any) -> pd.DataFrame:
        """The rows of one series, by time."""
        frame = self.frame if self.id_col is None else self.frame[self.frame[self.id_col] == series]
        return frame.sort_values(self.time_col, kind="stable")

    def since(self, start: Any) -> LongTable:
        """The same table without the rows before a time."""
        return replace(self, frame=self.frame[self.frame[self.time_col] >= start])


def times(column: pd.Series) -> NDArray[Any]:
    """Times as matplotlib takes them: numbers, or datetime64 (those with a time zone in UTC)."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return column.to_numpy()


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """A target as floats, NaN where missing."""
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
