"""Which series and which time each row of a long table belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.series.columns import factorize

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
    def of(cls, column: pd.Series) -> Keys:
        """Keys of a column of ids, checked."""
        codes, found = factorize(column)
        names = as_ids(found)
        order = _sorted(names)
        return cls(names[order], np.argsort(order)[codes])

    def __len__(self) -> int:
        return len(self.ids)

    def present(self, rows: Mask) -> Mask:
        """Which series (N,) have one of these rows (R,)."""
        return np.bincount(self.codes[rows], minlength=len(self)) > 0


def as_ids(names: Any) -> pd.Index:
    """Names of series of any type, comparable with those of any other table."""
    return pd.Index(np.fromiter(names, dtype=object, count=len(names)), tupleize_cols=False)


def _sorted(names: pd.Index) -> IntArray:
    try:
        order = names.argsort()
    except TypeError:  # ids of several types
        order = np.argsort([f"{type(name).__name__} {name!r}" for name in names])
    return np.asarray(order, dtype=np.int64)
