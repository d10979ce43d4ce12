"""Layers that time gates and shifts, as in FFJORD."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.flow_fields.flow_field import FlowField, Pushed
from latentode.nn.initialisation import generator_or_fresh, linear
from latentode.nn.smooth import smooth_activation

SPREAD = 12**0.5  # of first weights, over torch's ±1/sqrt(n_in): a variance of 1 behind a gate of 1/2


class ConcatSquashLayer(nn.Module):
    """(W x + b) · sigmoid(w_g t + b_g) + w_h t.

    Parameters
    ----------
    n_in, n_out : int
    generator : torch.Generator
        Source of the first weights. They are large enough for bends as sharp as standardised data have.
    """

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.main = linear(n_in, n_out, generator)
        with torch.no_grad():
            self.main.weight.mul_(SPREAD)
            self.main.bias.mul_(SPREAD)
        time = linear(1, n_out, generator)
        self.gate_weight = nn.Parameter(time.weight.detach()[:, 0].clone())
        self.gate_bias = nn.Parameter(time.bias.detach().clone())
        self.shift_weight = nn.Parameter(linear(1, n_out, generator).weight.detach()[:, 0].clone())

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Map x (n, n_in) at times t (n, 1) to (n, n_out)."""
        return self.with_gate(t, x)[0]

    def with_gate(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the gate (n, n_out): the Jacobian is gate · W."""
        gate = self._gate(t)
        return torch.addcmul(t * self.shift_weight, self.main(x), gate), gate

    def times_matrix(self, tangents: Tensor) -> Tensor:
        """W times tangents (K, n or 1, n_in), (K, n or 1, n_out)."""
        return functional.linear(tangents, self.main.weight)

    def _gate(self, t: Tensor) -> Tensor:
        return torch.sigmoid(torch.addcmul(self.gate_bias, t, self.gate_weight))

    @torch.no_grad()
    def set_to_zero(self) -> None:
        """An output of 0 everywhere, to begin with."""
        for parameter in (self.main.weight, self.main.bias, self.shift_weight):
            parameter.zero_()


class ConcatSquashField(FlowField):
    """A multilayer perceptron whose every layer is gated and shifted by time: (W x + b) · sigmoid(w_g t + b_g) + w_h t.

    Good for most densities. It begins at 0, so that the flow begins as the identity.

    Parameters
    ----------
    n_dims : int
        D, the number of dimensions.
    hidden_dim : int, default 64
        Width of the hidden layers.
    depth : int, default 2
        Number of hidden layers.
    activation : {"tanh", "softplus"}, default "tanh"
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    Raises
    ------
    ValueError
        For an activation that is not smooth.

    References
    ----------
    Grathwohl et al. (2019), "FFJORD: free-form continuous dynamics for scalable reversible generative models".
    """

    def __init__(
        self,
        n_dims: int,
        hidden_dim: int = 64,
        *,
        depth: int = 2,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator_or_fresh(generator)
        self.n_dims = n_dims
        self.activate = smooth_activation(activation)
        widths = [n_dims, *[hidden_dim] * depth]
        hidden = [ConcatSquashLayer(a, b, generator) for a, b in pairwise(widths)]
        self.hidden = nn.ModuleList(hidden)
        self.last = ConcatSquashLayer(widths[-1], n_dims, generator)
        self.last.set_to_zero()

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """f(t, z), as `FlowField.forward`."""
        t = t.to(z.dtype)[:, None]
        for layer in self.hidden:
            z, _ = self.activate(layer(t, z))
        return self.last(t, z)

    def pushed(self, t: Tensor, z: Tensor, tangents: Tensor) -> Pushed:
        """Slope and Jacobian-vector products, as `FlowField.pushed`."""
        t = t.to(z.dtype)[:, None]
        for layer in self.hidden:
            assert isinstance(layer, ConcatSquashLayer)
            out, gate = layer.with_gate(t, z)
            z, steepness = self.activate(out)
            tangents = layer.times_matrix(tangents) * (gate * steepness)
        slope, gate = self.last.with_gate(t, z)
        return Pushed(slope, self.last.times_matrix(tangents) * gate)
