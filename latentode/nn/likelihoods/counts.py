"""What all counts have in common: a positive rate, how an encoder reads them, and their quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tail = Callable[[NDArray, NDArray], NDArray]
"""(x (c,), cells (c,)) -> (K, c): a tail beyond the integers x, for the cells at these positions."""

LEVEL_FLOOR = 1e-3  # of a target that was 0 throughout training: rates start here
STRAIGHT = 20.0  # up to exp(20), some 5e8, times the level or below it, rates are exp of the output
LARGEST_DRAW = 1e18  # NumPy draws no Poisson numbers beyond 9e18
MAX_HALVINGS = 128  # of a bracket of integers; float64 knows no wider one that could not be halved in these
CELLS_AT_ONCE = 2**17  # times samples: few enough for the cache


def log_levels(levels: Sequence[float]) -> Tensor:
    """Logarithms of the mean counts of the targets in training, (D,).

    Raises
    ------
    ValueError
        For a level that is negative or no number.
    """
    for level in levels:
        if not (math.isfinite(level) and level >= 0):
            raise ValueError(
                f"the level of a count target must be a finite number of at least 0; got {level}"
            )
    return torch.tensor([math.log(max(level, LEVEL_FLOOR)) for level in levels])


def log_rate(raw: Tensor, log_level: Tensor) -> Tensor:
    """Log rate of a decoder output: 0 is the level.

    Beyond ±`STRAIGHT` it goes on as a logarithm, with slope 1 / (1 + excess): the rate stays finite for any
    output, and the gradient never dies.
    """
    size = raw.abs()
    bent = raw.sign() * (STRAIGHT + (size - STRAIGHT).clamp(min=0).log1p())
    return log_level.to(raw.device) + torch.where(size <= STRAIGHT, raw, bent)


def count_features(values: Tensor, mask: Tensor, log_level: Tensor) -> tuple[Tensor, Tensor]:
    """log(1 + x) - log(1 + level), 0 where unobserved, and the mask: counts of any size, brought to order 1."""
    logs = torch.where(mask, values, 0.0).log1p() - log_level.exp().log1p()
    return torch.where(mask, logs, 0.0), mask


def draw_counts(rng: np.random.Generator, rate: NDArray) -> NDArray:
    """Poisson numbers of these rates."""
    return rng.poisson(np.minimum(rate, LARGEST_DRAW))


def count_quantiles(lower: Tail, upper: Tail, mean: NDArray, std: NDArray, levels: list[float]) -> NDArray:
    """Smallest integers x with P(X <= x) >= level, of the equal mixtures over the first axis.

    Parameters
    ----------
    lower, upper : callable
        P(X <= x) and P(X > x) of every component, each with all its digits where it is small.
    mean, std : array (K, C)
        Of the components.
    levels : list of Q floats in (0, 1)

    Returns
    -------
    array (Q, C)
    """
    centre = mean.mean(0)
    spread = np.sqrt(np.square(std).mean(0) + mean.var(0))
    return np.stack([_quantile(lower, upper, centre, spread, len(mean), level) for level in levels])


def _quantile(
    lower: Tail, upper: Tail, centre: NDArray, spread: NDArray, n_samples: int, level: float
) -> NDArray:
    """One level for all cells, by bisection of a bracket of integers."""
    # Cantelli's inequality: P(X <= mean - t) and P(X >= mean + t) are at most 1 / (1 + (t / std)^2). The bracket
    # keeps P(X <= low) < level <= P(X <= high), one further out than the inequality asks, for its rounding.
    odds = level / (1 - level)
    low = np.maximum(np.floor(centre - spread * odds**-0.5) - 1, -1)
    high = np.ceil(centre + spread * odds**0.5) + 1
    cells_at_once = max(1, CELLS_AT_ONCE // max(1, n_samples))
    for begin in range(0, len(centre), cells_at_once):
        cells = np.arange(begin, min(begin + cells_at_once, len(centre)))
        for _ in range(MAX_HALVINGS):
            cells = cells[high[cells] - low[cells] > 1]  # NaN counts as done
            if not len(cells):
                break
            middle = np.floor(0.5 * (low[cells] + high[cells]))
            if level <= 0.5:
                reached = lower(middle, cells).mean(0) >= level
            else:  # the other tail, which does not round to 1
                reached = upper(middle, cells).mean(0) <= 1 - level
            high[cells[reached]] = middle[reached]
            low[cells[~reached]] = middle[~reached]
    return high
