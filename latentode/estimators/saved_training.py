"""What a file says of the training itself: its history, the epoch that was kept, why it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from latentode.checks import Whole
from latentode.series.plain_values import as_plain, from_plain
from latentode.storage import Stored

HISTORY = "history."  # how the names of these tensors begin
_DTYPES = {"float64": torch.float64, "int64": torch.int64, "bool": torch.bool}


class SavedTraining(NamedTuple):
    """History, epoch and reason, as an estimator has them after `fit`."""

    history: pd.DataFrame
    best_epoch: int | None
    stop_reason: str | None

    def stored(self) -> Stored:
        """Its part of the header, and the tensors of the history."""
        columns, tensors = _apart(self.history)
        header = {
            "history": columns,
            "best_epoch": self.best_epoch,
            "stop_reason": self.stop_reason,
            "metrics": self._metrics(),
        }
        return Stored(tensors, header)

    @classmethod
    def of(cls, stored: Stored) -> SavedTraining:
        """What `stored()` came from, checked.

        Raises
        ------
        ValueError, KeyError, TypeError and others
            For what `stored` never gives.
        """
        best_epoch, stop_reason = stored.header["best_epoch"], stored.header["stop_reason"]
        if best_epoch is not None and not Whole(1).allows(best_epoch):
            raise ValueError("best_epoch is no epoch")
        if not isinstance(stop_reason, (str, type(None))):
            raise ValueError("stop_reason is no text")
        return cls(_together(stored.header["history"], stored.tensors), best_epoch, stop_reason)

    def _metrics(self) -> dict[str, Any]:
        """The record of the epoch whose weights are kept, for readers of the file."""
        epochs = self.history
        if self.best_epoch is not None and "epoch" in epochs:
            epochs = epochs[epochs["epoch"] == self.best_epoch]
        record = {} if epochs.empty else epochs.iloc[-1].to_dict()
        return {str(name): as_plain(value) for name, value in record.items()}


def _apart(history: pd.DataFrame) -> tuple[list[Any], dict[str, Tensor]]:
    """Columns in order as (name, values, or None where a tensor holds them), and these tensors."""
    columns: list[Any] = []
    tensors = {}
    for position, name in enumerate(history.columns):
        column = history.iloc[:, position]
        as_tensor = str(column.dtype) in _DTYPES
        if as_tensor:
            tensors[f"{HISTORY}{position}"] = torch.tensor(column.to_numpy())
        columns.append([as_plain(name), None if as_tensor else as_plain(column.tolist())])
    return columns, tensors


def _together(columns: Any, tensors: Mapping[str, Tensor]) -> pd.DataFrame:
    found = {}
    for position, (name, values) in enumerate(columns):
        if values is None:
            tensor = tensors[f"{HISTORY}{position}"]
            if tensor.ndim != 1 or tensor.dtype not in _DTYPES.values():
                raise ValueError("the history has a column of wrong type")
            found[from_plain(name)] = tensor.numpy().copy()
        else:
            found[from_plain(name)] = from_plain(values)
    used = {f"{HISTORY}{position}" for position, (_, values) in enumerate(columns) if values is None}
    if len(found) < len(columns) or used != {name for name in tensors if name.startswith(HISTORY)}:
        raise ValueError("the columns of the history and their names disagree")
    return pd.DataFrame(found)
