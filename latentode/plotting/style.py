"""The one look of all pictures: colours, sizes, frames, time axes and legends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

# Okabe and Ito's palette: told apart with every common colour vision, and in grey by dots / line / dashes
OBSERVED = "#333333"
FORECAST = "#0072B2"
TRUTH = "#D55E00"
GRID = "#DDDDDD"
QUIET = "#777777"
LINES = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)  # where several lines are of one kind

BAND_ALPHA = 0.22
SAMPLE_ALPHA = 0.30
FONT_SIZE = 10.0
TITLE_SIZE = 11.0
HEADLINE_SIZE = 13.0
LEGEND_MARKER = 4.5

PICTURE_SIZE = (32 / 3, 6.0)  # inches; 1600 x 900 pixels at PICTURE_DPI, where 10 points are easily read
PICTURE_DPI = 150
MAX_SERIES, MAX_TARGETS, MAX_SAMPLES = 4, 6, 20


def new_figure(width: float, height: float) -> Figure:
    """A pyplot figure, so that notebooks and ``plt.show`` find it."""
    return plt.figure(figsize=(width, height), layout="constrained")


def new_picture(title: str) -> Figure:
    """A figure of 1600 x 900 pixels that only its holder keeps alive."""
    figure = Figure(figsize=PICTURE_SIZE, dpi=PICTURE_DPI, layout="constrained")
    figure.suptitle(title, fontsize=HEADLINE_SIZE, fontweight="bold", x=0.01, ha="left")
    return figure


def dress(ax: Axes, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Light grid below the data, no frame at the top and right, labels in the common sizes."""
    ax.set_axisbelow(True)
    ax.grid(visible=True, color=GRID, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(QUIET)
    ax.tick_params(labelsize=FONT_SIZE - 1, color=QUIET)
    ax.set_xlabel(xlabel, fontsize=FONT_SIZE)
    ax.set_ylabel(ylabel, fontsize=FONT_SIZE)
    ax.set_title(title, fontsize=TITLE_SIZE, loc="left")


def format_dates(ax: Axes, zone: object | None) -> None:
    """Short date labels in the time zone of the table."""
    locator = AutoDateLocator(tz=zone, minticks=3, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    ax.xaxis.get_offset_text().set_fontsize(FONT_SIZE - 1)


def marker_size(n_points: int) -> float:
    """Smaller dots for more of them, in points: 4.5 up to 50 dots, 1.5 from 450 on."""
    return float(np.clip(4.5 * np.sqrt(50 / max(n_points, 1)), 1.5, 4.5))


def legend_entries(axes: Iterable[Axes]) -> tuple[list[Artist], list[str]]:
    """Handles and labels over several Axes, every label once, dots first, then lines, then areas."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            found.setdefault(label, handle)
    labels = sorted(found, key=lambda label: -found[label].get_zorder())
    return [found[label] for label in labels], labels


def enlarge_dots(legend: Legend) -> None:
    """Dots of a long record are too small to be recognised in its legend."""
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_markersize(max(handle.get_markersize(), LEGEND_MARKER))


def figure_legend(figure: Figure, axes: Sequence[Axes], per_row: int = 8) -> None:
    """One legend for all Axes below the lowest, where it hides no data."""
    handles, labels = legend_entries(axes)
    if labels:
        legend = figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(len(labels), per_row),
            frameon=False,
            fontsize=FONT_SIZE,
        )
        enlarge_dots(legend)


def axes_legend(ax: Axes) -> None:
    """A legend above the Axes, for a figure whose layout belongs to the caller; the title moves above it."""
    handles, labels = legend_entries([ax])
    if labels:
        legend = ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            borderaxespad=0.1,
            ncols=len(labels),
            frameon=False,
            fontsize=FONT_SIZE - 1,
            columnspacing=1.0,
            handlelength=1.5,
        )
        enlarge_dots(legend)
        ax.set_title(ax.get_title(loc="left"), fontsize=TITLE_SIZE, loc="left", pad=24)
