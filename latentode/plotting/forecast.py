"""One forecast as a picture needs it: what was observed, what is forecast, what was true."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from latentode.exceptions import DataError
from latentode.plotting.long_table import LongTable, numbers, times
from latentode.plotting.style import (
    BAND_ALPHA,
    FORECAST,
    OBSERVED,
    QUIET,
    TRUTH,
    format_dates,
    marker_size,
)
from latentode.plotting.time_axis import readable_times

TruthStyle = Literal["line", "points"]


@dataclass(frozen=True)
class Forecast:
    """The tables of a forecast, all series together; each may hold rows the others lack.

    ``lower`` and ``upper`` hold the same (id, time) rows; ``coverage`` is the share they should cover; ``time_unit`` is
    the unit of timedeltas, which tables hold as numbers here.
    """

    observed: LongTable
    mean: LongTable
    lower: LongTable | None
    upper: LongTable | None
    truth: LongTable | None
    coverage: float
    truth_style: TruthStyle
    time_unit: str = ""

    @classmethod
    def of(
        cls,
        observed: pd.DataFrame,
        mean: pd.DataFrame,
        lower: pd.DataFrame | None,
        upper: pd.DataFrame | None,
        truth: pd.DataFrame | None,
        coverage: float,
        truth_style: TruthStyle,
        id_col: str | None,
        time_col: str,
    ) -> Forecast:
        """Check the caller's tables."""
        if (lower is None) != (upper is None):
            raise ValueError("lower and upper must be given together or not at all: a band has two ends")
        if not 0 < coverage < 1:
            raise ValueError(
                f"coverage must lie strictly between 0 and 1, got {coverage!r}: write 90 % as 0.9"
            )
        if truth_style not in ("line", "points"):
            raise ValueError(f"truth_style must be 'line' or 'points', got {truth_style!r}")
        frames, unit = readable_times([observed, mean, lower, upper, truth], time_col)
        given = dict(zip(("observed", "mean", "lower", "upper", "truth"), frames))
        tables = {
            name: None if frame is None else LongTable(name, frame, id_col, time_col)
            for name, frame in given.items()
        }
        return cls(**tables, coverage=coverage, truth_style=truth_style, time_unit=unit)  # type: ignore[arg-type]

    @property
    def tables(self) -> list[LongTable]:
        return [t for t in (self.observed, self.mean, self.lower, self.upper, self.truth) if t is not None]

    def pick_series(self, series: Sequence[Any] | None, max_series: int) -> list[Any]:
        """The series named, each of which must have a forecast, or the first few that have one."""
        if isinstance(series, str):
            raise ValueError(f"series must be a sequence of ids, got {series!r}: write [{series!r}]")
        names = self.mean.ids()[:max_series] if series is None else list(series)
        if not names or self.mean.frame.empty:
            raise DataError("no series to draw: mean has no rows, or series= or max_series= leaves none")
        self.mean.check_ids(names)
        for name in names:
            self._check_band(name)
        return names

    def _check_band(self, series: Any) -> None:
        if self.lower is None or self.upper is None:
            return
        low, high = (times(table.series(series)[table.time_col]) for table in (self.lower, self.upper))
        if not np.array_equal(low, high):
            raise DataError(
                f"lower and upper differ in the times of series {series!r}: give both the same rows"
            )

    def pick_targets(self, target_cols: Sequence[Hashable] | None, max_targets: int) -> list[Hashable]:
        """The targets named, or the first few of the forecast; every table must have them."""
        if isinstance(target_cols, str):
            raise ValueError(
                f"target_cols must be a sequence of names, got {target_cols!r}: write [{target_cols!r}]"
            )
        targets = self.mean.targets()[:max_targets] if target_cols is None else list(target_cols)
        if not targets:
            raise DataError("no target to draw: target_cols= or max_targets= leaves none")
        for table in self.tables:
            table.require(targets)
        return targets

    def observed_times(self, series: Any) -> pd.Series:
        """Sorted times of a series at which any target, drawn or not, was observed."""
        rows = self.observed.series(series)
        targets = [target for target in self.mean.targets() if target in rows]
        return rows.loc[rows[targets].notna().any(axis=1), self.observed.time_col]

    def since(self, start: Any) -> Forecast:
        """The same forecast without the rows before a time."""
        names = ("observed", "mean", "lower", "upper", "truth")
        tables = {name: getattr(self, name) for name in names}
        return replace(self, **{name: table and table.since(start) for name, table in tables.items()})


def draw_over_time(ax: Axes, forecast: Forecast, series: Any, target: Hashable) -> None:
    """Draw one target of one series against time; frame and legend are left to the caller."""
    _draw_band(ax, forecast, series, target)
    _draw_truth(ax, forecast, series, target)
    _draw(ax, forecast.mean, series, target, color=FORECAST, linewidth=1.8, label="forecast", zorder=3)
    draw_dots(ax, *_seen(forecast.observed, series, target))
    seen = forecast.observed_times(series)
    if len(seen):
        ax.axvline(
            times(seen)[-1], color=QUIET, linewidth=1.0, linestyle=":", label="last observation", zorder=1
        )
    time = forecast.mean.frame[forecast.mean.time_col]
    if pd.api.types.is_datetime64_any_dtype(time):
        format_dates(ax, getattr(time.dtype, "tz", None))


def draw_dots(ax: Axes, x: Any, y: Any) -> None:
    """Observations, the same in every picture."""
    ax.plot(
        x,
        y,
        linestyle="",
        marker="o",
        markersize=marker_size(len(x)),
        color=OBSERVED,
        markeredgewidth=0,
        label="observed",
        zorder=4,
    )


def _seen(table: LongTable, series: Any, target: Hashable) -> tuple[Any, Any]:
    rows = table.series(series)
    rows = rows[rows[target].notna()]
    return times(rows[table.time_col]), numbers(rows[target])


def _draw(ax: Axes, table: LongTable, series: Any, target: Hashable, **look: Any) -> None:
    rows = table.series(series)
    marker = "D" if len(rows) == 1 else None  # one point has no line
    ax.plot(times(rows[table.time_col]), numbers(rows[target]), marker=marker, **look)


def _draw_band(ax: Axes, forecast: Forecast, series: Any, target: Hashable) -> None:
    if forecast.lower is None or forecast.upper is None:
        return
    low, high = forecast.lower.series(series), forecast.upper.series(series)
    at, ends = times(low[forecast.lower.time_col]), (numbers(low[target]), numbers(high[target]))
    label = f"{100 * forecast.coverage:g}% interval"
    if len(low) == 1:  # a band without width would not be seen
        ax.vlines(at, *ends, color=FORECAST, alpha=BAND_ALPHA, linewidth=6, label=label, zorder=2)
        return
    ax.fill_between(at, *ends, color=FORECAST, alpha=BAND_ALPHA, linewidth=0, label=label, zorder=2)


def _draw_truth(ax: Axes, forecast: Forecast, series: Any, target: Hashable) -> None:
    if forecast.truth is None:
        return
    x, y = _seen(forecast.truth, series, target)
    if forecast.truth_style == "line":
        ax.plot(x, y, color=TRUTH, linewidth=1.4, linestyle=(0, (4, 2)), label="truth", zorder=3.5)
        return
    ax.plot(
        x,
        y,
        linestyle="",
        marker="o",
        markersize=marker_size(len(x)) + 0.5,
        markerfacecolor="none",
        markeredgecolor=TRUTH,
        markeredgewidth=1.2,
        label="held out",
        zorder=3.5,
    )
