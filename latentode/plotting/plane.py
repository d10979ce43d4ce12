"""Two targets against each other."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from latentode.exceptions import DataError
from latentode.plotting.forecast import draw_dots
from latentode.plotting.long_table import LongTable, numbers
from latentode.plotting.style import (
    FORECAST,
    MAX_SAMPLES,
    SAMPLE_ALPHA,
    TRUTH,
    axes_legend,
    dress,
    figure_legend,
    new_figure,
)


def plot_plane(
    observed: pd.DataFrame,
    mean: pd.DataFrame,
    truth: pd.DataFrame | None = None,
    samples: pd.DataFrame | None = None,
    *,
    x: Hashable,
    y: Hashable,
    series: Any = None,
    max_samples: int = MAX_SAMPLES,
    legend: bool = True,
    id_col: str | None = "id",
    time_col: str = "time",
    sample_col: str = "sample",
    ax: Axes | None = None,
) -> Axes:
    """Draw one series in the plane of two targets, for motion and for oscillators; both axes have one scale.

    Time is not seen: use :func:`plot_forecast_panels` for when things happen.

    Parameters
    ----------
    observed, mean, truth : DataFrame
        Long tables, rows in any order; joined by time within the series.
    samples : DataFrame, optional
        Sampled trajectories, told apart by ``sample_col``; the first ``max_samples`` are drawn.
    x, y : column names
        The targets on the horizontal and the vertical axis.
    series : id, optional
        The series to draw; may be left out if ``mean`` holds only one.
    max_samples : int
    legend : bool
        Whether to add a legend, outside the data.
    id_col, time_col, sample_col : str
        Names of the key columns; ``id_col=None`` for one series without an id.
    ax : Axes, optional
        Where to draw; by default a new pyplot figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If a table lacks a column, the series is unknown, or none is named and ``mean`` holds several.
    """
    given = {"observed": observed, "mean": mean, "truth": truth, "samples": samples}
    tables = {
        name: LongTable(name, frame, id_col, time_col) for name, frame in given.items() if frame is not None
    }
    for table in tables.values():
        table.require([x, y, sample_col] if table.name == "samples" else [x, y])
    chosen = _only_series(tables["mean"]) if series is None else series
    tables["mean"].check_ids([chosen])
    target = new_figure(5.6, 5.6).subplots() if ax is None else ax
    draw_plane(
        target, {name: table.series(chosen) for name, table in tables.items()}, x, y, sample_col, max_samples
    )
    dress(target, str(x), str(y), "" if id_col is None else f"{id_col} {chosen}")
    if legend and ax is None:
        figure_legend(target.figure, [target])  # type: ignore[arg-type]
    elif legend:
        axes_legend(target)
    return target


def draw_plane(
    ax: Axes, rows: dict[str, pd.DataFrame], x: Hashable, y: Hashable, sample_col: str, max_samples: int
) -> None:
    """Draw the rows of one series, each table sorted by time; frame and legend are left to the caller."""
    if "samples" in rows:
        _draw_samples(ax, rows["samples"], x, y, sample_col, max_samples)
    mean = rows["mean"]
    ax.plot(numbers(mean[x]), numbers(mean[y]), color=FORECAST, linewidth=2.0, label="forecast", zorder=3)
    if "truth" in rows:
        curve = rows["truth"].dropna(subset=[x, y])
        ax.plot(
            numbers(curve[x]),
            numbers(curve[y]),
            color=TRUTH,
            linewidth=1.4,
            linestyle=(0, (4, 2)),
            label="truth",
            zorder=3.5,
        )
    seen = rows["observed"].dropna(subset=[x, y])
    draw_dots(ax, numbers(seen[x]), numbers(seen[y]))
    ax.set_aspect("equal", adjustable="datalim")


def _draw_samples(
    ax: Axes, samples: pd.DataFrame, x: Hashable, y: Hashable, sample_col: str, max_samples: int
) -> None:
    label = "samples"
    for number in samples[sample_col].unique()[:max_samples]:
        path = samples[samples[sample_col] == number]
        ax.plot(
            numbers(path[x]),
            numbers(path[y]),
            color=FORECAST,
            alpha=SAMPLE_ALPHA,
            linewidth=0.7,
            label=label,
            zorder=2,
        )
        label = "_nolegend_"


def _only_series(mean: LongTable) -> Any:
    names = mean.ids()
    if len(names) != 1:
        raise DataError(f"mean holds {len(names)} series and a plane shows one: name it with series=")
    return names[0]
