"""A sequence of times that a caller asks about, in whatever he has them, as one pandas column."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.series.foreign import foreign_column
from latentode.series.times import Clock, cast_if_lossless

SCALARS = (
    *(int, float, str, np.number, np.datetime64, np.timedelta64),
    *(datetime.datetime, datetime.date, datetime.timedelta, pd.Period),
)
SEQUENCES = (list, tuple, range, np.ndarray, pd.Index, pd.Series, pd.api.extensions.ExtensionArray)


def asked_times(times: Any, clock: Clock, dtype: Any) -> pd.Series:
    """One sequence of times, checked, with a fresh index.

    Scalars, lists and texts, which have no dtype of time, take `dtype` where that loses nothing.

    Parameters
    ----------
    times : time, list, tuple, range, array, Index or Series, of pandas, polars, pyarrow
        For a clock of datetimes also dates and ISO texts ("2024-05-01"), for periods texts such as "2024-05", for
        timedeltas such as "3 days".
    clock : Clock
    dtype : dtype
        Of the time column of the table that is asked about.

    Raises
    ------
    TypeError, ValueError
        When this is no sequence, or has two axes.
    DataError
        For times that the clock does not take.
    """
    column = _as_column(times)
    if len(column) == 0:
        return pd.Series([], dtype=object).astype(dtype)
    parsed = _parsed(column, clock)
    clock.read(parsed, lambda position: f"position {position} of `times`")
    has_dtype = hasattr(times, "dtype") and not isinstance(times, np.generic)
    return column if has_dtype and parsed is column else cast_if_lossless(parsed, dtype)


def _as_column(times: Any) -> pd.Series:
    if isinstance(times, SCALARS):
        times = [times]
    if not isinstance(times, SEQUENCES):
        foreign = foreign_column(times)
        if foreign is None:
            raise TypeError(
                "times must be a time, a sequence of times (list, array, Index, Series) or a table with the id "
                f"and the time column, got {type(times).__name__}"
            )
        return foreign
    n_axes = getattr(times, "ndim", 1)
    if n_axes != 1:
        raise ValueError(f"times must have one dimension, got {n_axes}")
    return pd.Series(times).reset_index(drop=True)


def _parsed(column: pd.Series, clock: Clock) -> pd.Series:
    """Texts and dates as the times of the clock; anything else as it is."""
    if not clock.in_seconds or column.dtype.kind not in "OUT":
        return column
    types = {type(time) for time in column}
    if clock.kind == "datetime" and types == {datetime.date}:
        return pd.to_datetime(column)
    if types <= {str, np.str_}:
        return _from_text(column, clock)
    return column


def _from_text(column: pd.Series, clock: Clock) -> pd.Series:
    texts = column.astype(object)
    try:
        if clock.kind == "datetime":
            return pd.to_datetime(texts, format="ISO8601")
        if clock.kind == "period":
            return pd.Series(pd.PeriodIndex(texts, dtype=clock.dtype))
        if not texts.str.strip().str.isdecimal().any():  # a duration without unit would be one of nanoseconds
            return pd.Series(pd.to_timedelta(texts))
    except ValueError:
        pass
    expected = {
        "datetime": "ISO dates such as '2024-05-01' or '2024-05-01T12:30'; convert others with pd.to_datetime(...)",
        "period": f"periods such as {str(pd.Period('2024-05-01', clock.dtype[7:-1]))!r}"
        if clock.kind == "period"
        else "",
        "timedelta": "durations with a unit, such as '3 days' or '90min'",
    }[clock.kind]
    shown = texts.iloc[:3].tolist()
    raise DataError(f"times that are texts must be {expected}; got {shown}")
