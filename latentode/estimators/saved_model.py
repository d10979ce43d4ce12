"""What a file says of an estimator: its parameters and what it learned as JSON, and back, checked."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from latentode.checks import Whole, check_parameters
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import CONSTRAINTS
from latentode.estimators.saved_checks import check_learned
from latentode.series.plain_values import as_plain, from_plain
from latentode.storage import Stored
from latentode.version import __version__

FORMAT_VERSION = 2
OWN = ("encoder", "field")  # parameters that may be modules of a user: no file holds these
_HISTORY_DTYPES = {"float64": torch.float64, "int64": torch.int64, "bool": torch.bool}


@dataclass(frozen=True)
class SavedModel:
    """An estimator without its weights.

    Parameters
    ----------
    kind : str
        Name of its class.
    parameters : dict
        Of its constructor; None for a user's own modules, and for what no file holds.
    learned : Learned
        Own parts still None.
    history : DataFrame
    best_epoch : int or None
    stop_reason : str or None
    readout : dict
        What the class itself adds, such as the classes of a classifier.
    """

    kind: str
    parameters: dict[str, Any]
    learned: Learned
    history: pd.DataFrame
    best_epoch: int | None
    stop_reason: str | None
    readout: dict[str, Any]

    def own_parts(self) -> list[str]:
        """Which of encoder and field a user has to give again."""
        own = self.learned.blueprint
        return [name for name in OWN if self.parameters.get(name, "") is None or getattr(own, name) is None]

    def stored(self) -> Stored:
        """Header and the tensors of the history.

        Raises
        ------
        ValueError
            For a value that no file can hold.
        """
        columns, tensors = _history_apart(self.history)
        header = {
            "kind": self.kind,
            "format_version": FORMAT_VERSION,
            "versions": _versions(),
            "parameters": {name: _plain_parameter(name, value) for name, value in self.parameters.items()},
            "learned": self.learned.state(),
            "history": columns,
            "best_epoch": self.best_epoch,
            "stop_reason": self.stop_reason,
            "metrics": self._metrics(),
            "readout": self.readout,
        }
        return Stored(tensors, header)

    def _metrics(self) -> dict[str, Any]:
        """The record of the epoch whose weights are kept, for readers of the file."""
        epochs = self.history
        if self.best_epoch is not None and "epoch" in epochs:
            epochs = epochs[epochs["epoch"] == self.best_epoch]
        record = {} if epochs.empty else epochs.iloc[-1].to_dict()
        return {str(name): as_plain(value) for name, value in record.items()}

    @classmethod
    def of(cls, stored: Stored, known: Mapping[str, Any]) -> SavedModel:
        """The model of header and history; `known` are the parameters of the class, for those that a file lacks.

        Raises
        ------
        ValueError, KeyError, TypeError and others
            For what `stored` never gives.
        """
        header = stored.header
        learned = Learned.from_state(header["learned"])
        check_learned(learned)
        if not _same(learned.state(), header["learned"]):
            raise ValueError("what was learned holds values of wrong types, or unknown ones")
        best_epoch = header["best_epoch"]
        if best_epoch is not None and not Whole(1).allows(best_epoch):
            raise ValueError("best_epoch is no epoch")
        if not isinstance(header["stop_reason"], (str, type(None))):
            raise ValueError("stop_reason is no text")
        if not isinstance(header["readout"], dict):
            raise ValueError("readout must be an object")
        return cls(
            kind=str(header["kind"]),
            parameters=_parameters(header["parameters"], known),
            learned=learned,
            history=_history_together(header["history"], stored.tensors),
            best_epoch=best_epoch,
            stop_reason=header["stop_reason"],
            readout=header["readout"],
        )


def upgraded(stored: Stored) -> Stored:
    """The same in the current version.

    Raises
    ------
    ValueError
        For a later version, and for one that is no longer read.
    """
    version = _version(stored)
    while version < FORMAT_VERSION:
        if version not in UPGRADES:
            raise ValueError(
                f"its format has version {version}, which latentode {__version__} no longer reads"
            )
        stored = UPGRADES[version](stored)
        version += 1
    if version > FORMAT_VERSION:
        raise ValueError(
            f"its format has version {version}, and latentode {__version__} reads versions up to {FORMAT_VERSION}: "
            "install a later latentode"
        )
    return stored


def _from_1(stored: Stored) -> Stored:
    """Models of version 1 were not calibrated, had ids and were no arrays, and forgot why their training ended."""
    learned = {**stored.header["learned"], "calibration": None, "arrays": None}
    learned["layout"] = {**learned["layout"], "single": False}
    return Stored(stored.tensors, {**stored.header, "learned": learned, "stop_reason": None})


# From each earlier version to the next; a version that no entry begins at is no longer read.
UPGRADES: dict[int, Callable[[Stored], Stored]] = {1: _from_1}


def _version(stored: Stored) -> int:
    version = stored.header.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise ValueError(f"its format has the version {str(version)[:100]!r}, which is no number")
    return version


def _versions() -> dict[str, str]:
    libraries = {"latentode": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return {**libraries, "pandas": pd.__version__, "python": platform.python_version()}


def _plain_parameter(name: str, value: Any) -> Any:
    """A parameter as JSON; None for what no file holds: callbacks, folders, own modules, generators of numbers."""
    if name in ("callbacks", "checkpoint_dir") or isinstance(value, nn.Module):
        return None
    if name == "random_state" and not isinstance(value, (int, np.integer)):
        return None
    if name == "window" and not isinstance(value, str) and value is not None and not np.isscalar(value):
        value = pd.Timedelta(value)
    try:
        return as_plain(value)
    except ValueError as error:
        raise ValueError(f"the parameter {name} cannot be saved: {error}") from error


def _parameters(plain: Any, known: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a file, within their ranges; those that came later than the file at their defaults."""
    unknown = [name for name in plain if name not in known]
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0][:100]!r}")
    parameters = {**known, **{name: from_plain(value) for name, value in plain.items()}}
    given = {name: value for name, value in parameters.items() if not (name in OWN and value is None)}
    check_parameters("parameters", given, CONSTRAINTS)
    return parameters


def _same(one: Any, other: Any) -> bool:
    """Equality with types: 1, 1.0 and True differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _history_apart(history: pd.DataFrame) -> tuple[list[Any], dict[str, Tensor]]:
    """Columns in order as (name, values, or None where a tensor holds them), and these tensors."""
    columns: list[Any] = []
    tensors = {}
    for position, name in enumerate(history.columns):
        column = history.iloc[:, position]
        as_tensor = str(column.dtype) in _HISTORY_DTYPES
        if as_tensor:
            tensors[f"history.{position}"] = torch.tensor(column.to_numpy())
        columns.append([as_plain(name), None if as_tensor else as_plain(column.tolist())])
    return columns, tensors


def _history_together(columns: Any, tensors: Mapping[str, Tensor]) -> pd.DataFrame:
    found = {}
    for position, (name, values) in enumerate(columns):
        if values is None:
            tensor = tensors[f"history.{position}"]
            if tensor.ndim != 1 or tensor.dtype not in _HISTORY_DTYPES.values():
                raise ValueError("the history has a column of wrong type")
            found[from_plain(name)] = tensor.numpy().copy()
        else:
            found[from_plain(name)] = from_plain(values)
    used = {f"history.{position}" for position, (_, values) in enumerate(columns) if values is None}
    if len(found) < len(columns) or used != {name for name in tensors if name.startswith("history.")}:
        raise ValueError("the columns of the history and their names disagree")
    return pd.DataFrame(found)
