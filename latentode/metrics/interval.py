"""Scores of intervals and quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentode.metrics.cells import Score, align
from latentode.metrics.point import Values

CROSSED = "lower must not exceed upper: are the two arguments swapped?"


def interval_coverage(
    truth: Values,
    lower: Values,
    upper: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Share of the cells whose truth lies in ``[lower, upper]``, ends included.

    Good when equal to the nominal coverage of the interval, neither lower nor higher; look at
    :func:`interval_width` too, since very wide intervals cover everything.

    Parameters
    ----------
    truth, lower, upper : arrays of one shape ``(..., D)``, or long tables with the same rows
    per_target, by, id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    float, or as in :func:`latentode.metrics.mse`
        Between 0 and 1.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.mse`; ValueError also if ``lower`` exceeds ``upper``.
    """
    cells = align({"truth": truth, "lower": lower, "upper": upper}, id_col, time_col, by)
    actual, low, high = cells.arrays
    cells.require(low <= high, CROSSED)
    return cells.mean(((low <= actual) & (actual <= high)).astype(np.float64), per_target)


def interval_width(
    lower: Values,
    upper: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean width of the intervals, in the unit of the target: at the right coverage, narrower is better.

    Parameters and errors as :func:`interval_coverage`. Without a truth, cells where nothing was observed
    count too; set them to NaN in ``lower`` to leave them out.
    """
    cells = align({"lower": lower, "upper": upper}, id_col, time_col, by)
    low, high = cells.arrays
    cells.require(low <= high, CROSSED)
    return cells.mean(high - low, per_target)


def pinball(
    truth: Values,
    quantile_prediction: Values,
    q: float,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean pinball (quantile) loss, least in expectation at the true quantile; in the unit of the target.

    .. math:: \\ell_q(y, \\hat y) = \\max(q (y - \\hat y), (q - 1) (y - \\hat y))

    Parameters
    ----------
    truth, quantile_prediction : arrays of one shape ``(..., D)``, or long tables with the same rows
    q : float
        Level of the predicted quantile, strictly between 0 and 1.
    per_target, by, id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    float, or as in :func:`latentode.metrics.mse`

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.mse`; ValueError also if ``q`` is not between 0 and 1.

    References
    ----------
    Koenker and Bassett, "Regression quantiles", Econometrica 46 (1978).
    """
    if not 0 < q < 1:
        raise ValueError(f"q must lie strictly between 0 and 1, got {q!r}: write the 90 % quantile as 0.9")
    cells = align({"truth": truth, "quantile_prediction": quantile_prediction}, id_col, time_col, by)
    actual, quantile = cells.arrays
    error = actual - quantile
    return cells.mean(np.maximum(q * error, (q - 1) * error), per_target)
