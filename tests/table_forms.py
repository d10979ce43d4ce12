"""One table in every form that a caller may have it, and each form back to a long pandas table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa


@dataclass(frozen=True)
class Form:
    """A way to hold a long pandas table with the columns id and time, and the way back."""

    of: Callable[[pd.DataFrame], Any]
    long: Callable[[Any], pd.DataFrame]


def polars_of(df: pd.DataFrame) -> pl.DataFrame:
    return pl.from_arrow(arrow_of(df))


def arrow_of(df: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(df, preserve_index=False)


def nullable(df: pd.DataFrame) -> pd.DataFrame:
    return df.convert_dtypes()


def arrow_dtypes(df: pd.DataFrame) -> pd.DataFrame:
    return df.convert_dtypes(dtype_backend="pyarrow")


def plain(df: pd.DataFrame) -> pd.DataFrame:
    """NumPy's dtypes."""
    columns = {}
    for name in df.columns:
        column = df[name]
        if pd.api.types.is_string_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
            columns[name] = column.astype(object).to_numpy()
        elif pd.api.types.is_integer_dtype(column.dtype):
            columns[name] = column.to_numpy(dtype=np.int64)
        elif column.dtype.kind in "Mm":
            columns[name] = column.astype(column.dtype)
        else:
            columns[name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return pd.DataFrame(columns, index=df.index)


def back(table: Any) -> pd.DataFrame:
    return table.to_pandas()


FORMS = {
    "long": Form(lambda df: df, lambda df: df),
    "levels": Form(lambda df: df.set_index(["id", "time"]), lambda df: df.reset_index()),
    "levels the other way": Form(
        lambda df: df.set_index(["time", "id"]),
        lambda df: df.reset_index().set_index("id").reset_index(),
    ),
    "unnamed levels": Form(
        lambda df: df.set_index(["id", "time"]).rename_axis([None, None]),
        lambda df: df.rename_axis(["id", "time"]).reset_index(),
    ),
    "time as index": Form(
        lambda df: df.set_index("time"),
        lambda df: df.reset_index()[["id", "time", *[c for c in df.columns if c != "id"]]],
    ),
    "id as index": Form(lambda df: df.set_index("id"), lambda df: df.reset_index()),
    "nullable": Form(nullable, plain),
    "pyarrow dtypes": Form(arrow_dtypes, plain),
    "categories": Form(lambda df: df.astype({"id": "category"}), lambda df: plain(df)),
    "polars": Form(polars_of, back),
    "pyarrow": Form(arrow_of, back),
}
