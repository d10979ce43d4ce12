"""`TimeCutSplit`: the past of every series for training, its future for the test."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator

from latentode.checks import OneOf, That, Whole, check_parameters
from latentode.exceptions import DataError
from latentode.model_selection.cutoffs import (
    ROUNDING,
    check_sequence,
    check_shares,
    end_of,
    read_cutoffs,
    read_horizon,
    spread_cutoffs,
    spread_shares,
)
from latentode.model_selection.instants import as_told, in_dtype_of
from latentode.model_selection.keys import IntArray, Mask
from latentode.model_selection.long_table import LongTable

N_SPLITS = 3
CONSTRAINTS = {
    "n_splits": (Whole(1), That(lambda value: value is None, "None")),
    "per_series": (OneOf([True, False]),),
}


class Cut(NamedTuple):
    """One split of a table: its name for messages, and the rows (R,) before the cut and in the horizon after it."""

    name: str
    past: Mask
    future: Mask


class TimeCutSplit(BaseCrossValidator):
    """Rolling origin: learn from what is known at a cutoff, and forecast the same series from there.

    The training part holds all rows up to the cutoff. The test part holds the series that have rows both up to the
    cutoff and in the horizon after it, with their past, from which an estimator forecasts, *and* their future: score it
    with `forecast_scorer`, which knows where the future begins. (The two parts share the past, so this is no splitter
    for `cross_val_predict`.)

    Parameters
    ----------
    n_splits : int, optional
        Number of cutoffs; default: 3, or the number of `cutoffs`.
    horizon : number, or duration for other times, optional
        How far after the cutoff rows are tested, the end included; default: all later rows. Periods count by their
        starts.
    cutoffs : sequence, optional
        Increasing times of the same kind as those of the table (periods also of the same frequency), the last ones that
        belong to the past; with `per_series`, shares of each series' span, numbers
        in (0, 1). Default: such that the horizons lie end to end up to the last time of the table; without a horizon,
        or with `per_series`, equally spaced.
    per_series : bool, default False
        Whether each series is cut on a clock of its own, for series that do not share one, such as patients.
    id_col, time_col : column names, default "id" and "time"
        As in `LatentODERegressor`; None as `id_col` for one series without an id.

    Examples
    --------
    >>> import pandas as pd
    >>> from latentode.model_selection import TimeCutSplit
    >>> df = pd.DataFrame({"id": "a", "time": range(8), "x": 1.0})
    >>> for train, test in TimeCutSplit(2, horizon=2).split(df):
    ...     print(train, test)
    [0 1 2 3] [0 1 2 3 4 5]
    [0 1 2 3 4 5] [0 1 2 3 4 5 6 7]
    """

    def __init__(
        self,
        n_splits: int | None = None,
        *,
        horizon: Any = None,
        cutoffs: Sequence[Any] | ArrayLike | None = None,
        per_series: bool = False,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
    ) -> None:
        check_parameters(type(self).__name__, {"n_splits": n_splits, "per_series": per_series}, CONSTRAINTS)
        if cutoffs is not None:
            check_cutoffs(cutoffs, n_splits, per_series, "n_splits")
        self.n_splits = n_splits
        self.horizon = horizon
        self.cutoffs = cutoffs
        self.per_series = per_series
        self.id_col = id_col
        self.time_col = time_col

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of cutoffs; the arguments are not looked at."""
        if self.cutoffs is not None:
            return len(self.cutoffs)  # type: ignore[arg-type]
        return N_SPLITS if self.n_splits is None else self.n_splits

    def split(
        self, X: pd.DataFrame, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Positions of the training and the test rows of every split.

        Parameters
        ----------
        X : DataFrame
            In any form that `LatentODERegressor.fit` takes, rows in any order.
        y, groups
            Not looked at.

        Raises
        ------
        DataError
            When a cutoff leaves nothing to train or to test.
        ValueError
            When cutoffs or horizon do not fit the times.
        """
        table = LongTable.read(X, self.id_col, self.time_col)
        keys = table.keys
        for cut in self.at(table):
            tested = keys.present(cut.past) & keys.present(cut.future)
            if not tested.any():
                raise DataError(nothing_to_test(cut.name, self.horizon))
            test = (cut.past | cut.future) & tested[keys.codes]
            yield np.flatnonzero(cut.past), np.flatnonzero(test)

    def cuts(self, X: pd.DataFrame) -> pd.DataFrame:
        """The last time that belongs to the past, of every series in every split.

        Parameters
        ----------
        X : DataFrame
            In any form that `LatentODERegressor.fit` takes.

        Returns
        -------
        DataFrame
            One row per series, one column per split, named by its cutoff (a time or a share). Of periods, the
            last one that has begun.
        """
        table = LongTable.read(X, self.id_col, self.time_col)
        cutoffs = self._cutoffs(table)
        columns = [as_told(self._per_series(cutoff, table), table.told) for cutoff in cutoffs]
        names = pd.Index(cutoffs if self.per_series else as_told(pd.Series(cutoffs), table.told).array)
        return (
            pd.concat(columns, axis=1).set_axis(table.keys.ids.rename(table.id_col)).set_axis(names, axis=1)
        )

    def at(self, table: LongTable) -> Iterator[Cut]:
        """Past and future of every split."""
        times, told = table.times, table.told
        horizon = read_horizon(self.horizon, told)
        for cutoff in self._cutoffs(table):
            last = self._per_series(cutoff, table).take(table.keys.codes).reset_index(drop=True)
            past = (times <= last).to_numpy(dtype=bool)
            future = ~past
            if horizon is not None:
                future &= (times <= end_of(last, horizon)).to_numpy(dtype=bool)
            name = (
                f"{cutoff:g} of each series' span"
                if self.per_series
                else str(as_told(pd.Series([cutoff]), told)[0])
            )
            if not past.any():
                raise DataError(f"cutoff {name} leaves nothing to train: the first time is {told.min()}")
            yield Cut(name, past, future)

    def _cutoffs(self, table: LongTable) -> list[Any]:
        n = self.get_n_splits()
        if self.per_series:
            return spread_shares(n) if self.cutoffs is None else check_shares(self.cutoffs)  # type: ignore[arg-type]
        if self.cutoffs is not None:
            return read_cutoffs(self.cutoffs, table.told)  # type: ignore[arg-type]
        return spread_cutoffs(n, read_horizon(self.horizon, table.told), table.times)

    def _per_series(self, cutoff: Any, table: LongTable) -> pd.Series:
        """Last time (N,) of each series' past."""
        if not self.per_series:
            return in_dtype_of(table.times, [cutoff]).repeat(len(table.keys)).reset_index(drop=True)
        grouped = table.times.groupby(table.keys.codes)
        first, last = grouped.min(), grouped.max()
        return first + (last - first) * (cutoff + ROUNDING)


def check_cutoffs(cutoffs: Any, number: int | None, per_series: bool, name: str) -> None:
    """Refuse cutoffs that fit no table, and another number beside them (of the argument `name`)."""
    check_sequence(cutoffs)
    if number is not None and number != len(cutoffs):
        raise ValueError(f"{name}={number} and {len(cutoffs)} cutoffs do not agree: leave {name} out")
    if per_series:
        check_shares(cutoffs)


def nothing_to_test(name: str, horizon: Any) -> str:
    """What to do about a cutoff without a future."""
    within = "" if horizon is None else f" within a horizon of {horizon}"
    return (
        f"cutoff {name} leaves nothing to test: no series has rows both up to it and after it{within}; take an earlier "
        "cutoff" + ("" if horizon is None else " or a longer horizon")
    )
