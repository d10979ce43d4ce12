"""Whether intervals cover what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator, PercentFormatter

from latentode.exceptions import DataError
from latentode.plotting.long_table import numbers
from latentode.plotting.style import (
    FONT_SIZE,
    FORECAST,
    LINES,
    QUIET,
    axes_legend,
    dress,
    figure_legend,
    new_figure,
)

DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))


def plot_calibration(curve: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw observed against nominal coverage: on the diagonal, forecasts are as sure as they should be.

    Parameters
    ----------
    curve : DataFrame
        Column `nominal` and one column of observed coverages for each line, as from
        :func:`latentode.metrics.calibration_curve`: of all cells, of each target, or put together from several
        models. Shares between 0 and 1.
    ax : Axes, optional
        Where to draw; by default a new pyplot figure.

    Returns
    -------
    Axes

    Raises
    ------
    DataError
        If the table is empty, lacks a column, or holds something else than shares.
    """
    names = _lines(curve)
    axes = new_figure(5.2, 5.2).subplots() if ax is None else ax
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1.4, linestyle=":", zorder=1, label="as promised")
    nominal = numbers(curve["nominal"])
    order = np.argsort(nominal)
    for place, name in enumerate(names):
        axes.plot(
            nominal[order],
            numbers(curve[name])[order],
            color=FORECAST if len(names) == 1 else LINES[place % len(LINES)],
            linestyle=DASHES[place // len(LINES) % len(DASHES)],
            linewidth=1.8,
            marker="o",
            markersize=3.5,
            label=str(name),
            zorder=3,
        )
    _mark_sides(axes)
    _frame(axes)
    if ax is None:
        figure_legend(axes.figure, [axes], per_row=4)  # type: ignore[arg-type]
    else:
        axes_legend(axes)
    return axes


def _lines(curve: pd.DataFrame) -> list[Any]:
    """The columns that are drawn."""
    if "nominal" not in curve:
        raise DataError(
            f"the curve has no column 'nominal', only {list(curve.columns)}: see calibration_curve"
        )
    names = [name for name in curve.columns if name != "nominal"]
    if len(curve) == 0 or not names:
        raise DataError("the curve is empty: it needs a row per level and a column of observed coverages")
    for name in ["nominal", *names]:
        if not pd.api.types.is_numeric_dtype(curve[name].dtype):
            raise DataError(f"column {name!r} of the curve has dtype {curve[name].dtype}, expected shares")
        shares = numbers(curve[name])
        if (shares < 0).any() or (shares > 1).any():
            raise DataError(f"column {name!r} of the curve must hold shares between 0 and 1, not percentages")
    return names


def _mark_sides(ax: Axes) -> None:
    """What it means to lie off the diagonal, in the two corners that a curve seldom reaches."""
    look: Any = {"color": QUIET, "fontsize": FONT_SIZE - 1, "transform": ax.transAxes}
    ax.text(0.03, 0.96, "intervals too wide", ha="left", va="top", **look)
    ax.text(0.97, 0.04, "intervals too narrow", ha="right", va="bottom", **look)


def _frame(ax: Axes) -> None:
    dress(ax, "nominal coverage of the interval", "observed coverage", "Calibration")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MultipleLocator(0.2))
        axis.set_major_formatter(PercentFormatter(1.0))
