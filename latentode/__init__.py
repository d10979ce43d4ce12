"""Forecasts, with honest uncertainty, for irregular time series."""

from __future__ import annotations

from latentode.estimators import LatentODERegressor
from latentode.solve import solve_ivp

__version__ = "0.1.0"
__all__ = ["LatentODERegressor", "solve_ivp"]
