"""Cutoffs and horizons as callers write them, in terms of a column of times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from latentode.checks import Number
from latentode.exceptions import DataError
from latentode.series.times import NAMES, time_kind

ROUNDING = 1e-9  # of a horizon or a span: a row at a border is inside, whatever the unit of time rounds it to
SHARE = Number(0, 1, open_low=True, open_high=True)


def check_sequence(cutoffs: Any) -> None:
    """Refuse what is not a sequence of one cutoff at least."""
    if isinstance(cutoffs, (str, bytes)) or not hasattr(cutoffs, "__len__"):
        raise ValueError(f"cutoffs must be a sequence of times, got {cutoffs!r}: write [{cutoffs!r}]")
    if len(cutoffs) == 0:
        raise ValueError("cutoffs is empty: name one at least")


def check_shares(cutoffs: Sequence[Any]) -> list[float]:
    """Shares of the span of a series, increasing."""
    wrong = [share for share in cutoffs if not SHARE.allows(share)]
    if wrong:
        raise ValueError(
            f"with per_series=True, cutoffs must be shares of each series' span, numbers in (0, 1); got {wrong[0]!r}"
        )
    shares = [float(share) for share in cutoffs]
    _check_increasing(shares)
    return shares


def read_cutoffs(cutoffs: Sequence[Any], times: pd.Series) -> list[Any]:
    """Cutoffs as instants: numbers, Timestamps (of periods, the start) or Timedeltas."""
    check_sequence(cutoffs)
    read = [_moment(cutoff, times) for cutoff in cutoffs]
    _check_increasing(read)
    return read


def read_horizon(horizon: Any, times: pd.Series) -> Any:
    """A positive length of time, number or Timedelta as the times require; None stays None."""
    if horizon is None:
        return None
    kind, _ = time_kind(times)
    if kind == "numeric":
        if not Number(0, open_low=True).allows(horizon):
            raise ValueError(f"horizon must be a positive number, in the unit of the times; got {horizon!r}")
        return horizon
    try:
        length = None if Number().allows(horizon) else pd.Timedelta(horizon)
    except (TypeError, ValueError):
        length = None
    if length is None or not length > pd.Timedelta(0):
        raise ValueError(
            f'horizon must be a positive duration, such as pd.Timedelta("1D"), for {NAMES[kind]}; got {horizon!r}'
        )
    return length


def spread_cutoffs(n: int, horizon: Any, times: pd.Series) -> list[Any]:
    """`n` cutoffs whose horizons fill the end of the times; without a horizon, equal parts of their range."""
    first, last = times.min(), times.max()
    if horizon is None:
        return [first + (last - first) * (k / (n + 1)) for k in range(1, n + 1)]
    cutoffs = [last - horizon * (n - k) for k in range(n)]
    if not cutoffs[0] >= first:
        raise DataError(
            f"{n} horizons of {horizon} do not fit into times from {first} to {last}: take fewer splits or a "
            "shorter horizon"
        )
    return cutoffs


def spread_shares(n: int) -> list[float]:
    """`n` shares of a span, equally spaced between 0 and 1."""
    return [k / (n + 1) for k in range(1, n + 1)]


def end_of(cutoff: Any, horizon: Any) -> Any:
    """Last time within the horizon of a cutoff (or of a Series of them), itself rounded up."""
    if isinstance(horizon, pd.Timedelta):
        return cutoff + horizon
    return cutoff + horizon * (1 + ROUNDING) + 4 * np.spacing(np.abs(cutoff).astype(np.float64))


def _moment(cutoff: Any, times: pd.Series) -> Any:
    kind, aware = time_kind(times)
    if kind == "numeric":
        if not Number().allows(cutoff):
            raise ValueError(f"cutoffs must be finite numbers, as the times are; got {cutoff!r}")
        return cutoff
    if kind == "period":
        return _period(cutoff, times.dtype).start_time
    read = pd.Timedelta if kind == "timedelta" else pd.Timestamp
    try:
        moment = None if Number().allows(cutoff) else read(cutoff)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment is pd.NaT:
        raise ValueError(f"cutoffs must be {NAMES[kind]}, as the times are ({times.dtype}); got {cutoff!r}")
    return _in_zone(moment, cutoff, times, aware) if kind == "datetime" else moment


def _period(cutoff: Any, dtype: Any) -> pd.Period:
    """A cutoff that is a period like the times, or a string that names one."""
    try:
        period = pd.Period(cutoff, freq=dtype.freq) if isinstance(cutoff, str) else cutoff
    except ValueError:
        period = None
    if not isinstance(period, pd.Period) or period.freq != dtype.freq:
        raise ValueError(
            f"cutoffs must be periods of the same frequency as the times ({dtype}), such as "
            f"pd.Period(..., freq={dtype.freq.freqstr!r}); got {cutoff!r}"
        )
    return period


def _in_zone(moment: Any, cutoff: Any, times: pd.Series, aware: bool) -> Any:
    if isinstance(cutoff, str) and aware and moment.tz is None:
        moment = moment.tz_localize(times.dt.tz)  # as pandas reads a string beside such a column
    if (moment.tz is not None) != aware:
        had = "a" if aware else "no"
        raise ValueError(f"cutoff {cutoff!r} does not fit times that have {had} time zone ({times.dtype})")
    return moment


def _check_increasing(cutoffs: list[Any]) -> None:
    for before, after in pairwise(cutoffs):
        if not before < after:
            raise ValueError(f"cutoffs must increase, got {after!r} after {before!r}")
