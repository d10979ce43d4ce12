"""At which times of which series the truth is wanted."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from latentode.exceptions import DataError

Times = ArrayLike | pd.DataFrame


def asked_rows(times: Times, n_series: int) -> pd.DataFrame:
    """The rows of an answer, as the estimators' `predict` has them.

    Parameters
    ----------
    times : sequence of float, or DataFrame
        Times for every series, or a table with columns `id` and `time`, whose other columns are ignored.
    n_series : int
        The series are called 0 to `n_series` - 1.

    Returns
    -------
    DataFrame
        Columns `id` (int) and `time` (float), with a fresh index: the rows of the table in its order, or the series
        one after another with all times each.

    Raises
    ------
    DataError
        For a missing column, an unknown series, or a time that is no finite number.
    """
    if isinstance(times, pd.DataFrame):
        rows = _rows_of_table(times, n_series)
    else:
        each = np.asarray(times, dtype=float).ravel()
        rows = pd.DataFrame(
            {"id": np.repeat(np.arange(n_series), len(each)), "time": np.tile(each, n_series)}
        )
    if not np.isfinite(rows["time"]).all():
        raise DataError(f"times must be finite; got {rows['time'][~np.isfinite(rows['time'])].iloc[0]}")
    return rows


def _rows_of_table(table: pd.DataFrame, n_series: int) -> pd.DataFrame:
    missing = [name for name in ("id", "time") if name not in table.columns]
    if missing:
        raise DataError(
            f"no column {missing[0]!r} in the table of times; its columns are {list(table.columns)}"
        )
    unknown = table["id"][~table["id"].isin(range(n_series))]
    if len(unknown):
        raise DataError(f"there is no series {unknown.tolist()[0]!r}; the series are 0 to {n_series - 1}")
    return table[["id", "time"]].astype({"id": int, "time": float}).reset_index(drop=True)
