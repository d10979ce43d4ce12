"""Adams methods as torchdiffeq means them: the order grows with the steps taken, the corrector is iterated."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from latentode.drop_in.errors import ArgumentError
from latentode.drop_in.three_eighths import RK4_38
from latentode.exceptions import LatentODEWarning
from latentode.solvers.method import Field, StepResult

FEWEST = 3  # slopes that a multistep formula needs; before, and always with fewer, the 3/8 rule
HIGHEST_ORDER = 12


@dataclass(frozen=True)
class GrowingAdams:
    """Adams-Bashforth through all past slopes, at most max_order - 1 of them; with `corrector` Adams-Moulton by
    iteration from there, of one order more.

    The explicit one is stable for short steps only: for y' = -λy while hλ is below 0.3 at max_order 5, 0.05 at 8, and
    0.003 at 12, the default as in torchdiffeq.

    For one series (N = 1). The weights are integrals of the polynomial through the slopes at their own times: on an
    uneven grid too, for which torchdiffeq takes the weights of an even one.

    The carry holds the past slopes, newest first, how long ago they were, and how many of them are known.

    Parameters
    ----------
    max_iters : int
        Evaluations of the corrector. It ends earlier where no number of it changes by more than atol + rtol of its
        size, and warns where it does not come to that.

    References
    ----------
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, III.1 and III.5.
    """

    corrector: bool
    max_order: int = HIGHEST_ORDER
    max_iters: int = 4
    rtol: float = 1e-7
    atol: float = 1e-9
    order = 4  # at least, and of the dense output
    error_order = None
    evaluations_per_step = 0  # each step counts its own

    def __post_init__(self) -> None:
        if not 1 <= self.max_order <= HIGHEST_ORDER:
            raise ArgumentError(f"max_order must lie between 1 and {HIGHEST_ORDER}; got {self.max_order}")
        if self.max_iters < 1:
            raise ArgumentError(f"max_iters must be positive; got {self.max_iters}")

    @property
    def places(self) -> int:
        """For slopes in the carry."""
        return max(self.max_order - 1, 1)

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        slope = field(t, y)
        empty = slope.new_zeros(1, (self.places - 1) * y.shape[1] + self.places)
        return torch.cat([slope, empty, slope.new_ones(1, 1)], dim=1)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h). See `Method.step`."""
        size = y.shape[1]
        *_, ages, known = carry.split([self.places * size, self.places, 1], dim=1)
        n, past = int(known.item()), carry[0, : self.places * size].unflatten(0, (self.places, size))
        if n < FEWEST:
            step = RK4_38.step(field, t, y, h, carry[:, :size])
            ahead, slope, evaluations, settled = step.y, step.carry, RK4_38.evaluations_per_step, True
        else:
            nodes = -ages[0, :n].to(h.dtype) / h
            rise, evaluations, settled = self._rise(field, t + h, y, h, past[:n], nodes)
            ahead = y + rise
            slope, evaluations = field((t + h).to(y.dtype), ahead), evaluations + 1
        step_size = h.to(y.dtype)[:, None]
        known = known.new_tensor([[min(n + settled, self.places)]])
        return StepResult(
            y=ahead,
            error=None,
            dense=_hermite(step_size * carry[:, :size], step_size * slope, ahead - y),
            carry=torch.cat(
                [
                    slope,
                    past[:-1].reshape(1, -1),
                    torch.zeros_like(step_size),
                    ages[:, :-1] + step_size,
                    known,
                ],
                dim=1,
            ),
            evaluations=torch.full_like(t, evaluations, dtype=torch.int64),
        )

    def _rise(
        self, field: Field, end: Tensor, y: Tensor, h: Tensor, past: Tensor, nodes: Tensor
    ) -> tuple[Tensor, int, bool]:
        """y(end) - y, the evaluations that it took, and whether the corrector came to rest.

        `past` (n, D) are the slopes at `nodes` (n,), in units of the step and counted from its beginning.
        """
        rise = (h * _weights(nodes)).to(y.dtype)[None] @ past
        if not self.corrector:
            return rise, 0, True
        weights = (h * _weights(torch.cat([torch.ones_like(h), nodes]))).to(y.dtype)
        known = weights[None, 1:] @ past
        for iteration in range(1, self.max_iters + 1):
            before, rise = rise, weights[0] * field(end.to(y.dtype), y + rise) + known
            with torch.no_grad():
                allowed = self.atol + self.rtol * torch.maximum(before.abs(), rise.abs())
                if bool(((rise - before).abs() < allowed).all()):
                    return rise, iteration, True
        warnings.warn(
            f"the corrector of implicit_adams did not come to rest in {self.max_iters} iterations at "
            f"t={end.item():.6g}: take smaller steps, raise max_iters, or loosen rtol and atol",
            LatentODEWarning,
            stacklevel=2,
        )
        return rise, self.max_iters, False


def adams_of(name: str, options: dict[str, int], rtol: float | Tensor, atol: float | Tensor) -> GrowingAdams:
    """The method of a name with the options given; of many tolerances the smallest one counts.

    Raises
    ------
    ArgumentError
        Where max_order or max_iters make no sense.
    """
    method = GrowingAdams(name == "implicit_adams", rtol=_least(rtol), atol=_least(atol), **options)
    if method.max_order <= FEWEST:
        warnings.warn(
            f"max_order is below {FEWEST + 1}, so that {name} is the 3/8 rule of order 4 (rk4)",
            LatentODEWarning,
            stacklevel=4,
        )
    return method


def _least(tolerance: float | Tensor) -> float:
    return tolerance.min().item() if isinstance(tolerance, Tensor) else tolerance


def _weights(nodes: Tensor) -> Tensor:
    """∫_0^1 of the Lagrange polynomials to the nodes (n,), n ≤ 12, by Gauss quadrature: exact, of moderate terms."""
    x, share = (points.to(nodes) for points in _gauss())
    same = torch.eye(len(nodes), dtype=torch.bool, device=nodes.device)
    above = (x[:, None, None] - nodes).masked_fill(same, 1.0).prod(dim=2)  # (Q, n)
    below = (nodes[:, None] - nodes).masked_fill(same, 1.0).prod(dim=1)
    return share @ above / below


@lru_cache(maxsize=1)
def _gauss() -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], exact for polynomials of degree HIGHEST_ORDER - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(HIGHEST_ORDER // 2)
    with torch.inference_mode(False):  # kept for other solves, perhaps with gradients
        return torch.from_numpy((1 + nodes) / 2), torch.from_numpy(weights / 2)


def _hermite(first: Tensor, last: Tensor, rise: Tensor) -> Tensor:
    """Coefficients of θ, θ², θ³ of the cubic polynomial with these slopes times h, each (N, D)."""
    return torch.stack([first, 3 * rise - 2 * first - last, first + last - 2 * rise])
