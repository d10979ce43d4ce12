"""The discrete planar normalizing flow."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.models.transported import Transported
from latentode.nn.initialisation import generator_or_fresh

HALVINGS = 60  # of a bracket no wider than the numbers in it: the root is then known to rounding
POLISHES = 3  # Newton's steps after them, for roots much smaller than their bracket
FIRST_U = 0.1  # spread of the first u: the flow begins near the identity

# m(s) = log(1 + KEPT (e^s - 1)) = softplus(s + SHIFT) - 1 lies above -1 and leaves 0 where it is
SHIFT = math.log(math.expm1(1.0))
KEPT = 1.0 - math.exp(-1.0)


class Layer(NamedTuple):
    """f(x) = x + u tanh(wᵀx + b), with wᵀu = rise - 1 > -1, so that it is invertible.

    w, u : Tensor (D,)
    b, rise : Tensor ()
    """

    w: Tensor
    u: Tensor
    b: Tensor
    rise: Tensor

    def forth(self, x: Tensor) -> Transported:
        """f(x) and log det ∂f/∂x, for x (N, D)."""
        v = x @ self.w + self.b
        return Transported(x + torch.tanh(v)[:, None] * self.u, self._log_det(v))

    def back(self, z: Tensor) -> Transported:
        """The x with f(x) = z and log det ∂x/∂z, for z (N, D)."""
        v = _Root.apply(z @ self.w + self.b, self.rise.expand(len(z)))
        return Transported(z - torch.tanh(v)[:, None] * self.u, -self._log_det(v))

    def _log_det(self, v: Tensor) -> Tensor:
        return _slope(v, self.rise).log()


class PlanarFlow(nn.Module):
    """K layers that each bend space along one direction: the peer of the continuous flow in discrete steps.

    A layer is f(x) = x + û tanh(wᵀx + b): it stretches or squeezes what lies near one hyperplane. Good as a baseline,
    for one-dimensional effects and few dimensions. Every layer has one direction only, so many are needed where the
    continuous flow needs one field: for many dimensions take another flow.

    The layers lead from the data to the base, so the density of data is exact and cheap, as maximum likelihood wants
    it; the way back solves one scalar equation per layer and point.

    û is u with its part along w changed so that wᵀû = m(wᵀu) > -1, which makes a layer invertible (Rezende & Mohamed,
    appendix A.1). Theirs is m(s) = softplus(s) - 1; here it is softplus(s + log(e - 1)) - 1, the same curve moved so
    that m(0) = 0. The maps that can be reached are the same, but theirs sends û = u + (m(wᵀu) - wᵀu) w / |w|² to
    infinity as w goes to 0, and u = 0 is not the identity; here |û| <= 2 |u| + 1 / |w| and, for small wᵀu, |û| <= 2 |u|.

    Parameters
    ----------
    n_dims : int
        Dimensions D of the points.
    n_layers : int, default 16
        Number K of layers; the flow has K (2 D + 1) parameters.
    generator : torch.Generator, optional
        Source of the first weights, on the CPU; None takes fresh entropy. The first flow is near the identity.

    Raises
    ------
    ValueError
        For less than one dimension or layer.

    References
    ----------
    Rezende and Mohamed (2015). Variational inference with normalizing flows, equations 10 to 12 and appendix A.1.
    """

    def __init__(self, n_dims: int, *, n_layers: int = 16, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if n_dims < 1 or n_layers < 1:
            raise ValueError(
                f"n_dims and n_layers must be at least 1; got n_dims={n_dims}, n_layers={n_layers}"
            )
        generator = generator_or_fresh(generator)
        self.n_dims = n_dims
        # |w| about 1 and |b| about 1: the hyperplanes cross the bulk of standardised data
        self.w = nn.Parameter(torch.randn(n_layers, n_dims, generator=generator) / n_dims**0.5)
        self.u = nn.Parameter(torch.randn(n_layers, n_dims, generator=generator) * FIRST_U / n_dims**0.5)
        self.b = nn.Parameter(torch.randn(n_layers, generator=generator))

    def to_base(self, x: Tensor) -> Transported:
        """Carry data to the standard normal base, in closed form.

        Parameters
        ----------
        x : Tensor (N, D)

        Returns
        -------
        Transported
            points (N, D) in the base, log_det (N,) = log|det dz/dx|: log p(x) = log N(points; 0, I) + log_det.
        """
        return self._through([layer.forth for layer in self._layers()], x)

    def from_base(self, z: Tensor) -> Transported:
        """Carry points of the base back to the data, each layer inverted to rounding.

        Differentiable in `z` and in the parameters, any number of times, by the implicit function theorem.

        Parameters
        ----------
        z : Tensor (N, D)

        Returns
        -------
        Transported
            points (N, D) among the data, log_det (N,) = log|det dx/dz|.
        """
        return self._through([layer.back for layer in reversed(self._layers())], z)

    def _through(self, maps: list[Any], points: Tensor) -> Transported:
        log_det = points.new_zeros(len(points))
        for carry in maps:
            points, change = carry(points)
            log_det = log_det + change
        return Transported(points, log_det)

    def _layers(self) -> list[Layer]:
        u, rise = _invertible(self.u, self.w)
        return [Layer(*parts) for parts in zip(self.w, u, self.b, rise)]


def _invertible(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """û (K, D) = u + (m(s) - s) w / |w|² with s = wᵀu, and 1 + wᵀû = 1 + m(s) (K,)."""
    s = (w * u).sum(-1)
    length = torch.linalg.vector_norm(w, dim=-1)
    length = torch.where(length > 0, length, 1.0)[:, None]  # for w = 0 the layer is a shift by u tanh(b)
    changed = u + (_gain(s)[:, None] / length) * (w / length)
    # a slope below rounding is none, and its logarithm must not be that of 0
    return changed, functional.softplus(s + SHIFT) + torch.finfo(s.dtype).eps


def _gain(s: Tensor) -> Tensor:
    """m(s) - s, exact to rounding near 0, where it is -s / e, and for large |s| of either sign."""
    below, above = s.clamp(max=0), s.clamp(min=0)
    negative = torch.log1p(KEPT * torch.expm1(below)) - below
    positive = torch.log1p((1 - KEPT) * torch.expm1(-above))
    return torch.where(s < 0, negative, positive)


def _slope(v: Tensor, rise: Tensor) -> Tensor:
    """1 + (rise - 1) tanh'(v) = tanh²(v) + rise sech²(v): a sum of positive numbers, whatever the weights."""
    return torch.tanh(v).square() + 4 * torch.sigmoid(2 * v) * torch.sigmoid(-2 * v) * rise


class _Root(torch.autograd.Function):
    """The v (N,) with v + (rise - 1) tanh(v) = r, for r and rise > 0 of shape (N,)."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, rise: Tensor) -> Tensor:
        v = _solve(r, rise)
        ctx.save_for_backward(v, rise)
        return v

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        v, rise = ctx.saved_tensors
        of_r = grad / _slope(v, rise)
        return of_r, -of_r * torch.tanh(v)


def _solve(r: Tensor, rise: Tensor) -> Tensor:
    """Bisection down to rounding, then Newton's steps within the bracket that is left.

    The equation is odd, so |r| will do. From 0 <= tanh(v) <= min(v, 1) the root lies between |r| and `edge`.
    """
    size = r.abs()
    excess = rise - 1
    edge = torch.where(
        excess >= 0,
        torch.maximum(size / rise, size - excess),
        torch.minimum(size / rise, size - excess),
    )
    low, high = torch.minimum(size, edge), torch.maximum(size, edge)
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        beyond = middle + excess * torch.tanh(middle) > size
        low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
    v = low + (high - low) / 2
    for _ in range(POLISHES):
        newton = v - (v + excess * torch.tanh(v) - size) / _slope(v, rise)
        v = newton.clamp(low, high)
    return torch.copysign(v, r)
