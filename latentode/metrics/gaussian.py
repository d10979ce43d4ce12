"""Scores of Gaussian forecasts, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr

from latentode.metrics.cells import Cells, Score, align
from latentode.metrics.point import Values


def gaussian_log_score(
    truth: Values,
    mean: Values,
    std: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean of **minus** the log density of the truth under N(mean, std²), in nats per cell: lower is better.

    .. math:: \\tfrac12 \\log 2\\pi + \\log\\sigma + \\tfrac12 ((y - \\mu) / \\sigma)^2

    Punishes a confident miss hard; :func:`crps_gaussian` is milder and keeps the unit of the target.

    Parameters
    ----------
    truth, mean, std : arrays of one shape ``(..., D)``, or long tables with the same rows in the same order
        ``mean`` and ``std`` may be plain numbers. ``std`` is that of the observation, noise included.
    per_target, by, id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    float, or as in :func:`latentode.metrics.mse`

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.mse`; ValueError also if a ``std`` is not positive.

    References
    ----------
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007),
    section 4.1.
    """
    cells = gaussian_cells(truth, mean, std, id_col, time_col, by)
    actual, centre, spread = cells.arrays
    surprise = 0.5 * np.log(2 * np.pi) + np.log(spread) + 0.5 * ((actual - centre) / spread) ** 2
    return cells.mean(surprise, per_target)


def crps_gaussian(
    truth: Values,
    mean: Values,
    std: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean continuous ranked probability score of N(mean, std²), in the unit of the target: lower is better.

    .. math:: \\int (F(x) - 1[x \\ge y])^2 dx
              = \\sigma \\left( w (2\\Phi(w) - 1) + 2\\varphi(w) - 1/\\sqrt\\pi \\right),
              \\quad w = (y - \\mu) / \\sigma

    The absolute error of a distribution: it tends to :func:`latentode.metrics.mae` as ``std`` goes to 0.
    Parameters and errors as :func:`gaussian_log_score`.

    References
    ----------
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007),
    equation 21.
    """
    cells = gaussian_cells(truth, mean, std, id_col, time_col, by)
    actual, centre, spread = cells.arrays
    w = (actual - centre) / spread
    density = np.exp(-0.5 * w**2) / np.sqrt(2 * np.pi)
    return cells.mean(spread * (w * (2 * ndtr(w) - 1) + 2 * density - 1 / np.sqrt(np.pi)), per_target)


def gaussian_cells(
    truth: Values, mean: Values, std: Values, id_col: str | None, time_col: str, by: Any = None
) -> Cells:
    cells = align({"truth": truth, "mean": mean, "std": std}, id_col, time_col, by)
    cells.require(cells.arrays[2] > 0, "std must be positive")
    return cells
