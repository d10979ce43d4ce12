"""Columns of a long table: whether they are there and hold what they should, and how messages name them."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentode.checks import did_you_mean
from latentode.exceptions import DataError
from latentode.series.table import IntArray

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
    for role, name in (("time", time_col), ("id", id_col)):
        if name not in df.columns:
            raise DataError(f"no {role} column {name!r}; the columns are {list(df.columns)}")


def check_present(df: pd.DataFrame, names: Sequence[Hashable], role: str) -> None:
    missing = [name for name in names if name not in df.columns]
    if not missing:
        return
    if role == "targets":
        raise DataError(
            f"no target column {some(missing)}{_meant(missing, df)}; the columns are {list(df.columns)}: "
            "a table needs all targets (NaN where they were not observed)"
        )
    raise DataError(
        f"no column {some(missing)}, named in {role}{_meant(missing, df)}; the columns are {list(df.columns)}"
    )


def _meant(missing: Sequence[Hashable], df: pd.DataFrame) -> str:
    return did_you_mean(missing[0], map(str, df.columns))


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
    types, dtype = pd.api.types, column.dtype
    return (types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype)) and not types.is_complex_dtype(dtype)


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
    try:
        codes, uniques = pd.factorize(ids)
    except TypeError as error:  # lists, dictionaries
        raise DataError(
            f"ids must be numbers, texts or other values that can be compared, got {ids.iloc[0]!r} at row 0: convert "
            "them, for example with .astype(str)"
        ) from error
    if len(codes) and codes.min() < 0:
        row = int((codes < 0).argmax())
        raise DataError(f"missing id (NaN) at row {row}: every row needs the id of its series")
    if uniques.dtype == np.float16:  # of which pandas has no index
        uniques = uniques.astype(np.float32)
    return codes.astype(np.int64), pd.Index(uniques)


def positions_of(ids: pd.Series, among: pd.Index) -> IntArray:
    """Position of each id among others, -1 for an unknown one, whatever the dtypes of the two are."""
    if ids.dtype == among.dtype:
        return among.get_indexer(pd.Index(ids)).astype(np.int64)
    return among.astype(object).get_indexer(pd.Index(ids, dtype=object)).astype(np.int64)


def place(ids: pd.Series, row: int) -> str:
    return f"series {plain(ids.iloc[row])!r}, row {row}"


def plain(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def some(names: Sequence[Any] | pd.Index) -> str:
    shown = ", ".join(repr(plain(name)) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
