"""What a caller asks of a fitted estimator, read once; its answers go back in the form of the caller's table."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.estimators.arrays import OneSeries
from latentode.exceptions import DataError
from latentode.series import SeriesTable, TableForm, TableLayout
from latentode.series.asked_times import asked_times
from latentode.series.forms import is_table


@dataclass(frozen=True, eq=False)
class Question:
    """Known rows of some series, the times that are asked about, and the form of the answer.

    Parameters
    ----------
    form : TableForm or OneSeries
        Of the caller's table or arrays.
    keys : DataFrame (R, 2)
        Id and time of every row of the answer, in pandas.
    at_rows : bool
        Whether these are the rows of the caller's table.
    table : SeriesTable
        What is known, N series.
    queries : SeriesTable
        The same series with the times asked about, in the order of `keys`.
    """

    form: TableForm | OneSeries
    keys: pd.DataFrame
    at_rows: bool
    table: SeriesTable
    queries: SeriesTable

    @classmethod
    def of_arrays(cls, layout: TableLayout, arrays: OneSeries, X: NDArray[np.float64]) -> Question:
        """The question about the series that was given as arrays, at the times in column 0 of X."""
        asked = arrays.queries(X)
        table = layout.read(arrays.table(), times=asked, read_errors=False)
        return cls(arrays, asked[["id", "time"]], False, table, layout.read_queries(asked, table))

    @classmethod
    def read(cls, layout: TableLayout, df: Any, times: Any = None) -> Question:
        """The question about `df`, in any form, at its own rows or at `times`.

        `times` is a sequence for all series, or a table of any form; of series that have no id it needs none.

        Raises
        ------
        DataError, TypeError, ValueError
        """
        form, frame = layout.open(df)
        if times is None:
            table = layout.read(frame, read_errors=False)
            return cls(form, layout.keys(frame), True, table, as_queries(table))
        asked = asked_of(layout, form, frame, times)
        table = layout.read(frame, times=asked, read_errors=False)
        keys = layout.query_keys(asked, table)
        if isinstance(asked, pd.Series):  # ids of the table itself, whose dtype its index may not have
            keys[layout.id_col] = keys[layout.id_col].astype(frame[layout.id_col].dtype)
        return cls(form, keys, False, table, layout.read_queries(asked, table))

    def answer(self, columns: Mapping[Hashable, Any]) -> Any:
        """Answers (R,) by name, in the order of `keys`, as a table of the caller's form."""
        return self.form.write(self._long(columns), at_rows=self.at_rows)

    def stacked(self, name: str, labels: Iterable[Any], blocks: Iterable[Mapping[Hashable, Any]]) -> Any:
        """One block of answers per label, one below the other, with the label as a column after the keys.

        Raises
        ------
        DataError
            When the table has a column of this name.
        """
        parts = []
        for columns in blocks:
            if name in self.keys.columns or name in columns:
                raise DataError(
                    f"the answer needs the name {name!r} for its own column: rename that of the table"
                )
            parts.append(self._long(columns))
        return self.form.write_stacked(name, labels, parts)

    def at(self, queries: SeriesTable) -> Question:
        """The same question with other encoded times."""
        return replace(self, queries=queries)

    def _long(self, columns: Mapping[Hashable, Any]) -> pd.DataFrame:
        return pd.concat([self.keys, pd.DataFrame(dict(columns), index=self.keys.index)], axis=1)


def asked_of(
    layout: TableLayout, form: TableForm, frame: pd.DataFrame, times: Any
) -> pd.DataFrame | pd.Series:
    """`times` as a long pandas table, or as a pandas column for all series, in the dtype of those of `frame`.

    Raises
    ------
    DataError
        When only one of the two tables names series.
    """
    if not is_table(times):
        return asked_times(times, layout.clock, frame[layout.time_col].dtype)
    asked = layout.open(times, single=form.single, what="table `times`")
    if asked.form.single and not form.single:
        raise DataError(
            f"no id column {layout.id_col!r} in the table `times`: name the series of each time, or give a sequence of "
            "times for all of them"
        )
    if form.single and not asked.form.single:
        raise DataError(
            f"`times` names series in {layout.id_col!r}, but the table is one series without an id: drop that column"
        )
    return asked.frame


def as_queries(table: SeriesTable) -> SeriesTable:
    """The rows of a table as queries."""
    return replace(table, values=np.empty((table.n_rows, 0)))
