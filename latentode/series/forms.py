"""Forms that a caller's table may have: each is read as one long pandas table, and answers go back in it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.columns import check_columns
from latentode.series.foreign import ForeignTable
from latentode.series.key_columns import ONE_SERIES, KeyColumns, find_keys


@dataclass(frozen=True, eq=False)
class TableForm:
    """How a caller's table differs from a long pandas table with an id and a time column.

    `open_table` finds it out; `write` brings an answer into the same form. Which tables are understood, and how, is
    told by `key_columns.find_keys`; what they are made of may be:

    ==========================  ======================================================================================
    a table of                  answers
    ==========================  ======================================================================================
    pandas                      pandas; at the rows of the table with its index
    pandas, keys in the index   pandas with the same levels, at other times too
    polars, pyarrow, others     a table of the same library, with an id and a time column of the same dtypes
      that narwhals reads
    any of these, without id    the same, without id
    ==========================  ======================================================================================

    Parameters
    ----------
    keys : KeyColumns
    index : pandas Index (R,)
        Of the caller's table; a fresh one for libraries without.
    ids : pandas Series (R,)
        The id column as read.
    foreign : ForeignTable or None
        The table itself, of another library than pandas.
    """

    keys: KeyColumns
    index: pd.Index
    ids: pd.Series
    foreign: ForeignTable | None = None

    @property
    def id_col(self) -> Hashable:
        """Name of the id column of the long table."""
        return self.keys.id_col

    @property
    def time_col(self) -> Hashable:
        """Name of the time column of the long table."""
        return self.keys.time_col

    @property
    def single(self) -> bool:
        """Whether the table is one series without an id."""
        return self.keys.single

    @property
    def is_nixtla(self) -> bool:
        """Whether the table has Nixtla's names, where the default ones were looked for."""
        return self.keys.is_nixtla

    def write(self, answer: pd.DataFrame, *, at_rows: bool) -> Any:
        """An answer in the caller's form.

        Parameters
        ----------
        answer : DataFrame
            Long table: the id and the time column, then others.
        at_rows : bool
            Whether it answers at the rows of the table, one by one.
        """
        if self.foreign is not None:
            return self._write_foreign(self.foreign, answer, at_rows)
        dropped = [*self.keys.levels.values(), *([self.id_col] if self.single else [])]
        written = answer.drop(columns=dropped) if dropped else answer
        if at_rows:
            return written.set_axis(self.index)
        return written.set_axis(self._index_of(answer)) if self.keys.levels else written

    def write_stacked(self, name: str, labels: Iterable[Any], parts: Iterable[pd.DataFrame]) -> Any:
        """Several long answers one below the other, with the label of each in a column of this name after the keys."""
        labelled = []
        for label, part in zip(labels, parts):
            part.insert(2, name, label)
            labelled.append(part)
        return self.write(pd.concat(labelled, ignore_index=True), at_rows=False)

    def write_series(self, answer: pd.DataFrame, ids: pd.Index) -> Any:
        """One row per series: indexed by id, or with an id column for libraries without an index."""
        if self.foreign is None:
            return answer.set_axis(ids.rename(None if self.single else self.id_col))
        named = (
            [] if self.single else [self.foreign.rows_of(str(self.id_col), self._rows_of(ids.to_series()))]
        )
        return self.foreign.table([*named, *self._answers(self.foreign, answer)])

    def write_features(self, answer: pd.DataFrame, ids: pd.Index) -> Any:
        """One row of features per series: indexed by id, or without ids for libraries without an index."""
        if self.foreign is None:
            return self.write_series(answer, ids)
        return self.foreign.table(self._answers(self.foreign, answer))

    def write_series_labels(self, labels: NDArray[Any], ids: pd.Index) -> Any:
        """One label per series: a pandas Series indexed by id, or a table of id and `label`."""
        answer = self.write_series(pd.DataFrame({"label": labels}), ids)
        return answer["label"] if self.foreign is None else answer

    def write_rows(self, answer: pd.DataFrame) -> Any:
        """One row per row of the table, without the keys."""
        if self.foreign is None:
            return answer.set_axis(self.index)
        return self.foreign.table(self._answers(self.foreign, answer))

    def write_row_labels(self, labels: pd.Series) -> Any:
        """One label per row of the table."""
        if self.foreign is None:
            return labels.set_axis(self.index)
        return self.foreign.series(str(labels.name), labels)

    def _index_of(self, answer: pd.DataFrame) -> pd.Index:
        names = [self.index.names[level] for level in self.keys.levels]
        arrays = [
            pd.Index(answer[name].array, name=own) for own, name in zip(names, self.keys.levels.values())
        ]
        return arrays[0] if self.index.nlevels == 1 else pd.MultiIndex.from_arrays(arrays, names=names)

    def _write_foreign(self, foreign: ForeignTable, answer: pd.DataFrame, at_rows: bool) -> Any:
        id_name, time_name = str(self.id_col), str(self.time_col)
        columns = [] if self.single else [foreign.rows_of(id_name, self._rows_of(answer[self.id_col]))]
        if at_rows:
            columns.append(foreign.rows_of(time_name, np.arange(len(answer))))
        else:
            columns.append(foreign.column(time_name, answer[self.time_col]))
        rest = answer.drop(columns=[self.id_col, self.time_col])
        return foreign.table([*columns, *self._answers(foreign, rest)])

    @staticmethod
    def _answers(foreign: ForeignTable, answer: pd.DataFrame) -> list[nw.Series[Any]]:
        """Columns of an answer: numbers in their own dtype, labels in that of the caller's column."""
        return [
            (foreign.answer_column if column.dtype.kind in "fiu" else foreign.label_column)(str(name), column)
            for name, column in answer.items()
        ]

    def _rows_of(self, ids: pd.Series) -> Any:
        """For each id, the first row of the table that has it."""
        own = pd.Index(self.ids, dtype=object)
        first = ~own.duplicated()
        return np.flatnonzero(first)[own[first].get_indexer(pd.Index(ids, dtype=object))]


class OpenedTable(NamedTuple):
    """A caller's table as a long pandas table, and its form."""

    form: TableForm
    frame: pd.DataFrame


def open_table(
    table: Any,
    id_col: Hashable | None,
    time_col: Hashable,
    *,
    single: bool = False,
    roles: Collection[Hashable] = (),
    what: str = "table",
) -> OpenedTable:
    """Read a table of any form.

    Parameters
    ----------
    table : DataFrame of pandas, polars, pyarrow or another library that narwhals reads
    id_col, time_col : hashable
        Names to look for; None as `id_col` for one series without an id.
    single : bool
        Whether a table without an id is one series for sure.
    roles : collection of hashable
        Columns that are known to be neither id nor time.
    what : str
        For messages.

    Returns
    -------
    OpenedTable
        `frame` has the id and the time column beside all others; its index is the caller's, unless that holds keys.

    Raises
    ------
    TypeError
        For what is no table, or a lazy one.
    DataError
        When id or time are not found, and for columns of one name.
    """
    foreign = None if isinstance(table, pd.DataFrame) else ForeignTable.of(table)
    if not isinstance(table, pd.DataFrame) and foreign is None:
        raise TypeError(
            "expected a pandas DataFrame in long format (one row per series and time), or a table of polars, pyarrow "
            f"or another library that narwhals reads; got {type(table).__name__}"
        )
    df = table if foreign is None else foreign.to_pandas()
    if len(df) == 0 and what == "table":
        raise DataError("the table is empty: expected at least one row per series")
    check_columns(df, what)
    name = ONE_SERIES if id_col is None else id_col
    keys = find_keys(df, name, time_col, single=single, roles=roles)
    frame = _with_keys(df, keys)
    return OpenedTable(TableForm(keys, df.index, frame[keys.id_col], foreign), frame)


def is_table(times: Any) -> bool:
    """Whether this is a table of any library, and not a sequence."""
    if isinstance(times, pd.DataFrame):
        return True
    found = nw.from_native(times, pass_through=True, allow_series=True)
    return isinstance(found, (nw.DataFrame, nw.LazyFrame))


def _with_keys(df: pd.DataFrame, keys: KeyColumns) -> pd.DataFrame:
    """The table with its keys as columns; with a fresh index where keys came from it."""
    if not keys.levels and not keys.single:
        return df
    frame = df.set_axis(pd.RangeIndex(len(df))) if keys.levels else df.copy(deep=False)
    for level, name in reversed(list(keys.levels.items())):
        frame.insert(0, name, pd.Series(df.index.get_level_values(level)).array)
    if keys.single:
        frame.insert(0, keys.id_col, 0)
    return frame
