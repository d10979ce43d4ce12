"""Times of every kind as an axis shows them: periods by their start, timedeltas in a unit that suits them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

UNITS = {"days": "1D", "hours": "1h", "minutes": "1min", "seconds": "1s"}
ENOUGH = 3  # of a unit within the longest time, for it to be the one that is shown


def readable_times(
    frames: Sequence[pd.DataFrame | None], time_col: str
) -> tuple[list[pd.DataFrame | None], str]:
    """The tables with times that can be drawn, in one unit, and its name ("" where times keep their own).

    Datetimes of pyarrow become those of pandas, periods their start, timedeltas numbers.
    """
    spans = [
        pd.TimedeltaIndex(frame[time_col])
        for frame in frames
        if frame is not None and time_col in frame and frame[time_col].dtype.kind == "m"
    ]
    unit = _unit(spans) if spans else ""
    return [None if frame is None else _readable(frame, time_col, unit) for frame in frames], unit


def with_unit(label: str, unit: str) -> str:
    """Such as "time (hours)"."""
    return f"{label} ({unit})" if unit else label


def _unit(spans: Sequence[pd.TimedeltaIndex]) -> str:
    longest = max((max(span.max(), -span.min()) for span in spans if len(span)), default=pd.Timedelta(0))
    return next((name for name, unit in UNITS.items() if longest >= ENOUGH * pd.Timedelta(unit)), "seconds")


def _readable(frame: pd.DataFrame, time_col: Hashable, unit: str) -> pd.DataFrame:
    if not isinstance(frame, pd.DataFrame) or time_col not in frame:
        return frame
    column = frame[time_col]
    if isinstance(column.dtype, pd.PeriodDtype):
        return frame.assign(**{str(time_col): column.dt.to_timestamp(how="start")})
    if column.dtype.kind == "m":
        numbers = pd.TimedeltaIndex(column) / pd.Timedelta(UNITS[unit])
        return frame.assign(**{str(time_col): numbers.to_numpy()})
    if column.dtype.kind == "M" and isinstance(column.dtype, pd.ArrowDtype):
        return frame.assign(**{str(time_col): pd.DatetimeIndex(column)})
    return frame
