"""Groups of rows that are scored on their own: series, bins of the horizon, any labels."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.checks import did_you_mean
from latentode.exceptions import DataError


@dataclass(frozen=True)
class Groups:
    """The group of every row.

    Parameters
    ----------
    codes : array (R,)
        Position in `names` of each row's group, -1 for a row without a label, which is not scored.
    names : pandas Index (G,)
        Labels that occur, sorted; those of a categorical in the order of its categories.
    """

    codes: NDArray[np.intp]
    names: pd.Index

    @classmethod
    def of(cls, labels: Any, n_rows: int) -> Groups:
        """Groups of rows with equal labels; an index of the labels means nothing, they go by position."""
        if isinstance(labels, str) or not hasattr(labels, "__len__"):
            raise ValueError(
                f"by must be labels, one per row, or for tables the name of a column; got {labels!r}"
            )
        if np.ndim(labels) != 1 or len(labels) != n_rows:
            raise ValueError(f"by must have one label per row, shape ({n_rows},); got {_shape(labels)}")
        column = pd.Series(labels).reset_index(drop=True)
        grouped = column.groupby(column, observed=True)
        names = grouped.size().index
        if len(names) == 0:
            raise ValueError("nothing to score: every label in by is missing")
        return cls(grouped.ngroup().fillna(-1).to_numpy().astype(np.intp), names)


def column_to_group_by(by: Any, name: str, table: pd.DataFrame) -> Hashable | None:
    """`by` if it names a column of the table; None if there are no groups or they are given as labels."""
    if by is None or (not isinstance(by, (str, tuple)) and not np.isscalar(by)):
        return None
    if by not in table.columns:
        columns = list(table.columns)
        raise DataError(
            f"by={by!r} is no column of {name}, which has {columns}{did_you_mean(by, map(str, columns))}"
        )
    return by


def _shape(labels: Any) -> str:
    return f"shape {np.shape(labels)}"
