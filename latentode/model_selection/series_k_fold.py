"""`SeriesKFold`: folds of whole series."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator

from latentode.checks import OneOf, Whole, check_parameters
from latentode.exceptions import DataError
from latentode.model_selection.keys import IntArray, Keys, Mask
from latentode.model_selection.long_table import read_keys
from latentode.seeding import RandomState, numpy_generator


class SeriesKFold(BaseCrossValidator):
    """Folds of whole series: each is in the test part once, and no series is in both parts.

    For models that meet new series. They say nothing about forecasts of the future: there every other series was seen
    to its end (see `SeriesTimeCutSplit`).

    Parameters
    ----------
    n_splits : int, default 5
        At least 2.
    shuffle : bool, default True
        Whether to draw the folds; otherwise they follow the sorted ids.
    random_state : int, Generator, RandomState or None, default None
        An int draws the same folds every time, whatever the order of the rows. Only with `shuffle`.
    id_col : column name, default "id"
        Or the name of a level of the index.

    Examples
    --------
    >>> from latentode.datasets import make_spirals
    >>> from latentode.model_selection import SeriesKFold
    >>> df = make_spirals(n_series=6, n_obs=10, random_state=0)
    >>> for train, test in SeriesKFold(3, shuffle=False).split(df):
    ...     print(df["id"].iloc[test].unique())
    [0 1]
    [2 3]
    [4 5]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        shuffle: bool = True,
        random_state: RandomState = None,
        id_col: Hashable = "id",
    ) -> None:
        given = {"n_splits": n_splits, "shuffle": shuffle}
        check_parameters(
            type(self).__name__, given, {"n_splits": (Whole(2),), "shuffle": (OneOf([True, False]),)}
        )
        if random_state is not None and not shuffle:
            raise ValueError(
                "random_state has no effect with shuffle=False: leave it out, or set shuffle=True"
            )
        numpy_generator(random_state)
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state
        self.id_col = id_col

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds; the arguments are not looked at."""
        return self.n_splits

    def split(
        self, X: pd.DataFrame, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Positions of the training and the test rows of every fold.

        Parameters
        ----------
        X : DataFrame
            In any form that `LatentODERegressor.fit` takes, rows in any order.
        y, groups
            Not looked at.

        Raises
        ------
        DataError
            When there are fewer series than folds, or no id column.
        """
        keys = read_keys(X, self.id_col)
        for tested in self.folds(keys):
            test = tested[keys.codes]
            yield np.flatnonzero(~test), np.flatnonzero(test)

    def folds(self, keys: Keys) -> list[Mask]:
        """Which series (N,) are tested in each fold."""
        n_series = len(keys)
        if n_series < self.n_splits:
            raise DataError(
                f"{self.n_splits} folds need as many series, the table has {n_series}: take fewer folds, or cut by "
                "time (TimeCutSplit)"
            )
        order = np.arange(n_series)
        if self.shuffle:
            order = numpy_generator(self.random_state).permutation(n_series)
        tested = np.zeros((self.n_splits, n_series), dtype=bool)
        for fold, members in enumerate(np.array_split(order, self.n_splits)):
            tested[fold, members] = True
        return list(tested)
