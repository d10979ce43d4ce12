"""A training on disk: one file that is replaced after every epoch, and cannot be half written."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from latentode import storage
from latentode.exceptions import ModelFileError, warn_user
from latentode.training.snapshot import Tree

FORMAT = "latentode training 1"
SUFFIX = ".safetensors"
_TENSOR = "<tensor>"  # the only key of the dict that stands for a tensor in the JSON


class CheckpointError(ValueError):
    """A file that is no whole checkpoint of the training that was asked for."""


class Checkpoint:
    """The file of one training, in safetensors with the rest as JSON in its metadata, without pickle.

    A write that fails (full disk, folder that cannot be written) costs a warning, never the training; so does a file
    that is damaged or of another training, which counts as none.

    Parameters
    ----------
    folder : path
        Made when it is missing.
    name : str
        What decides the training, as a short text: it is the name of the file and stands in it.

    Attributes
    ----------
    saved : dict or None
        The tree that was saved last when the file was looked at first; None where there is none, with a warning where
        it cannot be used.
    facts : dict
        What is saved beside every tree, among its entries.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self.path = Path(folder) / f"{name}{SUFFIX}"
        self.name = name
        self.facts: Tree = {}
        self._has_warned = False

    @cached_property
    def saved(self) -> Tree | None:
        try:
            return self._read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ModelFileError as error:
            self.refuse(error.found)
        except (OSError, CheckpointError) as error:
            self.refuse(error)
        return None

    def refuse(self, why: object) -> None:
        """Warn that the file cannot be used."""
        warn_user(
            f"{self.path} cannot be used ({why}): the training starts from the beginning and replaces it"
        )

    def save(self, tree: Tree) -> None:
        """Replace the file; the old one stays until the new one is whole and on the disk."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tensors: dict[str, Tensor] = {}
            # as text: the numbers of a training may be infinite, which a header cannot hold
            text = json.dumps(_without_tensors(tree | self.facts, "", tensors))
            storage.write(self.path, tensors, {"format": FORMAT, "name": self.name, "tree": text})
        except (OSError, TypeError, ValueError) as error:  # not of the system: a state that JSON cannot hold
            if not self._has_warned:
                self._has_warned = True
                code = getattr(error, "errno", None)
                why = error if code is None else os.strerror(code)
                warn_user(
                    f"the training could not be saved to {self.path} ({why}): it goes on, but can be continued only "
                    "from what was saved before"
                )

    def sweep(self) -> None:
        """Remove what trainings that were killed while they wrote have left."""
        storage.sweep(self.path)

    def _read(self) -> Tree:
        tensors, header = storage.read(self.path)
        if header.get("format") != FORMAT or header.get("name") != self.name:
            raise CheckpointError("it belongs to another training or version")
        return _with_tensors(json.loads(header["tree"]), tensors)


def _without_tensors(tree: Any, place: str, found: dict[str, Tensor]) -> Any:
    """The same tree with a name for each tensor, which is put into `found`."""
    if isinstance(tree, Tensor):
        found[place] = tree
        return {_TENSOR: place}
    if isinstance(tree, dict):
        return {key: _without_tensors(value, f"{place}/{key}", found) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_without_tensors(value, f"{place}/{i}", found) for i, value in enumerate(tree)]
    return tree


def _with_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict) and set(tree) == {_TENSOR}:
        return tensors[tree[_TENSOR]]
    if isinstance(tree, dict):
        return {key: _with_tensors(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_tensors(value, tensors) for value in tree]
    return tree
