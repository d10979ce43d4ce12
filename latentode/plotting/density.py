"""Densities of two dimensions as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentode.plotting.style import FONT_SIZE, QUIET, TITLE_SIZE, TRUTH, marker_size

PANEL = 2.4  # inches
MOST_PANELS = 6  # in a row
DOTS, SMALL = 0.7, 0.7  # opacity; size, of the usual one
BRIGHTEST = 0.995  # quantile of a frame's density that is drawn in the darkest colour


def plot_density_path(
    times: Sequence[float],
    densities: ArrayLike,
    *,
    extent: tuple[float, float, float, float],
    points: Sequence[ArrayLike] | None = None,
    names: Sequence[str] = ("", ""),
) -> NDArray[Any]:
    """Draw a density at several times of a flow, one panel each, at most six in a row.

    Every panel has a scale of colours of its own: what changes is the shape.

    Parameters
    ----------
    times : sequence of T floats
    densities : array (T, G, H)
        On a grid of one box, rows along y from below.
    extent : (x0, x1, y0, y1)
        The box.
    points : sequence of T arrays (N, 2), optional
        Dots, at each time.
    names : (str, str)
        Of the axes.

    Returns
    -------
    array (T,) of matplotlib Axes

    Raises
    ------
    ValueError
        When there are not as many densities as times.
    """
    frames = np.asarray(densities, dtype=float)
    if frames.ndim != 3 or len(frames) != len(times) or not len(times):
        raise ValueError(
            f"densities must have shape (T, G, H) with T = {len(times)} times, at least 1; got {frames.shape}"
        )
    height = PANEL * np.clip((extent[3] - extent[2]) / (extent[1] - extent[0]), 0.5, 1.5)
    width = min(len(times), MOST_PANELS)
    depth = -(-len(times) // width)
    figure = plt.figure(figsize=(PANEL * width + 0.3, (height + 0.5) * depth), layout="constrained")
    panels = figure.subplots(depth, width, sharex=True, sharey=True, squeeze=False)
    figure.supxlabel(names[0], fontsize=FONT_SIZE)
    figure.supylabel(names[1], fontsize=FONT_SIZE)
    for spare in panels.flat[len(times) :]:
        spare.set_axis_off()
    axes = panels.flat[: len(times)]
    for place, (ax, t, frame) in enumerate(zip(axes, times, frames)):
        ax.imshow(
            frame,
            origin="lower",
            extent=extent,
            cmap="Blues",
            vmin=0.0,
            vmax=max(float(np.quantile(frame, BRIGHTEST)), np.finfo(float).tiny),
            interpolation="bilinear",
            aspect="auto",
        )
        if points is not None:
            x, y = np.asarray(points[place], dtype=float).T
            size = SMALL * marker_size(len(x))
            ax.plot(x, y, "o", color=TRUTH, alpha=DOTS, markersize=size, markeredgewidth=0)
        ax.set(xlim=extent[:2], ylim=extent[2:])
        ax.set_title(f"t = {t:.2g}", fontsize=TITLE_SIZE, loc="left")
        ax.tick_params(labelsize=FONT_SIZE - 1, color=QUIET)
        ax.spines[:].set_color(QUIET)
    return np.asarray(axes)
