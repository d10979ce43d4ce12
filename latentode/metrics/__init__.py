"""Scores of forecasts: arrays or long tables in, one number or one per target out; a NaN cell is not scored.

All are means over the scored cells and lower is better, except :func:`interval_coverage`, which should equal
the interval's nominal coverage. Scores of two forecasts compare only if both answer for the same cells.
"""

from __future__ import annotations

from latentode.metrics.gaussian import crps_gaussian, gaussian_log_score
from latentode.metrics.interval import interval_coverage, interval_width, pinball
from latentode.metrics.point import mae, mse, rmse, standardised_mse

__all__ = [
    "crps_gaussian",
    "gaussian_log_score",
    "interval_coverage",
    "interval_width",
    "mae",
    "mse",
    "pinball",
    "rmse",
    "standardised_mse",
]
