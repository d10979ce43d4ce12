"""Scores of forecasts: arrays or long tables in, one number or one per target or group out; NaN is not scored.

All are means over the scored cells and lower is better, except :func:`interval_coverage`, which should equal
the interval's nominal coverage. Scores of two forecasts compare only if both answer for the same cells.
Whether a forecast is as sure as it should be at every level is told by :func:`calibration_curve`, from the
probability integral transforms of :func:`pit_gaussian` or :func:`pit_samples`.
"""

from __future__ import annotations

from latentode.metrics.calibration import calibration_curve, pit_gaussian, pit_samples
from latentode.metrics.ensemble import crps_samples
from latentode.metrics.gaussian import crps_gaussian, gaussian_log_score
from latentode.metrics.horizon import horizon_bins
from latentode.metrics.interval import interval_coverage, interval_width, pinball
from latentode.metrics.point import mae, mse, rmse, standardised_mse

__all__ = [
    "calibration_curve",
    "crps_gaussian",
    "crps_samples",
    "gaussian_log_score",
    "horizon_bins",
    "interval_coverage",
    "interval_width",
    "mae",
    "mse",
    "pinball",
    "pit_gaussian",
    "pit_samples",
    "rmse",
    "standardised_mse",
]
