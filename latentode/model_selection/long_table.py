"""A caller's table of any form, as splitters and scorer see it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.model_selection.instants import instants
from latentode.model_selection.keys import Keys
from latentode.series.forms import OpenedTable, open_table
from latentode.series.key_columns import TIME
from latentode.series.times import time_kind


@dataclass(frozen=True, eq=False)
class LongTable:
    """A table of R rows, in the caller's order.

    Parameters
    ----------
    opened : OpenedTable
        The rows as a long pandas table, and the form they came in.
    keys : Keys
        The series of each row.
    told : Series (R,)
        The times as the caller wrote them, with a fresh index.
    times : Series (R,)
        The same as instants, which can be reckoned with.
    """

    opened: OpenedTable
    keys: Keys
    told: pd.Series
    times: pd.Series

    @classmethod
    def read(cls, X: Any, id_col: Hashable | None, time_col: Hashable) -> LongTable:
        """A table of any form that `LatentODERegressor.fit` takes, checked."""
        return cls.of(open_table(X, id_col, time_col))

    @classmethod
    def of(cls, opened: OpenedTable) -> LongTable:
        """An opened table, checked."""
        form, frame = opened
        told = _checked(frame[form.time_col].reset_index(drop=True), form.time_col)
        return cls(opened, Keys.of(frame[form.id_col]), told, instants(told))

    @property
    def frame(self) -> pd.DataFrame:
        """The long pandas table."""
        return self.opened.frame

    @property
    def id_col(self) -> Hashable:
        """Name of the id column of `frame`."""
        return self.opened.form.id_col

    @property
    def time_col(self) -> Hashable:
        """Name of the time column of `frame`."""
        return self.opened.form.time_col


def read_keys(X: Any, id_col: Hashable | None) -> Keys:
    """The series of each row of a table of any form, whose times may have any name or be missing."""
    if isinstance(X, pd.DataFrame) and len(X) and X.columns.is_unique and id_col in X.columns:
        return Keys.of(X[id_col])
    if not isinstance(X, pd.DataFrame) and id_col in getattr(X, "columns", ()):
        time_col = next((name for name in X.columns if name != id_col), TIME)
        form, frame = open_table(X, id_col, time_col)
    else:
        form, frame = open_table(X, id_col, TIME)
    return Keys.of(frame[form.id_col])


def _checked(times: pd.Series, time_col: Hashable) -> pd.Series:
    kind, _ = time_kind(times)
    missing = times.isna().to_numpy()
    if missing.any():
        raise DataError(f"missing time (NaN or NaT) in row {int(missing.argmax())}: every row needs a time")
    if kind == "numeric" and not np.isfinite(times.to_numpy(dtype=np.float64)).all():
        raise DataError(f"infinite time in column {time_col!r}: times must be finite")
    return times
