"""Where the context of each series ends, of which the rest is forecast and scored."""

from __future__ import annotations

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.model_selection.cutoffs import ROUNDING
from latentode.model_selection.keys import Keys, Mask, as_ids


def last_of_context(
    keys: Keys, times: pd.Series, seen: pd.Series, cuts: pd.DataFrame | None, share: float | None
) -> pd.Series:
    """Last time (N,) that belongs to the context of each series.

    Parameters
    ----------
    keys, times
        Of the table that is scored.
    seen : Series
        Last training time by id: the answer, for these series.
    cuts, share
        Where other series are cut, as in `forecast_scorer`.
    """
    at = as_ids(seen.index).get_indexer(keys.ids)
    unseen = at < 0
    parts = [seen.iloc[at[~unseen]]]
    if unseen.any():
        parts.append(_of_unseen(keys, times, seen, cuts, share, unseen))
    place = np.argsort(np.concatenate([np.flatnonzero(~unseen), np.flatnonzero(unseen)]))
    joined = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return joined.take(place).reset_index(drop=True)


def _of_unseen(
    keys: Keys,
    times: pd.Series,
    seen: pd.Series,
    cuts: pd.DataFrame | None,
    share: float | None,
    unseen: Mask,
) -> pd.Series:
    if share is not None:
        grouped = times.groupby(keys.codes)
        first, last = grouped.min(), grouped.max()
        return (first + (last - first) * (share + ROUNDING))[unseen]
    if cuts is None:
        return pd.Series(seen.max(), index=range(int(unseen.sum())), dtype=seen.dtype)
    column = _column_of_split(cuts, seen)
    ids = keys.ids[unseen]
    at = as_ids(column.index).get_indexer(ids)
    if (at < 0).any():
        raise DataError(f"cuts has no time for series {ids[at < 0][0]!r}: make it from the whole table")
    return column.iloc[at]


def _column_of_split(cuts: pd.DataFrame, seen: pd.Series) -> pd.Series:
    """The cuts that the training rows were made with: the first that lie nowhere before them."""
    if cuts.shape[1] == 1:
        return cuts.iloc[:, 0]
    at = as_ids(cuts.index).get_indexer(as_ids(seen.index))
    trained = seen[at >= 0].reset_index(drop=True)
    for place in range(cuts.shape[1]):
        if (trained <= cuts.iloc[at[at >= 0], place].reset_index(drop=True)).all():
            return cuts.iloc[:, place]
    raise DataError(
        f"the estimator was trained beyond all of the {cuts.shape[1]} columns of cuts: give the one that is meant, "
        "such as cuts.iloc[:, 0]"
    )
