"""Hidden units that time opens and closes: the paper's continuous normalizing flow."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.nn.flow_fields.flow_field import FlowField, Pushed
from latentode.nn.flow_fields.units import Units
from latentode.nn.initialisation import generator_or_fresh
from latentode.nn.mlp import MLP

GATE_DIM = 32  # hidden width of the gates' network, which sees nothing but t


class GatedUnitsField(FlowField):
    """dz/dt = Σ_m σ_m(t) u_m h(w_mᵀ z + b_m), with gates σ_m(t) in (0, 1) from a small network of time.

    The field of the paper's experiments. Its exact trace costs no more than the field, so it is good for many
    dimensions; one hidden layer bends space less than the layers of "concatsquash" do.

    Parameters
    ----------
    n_dims : int
        D.
    hidden_dim : int, default 64
        M, the number of units.
    depth : int, default 1
        Number of hidden layers of the gates' network.
    activation : {"tanh", "softplus"}, default "tanh"
        h.
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    Raises
    ------
    ValueError
        For an activation that is not smooth.

    References
    ----------
    Chen et al. (2018), "Neural ordinary differential equations", section 4.
    """

    trace_has_formula = True

    def __init__(
        self,
        n_dims: int,
        hidden_dim: int = 64,
        *,
        depth: int = 1,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator_or_fresh(generator)
        self.n_dims = n_dims
        self.units = Units(n_dims, hidden_dim, activation, generator)
        self.gates = MLP(1, GATE_DIM, hidden_dim, depth=depth, generator=generator)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """f(t, z), as `FlowField.forward`."""
        return self.units(z, self._gates(t, z))

    def pushed(self, t: Tensor, z: Tensor, tangents: Tensor) -> Pushed:
        """Slope and Jacobian-vector products, as `FlowField.pushed`."""
        return self.units.pushed(z, tangents, self._gates(t, z))

    def with_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and trace by the paper's formula, as `FlowField.with_trace`."""
        return self.units.with_trace(z, self._gates(t, z))

    def _gates(self, t: Tensor, z: Tensor) -> Tensor:
        return torch.sigmoid(self.gates(t.to(z.dtype)[:, None]))
