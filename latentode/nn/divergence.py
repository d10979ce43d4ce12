"""The divergence of a vector field, exact or estimated, and the size of its Jacobian from the same products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from latentode.nn.flow_fields import identity_tangents


class Divergence(NamedTuple):
    """slope (n, D) = f(t, z), trace (n,) of ∂f/∂z, and its squared Frobenius norm (n,), or None where not asked for."""

    slope: Tensor
    trace: Tensor
    squared_norm: Tensor | None


def exact_divergence(field: nn.Module, t: Tensor, z: Tensor, *, norm: bool = False) -> Divergence:
    """Slope, trace and norm by the whole Jacobian, or by the field's own formula of the trace.

    Good for few dimensions D: it costs D products with the Jacobian.

    Parameters
    ----------
    field : nn.Module
        f(t (n,), z (n, D)) -> (n, D), row by row independent. Its own methods `with_trace` and `pushed` (see
        `latentode.nn.flow_fields.FlowField`) are used where it has them, torch's autograd otherwise.
    t : Tensor (n,)
    z : Tensor (n, D)
    norm : bool, default False
        Whether the squared norm is wanted.

    Returns
    -------
    Divergence
    """
    with_trace = getattr(field, "with_trace", None)
    if with_trace is not None and not norm:
        slope, trace = with_trace(t, z)
        return Divergence(slope, trace, None)
    unit = identity_tangents(z)
    slope, products = jacobian_products(field, t, z, unit)
    trace = torch.diagonal(products, dim1=0, dim2=2).sum(-1)
    return Divergence(slope, trace, products.square().sum((0, 2)) if norm else None)


def hutchinson_divergence(
    field: nn.Module, t: Tensor, z: Tensor, probes: Tensor, *, norm: bool = False
) -> Divergence:
    """Slope, and unbiased estimates of trace εᵀ J ε and squared norm |J ε|², means over K probes.

    Good for many dimensions: it costs K products with the Jacobian J.

    Parameters
    ----------
    field, t, z, norm
        As `exact_divergence`.
    probes : Tensor (K, n, D)
        Random ε with mean 0 and unit covariance, such as `rademacher`.

    Returns
    -------
    Divergence

    References
    ----------
    Hutchinson (1990); Grathwohl et al. (2019), FFJORD, equation 7; Finlay et al. (2020), equation 10.
    """
    slope, products = jacobian_products(field, t, z, probes)
    trace = (probes * products).sum(-1).mean(0)
    return Divergence(slope, trace, products.square().sum(-1).mean(0) if norm else None)


def rademacher(n_probes: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs ±1 (K, n, D) for `like` (n, D), the probes of the least variance (Hutchinson 1990)."""
    signs = torch.randint(0, 2, (n_probes, *like.shape), generator=generator, device=generator.device)
    return (2 * signs - 1).to(like)


def jacobian_products(field: nn.Module, t: Tensor, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """f (n, D) and products (K, n, D) of its Jacobian with probes (K, n or 1, D).

    From a field's own `pushed` these are J ε, from autograd εᵀ J: for a trace and a Frobenius norm either will do.
    """
    pushed = getattr(field, "pushed", None)
    if pushed is not None:
        slope, products = pushed(t, z, probes)
        return slope, products
    return _pulled_back(field, t, z, probes)


def _pulled_back(field: nn.Module, t: Tensor, z: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """εᵀ J for K probes at once, from one evaluation of the field.

    In reverse mode: every operation of torch has it twice over, which is not so of forward mode, and it was faster (a
    third less time at K = 2 and 8). By torch.func, which works the same under no_grad and leaves no tensor of its own
    in the caller's graph.
    """
    slope, pull_back, *_ = torch.func.vjp(lambda points: field(t, points), z)
    cotangents = probes.expand(-1, len(z), -1)
    if len(probes) == 1:
        return slope, pull_back(cotangents[0])[0][None]
    return slope, torch.func.vmap(pull_back)(cotangents)[0]
