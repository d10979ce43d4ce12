"""Labels of a categorical target, as codes and back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode.exceptions import DataError
from latentode.series.columns import plain
from latentode.series.plain_values import as_plain, from_plain
from latentode.series.table import FloatArray


@dataclass(frozen=True)
class Categories:
    """The labels of one column, learned in `fit`.

    Parameters
    ----------
    labels : tuple of hashable (C,)
        In increasing order, or in that of the column's own categories; the code of a label is its position.
    is_categorical : bool
        Whether the column was a pandas categorical, as answers are then.
    ordered : bool
        Whether that had an order.
    """

    labels: tuple[Hashable, ...]
    is_categorical: bool = False
    ordered: bool = False

    @classmethod
    def learn(cls, column: pd.Series) -> Categories:
        """Labels of a training column; all categories of a pandas categorical, also those that do not occur.

        Raises
        ------
        DataError
            When there are fewer than two.
        """
        if isinstance(column.dtype, pd.CategoricalDtype):
            labels, ordered = list(column.cat.categories), bool(column.cat.ordered)
        else:
            labels, ordered = _sorted(column.dropna().unique()), False
        infinite = [plain(label) for label in labels if isinstance(label, Real) and np.isinf(float(label))]
        if infinite:
            raise DataError(
                f"categorical target {column.name!r} has the label {infinite[0]}: numbers as labels must be finite; "
                "use NaN for labels that were not observed"
            )
        if len(labels) < 2:
            shown = [plain(label) for label in labels]
            raise DataError(
                f"categorical target {column.name!r} has the labels {shown}: a category needs two or more"
            )
        return cls(tuple(labels), isinstance(column.dtype, pd.CategoricalDtype), ordered)

    def __len__(self) -> int:
        return len(self.labels)

    def codes(self, column: pd.Series, where: Callable[[int], str]) -> FloatArray:
        """Codes (R,), NaN where the label is missing.

        Raises
        ------
        DataError
            For a label that the training did not have; `where` names its row.
        """
        found = pd.Index(self.labels, dtype=object).get_indexer(pd.Index(column, dtype=object))
        missing = column.isna().to_numpy(dtype=bool)
        unknown = (found < 0) & ~missing
        if unknown.any():
            row = int(unknown.argmax())
            raise DataError(
                f"unknown label {column.iloc[row]!r} of the categorical target {column.name!r} at {where(row)}: the "
                f"training had {list(self.labels)}"
            )
        return np.where(missing, np.nan, found.astype(np.float64))

    def decode(self, codes: NDArray) -> Any:
        """Labels (R,) of codes, as a categorical or in the type of the labels."""
        positions = np.asarray(codes).round().astype(np.int64)
        if self.is_categorical:
            dtype = pd.CategoricalDtype(list(self.labels), ordered=self.ordered)
            return pd.Categorical.from_codes(positions, dtype=dtype)
        labels = np.empty(len(self.labels), dtype=object)
        labels[:] = self.labels
        return pd.Series(labels[positions]).infer_objects().array

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold."""
        labels = as_plain(list(self.labels))
        return {"labels": labels, "is_categorical": self.is_categorical, "ordered": self.ordered}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Categories:
        """The categories that `state()` came from."""
        return cls(tuple(from_plain(state["labels"])), state["is_categorical"], state["ordered"])


def _sorted(labels: Any) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:  # labels of several types
        return sorted(labels, key=lambda label: (type(label).__name__, str(label)))
