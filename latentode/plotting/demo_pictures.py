"""The pictures that ``latentode demo`` writes, each a whole Figure of 1600 x 900 pixels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latentode.exceptions import DataError
from latentode.plotting.forecast import Forecast, TruthStyle, draw_over_time
from latentode.plotting.forecast_panels import Labels, draw_grid, series_title
from latentode.plotting.plane import plot_plane
from latentode.plotting.style import (
    GRID,
    MAX_SAMPLES,
    MAX_SERIES,
    TITLE_SIZE,
    dress,
    figure_legend,
    new_picture,
)

ZOOM_OF_FORECAST = 1.6  # span of the zoomed panel over that of the forecast, so that some context is seen


def spirals_picture(
    observed: pd.DataFrame,
    mean: pd.DataFrame,
    lower: pd.DataFrame,
    upper: pd.DataFrame,
    truth: pd.DataFrame,
    samples: pd.DataFrame | None = None,
    *,
    x: Hashable = "x",
    y: Hashable = "y",
    title: str = "Spirals: the curve behind 30 noisy points, and where it goes next",
    series: Sequence[Any] | None = None,
    max_series: int = MAX_SERIES,
    max_samples: int = MAX_SAMPLES,
    coverage: float = 0.9,
    id_col: str | None = "id",
    time_col: str = "time",
    sample_col: str = "sample",
) -> Figure:
    """Draw a row of series in their plane, and the two targets of the first of them against time.

    Parameters
    ----------
    observed, mean, lower, upper, truth : DataFrame
        Long tables as in :func:`latentode.plotting.plot_forecast_panels`.
    samples : DataFrame, optional
        Sampled trajectories with the further column ``sample_col``, drawn in the plane.
    x, y : column names
        Targets on the axes of the plane.
    title : str
    series : sequence of ids, optional
        By default the first ``max_series`` of ``mean``.
    max_series, max_samples, coverage, id_col, time_col, sample_col
        As in :func:`latentode.plotting.plot_forecast_panels` and :func:`latentode.plotting.plot_plane`.

    Returns
    -------
    Figure
        Its Axes: the planes from left to right, then ``x`` and ``y`` against time.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.plotting.plot_forecast_panels`.
    """
    forecast = Forecast.of(observed, mean, lower, upper, truth, coverage, "line", id_col, time_col)
    names = forecast.pick_series(series, max_series)
    forecast.pick_targets([x, y], 2)
    figure = new_picture(title)
    grid = figure.add_gridspec(2, 2 * len(names), height_ratios=[1.35, 1.0])
    columns = {"id_col": id_col, "time_col": time_col, "sample_col": sample_col}
    for number, name in enumerate(names):
        ax = figure.add_subplot(grid[0, 2 * number : 2 * number + 2])
        plot_plane(
            observed,
            mean,
            truth,
            samples,
            x=x,
            y=y,
            series=name,
            max_samples=max_samples,
            legend=False,
            ax=ax,
            **columns,  # type: ignore[arg-type]
        )
        ax.set_ylabel("" if number else str(y))
    _draw_halves(figure, grid, forecast, names, [x, y])
    figure_legend(figure, figure.axes)
    return figure


def _draw_halves(
    figure: Figure, grid: Any, forecast: Forecast, names: Sequence[Any], targets: Sequence[Hashable]
) -> None:
    middle = len(names)
    for target, columns in zip(targets, (slice(0, middle), slice(middle, None))):
        ax = figure.add_subplot(grid[1, columns])
        draw_over_time(ax, forecast, names[0], target)
        title = f"{series_title(forecast, names[0])}: {target} over {forecast.mean.time_col}"
        dress(ax, forecast.mean.time_col, str(target), title.removeprefix(": "))


def long_series_picture(
    observed: pd.DataFrame,
    mean: pd.DataFrame,
    lower: pd.DataFrame,
    upper: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    target_col: Hashable | None = None,
    title: str = "One long series, its last years forecast from the earlier ones",
    zoom_from: Any = None,
    series: Any = None,
    coverage: float = 0.9,
    truth_style: TruthStyle = "line",
    labels: Labels | None = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Figure:
    """Draw the whole record of one series, and below it the forecast and the time just before it, enlarged.

    Parameters
    ----------
    observed, mean, lower, upper, truth : DataFrame
        Long tables as in :func:`latentode.plotting.plot_forecast_panels`.
    target_col : column name, optional
        By default the first numeric column of ``mean``.
    title : str
    zoom_from : time, optional
        Where the enlarged panel begins, in the type of the time column; by default so that the forecast after
        the last observation takes five eighths of it.
    series : id, optional
        By default the first series of ``mean``.
    coverage, truth_style, labels, id_col, time_col
        As in :func:`latentode.plotting.plot_forecast_panels`.

    Returns
    -------
    Figure
        Its Axes: the whole record, the enlarged part.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.plotting.plot_forecast_panels`; DataError also if the series has no observation.
    """
    forecast = Forecast.of(observed, mean, lower, upper, truth, coverage, truth_style, id_col, time_col)
    name = forecast.pick_series(None if series is None else [series], 1)[0]
    target = forecast.pick_targets(None if target_col is None else [target_col], 1)[0]
    start = _zoom_start(forecast, name) if zoom_from is None else zoom_from
    figure = new_picture(title)
    whole, close = figure.subplots(2, 1, height_ratios=[1.0, 1.5])
    draw_grid(np.array([[whole]]), forecast, [name], [target], labels or {})
    draw_grid(np.array([[close]]), forecast.since(start), [name], [target], labels or {})
    _mark_zoom(whole, close)
    whole.set_xlabel("")
    whole.set_title("The whole record", fontsize=TITLE_SIZE, loc="left")
    close.set_title("The shaded part, enlarged", fontsize=TITLE_SIZE, loc="left")
    figure_legend(figure, figure.axes)
    return figure


def _zoom_start(forecast: Forecast, series: Any) -> Any:
    seen = forecast.observed_times(series)
    if seen.empty:
        raise DataError(
            "nothing was observed in the series to draw: give zoom_from=, or check target columns"
        )
    end = forecast.mean.series(series)[forecast.mean.time_col].iloc[-1]
    if not end > seen.iloc[-1]:
        raise DataError(
            f"the forecast ends at {end}, the observations at {seen.iloc[-1]}: "
            "nothing to enlarge, give zoom_from="
        )
    return end - (end - seen.iloc[-1]) * ZOOM_OF_FORECAST


def _mark_zoom(whole: Axes, close: Axes) -> None:
    left, right = whole.get_xlim()
    begin, end = close.dataLim.intervalx
    whole.axvspan(begin, end, color=GRID, alpha=0.6, linewidth=0, zorder=0)
    whole.set_xlim(left, right)


def channels_picture(
    observed: pd.DataFrame,
    mean: pd.DataFrame,
    lower: pd.DataFrame,
    upper: pd.DataFrame,
    truth: pd.DataFrame,
    *,
    target_cols: Sequence[Hashable] | None = None,
    title: str = "Many channels, each observed at its own times, and their forecast",
    series: Sequence[Any] | None = None,
    max_series: int = 2,
    max_targets: int = 4,
    coverage: float = 0.9,
    truth_style: TruthStyle = "points",
    labels: Labels | None = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Figure:
    """Draw a few targets of a few series against time, as :func:`.plot_forecast_panels` does.

    Parameters
    ----------
    observed, mean, lower, upper, truth, target_cols, series, max_series, max_targets, coverage
    truth_style, labels, id_col, time_col
        As in :func:`latentode.plotting.plot_forecast_panels`; ``truth`` is held-out observations by default.
    title : str

    Returns
    -------
    Figure
        Its Axes: targets from top to bottom, in each row the series from left to right.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.plotting.plot_forecast_panels`.
    """
    forecast = Forecast.of(observed, mean, lower, upper, truth, coverage, truth_style, id_col, time_col)
    names = forecast.pick_series(series, max_series)
    targets = forecast.pick_targets(target_cols, max_targets)
    figure = new_picture(title)
    axes = figure.subplots(len(targets), len(names), sharex="col", squeeze=False)
    draw_grid(axes, forecast, names, targets, labels or {})
    figure_legend(figure, figure.axes)
    return figure
