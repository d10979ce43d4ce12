"""Scores of point forecasts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from latentode.metrics.cells import Score, align

Values = ArrayLike | pd.DataFrame


def mse(
    truth: Values,
    prediction: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean squared error over all cells that are NaN in neither argument.

    Targets of different units are mixed unless ``per_target``; see :func:`standardised_mse`.

    Parameters
    ----------
    truth, prediction : arrays of one shape ``(..., D)``, or long tables with the same rows in the same order
        In a table every column but id and time is a target. A number stands for a constant forecast.
    per_target : bool
        One score for each target instead of one over all cells.
    by : column name, or labels (one per row), optional
        One score for each group of rows: ``by="id"`` is a score per series. A column named here is no target;
        labels go by position, rows are the entries of the first axis, and a row whose label is missing is not
        scored. See :func:`latentode.metrics.horizon_bins`.
    id_col, time_col : str
        The key columns of tables, whose values must agree in every row; ``id_col=None`` for one series
        without an id.

    Returns
    -------
    float, or with ``per_target`` an array ``(D,)``, for tables a Series indexed by target
        In the unit of the target, squared; NaN for a target without a scored cell. With ``by`` a Series indexed
        by group, with ``per_target`` a DataFrame (groups, targets).

    Raises
    ------
    DataError
        If tables differ in rows or columns.
    ValueError
        If shapes differ, tables and arrays are mixed, labels do not fit the rows, or every cell is NaN.
    """
    cells = align({"truth": truth, "prediction": prediction}, id_col, time_col, by)
    actual, forecast = cells.arrays
    return cells.mean((actual - forecast) ** 2, per_target)


def rmse(
    truth: Values,
    prediction: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Root of the mean squared error, in the unit of the target; arguments and errors as :func:`mse`.

    The mean below the root runs over all cells (of a group, of all targets): the score of a whole is not the mean
    of the scores of its groups.
    """
    return mse(truth, prediction, per_target=per_target, by=by, id_col=id_col, time_col=time_col) ** 0.5


def mae(
    truth: Values,
    prediction: Values,
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean absolute error, in the unit of the target; arguments and errors as :func:`mse`."""
    cells = align({"truth": truth, "prediction": prediction}, id_col, time_col, by)
    actual, forecast = cells.arrays
    return cells.mean(np.abs(actual - forecast), per_target)


def standardised_mse(
    truth: Values,
    prediction: Values,
    loc: float | ArrayLike | Mapping[Hashable, float],
    scale: float | ArrayLike | Mapping[Hashable, float],
    *,
    per_target: bool = False,
    by: Any = None,
    id_col: str | None = "id",
    time_col: str = "time",
) -> Score:
    """Mean squared error after ``(value - loc) / scale``: one number for targets of different units.

    With the mean and standard deviation of the training rows, forecasting each target's training mean scores
    about 1.

    Parameters
    ----------
    truth, prediction, per_target, by, id_col, time_col
        As in :func:`mse`.
    loc, scale : a number, D numbers, or a mapping or Series from target to number
        Mean and standard deviation of each target in the training rows, in the unit of the target. ``loc``
        cancels in the difference; it is taken so that a scaler's pair can be passed on as it is.

    Returns
    -------
    float, array ``(D,)`` or Series
        Squared training standard deviations.

    Raises
    ------
    DataError, ValueError
        As :func:`mse`; ValueError also if a ``scale`` is not positive or does not fit the targets.
    """
    cells = align({"truth": truth, "prediction": prediction}, id_col, time_col, by)
    actual, forecast = cells.arrays
    centre, spread = cells.one_per_target("loc", loc), cells.one_per_target("scale", scale)
    if not np.all(spread > 0):
        raise ValueError(
            f"scale must be positive for every target, got {spread.tolist()}: drop constant targets or set 1"
        )
    return cells.mean(((actual - centre) / spread - (forecast - centre) / spread) ** 2, per_target)
