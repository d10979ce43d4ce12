"""The caller's times (numbers, datetimes, periods, timedeltas) as float64; the unit and the dtype they came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.columns import plain
from latentode.series.table import FloatArray

TimeKind = Literal["numeric", "datetime", "period", "timedelta"]
NAMES = {"numeric": "numbers", "datetime": "datetimes", "period": "periods", "timedelta": "timedeltas"}
TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # per second, by the unit of a datetime64
REPAIRS = {  # by (kind in fit, kind here)
    ("datetime", "period"): "turn them into datetimes with .dt.to_timestamp()",
    ("period", "datetime"): "turn them into periods with .dt.to_period(...)",
    ("timedelta", "numeric"): "turn them into timedeltas with pd.to_timedelta(..., unit=...)",
    ("numeric", "timedelta"): "turn them into numbers with .dt.total_seconds()",
}


@dataclass(frozen=True)
class Clock:
    """What `fit` learned about the time column, so that later times are read in the same way.

    Parameters
    ----------
    kind : {"numeric", "datetime", "period", "timedelta"}
        Numbers stay as they are; datetimes and the starts of periods become seconds since `epoch`, timedeltas seconds.
    dtype : str
        The dtype of the column, with its time zone if it has one.
    aware : bool
        True for datetimes with a time zone, which are compared in UTC.
    epoch : int
        Whole seconds since 1970 of the first training time, so that float64 keeps less than a microsecond
        over spans of a century; 0 for numbers and timedeltas.
    """

    kind: TimeKind
    dtype: str
    aware: bool = False
    epoch: int = 0

    @classmethod
    def learn(cls, column: pd.Series) -> Clock:
        """Clock of a training column; a column that holds no times is refused."""
        kind, aware = time_kind(column)
        epoch = 0
        if kind in ("datetime", "period"):
            seconds = _whole_seconds(column.dropna())
            epoch = int(seconds.min()) if len(seconds) else 0
        return cls(kind, str(column.dtype), aware, epoch)

    @property
    def in_seconds(self) -> bool:
        """Whether encoded times are seconds, and not in a unit that only the caller knows."""
        return self.kind != "numeric"

    def read(self, column: pd.Series, where: Callable[[int], str]) -> FloatArray:
        """Times (R,) in float64: as they are, or in seconds.

        Parameters
        ----------
        column : pandas Series (R,)
            Times as the caller gave them.
        where : callable
            Names a position of the column in the messages, as in "series 'a', row 3".

        Raises
        ------
        DataError
            When the column holds no times or another kind of them, or when a time is missing or infinite.
        """
        self.check_kind(column)
        missing = column.isna().to_numpy()
        if missing.any():
            raise DataError(
                f"missing time (NaN or NaT) at {where(int(missing.argmax()))}: "
                "every row needs a time; drop such rows or fill them in"
            )
        if self.in_seconds:
            return _seconds_since(column, self.epoch)
        times = column.to_numpy(dtype=np.float64)
        infinite = ~np.isfinite(times)
        if infinite.any():
            position = int(infinite.argmax())
            raise DataError(f"infinite time {times[position]} at {where(position)}: times must be finite")
        return times

    def check_kind(self, column: pd.Series) -> None:
        """Refuse times of another kind than those of `fit`."""
        kind, aware = time_kind(column)
        if kind != self.kind:
            repair = REPAIRS.get((self.kind, kind), "use the same kind of time")
            raise DataError(
                f"times were {NAMES[self.kind]} ({self.dtype}) in fit, but are {NAMES[kind]} "
                f"({column.dtype}) here: {repair}"
            )
        if aware != self.aware:
            had, have = ("a", "no") if self.aware else ("no", "a")
            repair = (
                "add it with .dt.tz_localize(...)" if self.aware else "drop it with .dt.tz_localize(None)"
            )
            raise DataError(
                f"times had {had} time zone ({self.dtype}) in fit, but have {have} time zone "
                f"({column.dtype}) here: {repair}"
            )

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold."""
        return {"kind": self.kind, "dtype": self.dtype, "aware": self.aware, "epoch": self.epoch}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Clock:
        """The clock that `state()` came from."""
        return cls(**state)


def time_kind(column: pd.Series) -> tuple[TimeKind, bool]:
    """Kind of a column of times, and whether it has a time zone."""
    types, dtype = pd.api.types, column.dtype
    if isinstance(dtype, pd.PeriodDtype):
        return "period", False
    if dtype.kind == "M":  # also those of pyarrow, dates too
        return "datetime", getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None) is not None
    if dtype.kind == "m":
        return "timedelta", False
    is_number = types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
    if is_number and not types.is_bool_dtype(dtype):
        return "numeric", False
    raise DataError(
        f"times must be numbers, datetimes, periods or timedeltas, got {dtype} ({_example(column)}): {_repair(column)}"
    )


def cast_if_lossless(column: pd.Series, dtype: Any) -> pd.Series:
    """The same values in another dtype, where that changes none of them."""
    if column.dtype == dtype:
        return column
    try:
        cast = column.astype(dtype)
        same = bool((cast.astype(column.dtype) == column).all())
    except (TypeError, ValueError, OverflowError):
        return column
    return cast if same else column


def _example(column: pd.Series) -> str:
    present = column.dropna()
    return f"for example {plain(present.iloc[0])!r}" if len(present) else "all missing"


def _repair(column: pd.Series) -> str:
    types = pd.api.types
    if types.is_bool_dtype(column.dtype) or types.is_complex_dtype(column.dtype):
        return "name the column that holds the times with time_col="
    return "convert with pd.to_datetime(...) if they are dates, with pd.to_numeric(...) if they are numbers"


def _ticks(column: pd.Series) -> tuple[NDArray[np.int64], int]:
    """Whole ticks since 1970 (UTC for aware times) or since 0, and how many of them make a second."""
    ticks = _instants(column).to_numpy()
    return ticks.view(np.int64), TICKS[np.datetime_data(ticks.dtype)[0]]


def _instants(column: pd.Series) -> pd.DatetimeIndex | pd.TimedeltaIndex:
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.PeriodIndex(column).to_timestamp(how="start")
    if column.dtype.kind == "m":
        return pd.TimedeltaIndex(column)
    index = pd.DatetimeIndex(column)
    return index.tz_convert(None) if index.tz is not None else index


def _whole_seconds(column: pd.Series) -> NDArray[np.int64]:
    ticks, per_second = _ticks(column)
    return ticks // per_second


def _seconds_since(column: pd.Series, epoch: int) -> FloatArray:
    # whole seconds are subtracted as integers: ticks since 1970 have more digits than float64
    ticks, per_second = _ticks(column)
    whole, part = np.divmod(ticks, per_second)
    return (whole - epoch).astype(np.float64) + part / per_second
