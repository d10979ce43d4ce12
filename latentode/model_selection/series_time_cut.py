"""`SeriesTimeCutSplit`: the past of some series for training, the future of others for the test."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator

from latentode.checks import That, Whole, check_parameters
from latentode.exceptions import DataError
from latentode.model_selection.keys import IntArray, Mask
from latentode.model_selection.long_table import LongTable
from latentode.model_selection.series_k_fold import SeriesKFold
from latentode.model_selection.time_cut import TimeCutSplit, check_cutoffs, nothing_to_test
from latentode.seeding import RandomState


class SeriesTimeCutSplit(BaseCrossValidator):
    """Folds of series, cut in time: learn from the past of some series, forecast the future of others.

    The hardest question, and that of a model in use: new series, later times. For every fold of series and every cutoff
    the training part holds the rows up to the cutoff of the series outside the fold; the test part holds the series of
    the fold that have rows both up to the cutoff and in the horizon after it, with their past *and* their future. Score
    it with `forecast_scorer(cuts=splitter.cuts(df))`.

    Parameters
    ----------
    n_splits : int, default 5
        Folds of series, at least 2.
    n_cutoffs : int, optional
        Number of cutoffs, each with all folds; default: 1, or the number of `cutoffs`.
    horizon, cutoffs, per_series
        As in `TimeCutSplit`.
    shuffle, random_state
        As in `SeriesKFold`.
    id_col, time_col : column names, default "id" and "time"
        As in `LatentODERegressor`; None as `id_col` for one series without an id.
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        n_cutoffs: int | None = None,
        horizon: Any = None,
        cutoffs: Sequence[Any] | ArrayLike | None = None,
        per_series: bool = False,
        shuffle: bool = True,
        random_state: RandomState = None,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
    ) -> None:
        check_parameters(
            type(self).__name__,
            {"n_cutoffs": n_cutoffs},
            {"n_cutoffs": (Whole(1), That(lambda value: value is None, "None"))},
        )
        if cutoffs is not None:
            check_cutoffs(cutoffs, n_cutoffs, per_series, "n_cutoffs")
        self.n_splits = n_splits
        self.n_cutoffs = n_cutoffs
        self.horizon = horizon
        self.cutoffs = cutoffs
        self.per_series = per_series
        self.shuffle = shuffle
        self.random_state = random_state
        self.id_col = id_col
        self.time_col = time_col
        self._by_series()
        self._by_time()

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds times number of cutoffs; the arguments are not looked at."""
        return self.n_splits * self._by_time().get_n_splits()

    def split(
        self, X: pd.DataFrame, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Positions of the training and the test rows: for each cutoff, all folds.

        Parameters
        ----------
        X : DataFrame
            In any form that `LatentODERegressor.fit` takes, rows in any order.
        y, groups
            Not looked at.

        Raises
        ------
        DataError
            When a fold and a cutoff leave nothing to train or to test, or a fold learns the same rows at two cutoffs.
        ValueError
            When cutoffs or horizon do not fit the times.
        """
        table = LongTable.read(X, self.id_col, self.time_col)
        keys = table.keys
        folds = self._by_series().folds(keys)
        seen: list[Mask | None] = [None] * len(folds)
        for cut in self._by_time().at(table):
            for fold, members in enumerate(folds):
                train = cut.past & ~members[keys.codes]
                before, seen[fold] = seen[fold], train
                _check_train(train, before, cut.name, fold)
                tested = members & keys.present(cut.past) & keys.present(cut.future)
                if not tested.any():
                    raise DataError(f"in fold {fold}, {nothing_to_test(cut.name, self.horizon)}")
                test = (cut.past | cut.future) & tested[keys.codes]
                yield np.flatnonzero(train), np.flatnonzero(test)

    def cuts(self, X: pd.DataFrame) -> pd.DataFrame:
        """The last time that belongs to the past, of every series at every cutoff: see `TimeCutSplit.cuts`."""
        return self._by_time().cuts(X)

    def _by_series(self) -> SeriesKFold:
        return SeriesKFold(
            self.n_splits, shuffle=self.shuffle, random_state=self.random_state, id_col=self.id_col
        )

    def _by_time(self) -> TimeCutSplit:
        n_cutoffs = 1 if self.n_cutoffs is None and self.cutoffs is None else self.n_cutoffs
        return TimeCutSplit(
            n_cutoffs,
            horizon=self.horizon,
            cutoffs=self.cutoffs,
            per_series=self.per_series,
            id_col=self.id_col,
            time_col=self.time_col,
        )


def _check_train(train: Mask, before: Mask | None, cut: str, fold: int) -> None:
    if not train.any():
        raise DataError(f"cutoff {cut} leaves nothing to train in fold {fold}: take a later cutoff")
    # otherwise a scorer could not tell from the fitted model at which of the two cutoffs it is asked
    if before is not None and (train == before).all():
        raise DataError(
            f"cutoff {cut} adds no training row to the one before it in fold {fold}: leave one of the two out"
        )
