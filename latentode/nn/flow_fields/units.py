"""A sum of M hidden units u h(wᵀ z + b): the layer of the paper's planar flows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.flow_fields.flow_field import Pushed
from latentode.nn.smooth import smooth_activation


class Units(nn.Module):
    """Σ_m g_m u_m h(w_mᵀ z + b_m), with gates g_m that the caller gives, or 1.

    Parameters
    ----------
    n_dims : int
        D.
    n_units : int
        M.
    activation : {"tanh", "softplus"}
    generator : torch.Generator
        Source of the first weights: w and b standard normal, so that the units differ over standardised data; u is 0.
    """

    def __init__(self, n_dims: int, n_units: int, activation: str, generator: torch.Generator) -> None:
        super().__init__()
        self.activate = smooth_activation(activation)
        device = torch.get_default_device() if torch.get_default_device().type == "meta" else "cpu"
        first = torch.randn(n_units, n_dims + 1, generator=generator, device="cpu").to(device)
        self.w = nn.Parameter(first[:, :-1].clone())
        self.b = nn.Parameter(first[:, -1].clone())
        self.u = nn.Parameter(torch.zeros(n_units, n_dims, device=device))

    def forward(self, z: Tensor, gates: Tensor | None) -> Tensor:
        """The sum (n, D) at z (n, D); gates (n, M)."""
        value, _ = self.activate(functional.linear(z, self.w, self.b))
        return _gated(value, gates) @ self.u

    def pushed(self, z: Tensor, tangents: Tensor, gates: Tensor | None) -> Pushed:
        """The sum and its Jacobian times tangents (K, n or 1, D)."""
        value, steepness = self.activate(functional.linear(z, self.w, self.b))
        products = functional.linear(tangents, self.w) * _gated(steepness, gates)
        return Pushed(_gated(value, gates) @ self.u, products @ self.u)

    def with_trace(self, z: Tensor, gates: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum, and the trace Σ_m g_m (u_mᵀ w_m) h'(w_mᵀ z + b_m) at the cost of one evaluation."""
        value, steepness = self.activate(functional.linear(z, self.w, self.b))
        trace = _gated(steepness, gates) @ (self.u * self.w).sum(1)
        return _gated(value, gates) @ self.u, trace


def _gated(x: Tensor, gates: Tensor | None) -> Tensor:
    return x if gates is None else x * gates
