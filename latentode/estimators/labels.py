"""Labels of series or of rows, in the forms that a caller may have them, as codes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from latentode.checks import Number, did_you_mean
from latentode.exceptions import DataError
from latentode.series import SeriesTable
from latentode.series.columns import plain, some
from latentode.series.foreign import foreign_column


class Labels(NamedTuple):
    """Codes of labels, -1 where there is none, and the classes in the order of their codes."""

    codes: NDArray[np.int64]
    classes: NDArray[Any]


def in_pandas(labels: Any) -> Any:
    """Labels of another library's column as a pandas Series with a fresh index; others as they are."""
    found = foreign_column(labels)
    return labels if found is None else found


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
    if isinstance(labels, pd.DataFrame):
        raise DataError(
            "labels must be one column, not a table: pass df.set_index(<id>)[<label>], or a column name"
        )
    if isinstance(labels, pd.Series):
        if _same_rows(labels, df):
            return labels.reindex(df.index)
        raise DataError(
            f"the index of labels is not that of the table ({len(labels)} labels, {len(df)} rows): give one label per "
            'row with the index of the table, or with labels_per="series" one per series, indexed by id'
        )
    if len(labels) != len(df):
        raise DataError(
            f"labels must have one entry per row of the table, {len(df)}; got {len(labels)}. For one per series pass a "
            "mapping, or a Series indexed by id"
        )
    return pd.Series(list(labels), index=df.index, dtype=object).infer_objects()


def _same_rows(labels: pd.Series, df: pd.DataFrame) -> bool:
    """Whether labels are those of the rows of the table, perhaps in another order."""
    if labels.index.equals(df.index):
        return True
    if len(labels) != len(df) or not (labels.index.is_unique and df.index.is_unique):
        return False
    return bool(labels.index.isin(df.index).all())


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
        return _of_series(pd.Series(dict(labels), dtype=object), ids)
    if isinstance(labels, pd.Series) and not _same_rows(labels, df):
        return _of_series(labels, ids)
    by_row = row_labels(df, labels)
    known = pd.DataFrame({"id": df[id_col].to_numpy(), "label": by_row.to_numpy(dtype=object)}).dropna()
    pairs = known.drop_duplicates()
    twice = pairs["id"][pairs["id"].duplicated()]
    if len(twice):
        found = pairs["label"][pairs["id"] == twice.iloc[0]].tolist()
        raise DataError(
            f'series {plain(twice.iloc[0])!r} has the labels {found}: give each series one, or use labels_per="row"'
        )
    return _reindexed(pairs.set_index("id")["label"], ids)


def _of_series(labels: pd.Series, ids: pd.Series) -> pd.Series:
    if labels.index.has_duplicates:
        twice = plain(labels.index[labels.index.duplicated()][0])
        raise DataError(f"labels has the id {twice!r} more than once: keep one label per series")
    unknown = labels.index[~labels.index.isin(ids.astype(object))]
    if len(unknown):
        raise DataError(
            f"labels has ids that the table does not have: {some(unknown)}; the ids of the table begin with "
            f"{ids.iloc[:3].tolist()}. Index it by id, or give one label per row of the table"
        )
    return _reindexed(labels, ids)


def _reindexed(labels: pd.Series, ids: pd.Series) -> pd.Series:
    """Labels by id, also where one of the two has categories or another dtype of texts."""
    if labels.index.dtype == ids.dtype:
        return labels.reindex(ids)
    return labels.set_axis(pd.Index(labels.index, dtype=object)).reindex(pd.Index(ids, dtype=object))


def refuse_leaks(df: pd.DataFrame, by_row: pd.Series, targets: Sequence[Hashable]) -> None:
    """Refuse labels that are also a target: a classifier would read them off it.

    Raises
    ------
    DataError
    """
    known = by_row.notna().to_numpy()
    for name in targets:
        if (df[name].to_numpy(dtype=object) == by_row.to_numpy(dtype=object))[known].all():
            raise DataError(
                f"target {name!r} holds the labels themselves: give the name of the column as labels, or leave it out "
                "with target_cols="
            )


def encoded(labels: pd.Series) -> Labels:
    """Codes of labels, classes in increasing order.

    Raises
    ------
    DataError
        For fewer than two classes.
    """
    present = labels.dropna()
    classes = _classes(present)
    if len(classes) < 2:
        raise DataError(f"a classifier needs labels of two classes or more; got {_counted(classes)}")
    return Labels(codes_of(labels, classes), classes)


def _counted(classes: NDArray[Any]) -> str:
    return f"1 class, {classes.tolist()}" if len(classes) else "none"


def _classes(labels: pd.Series) -> NDArray[Any]:
    """Distinct labels in increasing order; whole numbers that a missing one made floats are whole again."""
    found = labels.infer_objects()
    if pd.api.types.is_float_dtype(found.dtype) and (found == found.round()).all():
        found = found.astype(np.int64)
    if found.dtype != object and not pd.api.types.is_string_dtype(found.dtype):
        return np.unique(found.to_numpy())
    kinds = {type(label) for label in found}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(
            f"labels must be of one type; got {names}: convert them, for example with .astype(str)"
        )
    return np.unique(np.array(found.tolist()))


def codes_of(labels: pd.Series, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of labels among the classes, -1 for missing and for unknown ones."""
    return pd.Index(classes).get_indexer(pd.Index(labels)).astype(np.int64)


def per_series(codes: pd.Series, table: SeriesTable) -> NDArray[np.int64]:
    """Codes, indexed by id, in the order of the series of a table."""
    return _reindexed(codes, table.ids.to_series()).to_numpy(dtype=np.int64)


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
        wrong = {name: w for name, w in class_weight.items() if not Number(0, open_low=True).allows(w)}
        if wrong:
            raise ValueError(f"class_weight must give positive numbers; got {wrong}")
    known = labels.classes[labels.codes[labels.codes >= 0]]
    weight = dict(class_weight) if isinstance(class_weight, Mapping) else class_weight
    return compute_class_weight(weight, classes=labels.classes, y=known)
