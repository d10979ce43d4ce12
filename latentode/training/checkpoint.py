"""A training on disk: one file that is replaced after every epoch, and cannot be half written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from latentode.exceptions import warn_user
from latentode.training.snapshot import Tree

FORMAT = "latentode training 1"
SUFFIX = ".safetensors"
UNFINISHED = ".unfinished"
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
            return self._read(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
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
            self._replace(self._bytes(tree | self.facts))
        except (OSError, TypeError) as error:  # TypeError: a callback's own state that JSON cannot hold
            if not self._has_warned:
                self._has_warned = True
                why = getattr(error, "strerror", None) or error
                warn_user(
                    f"the training could not be saved to {self.path} ({why}): it goes on, but can be continued only "
                    "from what was saved before"
                )

    def sweep(self) -> None:
        """Remove what trainings that were killed while they wrote have left."""
        with suppress(OSError):
            for rest in self.path.parent.glob(f"{self.name}.*{UNFINISHED}"):
                rest.unlink(missing_ok=True)

    def _replace(self, content: bytes) -> None:
        handle, unfinished = tempfile.mkstemp(UNFINISHED, f"{self.name}.", self.path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, self.path)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        _settle(self.path.parent)

    def _bytes(self, tree: Tree) -> bytes:
        tensors: dict[str, Tensor] = {}
        text = json.dumps(_without_tensors(tree, "", tensors))
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        facts = {"format": FORMAT, "name": self.name, "tree": text, "checksum": _checksum(text, tensors)}
        return bytes_of(tensors, facts)

    def _read(self, content: bytes) -> Tree:
        try:
            tensors, facts = tensors_of(content), _metadata(content)
        except (SafetensorError, ValueError) as error:
            raise CheckpointError(f"it is damaged: {error}") from error
        if facts.get("format") != FORMAT or facts.get("name") != self.name:
            raise CheckpointError("it belongs to another training or version")
        text = facts.get("tree", "")
        if facts.get("checksum") != _checksum(text, tensors):
            raise CheckpointError("it is damaged: its checksum is wrong")
        return _with_tensors(json.loads(text), tensors)


def _metadata(content: bytes) -> dict[str, str]:
    """`__metadata__` of a safetensors file, whose header is JSON after 8 bytes that tell its length."""
    length = int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8 : 8 + length]).get("__metadata__", {}))


def _settle(folder: Path) -> None:
    """Let the new name of the file outlive a power cut, where folders can be synchronised."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
