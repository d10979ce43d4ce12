"""Penalties on the dynamics, for fields that a solver crosses in few steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentode.models.dynamics import slope


def kinetic_energy(speed: Tensor) -> Tensor:
    """Squared speed |dz/dt|² (...,) of slopes (..., L) (Finlay et al. 2020, equation 9)."""
    return speed.square().sum(-1)


def jacobian_norm(speed: Tensor, z: Tensor, probe: Tensor) -> Tensor:
    """Estimate |εᵀ ∂f/∂z|² (n,) of the squared Frobenius norm of the Jacobian (Finlay et al. 2020, equation 10).

    Parameters
    ----------
    speed : Tensor (n, L)
        f(t, z), row by row.
    z : Tensor (n, L)
        Must require gradients.
    probe : Tensor (n, L)
        Random numbers ε with mean 0 and unit covariance.
    """
    (product,) = torch.autograd.grad(speed, z, probe, create_graph=True)
    return product.square().sum(-1)


def penalties(
    field: nn.Module,
    t: Tensor,
    z: Tensor,
    inputs: Tensor | None,
    generator: torch.Generator,
    *,
    jacobian: bool,
) -> dict[str, Tensor]:
    """Means over the given states, of the kinetic energy and, where wanted, of the Jacobian norm.

    States at random times along the trajectories make these unbiased estimates of means over time.

    Parameters
    ----------
    field : nn.Module
    t : Tensor (n,)
    z : Tensor (n, L)
    inputs : Tensor (n, S + C) or None
    generator : torch.Generator
        Of the probe.
    jacobian : bool
        Costs a second derivative of the field.

    References
    ----------
    Finlay, Jacobsen, Nurbekyan, Oberman (2020), "How to train your neural ODE: the world of Jacobian and kinetic
    regularization".
    """
    if not jacobian:
        return {"kinetic": kinetic_energy(slope(field, t, z, inputs)).mean()}
    with torch.enable_grad():
        z = z if z.requires_grad else z.detach().requires_grad_()
        speed = slope(field, t, z, inputs)
        probe = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=generator.device).to(z.device)
        return {
            "kinetic": kinetic_energy(speed).mean(),
            "jacobian": jacobian_norm(speed, z, probe).mean(),
        }
