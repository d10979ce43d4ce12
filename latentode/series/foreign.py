"""Tables and columns of other libraries than pandas (polars, pyarrow, ...), through narwhals: to pandas and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ForeignTable:
    """A caller's table of another library, whose kind and dtypes answers take.

    Parameters
    ----------
    frame : narwhals DataFrame (R rows)
    """

    frame: nw.DataFrame[Any]

    @classmethod
    def of(cls, table: Any) -> ForeignTable | None:
        """The table, or None if narwhals does not know it as one.

        Raises
        ------
        TypeError
            For a lazy one.
        """
        found = nw.from_native(table, pass_through=True)
        if isinstance(found, nw.LazyFrame):
            raise TypeError(
                f"the table is lazy ({type(table).__name__}): its rows are not there yet, call .collect() on it first"
            )
        return cls(found) if isinstance(found, nw.DataFrame) else None

    def to_pandas(self) -> pd.DataFrame:
        """The same columns in pandas, with a fresh index."""
        columns = {column.name: to_pandas(column) for column in self.frame.iter_columns()}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.frame)))

    def rows_of(self, column: str, rows: NDArray[np.int64]) -> nw.Series[Any]:
        """Cells of a column at these rows, in its very dtype."""
        return self.frame[column][rows]

    def column(self, name: str, values: pd.Series) -> nw.Series[Any]:
        """Values as a column of this library; in the dtype of the column of this name, where that loses nothing."""
        built = _built(name, values, self.frame.implementation)
        if name not in self.frame.columns:
            return built
        own = self.frame.schema[name]
        if isinstance(own, nw.Datetime) and own.time_zone is not None:
            built = built.dt.replace_time_zone("UTC").dt.convert_time_zone(own.time_zone)
        return _cast(built, self.frame[name])

    def answer_column(self, name: str, values: pd.Series) -> nw.Series[Any]:
        """Numbers as a column of this library, in their own dtype."""
        return _built(name, values, self.frame.implementation)

    def label_column(self, name: str, values: pd.Series) -> nw.Series[Any]:
        """Labels as a column of this library; of the dtype of the column of this name, if it can hold them."""
        built = _built(name, values.astype(object), self.frame.implementation)
        if name not in self.frame.columns or self.frame.schema[name].is_float():
            return built
        return _cast(built, self.frame[name])

    @staticmethod
    def table(columns: Sequence[nw.Series[Any]]) -> Any:
        """A table of this library, in its own type; `narwhals.from_dict` would turn polars' Enum into Categorical."""
        return columns[0].to_frame().with_columns(*columns[1:]).to_native()

    def series(self, name: str, values: pd.Series) -> Any:
        """One column of this library, in its own type."""
        return _built(name, values.astype(object), self.frame.implementation).to_native()


def foreign_column(values: Any) -> pd.Series | None:
    """A column or array of another library in pandas; None for anything else."""
    pyarrow = nw.dependencies.get_pyarrow()
    if pyarrow is not None and isinstance(values, pyarrow.Array):
        values = pyarrow.chunked_array([values])
    found = nw.from_native(values, pass_through=True, allow_series=True)
    if not isinstance(found, nw.Series) or found.implementation.is_pandas():
        return None
    return to_pandas(found)


def to_pandas(column: nw.Series[Any]) -> pd.Series:
    """A column in pandas, by its kind: whole numbers stay whole, also where some are missing."""
    return pd.Series(_pandas_values(column), name=column.name)


def _pandas_values(column: nw.Series[Any]) -> Any:
    dtype = column.dtype
    if isinstance(dtype, nw.Datetime):
        return _datetimes(column, dtype.time_zone)
    if dtype == nw.Date:
        return column.to_numpy().astype("datetime64[s]")
    if isinstance(dtype, nw.Enum):
        return pd.Categorical(column.to_list(), categories=list(dtype.categories), ordered=True)
    if dtype == nw.Categorical:
        return pd.Categorical(column.to_list())
    if dtype.is_decimal():
        return column.cast(nw.Float64).to_numpy()
    if (dtype.is_integer() or dtype == nw.Boolean) and column.null_count():
        return _nullable(column)
    if dtype.is_numeric() or dtype in (nw.Boolean, nw.Duration):
        return column.to_numpy()
    if (
        column.null_count() == len(column) and dtype == nw.Unknown
    ):  # a column of nothing, such as polars' Null
        return np.full(len(column), np.nan)
    return column.to_list()


def _datetimes(column: nw.Series[Any], zone: str | None) -> pd.DatetimeIndex:
    if zone is None:
        return pd.DatetimeIndex(column.to_numpy())
    utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).to_numpy()
    return pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(zone)


def _nullable(column: nw.Series[Any]) -> Any:
    missing = column.is_null().to_numpy().astype(bool)
    if column.dtype == nw.Boolean:
        return pd.arrays.BooleanArray(column.fill_null(value=False).to_numpy().astype(bool), missing)
    return pd.arrays.IntegerArray(column.fill_null(value=0).to_numpy().copy(), missing)


def _built(name: str, values: pd.Series, implementation: nw.Implementation) -> nw.Series[Any]:
    """A new column of the library; datetimes with a time zone in UTC, and without the zone."""
    return nw.new_series(name, _plain_values(values), backend=implementation)  # type: ignore[arg-type]


def _plain_values(values: pd.Series) -> Any:
    dtype, kind = values.dtype, values.dtype.kind
    if kind == "M":
        index = pd.DatetimeIndex(values)
        naive = (index if index.tz is None else index.tz_convert(None)).to_numpy()
        return (
            naive.astype("datetime64[ms]") if naive.dtype == "datetime64[s]" else naive
        )  # polars has no seconds
    if kind == "m":
        spans = pd.TimedeltaIndex(values).to_numpy()
        return spans.astype("timedelta64[ms]") if spans.dtype == "timedelta64[s]" else spans
    if pd.api.types.is_numeric_dtype(dtype) and not values.isna().any():
        return values.to_numpy(dtype=getattr(dtype, "numpy_dtype", dtype))  # type: ignore[arg-type]
    if pd.api.types.is_float_dtype(dtype):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    return values.astype(object).where(values.notna(), None).tolist()


def _cast(built: nw.Series[Any], like: nw.Series[Any]) -> nw.Series[Any]:
    """The column in the very dtype of another one, or as it is where that would change it."""
    native, own = built.to_native(), like.to_native()
    try:
        cast = nw.from_native(native.cast(own.dtype if hasattr(own, "dtype") else own.type), series_only=True)
        same = (cast.cast(built.dtype) == built).fill_null(value=True).all()
    except Exception:  # each library has errors of its own for a label that it cannot hold
        return built
    return cast.alias(built.name) if same and cast.null_count() == built.null_count() else built
