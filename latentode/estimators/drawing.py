"""Which series and times a picture of a forecast shows."""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.series import TableLayout

N_TIMES = 200  # per series


def series_to_draw(layout: TableLayout, df: pd.DataFrame, series: Sequence[Any] | None) -> list[Any]:
    """The ids asked for, which must be in the table, or the first four."""
    ids = layout.read(df).ids
    if series is None:
        return list(ids[:4])
    if isinstance(series, str) or not isinstance(series, Iterable):
        raise TypeError(f"series must be a sequence of ids, got {series!r}: write [{series!r}]")
    names = list(series)
    unknown = [name for name in names if name not in ids]
    if unknown or not names:
        raise DataError(
            f"series must name series of the table, got {names!r}; its first ones are {list(ids[:5])!r}"
        )
    return names


def targets_to_draw(layout: TableLayout, target_cols: Sequence[Hashable] | None) -> list[Hashable]:
    """The targets asked for, or the first four; categories cannot be drawn."""
    able = [name for name in layout.target_cols if name not in layout.categories]
    if not able:
        raise DataError("nothing to draw: every target is a category; see predict_proba")
    if target_cols is None:
        return able[:4]
    names = list(target_cols)
    wrong = [name for name in names if name not in able]
    if wrong or not names:
        raise DataError(f"target_cols must name targets that are numbers, {able!r}; got {names!r}")
    return names


def queries_to_draw(
    layout: TableLayout, df: pd.DataFrame, times: pd.DataFrame | pd.Series, names: list[Any]
) -> pd.DataFrame | pd.Series:
    """The times asked about; of a table of them the rows that ask about the series drawn."""
    if isinstance(times, pd.Series):
        return times
    table = layout.read(df)
    layout.read_queries(times, table)  # refuses bad times of series that are not drawn, too
    return times[times[layout.id_col].isin(names)].reset_index(drop=True)  # with the controls it may hold


def times_to_draw(layout: TableLayout, df: pd.DataFrame, span: float, windowed: bool) -> pd.DataFrame:
    """200 times per series, from its first row to half its span (or half of `span`) beyond the last.

    Of a model of windows: from a window (`span`) before the last row to half a window after it. Of periods, those that
    lie there, at most 200.
    """
    id_col, time_col = layout.id_col, layout.time_col
    window: Any = pd.Timedelta(span, "s") if layout.clock.in_seconds else span
    parts = []
    for name, rows in df.groupby(df[id_col], sort=False, observed=True):
        first, last = _instant(rows[time_col].min()), _instant(rows[time_col].max())
        if windowed:
            first = max(first, last - window)
        beyond = window / 2 if windowed or first == last else (last - first) / 2
        parts.append(pd.DataFrame({id_col: name, time_col: _grid(layout, df, first, last + beyond)}))
    return pd.concat(parts, ignore_index=True)


def _instant(time: Any) -> Any:
    """The start of a period, and a date as a datetime; other times as they are."""
    if isinstance(time, pd.Period):
        return time.start_time
    return pd.Timestamp(time) if type(time) is datetime.date else time


def _grid(layout: TableLayout, df: pd.DataFrame, first: Any, end: Any) -> Any:
    dtype = df[layout.time_col].dtype
    if layout.time_kind == "period":
        return pd.date_range(first, end, periods=N_TIMES).to_period(dtype.freq).unique()  # type: ignore[union-attr]
    if layout.time_kind == "datetime":
        return pd.date_range(first, end, periods=N_TIMES)
    if layout.time_kind == "timedelta":
        return pd.timedelta_range(first, end, periods=N_TIMES)
    return np.linspace(float(first), float(end), N_TIMES)


def rows_since(layout: TableLayout, df: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """The rows of each series that are not before the first of its drawn times."""
    seen, asked = (layout.clock.read(table[layout.time_col], str) for table in (df, times))
    first = pd.Series(asked).groupby(times[layout.id_col].to_numpy(dtype=object)).min().to_dict()
    return df[seen >= df[layout.id_col].astype(object).map(first).to_numpy(dtype=np.float64)]


def ends_of(
    interval: pd.DataFrame, layout: TableLayout, targets: Sequence[Hashable]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lower and upper ends of `predict_interval` as tables with the names of the targets."""
    ends = []
    for end in ("lower", "upper"):
        columns = {name: interval[f"{name}_{end}"].to_numpy() for name in targets}
        ends.append(layout.write(layout.keys(interval), columns))
    return ends[0], ends[1]
