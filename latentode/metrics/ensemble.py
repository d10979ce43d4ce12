"""Scores of forecasts that are given as samples."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.metrics.cells import Array, Cells, Score, align
from latentode.metrics.point import Values


def crps_samples(
    truth: Values,
    samples: Values,
    *,
    fair: bool = False,
    per_target: bool = False,
    by: Any = None,
    sample_col: Hashable = "sample",
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean continuous ranked probability score of samples, in the unit of the target: lower is better.

    .. math:: \\frac1S \\sum_i |x_i - y| - \\frac{1}{2 S M} \\sum_{i,j} |x_i - x_j|

    with M = S, the score of the samples' empirical distribution, or M = S − 1 with ``fair``. For any likelihood; of a
    Gaussian, :func:`latentode.metrics.crps_gaussian` is exact. Costs O(S log S) per cell.

    Parameters
    ----------
    truth : array ``(..., D)``, or long table
    samples : array ``(S, ..., D)``, or long table
        The table that ``LatentODERegressor.sample`` returns: the rows of the truth, in its order, for each value of
        the column ``sample_col``. A cell with a NaN in any sample is not scored; columns that only the truth has, such
        as controls, are not looked at.
    fair : bool, default False
        Whether to score the distribution that the samples were drawn from, without bias, instead of their own. Fair
        scores of different numbers of samples compare; a single one may be negative.
    per_target, by, id_col, time_col
        As in :func:`latentode.metrics.mse`.
    sample_col : column name, default "sample"

    Returns
    -------
    float, or as in :func:`latentode.metrics.mse`

    Raises
    ------
    DataError, ValueError
        As :func:`latentode.metrics.mse`; ValueError also for a fair score of a single sample.

    References
    ----------
    Gneiting and Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 102 (2007), section 4.2.
    Ferro, "Fair scores for ensemble forecasts", Quarterly Journal of the Royal Meteorological Society 140 (2014).
    """
    cells = sample_cells(truth, samples, sample_col, id_col, time_col, by)
    errors = np.stack(cells.arrays[1:]) - cells.arrays[0]  # (S, ..., D)
    n = len(errors)
    if fair and n < 2:
        raise ValueError(f"fair=True needs at least 2 samples, got {n}: draw more, or use fair=False")
    distance = np.abs(errors).mean(axis=0)
    return cells.mean(distance - _half_spread(errors, n * (n - 1 if fair else n)), per_target)


def _half_spread(errors: Array, pairs: int) -> Array:
    """Half the sum over all pairs of their distance, by their number.

    Of the i-th smallest of S (from 0), i are smaller and S − 1 − i are larger: it counts (2i − S + 1) times.
    """
    n = len(errors)
    weights = (2.0 * np.arange(n) - n + 1) / pairs
    return np.tensordot(weights, np.sort(errors, axis=0), axes=1)


def sample_cells(
    truth: Values, samples: Values, sample_col: Hashable, id_col: str | None, time_col: str, by: Any = None
) -> Cells:
    """Cells of the truth and, as further arrays, of every sample."""
    if isinstance(samples, pd.DataFrame):
        drawn = _samples_of_table(samples, sample_col)
        if isinstance(truth, pd.DataFrame):  # samples say which of its columns are targets
            truth = truth[[name for name in truth.columns if name in samples.columns or name == by]]
    else:
        array = np.asarray(samples, dtype=np.float64)
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"samples must have shape (S, ..., D) with S of at least 1, got {array.shape}")
        drawn = {f"samples[{i}]": sample for i, sample in enumerate(array)}
        if not isinstance(truth, pd.DataFrame) and np.shape(truth) != array.shape[1:]:
            raise ValueError(
                f"samples must have the shape of the truth behind an axis of samples, (S, *{np.shape(truth)}); "
                f"got {array.shape}"
            )
    return align({"truth": truth, **drawn}, id_col, time_col, by)


def _samples_of_table(samples: pd.DataFrame, sample_col: Hashable) -> dict[str, pd.DataFrame]:
    if sample_col not in samples.columns:
        raise DataError(
            f"samples has no column {sample_col!r}, only {list(samples.columns)}: name the column that counts the "
            "samples with sample_col="
        )
    if samples[sample_col].isna().any() or len(samples) == 0:
        raise DataError(
            f"column {sample_col!r} of samples must name the sample of every row, and of one at least"
        )
    blocks = samples.groupby(samples[sample_col], sort=False, observed=True)
    return {f"sample {label!r}": block.drop(columns=[sample_col]) for label, block in blocks}
