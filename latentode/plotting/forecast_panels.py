"""A grid of forecasts against time: one column per series, one row per target."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from latentode.plotting.forecast import Forecast, TruthStyle, draw_over_time
from latentode.plotting.style import (
    MAX_SERIES,
    MAX_TARGETS,
    axes_legend,
    dress,
    figure_legend,
    new_figure,
)
from latentode.plotting.time_axis import with_unit

Labels = Mapping[Hashable, str]


def plot_forecast_panels(
    observed: pd.DataFrame,
    mean: pd.DataFrame,
    lower: pd.DataFrame | None = None,
    upper: pd.DataFrame | None = None,
    *,
    truth: pd.DataFrame | None = None,
    series: Sequence[Any] | None = None,
    target_cols: Sequence[Hashable] | None = None,
    max_series: int = MAX_SERIES,
    max_targets: int = MAX_TARGETS,
    coverage: float = 0.9,
    truth_style: TruthStyle = "line",
    labels: Labels | None = None,
    legend: bool = True,
    id_col: str | None = "id",
    time_col: str = "time",
    ax: Axes | NDArray[Any] | Sequence[Axes] | None = None,
) -> Axes | NDArray[Any]:
    """Draw observations, forecast and its band against time, one column per series and one row per target.

    For two targets that are positions in a plane see :func:`plot_plane`.

    Parameters
    ----------
    observed, mean : DataFrame
        Long tables, one row per (series, time) in any order; NaN in ``observed`` is not drawn. Times are
        numbers, datetimes, whose axis is labelled in their own time zone, periods (drawn at their start) or timedeltas.
    lower, upper : DataFrame, optional
        Ends of the forecast's interval, both with the same rows.
    truth : DataFrame, optional
        What really happened, at any times: clean curves or observations that were held out.
    series : sequence of ids, optional
        Series to draw, one column each; by default the first ``max_series`` of ``mean``.
    target_cols : sequence of column names, optional
        Targets to draw, one row each; by default the first ``max_targets`` numeric columns of ``mean``.
    max_series, max_targets : int
        Size of the default choice.
    coverage : float
        Nominal coverage of the band, for the legend.
    truth_style : "line" or "points"
        Points suit sparse truth, such as held-out measurements.
    labels : mapping from column name to axis label, optional
        For names with units, such as ``{"time": "hours since admission"}``.
    legend : bool
        Whether to add one legend, outside the data.
    id_col, time_col : str
        Names of the key columns; ``id_col=None`` for one series without an id.
    ax : Axes, or array of Axes of shape (targets, series), optional
        Where to draw; by default a new pyplot figure.

    Returns
    -------
    Axes for one series and one target, otherwise an array of Axes of shape (targets, series)

    Raises
    ------
    DataError
        If a table lacks a column, a series is unknown, or ``lower`` and ``upper`` have different times.
    ValueError
        If only one end of the band is given, ``coverage`` is not between 0 and 1, or ``ax`` has the wrong
        shape.
    """
    forecast = Forecast.of(observed, mean, lower, upper, truth, coverage, truth_style, id_col, time_col)
    names = forecast.pick_series(series, max_series)
    targets = forecast.pick_targets(target_cols, max_targets)
    axes = _grid(len(targets), len(names)) if ax is None else _given(ax, len(targets), len(names))
    draw_grid(axes, forecast, names, targets, labels or {})
    if legend and ax is None:
        figure_legend(axes[0, 0].figure, list(axes.flat))
    elif legend:
        axes_legend(axes[0, 0])
    return axes[0, 0] if axes.size == 1 else axes


def draw_grid(
    axes: NDArray[Any], forecast: Forecast, names: Sequence[Any], targets: Sequence[Hashable], labels: Labels
) -> None:
    """Fill an array of Axes (targets, series); only the outer ones carry labels."""
    last = len(targets) - 1
    for (row, column), ax in np.ndenumerate(axes):
        draw_over_time(ax, forecast, names[column], targets[row])
        dress(
            ax,
            xlabel=_time_label(forecast, labels) if row == last else "",
            ylabel=label_of(targets[row], labels) if column == 0 else "",
            title=series_title(forecast, names[column]) if row == 0 else "",
        )


def label_of(column: Hashable, labels: Labels) -> str:
    """The caller's label of a column, or its name."""
    return labels.get(column, str(column))


def _time_label(forecast: Forecast, labels: Labels) -> str:
    """The caller's label as it is, or the name of the column with the unit of timedeltas."""
    name = forecast.mean.time_col
    return labels[name] if name in labels else with_unit(name, forecast.time_unit)


def series_title(forecast: Forecast, series: Any) -> str:
    """Such as "id 17"; empty where the table has no id column."""
    return "" if forecast.mean.id_col is None else f"{forecast.mean.id_col} {series}"


def _grid(n_targets: int, n_series: int) -> NDArray[Any]:
    figure = new_figure(max(7.0, 4.0 * n_series), 0.8 + max(3.2, 2.2 * n_targets))
    return figure.subplots(n_targets, n_series, sharex="col", squeeze=False)


def _given(ax: Axes | NDArray[Any] | Sequence[Axes], n_targets: int, n_series: int) -> NDArray[Any]:
    axes = np.array(ax, dtype=object)
    if axes.size != n_targets * n_series:
        raise ValueError(
            f"ax holds {axes.size} Axes, but {n_targets} target(s) of {n_series} series need an array of "
            f"shape ({n_targets}, {n_series}): choose them with series= and target_cols=, or leave ax out"
        )
    return axes.reshape(n_targets, n_series)
