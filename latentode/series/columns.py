"""Columns of a long table: whether they are there and hold what they should, and how messages name them."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.series.table import IntArray

SCALARS = (int, float, np.number, np.datetime64, datetime.datetime, str)
SEQUENCES = (list, tuple, range, np.ndarray, pd.Index, pd.Series, pd.api.extensions.ExtensionArray)
SHOWN = 5  # names that a message lists before it says how many more there are


def check_frame(df: object) -> None:
    if not isinstance(df, pd.DataFrame):
        raise TypeError(
            "expected a pandas DataFrame in long format (one row per series and time), "
            f"got {type(df).__name__}"
        )
    if len(df) == 0:
        raise DataError("the table is empty: expected at least one row per series")
    check_columns(df, "table")


def check_columns(df: pd.DataFrame, what: str) -> None:
    repeated = df.columns[df.columns.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"duplicated column name in the {what}: {some(repeated)}; names must be unique: "
            "rename or drop one of the columns"
        )


def check_names(
    id_col: Hashable,
    time_col: Hashable,
    target_cols: Sequence[Hashable] | None,
    others: Mapping[str, Sequence[Hashable]],
) -> None:
    """Every column has one role; `others` holds the names of each further role."""
    if id_col == time_col:
        raise ValueError(f"id_col and time_col must differ, both are {id_col!r}")
    role_of: dict[Hashable, str] = {id_col: "id_col", time_col: "time_col"}
    for role, columns in others.items():
        for name in columns:
            if name in role_of:
                raise ValueError(
                    f"column {name!r} is named in {role_of[name]} and in {role}: it can have one role"
                )
            role_of[name] = role
    if target_cols is None:
        return
    if isinstance(target_cols, str) or not isinstance(target_cols, (Sequence, pd.Index, np.ndarray)):
        raise ValueError(f"target_cols must be a list of column names or None, got {target_cols!r}")
    names = list(target_cols)
    if not names:
        raise ValueError(
            "target_cols is empty: name at least one target, or use None for all numeric columns"
        )
    doubled = [name for name in names if role_of.get(name) in others]
    if doubled:
        role = role_of[doubled[0]]
        raise ValueError(f"column {doubled[0]!r} is named in target_cols and in {role}: it can have one role")
    if len(set(names)) < len(names) or {id_col, time_col} & set(names):
        raise ValueError(
            f"target_cols must name different columns, none of them the id or the time column; got {names}"
        )


def check_keys(df: pd.DataFrame, id_col: Hashable, time_col: Hashable) -> None:
    if time_col not in df.columns:
        raise DataError(
            f"no time column {time_col!r}; the columns are {list(df.columns)}: name it with time_col="
            + hint_of_index(df, time_col)
        )
    if id_col not in df.columns:
        raise DataError(
            f"no id column {id_col!r}; the columns are {list(df.columns)}: name it with id_col=, or for a "
            f"single series add one with df.assign({id_col}=0)" + hint_of_index(df, id_col)
        )


def hint_of_index(df: pd.DataFrame, name: Hashable) -> str:
    return f" ({name!r} is in the index: use df.reset_index())" if name in df.index.names else ""


def check_present(df: pd.DataFrame, names: Sequence[Hashable], role: str) -> None:
    missing = [name for name in names if name not in df.columns]
    if not missing:
        return
    if role == "targets":
        raise DataError(
            f"no target column {some(missing)}; the columns are {list(df.columns)}: "
            "a table needs all targets (NaN where they were not observed)"
        )
    raise DataError(f"no column {some(missing)}, named in {role}; the columns are {list(df.columns)}")


def check_numeric(df: pd.DataFrame, names: Sequence[Hashable], role: str) -> None:
    for name in names:
        if is_number(df[name]):
            continue
        if role == "target":
            raise DataError(
                f"target {name!r} is not numeric ({df[name].dtype}): convert it with pd.to_numeric(...), leave it out "
                f'with target_cols=, or learn its labels with likelihood={{{name!r}: "categorical"}}'
            )
        raise DataError(
            f"column {name!r}, named in {role}, is not numeric ({df[name].dtype}): convert it with pd.to_numeric(...), "
            "or labels with pd.get_dummies(...)"
        )


def is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype)


def numeric_columns(
    df: pd.DataFrame, roles: Collection[Hashable], too: Collection[Hashable] = ()
) -> tuple[Hashable, ...]:
    """Numeric columns without another role, and those of `too`, in the order of the table."""
    names = tuple(name for name in df.columns if name not in roles and (name in too or is_number(df[name])))
    if not names:
        kinds = {name: str(df[name].dtype) for name in df.columns}
        raise DataError(
            f"no numeric column is left to learn; the columns are {kinds}: convert targets with "
            "pd.to_numeric(...) or add them (for the times of events alone a constant one, df.assign(event=1.0))"
        )
    return names


def factorize(ids: pd.Series) -> tuple[IntArray, pd.Index]:
    codes, uniques = pd.factorize(ids)
    if len(codes) and codes.min() < 0:
        row = int((codes < 0).argmax())
        raise DataError(f"missing id (NaN) at row {row}: every row needs the id of its series")
    return codes.astype(np.int64), pd.Index(uniques)


def as_column(times: Any) -> pd.Series:
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


def place(ids: pd.Series, row: int) -> str:
    return f"series {plain(ids.iloc[row])!r}, row {row}"


def plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def some(names: Sequence[Any] | pd.Index) -> str:
    shown = ", ".join(repr(plain(name)) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
