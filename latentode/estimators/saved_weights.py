"""The weights of a module as tensors of a file, and modules of a user that a file cannot describe."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from latentode.estimators.saved_file import WrongPartError

WEIGHTS = "weights."  # how the names of these tensors begin


def stored_weights(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module, by the names of a file.

    Raises
    ------
    ValueError
        For a state that is no tensor.
    """
    return {WEIGHTS + name: _tensor(name, value) for name, value in module.state_dict().items()}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module the weights that were checked for it."""
    named = {n.removeprefix(WEIGHTS): value for n, value in tensors.items() if n.startswith(WEIGHTS)}
    module.load_state_dict(named)


def check_weights(expected: nn.Module, weights: Mapping[str, Tensor], own: Collection[str]) -> None:
    """Names, shapes, dtypes as the model has them, and no weight that is NaN or infinite.

    Parameters
    ----------
    expected : nn.Module
        Of the right shapes; it may be on the device "meta".
    weights : mapping of str to Tensor
        By the names of a file.
    own : collection of str
        Parts that a user gave.

    Raises
    ------
    ValueError, WrongPartError
        Where the file, or a part that was given, does not fit.
    """
    state = expected.state_dict()
    wanted = {WEIGHTS + name: value for name, value in state.items()}
    for name in sorted({*wanted, *weights}):
        part = next((part for part in own if f".{part}." in f".{name}"), None)
        if name not in weights or name not in wanted:
            _differs(part, f"{'has no' if name not in weights else 'has an unknown'} tensor {name[:200]!r}")
        want, have = wanted[name], weights[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            _differs(
                part,
                f"has {name[:200]!r} of shape {tuple(have.shape)} {have.dtype}, and the model needs "
                f"{tuple(want.shape)} {want.dtype}",
            )
    checked: dict[str, Tensor] = dict(expected.named_parameters(remove_duplicate=False))
    if not own:  # a buffer of a user may hold infinities, as a mask
        checked.update((name, value) for name, value in expected.named_buffers() if name in state)
    for name in checked:
        if not bool(torch.isfinite(weights[WEIGHTS + name]).all()):
            raise ValueError(f"the weights {name!r} are not finite")


def own_modules(
    path: str | os.PathLike[str], needed: Collection[str], given: Mapping[str, nn.Module | None]
) -> dict[str, nn.Module]:
    """The modules that a user gave, exactly those that the file does not describe.

    Raises
    ------
    ValueError
        For one that is missing, is not needed, or is no module.
    """
    for name, module in given.items():
        if module is None and name in needed:
            raise ValueError(
                f"{os.fspath(path)!r} was fitted with {name}= a module of your own, of which it holds the weights "
                f"only: give that module again, load(path, {name}=...)"
            )
        if module is not None and name not in needed:
            raise ValueError(f"{os.fspath(path)!r} has no {name} of your own: leave {name}= out")
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(f"{name} must be an nn.Module; got {type(module).__name__}")
    return {name: module for name, module in given.items() if module is not None}


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(
            f"the state {name!r} of a module is no tensor, but {type(value).__name__}: it cannot be saved"
        )
    return value


def _differs(part: str | None, what: str) -> NoReturn:
    if part is None:
        raise ValueError(f"the file {what}")
    raise WrongPartError(f"the {part} given is not the one of the training: the file {what}")
