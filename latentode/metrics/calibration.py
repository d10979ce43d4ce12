"""Whether forecasts are as sure as they should be: where the truth falls in the predicted distributions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr

from latentode.metrics.cells import Array, align
from latentode.metrics.ensemble import sample_cells
from latentode.metrics.gaussian import gaussian_cells
from latentode.metrics.point import Values

LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
ROUNDING = 1e-9  # of |2 PIT - 1|: the end of an interval belongs to it, as in interval_coverage


def pit_gaussian(
    truth: Values, mean: Values, std: Values, *, id_col: str | None = "id", time_col: str = "time"
) -> Any:
    """Probability integral transform under N(mean, std²): the share of each forecast that lies below the truth.

    Uniform on [0, 1] for honest forecasts; heaped at both ends for overconfident ones, in the middle for timid ones.

    Parameters
    ----------
    truth, mean, std : arrays of one shape ``(..., D)``, or long tables with the same rows in the same order
        As in :func:`latentode.metrics.gaussian_log_score`.
    id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    array ``(..., D)``, or for tables a table with the keys and the index of the truth
        NaN where the truth or the forecast is.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.gaussian_log_score`.
    """
    cells = gaussian_cells(truth, mean, std, id_col, time_col)
    actual, centre, spread = cells.arrays
    return cells.like_truth(ndtr((actual - centre) / spread), truth, id_col, time_col)


def pit_samples(
    truth: Values,
    samples: Values,
    *,
    sample_col: Hashable = "sample",
    id_col: str | None = "id",
    time_col: str = "time",
) -> Any:
    """Probability integral transform under samples: the rank of the truth among itself and the samples.

    .. math:: \\frac{\\#\\{x_i < y\\} + \\tfrac12 \\#\\{x_i = y\\} + \\tfrac12}{S + 1}

    the middle of the interval that is the truth's share, so that a truth drawn like the samples has no bias to the
    ends. Ties take the middle rank: of counts with few values the result is narrower than uniform.

    Parameters
    ----------
    truth, samples, sample_col
        As in :func:`latentode.metrics.crps_samples`.
    id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    array ``(..., D)``, or for tables a table with the keys and the index of the truth
        NaN where the truth or a sample is.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.crps_samples`.
    """
    cells = sample_cells(truth, samples, sample_col, id_col, time_col)
    actual, drawn = cells.arrays[0], np.stack(cells.arrays[1:])
    below = (drawn < actual).sum(axis=0) + 0.5 * (drawn == actual).sum(axis=0)
    pit = np.where(cells.scored, (below + 0.5) / (len(drawn) + 1), np.nan)
    return cells.like_truth(pit, truth, id_col, time_col)


def calibration_curve(
    pit: Values,
    nominal: Sequence[float] | ArrayLike = LEVELS,
    *,
    per_target: bool = False,
    id_col: str | None = "id",
    time_col: str = "time",
) -> pd.DataFrame:
    """Coverage that central intervals have, against the coverage that they should have.

    The central interval of coverage c reaches from the (1 − c)/2 to the (1 + c)/2 quantile of the forecast; the truth
    lies in it where |2 PIT − 1| ≤ c. On the diagonal, forecasts are honest; below it, overconfident. Intervals may
    cover what they should and yet be wider than need be: look at a score such as the CRPS, too.

    Parameters
    ----------
    pit : array ``(..., D)``, or long table
        From :func:`pit_gaussian` or :func:`pit_samples`; NaN cells are not counted.
    nominal : sequence of numbers between 0 and 1, default 0.05, 0.1, ..., 0.95
    per_target : bool, default False
        One column per target instead of one over all cells.
    id_col, time_col
        As in :func:`latentode.metrics.mse`.

    Returns
    -------
    DataFrame
        Columns `nominal` and `observed`, or with ``per_target`` `nominal` and the names of the targets (their numbers,
        for arrays); one row per level, in the order given. See :func:`latentode.plotting.plot_calibration`.

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.mse`; ValueError also if levels or values are not between 0 and 1.

    References
    ----------
    Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", Journal of the Royal
    Statistical Society B 69 (2007).
    """
    levels = _levels(nominal)
    cells = align({"pit": pit}, id_col, time_col)
    values = cells.arrays[0]
    cells.require((values >= 0) & (values <= 1), "PIT values must lie between 0 and 1")
    if per_target and cells.targets is not None and "nominal" in cells.targets:
        raise ValueError("the curve needs the name 'nominal' for its own column: rename that of the table")
    needed = np.abs(2 * values - 1)  # coverage of the smallest central interval that holds the truth
    covered = [cells.mean((needed <= level + ROUNDING).astype(np.float64), per_target) for level in levels]
    if not per_target:
        return pd.DataFrame({"nominal": levels, "observed": covered})
    curve = pd.DataFrame(np.array(covered), columns=cells.targets)
    curve.insert(0, "nominal", levels)
    return curve


def _levels(nominal: Any) -> Array:
    levels = np.atleast_1d(np.asarray(nominal, dtype=np.float64))
    if levels.ndim != 1 or levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"nominal must be coverages strictly between 0 and 1, such as 0.9; got {nominal!r}")
    return levels
