"""The multilayer perceptron that fields, decoders and posterior heads share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.initialisation import generator_or_fresh, linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "elu": functional.elu,
    "silu": functional.silu,
    "relu": functional.relu,
}


class MLP(nn.Module):
    """Hidden layers of equal width, then a linear one.

    Parameters
    ----------
    n_in, n_hidden, n_out : int
        Widths of input, hidden layers and output.
    depth : int, default 1
        Number of hidden layers; 0 is one linear map.
    activation : {"tanh", "softplus", "elu", "silu", "relu"}, default "tanh"
        After every hidden layer.
    generator : torch.Generator, optional
        Source of the first weights, on the CPU; None takes fresh entropy.

    Raises
    ------
    ValueError
        For an unknown activation or a negative depth.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_out: int,
        *,
        depth: int = 1,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        if depth < 0:
            raise ValueError(f"depth must be a number of hidden layers, 0 or more; got {depth}")
        generator = generator_or_fresh(generator)
        widths = [n_in, *[n_hidden] * depth, n_out]
        self.layers = nn.ModuleList(linear(a, b, generator) for a, b in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n_in) to (..., n_out)."""
        activate = ACTIVATIONS[self.activation]
        *hidden, last = self.layers
        for layer in hidden:
            x = activate(layer(x))
        return last(x)

    def plain_layers(self) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]] | None:
        """Weights and biases of the linear maps; None where a layer is something else, as a parametrised one."""
        layers = list(vars(self.layers)["_modules"].values())  # by attributes it takes many times as long
        if "forward" in vars(self) or any("forward" in vars(layer) for layer in layers):
            return None
        own = [layer._parameters for layer in layers if type(layer) is nn.Linear]
        weights = tuple(weight for x in own if (weight := x.get("weight")) is not None)
        if len(weights) < len(layers):
            return None
        return weights, tuple(x["bias"] for x in own)


def linear_maps(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None], activation: str
) -> Tensor:
    """The function of an `MLP`, (..., n_in) -> (..., n_out), with these weights and biases."""
    for weight, bias in zip(weights[:-1], biases):
        x = ACTIVATIONS[activation](functional.linear(x, weight, bias))
    return functional.linear(x, weights[-1], biases[-1])
