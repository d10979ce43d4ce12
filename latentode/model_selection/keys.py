"""Which series and which time each row of a long table belongs to."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.checks import did_you_mean
from latentode.exceptions import DataError
from latentode.series.columns import check_frame, factorize
from latentode.series.times import time_kind

IntArray = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Keys:
    """Series of a long table of R rows.

    Parameters
    ----------
    ids : pandas Index (N,), of objects
        Names of the series, sorted, so that the order of the caller's rows decides nothing.
    codes : array (R,)
        Position in `ids` of each row's series.
    """

    ids: pd.Index
    codes: IntArray

    @classmethod
    def read(cls, X: Any, id_col: Hashable) -> Keys:
        """Keys of a data frame, checked."""
        check_frame(X)
        check_column(X, id_col, "id_col")
        codes, found = factorize(X[id_col])
        names = as_ids(found)
        order = _sorted(names)
        return cls(names[order], np.argsort(order)[codes])

    def __len__(self) -> int:
        return len(self.ids)

    def present(self, rows: Mask) -> Mask:
        """Which series (N,) have one of these rows (R,)."""
        return np.bincount(self.codes[rows], minlength=len(self)) > 0


def read_times(X: pd.DataFrame, time_col: Hashable) -> pd.Series:
    """The times of a data frame, checked, with a fresh index."""
    check_column(X, time_col, "time_col")
    times = X[time_col].reset_index(drop=True)
    kind, _ = time_kind(times)
    missing = times.isna().to_numpy()
    if missing.any():
        raise DataError(f"missing time (NaN or NaT) in row {int(missing.argmax())}: every row needs a time")
    if kind == "numeric" and not np.isfinite(times.to_numpy(dtype=np.float64)).all():
        raise DataError(f"infinite time in column {time_col!r}: times must be finite")
    return times


def check_column(X: pd.DataFrame, name: Hashable, role: str) -> None:
    """Refuse a table without a column, with the name that was probably meant."""
    if name not in X.columns:
        raise DataError(
            f"no column {name!r}; the columns are {list(X.columns)}: name it with {role}="
            + did_you_mean(name, map(str, X.columns))
            + (f" ({name!r} is in the index: use df.reset_index())" if name in X.index.names else "")
        )


def as_ids(names: Any) -> pd.Index:
    """Names of series of any type, comparable with those of any other table."""
    return pd.Index(np.fromiter(names, dtype=object, count=len(names)), tupleize_cols=False)


def _sorted(names: pd.Index) -> IntArray:
    try:
        order = names.argsort()
    except TypeError:  # ids of several types
        order = np.argsort([f"{type(name).__name__} {name!r}" for name in names])
    return np.asarray(order, dtype=np.int64)
