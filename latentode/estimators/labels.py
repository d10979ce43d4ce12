"""Labels of series or of rows, in the forms that a caller may have them, as codes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from latentode.checks import did_you_mean
from latentode.exceptions import DataError
from latentode.series import SeriesTable

UNLABELLED = -1


class Labels(NamedTuple):
    """Codes of labels, -1 where there is none, and the classes in the order of their codes."""

    codes: NDArray[np.int64]
    classes: NDArray[Any]


def row_labels(df: pd.DataFrame, labels: Any) -> pd.Series:
    """One label per row of `df`: a column of it by name, or anything of its length.

    Raises
    ------
    DataError
    """
    if isinstance(labels, Hashable) and not isinstance(labels, tuple):
        if labels not in df.columns:
            raise DataError(
                f"labels names the column {labels!r}, which the table does not have"
                f"{did_you_mean(labels, map(str, df.columns))}; its columns are {list(df.columns)}"
            )
        return df[labels]
    values = labels.to_numpy() if isinstance(labels, pd.Series) else labels
    if len(values) != len(df):
        raise DataError(f"labels must have one entry per row of the table, {len(df)}; got {len(values)}")
    return pd.Series(list(values), index=df.index)


def series_labels(df: pd.DataFrame, labels: Any, id_col: Hashable) -> pd.Series:
    """One label per series of `df`, indexed by id; NaN where a series has none.

    `labels` is a mapping or a Series from id to label, or what `row_labels` takes, the same in all rows of a series.

    Raises
    ------
    DataError
        For a series with two labels, and for labels of series that the table does not have.
    """
    ids = df[id_col].drop_duplicates()
    if isinstance(labels, Mapping):
        labels = pd.Series(dict(labels), dtype=object)
    elif isinstance(labels, pd.Series) and (len(labels) == len(df) and labels.index.equals(df.index)):
        labels = labels.to_numpy()
    if isinstance(labels, pd.Series):
        return _of_series(labels, ids)
    by_row = row_labels(df, labels)
    known = pd.DataFrame({"id": df[id_col].to_numpy(), "label": by_row.to_numpy(dtype=object)}).dropna()
    pairs = known.drop_duplicates()
    twice = pairs["id"][pairs["id"].duplicated()]
    if len(twice):
        found = pairs["label"][pairs["id"] == twice.iloc[0]].tolist()
        raise DataError(
            f'series {twice.iloc[0]!r} has the labels {found}: give each series one, or use labels_per="row"'
        )
    return pairs.set_index("id")["label"].reindex(ids)


def _of_series(labels: pd.Series, ids: pd.Series) -> pd.Series:
    if labels.index.has_duplicates:
        raise DataError(f"labels has the id {labels.index[labels.index.duplicated()][0]!r} more than once")
    unknown = labels.index[~labels.index.isin(ids)]
    if len(unknown) == len(labels):
        raise DataError(
            f"labels has none of the ids of the table: its index begins with {labels.index[:3].tolist()}, the ids of "
            f"the table with {ids.iloc[:3].tolist()}. Index it by id, or give one label per row of the table"
        )
    return labels.reindex(ids)


def encoded(labels: pd.Series) -> Labels:
    """Codes of labels, classes in increasing order.

    Raises
    ------
    DataError
        For fewer than two classes.
    """
    present = labels.dropna()
    classes = np.unique(np.array(present.tolist()))
    if len(classes) < 2:
        raise DataError(f"a classifier needs labels of two classes or more; got {classes.tolist()}")
    return Labels(codes_of(labels, classes), classes)


def codes_of(labels: pd.Series, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of labels among the classes, -1 for missing and for unknown ones."""
    return pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)


def per_series(codes: pd.Series, table: SeriesTable) -> NDArray[np.int64]:
    """Codes, indexed by id, in the order of the series of a table."""
    return codes.reindex(table.ids).to_numpy(dtype=np.int64)


def class_weights(class_weight: str | Mapping[Any, float] | None, labels: Labels) -> NDArray[np.float64]:
    """Weight of each class (C,), as scikit-learn defines `class_weight`.

    Raises
    ------
    ValueError
        For weights of classes that do not occur.
    """
    if isinstance(class_weight, Mapping):
        unknown = [name for name in class_weight if name not in labels.classes]
        if unknown:
            raise ValueError(
                f"class_weight has a weight for {unknown[0]!r}; the classes are {labels.classes.tolist()}"
            )
    known = labels.classes[labels.codes[labels.codes >= 0]]
    weight = dict(class_weight) if isinstance(class_weight, Mapping) else class_weight
    return compute_class_weight(weight, classes=labels.classes, y=known)
