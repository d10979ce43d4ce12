"""Where a table keeps the names of its series and their times: in columns, in the index, or nowhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from latentode.checks import did_you_mean
from latentode.exceptions import DataError

ID, TIME = "id", "time"  # the default names, for which other names of the field may stand in
NIXTLA_ID, NIXTLA_TIME, NIXTLA_TARGET = "unique_id", "ds", "y"
ONE_SERIES = "__one_series__"  # name of the id column that a table of one series gets when it has none
LIKE_AN_ID = re.compile(r"(^|[^a-zA-Z])[iI][dD]$|[a-z]I[dD]$|^series$")


@dataclass(frozen=True)
class KeyColumns:
    """Names of the id and the time column, and the levels of the index that hold them.

    Parameters
    ----------
    id_col, time_col : hashable
        Names in the long table.
    id_level, time_level : int or None
        Level of the index that holds the key; None for a column.
    single : bool
        Whether the table is one series without an id.
    is_nixtla : bool
        Whether the time was found under Nixtla's name, not under the one that was looked for.
    """

    id_col: Hashable
    time_col: Hashable
    id_level: int | None = None
    time_level: int | None = None
    single: bool = False
    is_nixtla: bool = False

    @property
    def levels(self) -> dict[int, Hashable]:
        """The keys that are in the index: name by level, in the order of the levels."""
        pairs = [(self.id_level, self.id_col), (self.time_level, self.time_col)]
        return dict(sorted((level, name) for level, name in pairs if level is not None))


def find_keys(
    df: pd.DataFrame,
    id_col: Hashable,
    time_col: Hashable,
    *,
    single: bool = False,
    roles: Collection[Hashable] = (),
) -> KeyColumns:
    """Find the keys of a table by these rules, the first that fits; what fits none is refused.

    ============================================  ====================================================================
    the table has                                 it is read as
    ============================================  ====================================================================
    columns `id_col` and `time_col`               a long table; the index is the caller's own
    index levels of these names                   keys in the index, both or one of them, in any order of the levels
    `unique_id`, `ds`                             the id and the time (Nixtla), where the names are the default ones
                                                  and the table has no `id`, `time`
    two levels, one of them known by its name     the other level is the other key, if it has no name or the key has
                                                  the default one
    two levels, none known by its name            (id, time) in this order (sktime's), on the same condition
    no time, but datetimes, periods or            the index is the time, on the same condition
    timedeltas as the index
    no id, and `id_col=None`                      one series
    no id, and `id_col` is the default name       one series, if times increase strictly from row to row and no column
                                                  without a role looks like an id: text, categories, a name such as
                                                  `patient_id`
    ============================================  ====================================================================

    Parameters
    ----------
    df : DataFrame
    id_col, time_col : hashable
        The names to look for; `ONE_SERIES` as the id for one series without.
    single : bool
        Whether a table without an id is one series for sure, as times for such a table are.
    roles : collection of hashable
        Columns that are known to be something else.

    Raises
    ------
    DataError
        When a key is not found, and for a table without an id that may hold several series.
    """
    places: dict[Hashable, int | None] = {
        **{name: level for level, name in enumerate(df.index.names) if name is not None},
        **dict.fromkeys(df.columns),
    }
    _refuse_two_ids(places, id_col, time_col)
    id_name, time_name = _named(places, id_col, ID, NIXTLA_ID), _named(places, time_col, TIME, NIXTLA_TIME)
    found: dict[str, int | None] = {}
    alone = id_col == ONE_SERIES and id_name is None
    if id_name is None and not alone:
        level = _other_level(df, places, time_name, 0)
        if level is not None and _may_be(df.index.names[level], id_col, ID):
            id_name, found["id"] = _level_name(df, level, id_col), level
    if time_name is None:
        level = None if alone else _other_level(df, places, id_name if "id" not in found else None, 1)
        level = 0 if level is None and _holds_times(df.index) else level
        if level is not None and _may_be(df.index.names[level], time_col, TIME):
            time_name, found["time"] = _level_name(df, level, time_col), level
    if time_name is None:
        raise DataError(
            f"no time column {time_col!r}{did_you_mean(time_col, map(str, places))}; the columns are "
            f"{list(df.columns)}: name it with time_col={_index_of(df)}"
        )
    time_level = found.get("time", places.get(time_name))
    is_nixtla = time_name == NIXTLA_TIME != time_col
    if id_name is not None:
        return KeyColumns(
            id_name, time_name, found.get("id", places.get(id_name)), time_level, is_nixtla=is_nixtla
        )
    if not (alone or single):
        _refuse_several(df, df.index if time_level is not None else df[time_name], id_col, time_name, roles)
    return KeyColumns(id_col, time_name, None, time_level, single=True, is_nixtla=is_nixtla)


def _named(
    places: Collection[Hashable], name: Hashable, default: Hashable, stand_in: Hashable
) -> Hashable | None:
    names = (name, stand_in) if name == default else (name,)
    return next((candidate for candidate in names if candidate in places), None)


def _may_be(level_name: Hashable | None, name: Hashable, default: Hashable) -> bool:
    """Whether a level of this name may be the key, though it is not called so."""
    return level_name is None or name == default


def _level_name(df: pd.DataFrame, level: int, name: Hashable) -> Hashable:
    own = df.index.names[level]
    if own is not None and own in df.columns:
        raise DataError(f"{own!r} is both a column and a level of the index: rename one of them")
    return name if own is None else own


def _other_level(
    df: pd.DataFrame, places: dict[Hashable, int | None], other: Hashable | None, position: int
) -> int | None:
    """Of two levels the one that is not the other key, or the one at its position where none is known."""
    if df.index.nlevels != 2:
        return None
    if other is None:
        return position
    level = places[other]
    return None if level is None else 1 - level


def _holds_times(index: pd.Index) -> bool:
    return isinstance(index, (pd.DatetimeIndex, pd.PeriodIndex, pd.TimedeltaIndex))


def _index_of(df: pd.DataFrame) -> str:
    """What to do about an index that may have been meant, for messages."""
    names = [name for name in df.index.names if name is not None]
    if names:
        return f" (the index has {names})"
    if df.index.nlevels == 1 and df.index.dtype.kind == "f":
        return ", or name the index with df.rename_axis('time') if it holds the times"
    return ""


def _refuse_two_ids(places: Collection[Hashable], id_col: Hashable, time_col: Hashable) -> None:
    if id_col == ID and time_col == TIME and {ID, NIXTLA_ID} <= set(places) and TIME not in places:
        raise DataError(
            f"the table has the columns {ID!r} and {NIXTLA_ID!r}, and no {TIME!r}: say which one names the series "
            "with id_col=, and name the times with time_col="
        )


def _refuse_several(
    df: pd.DataFrame,
    times: pd.Series | pd.Index,
    id_col: Hashable,
    time_col: Hashable,
    roles: Collection[Hashable],
) -> None:
    """Refuse a table without an id unless it can only be one series."""
    names = [*df.columns, *(name for name in df.index.names if name is not None)]
    start = (
        f"no id column {id_col!r}{did_you_mean(id_col, map(str, names))}; the columns are {list(df.columns)}: name it "
        "with id_col="
    )
    if id_col != ID:
        raise DataError(f"{start}, or for one series without an id use id_col=None in fit{_index_of(df)}")
    known = pd.Index(times).dropna()
    if not (known.is_monotonic_increasing and known.is_unique):
        row = int(np.argmin(np.r_[True, known[1:] > known[:-1]])) if known.dtype != object else 0
        raise DataError(
            f"{start}, or for one series pass id_col=None (without an id, times must increase from row to row; row "
            f"{row} is not after the one before it)"
        )
    suspects = [
        name
        for name in df.columns
        if name not in roles and name != time_col and (_is_text(df[name]) or LIKE_AN_ID.search(str(name)))
    ]
    if suspects:
        raise DataError(
            f"{start}, or for one series pass id_col=None (the column {suspects[0]!r} may be meant as the id)"
        )


def _is_text(column: pd.Series) -> bool:
    types = pd.api.types
    return (
        isinstance(column.dtype, pd.CategoricalDtype)
        or types.is_string_dtype(column.dtype)
        or types.is_object_dtype(column.dtype)
    )
