"""Smooth activations with their derivatives, for networks that push tangents through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SmoothActivation = Callable[[Tensor], tuple[Tensor, Tensor]]


def _tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.tanh(x)
    return value, 1 - value * value


def _softplus(x: Tensor) -> tuple[Tensor, Tensor]:
    return functional.softplus(x), torch.sigmoid(x)


SMOOTH_ACTIVATIONS: dict[str, SmoothActivation] = {"tanh": _tanh, "softplus": _softplus}


def smooth_activation(name: str) -> SmoothActivation:
    """The function x -> (h(x), h'(x)) of this name.

    Raises
    ------
    ValueError
        For a name that is not in `SMOOTH_ACTIVATIONS`: a density needs a derivative that is continuous.
    """
    if name not in SMOOTH_ACTIVATIONS:
        raise ValueError(
            f"activation of a flow's field must be smooth, one of {', '.join(SMOOTH_ACTIVATIONS)}; got {name!r}"
        )
    return SMOOTH_ACTIVATIONS[name]
