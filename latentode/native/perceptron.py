"""The form of a field that the kernels know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Perceptron:
    """dy/dt = MLP([y, t, inputs]), or softplus(raw_speed) · tanh(MLP([y, t, inputs])), for N series.

    A field says that it is one by a method `as_perceptron(y0)`, which `solve_ivp` asks; the tensors must be the very
    ones that the field uses, so that gradients reach them.

    Parameters
    ----------
    weights : tuple of Tensor (n_out, n_in)
        Of the linear maps, in the order of their use; the first one reads the D moving numbers of a state, then t where
        `time_input`, then the inputs; the last one returns D numbers.
    biases : tuple of Tensor (n_out,) or None
    activation : str
        After every linear map but the last: "tanh", "softplus", "elu", "silu" or "relu".
    time_input : bool, default False
    inputs : Tensor (N, C), optional
        What the field sees of each series beside its state and time. Series leave the batch when they are done, so that
        a field finds its inputs in the state: see `latentode.nn.fields.Conditioned`.
    raw_speed : Tensor (D,), optional
    n_still : int, default 0
        How many numbers of a state stand behind the D that move and have derivative 0, such as inputs.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    activation: str = "tanh"
    time_input: bool = False
    inputs: Tensor | None = None
    raw_speed: Tensor | None = None
    n_still: int = 0

    def __post_init__(self) -> None:
        for what, x in (("weights", self.weights), ("biases", [b for b in self.biases if b is not None])):
            for one in x:
                if not isinstance(one, Tensor):
                    raise TypeError(
                        f"the {what} of a Perceptron must be tensors, as layer.weight and layer.bias of an nn.Linear "
                        f"are; got a {type(one).__name__}"
                    )

    @classmethod
    def of(
        cls, network: nn.Module, *, time_input: bool = False, inputs: Tensor | None = None
    ) -> Perceptron | None:
        """The form of linear layers with one activation between them; None where the network is anything else.

        With it a field of your own is solved by the kernels:

        >>> from torch import nn
        >>> from latentode.native import Perceptron
        >>> class Field(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 4))
        ...
        ...     def forward(self, t, y):
        ...         return self.net(y)
        ...
        ...     def as_perceptron(self, y0):
        ...         return Perceptron.of(self.net)

        Parameters
        ----------
        network : nn.Sequential
            nn.Linear, then any number of pairs of nn.Tanh, Softplus, ELU, SiLU or ReLU (with the arguments that torch
            gives them) and nn.Linear.
        time_input, inputs
            What the first layer reads behind the state: as those of the class.
        """
        if not isinstance(network, nn.Sequential):
            return None
        parts = list(network)
        linear, between = parts[::2], parts[1::2]
        names = {_activation_of(part) for part in between}
        if len(parts) % 2 == 0 or len(names) > 1 or None in names:
            return None
        if type(network) is not nn.Sequential or any(type(layer) is not nn.Linear for layer in linear):
            return None
        layers = [layer for layer in linear if isinstance(layer, nn.Linear)]
        if any(a.out_features != b.in_features for a, b in pairwise(layers)):
            return None
        activation = names.pop() if names else "tanh"
        assert activation is not None
        weights, biases = tuple(layer.weight for layer in layers), tuple(layer.bias for layer in layers)
        return cls(weights, biases, activation, time_input, inputs)

    @property
    def dim(self) -> int:
        """D, the numbers of a state that move."""
        return len(self.weights[-1])

    def slope(self, t: Tensor, y: Tensor) -> Tensor:
        """dy/dt (n, D + n_still) by torch, for the first n of the series at times t (n,)."""
        seen = [y[:, : self.dim]]
        if self.time_input:
            seen.append(t.to(y.dtype)[:, None])
        if self.inputs is not None:
            seen.append(self.inputs[: len(y)])
        x = torch.cat(seen, dim=1)
        for weight, bias in zip(self.weights[:-1], self.biases):
            x = getattr(functional, self.activation)(functional.linear(x, weight, bias))
        x = functional.linear(x, self.weights[-1], self.biases[-1])
        if self.raw_speed is not None:
            x = functional.softplus(self.raw_speed) * x.tanh()
        return functional.pad(x, (0, self.n_still))

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that gradients may be wanted for, without the inputs."""
        speed = () if self.raw_speed is None else (self.raw_speed,)
        return (*self.weights, *[bias for bias in self.biases if bias is not None], *speed)


def _activation_of(module: nn.Module) -> str | None:
    """Its name, where it is one that the kernels know, with the arguments that they know."""
    name = _ACTIVATIONS.get(type(module))
    if isinstance(module, nn.Softplus) and (module.beta, module.threshold) != (1, 20):
        return None
    if isinstance(module, nn.ELU) and module.alpha != 1:
        return None
    return name


_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Tanh: "tanh",
    nn.Softplus: "softplus",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.ReLU: "relu",
}
