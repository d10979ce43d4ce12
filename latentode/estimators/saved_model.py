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

from latentode.estimators.learned import Learned
from latentode.estimators.parameters import CONSTRAINTS
from latentode.estimators.saved_checks import check_learned
from latentode.estimators.saved_parameters import plain_parameters, read_parameters
from latentode.estimators.saved_training import SavedTraining
from latentode.storage import Stored
from latentode.version import __version__

FORMAT_VERSION = 2
OWN = ("encoder", "field")  # parameters that may be modules of a user: no file holds these


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
    training : SavedTraining
    readout : dict
        What the class itself adds, such as the classes of a classifier.
    """

    kind: str
    parameters: dict[str, Any]
    learned: Learned
    training: SavedTraining
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
        training = self.training.stored()
        header = {
            "kind": self.kind,
            "format_version": FORMAT_VERSION,
            "versions": versions(),
            "parameters": plain_parameters(self.parameters),
            "learned": self.learned.state(),
            **training.header,
            "readout": self.readout,
        }
        return Stored(training.tensors, header)

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
        if not same_plain(learned.state(), header["learned"]):
            raise ValueError("what was learned holds values of wrong types, or unknown ones")
        if not isinstance(header["readout"], dict):
            raise ValueError("readout must be an object")
        return cls(
            kind=str(header["kind"]),
            parameters=read_parameters(header["parameters"], known, CONSTRAINTS, OWN),
            learned=learned,
            training=SavedTraining.of(stored),
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


def versions() -> dict[str, str]:
    """Of the libraries that write a file, for its readers."""
    libraries = {"latentode": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return {**libraries, "pandas": pd.__version__, "python": platform.python_version()}


def same_plain(one: Any, other: Any) -> bool:
    """Equality with types: 1, 1.0 and True differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
