"""What every field of `FLOW_FIELDS` has in common."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


class Pushed(NamedTuple):
    """slope (n, D) = f(t, z), and products (K, n, D) of the Jacobian ∂f/∂z with K tangents."""

    slope: Tensor
    products: Tensor


class FlowField(nn.Module):
    """A vector field dz/dt = f(t, z) of a continuous normalizing flow, row by row independent and smooth.

    Beside its value a field knows the products of its Jacobian with tangents, carried through the layers by hand
    (forward mode): made of ordinary operations, they can be differentiated for the gradient of a log density.
    """

    n_dims: int
    trace_has_formula: ClassVar[bool] = False  # whether `with_trace` costs no more than the field

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        """f(t, z) (n, D) at t (n,) and z (n, D)."""
        raise NotImplementedError

    def pushed(self, t: Tensor, z: Tensor, tangents: Tensor) -> Pushed:
        """Slope and Jacobian-vector products.

        Parameters
        ----------
        t : Tensor (n,)
        z : Tensor (n, D)
        tangents : Tensor (K, n, D) or (K, 1, D)
            With one row, the same for all rows: the first layer then costs nothing.

        Returns
        -------
        Pushed
        """
        raise NotImplementedError

    def with_trace(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """f(t, z) (n, D) and the exact trace (n,) of ∂f/∂z, by D identity tangents unless a formula is cheaper."""
        slope, products = self.pushed(t, z, identity_tangents(z))
        return slope, torch.diagonal(products, dim1=0, dim2=2).sum(-1)


def identity_tangents(z: Tensor) -> Tensor:
    """The D unit vectors, (D, 1, D), the same for all rows of z (n, D)."""
    return torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None]
