"""Densities of two dimensions as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentode.plotting.style import FONT_SIZE, QUIET, TITLE_SIZE, TRUTH, marker_size

PANEL = 2.4  # inches
BRIGHTEST = 0.995  # quantile of a frame's density that is drawn in the darkest colour


def plot_density_path(
    times: Sequence[float],
    densities: ArrayLike,
    *,
    extent: tuple[float, float, float, float],
    points: Sequence[ArrayLike] | None = None,
) -> NDArray[Any]:
    """Draw a density at several times of a flow, one panel each, in a row.

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
    figure = plt.figure(figsize=(PANEL * len(times) + 0.3, height + 0.5), layout="constrained")
    axes = figure.subplots(1, len(times), sharex=True, sharey=True, squeeze=False)[0]
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
            ax.plot(x, y, ".", color=TRUTH, alpha=0.5, markersize=marker_size(len(x)))
        ax.set(xlim=extent[:2], ylim=extent[2:])
        ax.set_title(f"t = {t:.3g}", fontsize=TITLE_SIZE, loc="left")
        ax.tick_params(labelsize=FONT_SIZE - 1, color=QUIET)
        ax.spines[:].set_color(QUIET)
    return np.asarray(axes)
