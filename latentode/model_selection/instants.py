"""Times on which splitters reckon: they compare, add and subtract, whatever the caller's column holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from latentode.exceptions import DataError
from latentode.series.times import NAMES, time_kind


def instants(times: pd.Series) -> pd.Series:
    """Periods by their starts, as everywhere in this package; all other times as they are."""
    return times.dt.to_timestamp(how="start") if isinstance(times.dtype, pd.PeriodDtype) else times


def as_told(found: pd.Series, times: pd.Series) -> pd.Series:
    """Instants in the caller's kind of time: of periods, the last one that has begun."""
    return found.astype(times.dtype) if isinstance(times.dtype, pd.PeriodDtype) else found


def in_dtype_of(times: pd.Series, cutoffs: Sequence[Any]) -> pd.Series:
    """Cutoffs (instants) as a column like the times, in their dtype where that loses nothing; periods as `as_told`."""
    column = as_told(pd.Series(cutoffs), times)
    try:
        cast = column.astype(times.dtype)
    except (TypeError, ValueError):
        return column
    return cast if bool((cast == column).all()) else column


def comparable(ends: pd.Series, times: pd.Series, what: str) -> pd.Series:
    """Instants of `ends`, refused if they are of another kind than the times of the table."""
    ends = ends.infer_objects()
    (kind, aware), (own_kind, own_aware) = time_kind(ends), time_kind(times)
    if kind != own_kind:
        raise DataError(
            f"{what} are {NAMES[kind]} ({ends.dtype}), but the times of the table are {NAMES[own_kind]} "
            f"({times.dtype}): use the same kind of time"
        )
    if aware != own_aware:
        had = "a" if aware else "no"
        raise DataError(
            f"{what} have {had} time zone ({ends.dtype}), unlike the times of the table ({times.dtype})"
        )
    return instants(ends)
