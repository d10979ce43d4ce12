"""The time over which series change, read off their own increments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentode.series.table import FloatArray, IntArray, SeriesTable

LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # observations apart
BINS = 24  # of the gaps, with about equal numbers of pairs
PAIRS_PER_BIN = 20  # fewer say little
PAIRS_AT_MOST = 500_000
TAILS = (
    0.005,
    0.995,
)  # quantiles of a target that its values are cut at: gross outliers hide everything else


def turning_time(table: SeriesTable) -> float | None:
    """Gap at which half of what a series forgets is forgotten.

    The mean squared difference of two observations of one series and target grows with the gap between them, from
    the noise at small gaps to twice the variance inside a series at large ones (the variogram). The result is the
    smallest gap at which it has come half of this way: for a sine, a sixth of its period. The targets count together,
    each in its own standard deviations inside a series.

    Parameters
    ----------
    table : SeriesTable
        Training series, or windows of them, in any units.

    Returns
    -------
    float or None
        In the unit of the times; None where the increments show no such growth (white noise, constants, or too few
        observations).
    """
    gaps, squares = _pairs(table)
    if len(gaps) < 3 * PAIRS_PER_BIN:
        return None
    n_bins = min(BINS, len(gaps) // PAIRS_PER_BIN)
    edges = np.unique(np.quantile(gaps, np.linspace(0, 1, n_bins + 1)[1:-1], method="nearest"))
    of = np.searchsorted(edges, gaps)  # equal gaps share a bin
    counts = np.bincount(of)
    used = counts > 0
    growth = np.bincount(of, squares)[used] / counts[used]
    gap = np.exp(np.bincount(of, np.log(gaps))[used] / counts[used])
    return _half_way(gap, growth) if len(gap) >= 3 else None


def _half_way(gap: FloatArray, growth: FloatArray) -> float | None:
    """First gap at which `growth` is half way from its beginning to the larger of its end and 2, interpolated."""
    nugget = growth[0]
    level = 0.5 * (nugget + max(growth[-3:].mean(), min(growth.max(), 2.0)))
    above = np.flatnonzero(growth >= level)
    if level < 1.2 * nugget or not len(above) or above[0] == 0:
        return None
    i = above[0]
    share = (level - growth[i - 1]) / (growth[i] - growth[i - 1])
    return float(np.exp(np.log(gap[i - 1]) + share * np.log(gap[i] / gap[i - 1])))


def _pairs(table: SeriesTable) -> tuple[FloatArray, FloatArray]:
    """Gaps and squared increments, in variances inside a series, of pairs of observations of all targets."""
    gaps: list[FloatArray] = []
    squares: list[FloatArray] = []
    stride = max(1, int(np.count_nonzero(~np.isnan(table.values)) * len(LAGS) // PAIRS_AT_MOST))
    for column in table.values.T:
        seen = ~np.isnan(column)
        if not seen.any():
            continue
        series, times, x = table.series[seen], table.times[seen], column[seen]
        x = np.clip(x, *np.quantile(x, TAILS))
        variance = _variance_within(series, x)
        if not variance > 0:
            continue
        for lag in LAGS:
            first = np.arange(0, len(x) - lag, stride)
            first = first[series[first] == series[first + lag]]
            gap = times[first + lag] - times[first]
            apart = gap > 0
            gaps.append(gap[apart])
            squares.append((x[first + lag] - x[first])[apart] ** 2 / variance)
    return _joined(gaps), _joined(squares)


def _variance_within(series: IntArray, x: FloatArray) -> float:
    """Variance of a target inside the series, pooled over them."""
    codes = np.unique(series, return_inverse=True)[1]
    deviation = x - (np.bincount(codes, x) / np.bincount(codes))[codes]
    return float((deviation**2).sum() / max(len(x) - codes.max() - 1, 1))


def _joined(parts: list[NDArray]) -> FloatArray:
    return np.concatenate(parts) if parts else np.empty(0)
