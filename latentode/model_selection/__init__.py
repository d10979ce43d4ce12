"""Choosing and judging models of series by scikit-learn's means: splitters of long tables, a scorer, a back-test.

The splitters work wherever scikit-learn takes `cv=`, the scorer wherever it takes `scoring=`. They cut tables by
series, by time, or by both; what is scored lies outside of what was learned from.
"""

from __future__ import annotations

from latentode.model_selection.back_test import cross_validate_forecasts
from latentode.model_selection.scorer import forecast_scorer
from latentode.model_selection.series_k_fold import SeriesKFold
from latentode.model_selection.series_time_cut import SeriesTimeCutSplit
from latentode.model_selection.time_cut import TimeCutSplit

__all__ = [
    "SeriesKFold",
    "SeriesTimeCutSplit",
    "TimeCutSplit",
    "cross_validate_forecasts",
    "forecast_scorer",
]
