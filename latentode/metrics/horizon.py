"""How far ahead a forecast looks: bins of the time since the last thing known."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError


def horizon_bins(
    table: pd.DataFrame,
    since: pd.DataFrame | pd.Series | Mapping[Hashable, Any],
    edges: Sequence[Any],
    *,
    id_col: Hashable = "id",
    time_col: Hashable = "time",
) -> pd.Categorical:
    """Bin of the time from each series' last context row to each row of a table, for ``by=`` of any score.

    Parameters
    ----------
    table : DataFrame
        Long table whose rows are scored.
    since : DataFrame, or mapping or Series from id to time
        The last known time of each series; of a long table, the last time of each id.
    edges : sequence
        Increasing borders of the bins, in the unit of the time column; of datetimes, durations such as
        ``pd.Timedelta("1h")`` or ``"1h"``. A bin (a, b] holds its upper end.
    id_col, time_col : column names

    Returns
    -------
    Categorical
        One interval per row, in order of the horizon; missing for rows outside of all bins, such as those no later than
        the context (with edges from 0), which are then not scored.

    Raises
    ------
    DataError
        If a column is missing, a series has no last time, or the times are of two kinds.
    ValueError
        If edges do not increase, or are no durations.

    Examples
    --------
    >>> import pandas as pd
    >>> from latentode.metrics import horizon_bins, mae
    >>> truth = pd.DataFrame({"id": "a", "time": [5.0, 6.0, 9.0], "x": [1.0, 2.0, 3.0]})
    >>> bins = horizon_bins(truth, {"a": 4.0}, edges=[0, 2, 5])
    >>> mae(truth, truth.assign(x=0.0), by=bins).tolist()
    [1.5, 3.0]
    """
    _check_columns("table", table, (id_col, time_col))
    last = _last_times(since, id_col, time_col)
    at = last.index.get_indexer(_index(table[id_col]))
    unknown = table[id_col][at < 0]
    if len(unknown):
        raise DataError(
            f"since has no time for series {unknown.iloc[0]!r}: it must name every series of the table"
        )
    elapsed = _elapsed(table[time_col].reset_index(drop=True), last.iloc[at].reset_index(drop=True))
    borders = _edges(edges, elapsed)
    missing: Any = pd.NaT if borders.dtype.kind == "m" else np.nan
    codes = np.searchsorted(borders, elapsed.to_numpy(borders.dtype, na_value=missing), side="left") - 1
    inside = (codes >= 0) & (codes < len(borders) - 1) & elapsed.notna().to_numpy()
    bins = pd.IntervalIndex.from_breaks(borders)
    return pd.Categorical.from_codes(np.where(inside, codes, -1), categories=bins, ordered=True)


def _check_columns(name: str, table: pd.DataFrame, columns: tuple[Hashable, ...]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise DataError(
            f"{name} has no column {missing[0]!r}, only {list(table.columns)}: name the columns with id_col= "
            "and time_col="
        )


def _last_times(since: Any, id_col: Hashable, time_col: Hashable) -> pd.Series:
    if isinstance(since, pd.DataFrame):
        _check_columns("since", since, (id_col, time_col))
        since = since[time_col].groupby(since[id_col], observed=True, sort=False).max()
    elif not isinstance(since, pd.Series):
        since = pd.Series(list(since.values()), index=_index(list(since)))
    if not since.index.is_unique:
        raise DataError("since has more than one time for a series: give its last known time only")
    return since.set_axis(_index(since.index))


def _index(ids: Any) -> pd.Index:
    """Ids of any type, comparable with those of any other table."""
    return pd.Index(np.asarray(ids, dtype=object), tupleize_cols=False)


def _elapsed(times: pd.Series, last: pd.Series) -> pd.Series:
    try:
        return times - last
    except TypeError as error:
        raise DataError(
            f"the times of the table ({times.dtype}) and of since ({last.dtype}) are of two kinds: {error}"
        ) from error


def _edges(edges: Sequence[Any], elapsed: pd.Series) -> Any:
    """Borders as a sorted array in the unit of the elapsed times."""
    durations = pd.api.types.is_timedelta64_dtype(elapsed.dtype)
    numbers = all(
        isinstance(edge, (int, float, np.number)) and not isinstance(edge, np.timedelta64) for edge in edges
    )
    if durations == numbers:
        expected = (
            'durations, such as pd.Timedelta("1h"), for datetimes'
            if durations
            else "numbers, as the times are"
        )
        raise ValueError(f"edges must be {expected}; got {list(edges)!r}")
    borders = (
        pd.to_timedelta(list(edges)).to_numpy("timedelta64[ns]")
        if durations
        else np.asarray(edges, np.float64)
    )
    if len(borders) < 2 or not (borders[1:] > borders[:-1]).all():
        raise ValueError(f"edges must be two borders at least, increasing; got {list(edges)!r}")
    return borders
