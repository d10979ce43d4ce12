"""Adams methods: the slopes of past steps in place of stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.method import Field, StepResult
from latentode.solvers.tableaus import RK4

_PAST = 4  # slopes that are remembered, the present one included
_STARTER = ExplicitRK(RK4)


@dataclass(frozen=True)
class Adams:
    """Adams-Bashforth, or Adams-Bashforth-Moulton in the form predict, evaluate, correct, evaluate; of order 4.

    For fixed steps and smooth, non-stiff fields that are expensive: one evaluation per step (two with `corrector`)
    where RK4 needs four. The first three steps are RK4's. The last step may have another size than those before: the
    weights are integrals of the polynomial through the past slopes, whatever the way to go.

    The carry (N, 4 D + 2) holds the last four slopes, newest first, then how many of them are known, and the step
    size that lies between them; where that is not one size, RK4 starts anew.

    Parameters
    ----------
    corrector : bool
        Whether the slope at the end takes part (Adams-Moulton): two evaluations, a sixth of the error or less, and a
        larger range of stable steps.

    References
    ----------
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, III.1.
    """

    corrector: bool
    order = 4
    error_order = None
    evaluations_per_step = 0  # each step counts its own

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        slope = field(t, y)
        past = slope.new_zeros(len(y), (_PAST - 1) * y.shape[1])
        known, spacing = slope.new_ones(len(y), 1), slope.new_zeros(len(y), 1)
        return torch.cat([slope, past, known, spacing], dim=1)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h). See `Method.step`."""
        with torch.no_grad():
            size = h.to(y.dtype)
            ratio = size / carry[:, -1]
            ready = (carry[:, -2] == _PAST) & (ratio > 0) & (ratio < 1.02)
        steps = [
            (torch.nonzero(rows)[:, 0], step)
            for rows, step in ((ready, self._multistep), (~ready, self._starting_step))
            if bool(rows.any())
        ]
        if len(steps) == 1:
            return steps[0][1](field, t, y, h, carry)
        parts = [step(field, *(x.index_select(0, rows) for x in (t, y, h, carry))) for rows, step in steps]
        place = torch.argsort(torch.cat([rows for rows, _ in steps]))
        return StepResult(
            y=torch.cat([part.y for part in parts]).index_select(0, place),
            error=None,
            dense=torch.cat([part.dense for part in parts], dim=1).index_select(1, place),
            carry=torch.cat([part.carry for part in parts]).index_select(0, place),
            evaluations=torch.cat(
                [part.evaluations for part in parts if part.evaluations is not None]
            ).index_select(0, place),
        )

    def _starting_step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        step = _STARTER.step(field, t, y, h, carry[:, : y.shape[1]])
        dense = torch.cat([step.dense, torch.zeros_like(step.dense[:1])])  # a cubic among quartics
        return StepResult(
            step.y, None, dense, _moved_on(carry, step.carry, h), _count(y, _STARTER.evaluations_per_step)
        )

    def _multistep(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """y + ∫ of the polynomial through the past slopes, at s = -3, -2, -1, 0 in units of their spacing."""
        spacing = carry[:, -1:]
        ratio = h.to(y.dtype)[:, None] / spacing
        past = carry[:, :-2].unflatten(1, (_PAST, y.shape[1])).transpose(0, 1)  # (4, N, D)
        end = (t + h).to(y.dtype)
        slopes = _polynomial(past)
        dense = _integral(slopes, ratio, spacing)
        ahead = y + dense.sum(dim=0)
        slope = field(end, ahead)
        if not self.corrector:
            return StepResult(ahead, None, dense, _moved_on(carry, slope, h), _count(y, 1))
        # through the three newest ones and the slope ahead: it differs by a multiple of s (s + 1) (s + 2)
        slopes = torch.cat([_polynomial(past[:-1]), torch.zeros_like(past[:1])])
        powers = torch.stack([ratio**m for m in range(_PAST)])
        missing = slope - (slopes * powers).sum(dim=0)
        product = y.new_tensor([0.0, 2.0, 3.0, 1.0])[:, None, None]  # s (s + 1) (s + 2)
        slopes = slopes + product * (missing / (ratio * (ratio + 1) * (ratio + 2)))
        dense = _integral(slopes, ratio, spacing)
        corrected = y + dense.sum(dim=0)
        return StepResult(corrected, None, dense, _moved_on(carry, field(end, corrected), h), _count(y, 2))


def _polynomial(past: Tensor) -> Tensor:
    """Coefficients of s⁰, s¹, ... of the polynomial through values (k, N, D) at s = 0, -1, ..., 1 - k."""
    weights = _to_coefficients(len(past), past.dtype, past.device)
    return (weights @ past.flatten(1)).unflatten(1, past.shape[1:])


@lru_cache(maxsize=16)
def _to_coefficients(k: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    nodes = -np.arange(k, dtype=float)
    with torch.inference_mode(False):  # kept for other solves, perhaps with gradients
        return torch.as_tensor(np.linalg.inv(np.vander(nodes, increasing=True)), dtype=dtype, device=device)


def _integral(slopes: Tensor, ratio: Tensor, spacing: Tensor) -> Tensor:
    """Coefficients of θ¹..θ⁴ in ∫_0^{θ ratio} Σ_m slopes[m] s^m ds · spacing, (4, N, D)."""
    factors = torch.stack([spacing * ratio ** (m + 1) / (m + 1) for m in range(_PAST)])
    return slopes * factors


def _moved_on(carry: Tensor, slope: Tensor, h: Tensor) -> Tensor:
    """The carry after a step of size h that ends with this slope."""
    size = h.detach().to(carry.dtype)[:, None]
    known, spacing = carry[:, -2:-1], carry[:, -1:]
    evenly = (size - spacing).abs() <= 1e-9 * size.abs() + 8 * torch.finfo(size.dtype).eps * size.abs()
    known = torch.where(evenly, (known + 1).clamp(max=_PAST), 2.0)
    past = carry[:, : -2 - slope.shape[1]]
    return torch.cat([slope, past, known.detach(), size], dim=1)


def _count(y: Tensor, n: int) -> Tensor:
    return torch.full((len(y),), n, dtype=torch.int64, device=y.device)


ADAMS = {"explicit_adams": Adams(corrector=False), "implicit_adams": Adams(corrector=True)}
