"""The course of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from latentode.exceptions import DataError
from latentode.plotting.long_table import numbers
from latentode.plotting.style import FORECAST, QUIET, TRUTH, axes_legend, dress, figure_legend, new_figure

SECOND_PANEL = ("learning_rate", "train_kl", "kl", "kl_weight")


def plot_history(
    history: pd.DataFrame, *, second: str | None = None, legend: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw the training and validation loss per epoch and mark the best epoch, whose weights training keeps.

    Parameters
    ----------
    history : DataFrame
        One row per epoch: ``train_loss``, and as far as present ``epoch`` (otherwise 1, 2, ...) and
        ``validation_loss``. The best epoch is that of the lowest validation loss, without one of the lowest
        training loss.
    second : str, optional
        Column of the panel below the loss; by default the first present of ``learning_rate``, ``train_kl``,
        ``kl``, ``kl_weight``.
    legend : bool
        Whether to add a legend, outside the data.
    ax : Axes, optional
        Where to draw the losses (no second panel then); by default a new pyplot figure.

    Returns
    -------
    Axes
        That of the losses; a second panel is ``axes.figure.axes[1]``.

    Raises
    ------
    DataError
        If the table is empty or lacks a column.
    """
    _check(history, second)
    panel = second or next((name for name in SECOND_PANEL if name in history), None)
    epochs = numbers(history["epoch"]) if "epoch" in history else np.arange(1.0, len(history) + 1)
    if ax is not None or panel is None:
        loss_axes = new_figure(7.0, 4.0).subplots() if ax is None else ax
        _draw_losses(loss_axes, epochs, history)
        dress(loss_axes, "epoch", "loss", "Training")
    else:
        figure = new_figure(7.0, 5.2)
        loss_axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _draw_losses(loss_axes, epochs, history)
        below.plot(epochs, numbers(history[panel]), color=QUIET, linewidth=1.4)
        dress(loss_axes, "", "loss", "Training")
        dress(below, "epoch", panel.replace("_", " "))
    loss_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if legend and ax is None:
        figure_legend(loss_axes.figure, [loss_axes])  # type: ignore[arg-type]
    elif legend:
        axes_legend(loss_axes)
    return loss_axes


def _check(history: pd.DataFrame, second: str | None) -> None:
    if len(history) == 0:
        raise DataError("the history has no epoch yet: nothing was trained")
    for column in ("train_loss", second):
        if column is not None and column not in history:
            raise DataError(f"the history has no column {column!r}, only {list(history.columns)}")


def _draw_losses(ax: Axes, epochs: np.ndarray, history: pd.DataFrame) -> None:
    train = numbers(history["train_loss"])
    ax.plot(epochs, train, color=FORECAST, linewidth=1.8, label="training")
    judged = train
    if "validation_loss" in history:
        judged = numbers(history["validation_loss"])
        ax.plot(epochs, judged, color=TRUTH, linewidth=1.8, linestyle=(0, (4, 1.5)), label="validation")
    if np.isnan(judged).all():
        return
    best = int(np.nanargmin(judged))
    ax.axvline(epochs[best], color=QUIET, linewidth=1.0, linestyle=":", zorder=1)
    ax.plot(
        epochs[best],
        judged[best],
        linestyle="",
        marker="o",
        markersize=7,
        markerfacecolor="white",
        markeredgecolor=QUIET,
        markeredgewidth=1.5,
        label=f"best epoch: {epochs[best]:.0f}",
        zorder=4,
    )
