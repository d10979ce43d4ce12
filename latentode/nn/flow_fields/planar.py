"""The planar continuous normalizing flow of the paper."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.nn.flow_fields.flow_field import FlowField, Pushed
from latentode.nn.flow_fields.units import Units
from latentode.nn.initialisation import generator_or_fresh


class PlanarField(FlowField):
    """dz/dt = Σ_m u_m h(w_mᵀ z + b_m), without gates and time.

    The continuous limit of planar flows, here for comparison with them; "concatsquash" fits most densities better. Its
    exact trace Σ_m (u_mᵀ w_m) h'(w_mᵀ z + b_m) costs no more than the field, in any number of dimensions.

    Parameters
    ----------
    n_dims : int
        D.
    hidden_dim : int, default 64
        M, the number of units; 1 is the planar flow of the paper's equation 9.
    activation : {"tanh", "softplus"}, default "tanh"
    generator : torch.Generator, optional
        Source of the first weights; None takes fresh entropy.

    Raises
    ------
    ValueError
        For an activation that is not smooth.

    References
    ----------
    Chen et al. (2018), "Neural ordinary differential equations", section 4, equations 9 and 10.
    """

    trace_has_formula = True

    def __init__(
        self,
        n_dims: int,
        hidden_dim: int = 64,
        *,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_dims = n_dims
        self.units = Units(n_dims, hidden_dim, activation, generator_or_fresh(generator))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """f(z), as `FlowField.forward`."""
        return self.units(z, None)

    def pushed(self, t: Tensor, z: Tensor, tangents: Tensor) -> Pushed:
        """Slope and Jacobian-vector products, as `FlowField.pushed`."""
        return self.units.pushed(z, tangents, None)

    def with_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and trace by the paper's formula, as `FlowField.with_trace`."""
        return self.units.with_trace(z, None)
