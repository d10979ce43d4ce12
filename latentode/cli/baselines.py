"""What a forecast must beat: the last value, the mean, the last year once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def last_value(known: pd.DataFrame, asked: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """The last observation of each series and target before the forecast; where there is none, the target's mean.

    Parameters
    ----------
    known, asked : DataFrame
        Long tables with `id` and `time`: observations, and the rows to forecast.
    targets : sequence of str

    Returns
    -------
    DataFrame
        Rows of `asked`.
    """
    last = known.sort_values("time", kind="stable").groupby("id")[list(targets)].last()
    return _per_series(last, asked, known[list(targets)].mean())


def series_mean(known: pd.DataFrame, asked: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """The mean of each series and target before the forecast; where there is none, the target's mean."""
    means = known.groupby("id")[list(targets)].mean()
    return _per_series(means, asked, known[list(targets)].mean())


def constant(values: pd.Series, asked: pd.DataFrame) -> pd.DataFrame:
    """The same values, one per target, for all rows of `asked`."""
    answer = asked[["id", "time"]].copy()
    answer[list(values.index)] = values.to_numpy()
    return answer


def last_year(known: pd.DataFrame, asked: pd.DataFrame, targets: Sequence[str]) -> pd.DataFrame:
    """The last observed year once more, by day of the year: for one series with datetimes."""
    year = known[known["time"] > known["time"].max() - pd.DateOffset(years=1)]
    answer = asked[["id", "time"]].copy()
    for target in targets:
        seen = year.dropna(subset=[target])
        day = seen["time"].dt.day_of_year.to_numpy(dtype=float)
        order = np.argsort(day)
        answer[target] = np.interp(
            asked["time"].dt.day_of_year, day[order], seen[target].to_numpy()[order], period=365.25
        )
    return answer


def _per_series(values: pd.DataFrame, asked: pd.DataFrame, otherwise: pd.Series) -> pd.DataFrame:
    found = values.reindex(asked["id"]).fillna(otherwise).set_axis(asked.index)
    return pd.concat([asked[["id", "time"]], found], axis=1)
