"""The time of an event and the state there, as functions of all that they depend on.

By the implicit function theorem: where g(t*, y(t*; θ), θ) = 0, dt*/dθ = -(∂g/∂θ + ∂g/∂y ∂y/∂θ) / (dg/dt), with
dg/dt = ∂g/∂t + ∂g/∂y · f taken along the solution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentode.solvers.event import Event
from latentode.solvers.method import Field

LARGEST_CORRECTION = 1e-3  # of the way to the event


def through_event(event: Event, field: Field, t0: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Let gradients pass through events.

    Parameters
    ----------
    event : callable
        (t (n,), y (n, D)) -> (n,), the function whose root was found.
    t0, t : Tensor (n,)
        Initial times, and the times of the events as numbers.
    y : Tensor (n, D)
        Solution at t, differentiable.

    Returns
    -------
    t (n,), y (n, D)
        Differentiable in all that y, event and field depend on, and closer to the root by one step of Newton's.
    """
    t, start = t.detach(), y.detach()
    with torch.no_grad():
        slope = field(t, start)
    rate = _rate(event, t, start, slope)
    longest = LARGEST_CORRECTION * (t - t0.detach()).abs()
    time = _EventTime.apply(t, event(t, y).to(t.dtype), rate.to(t.dtype), longest)
    return time, y + slope * (time - t).to(y.dtype)[:, None]


def _rate(event: Event, t: Tensor, y: Tensor, slope: Tensor) -> Tensor:
    """dg/dt along the solution, (n,)."""
    t, y = t.clone().requires_grad_(), y.clone().requires_grad_()
    with torch.enable_grad():
        value = event(t, y)
        total = value.sum()
    if not total.requires_grad:
        return torch.zeros_like(value)
    of_t, of_y = torch.autograd.grad(total, (t, y), allow_unused=True)
    rate = torch.zeros_like(value) if of_t is None else of_t.to(value.dtype)
    return rate if of_y is None else rate + (of_y * slope).sum(dim=1)


class _EventTime(torch.autograd.Function):
    """t - g / (dg/dt); first derivatives only."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, value: Tensor, rate: Tensor, longest: Tensor) -> Tensor:
        ctx.save_for_backward(rate)
        correction = value / rate
        return t - torch.where(correction.abs() <= longest, correction, 0.0)  # not where it is NaN either

    @staticmethod
    def backward(ctx: Any, of_time: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the time of an event has first derivatives only: do without create_graph=True"
            )
        (rate,) = ctx.saved_tensors
        return None, torch.where(of_time == 0, 0.0, -of_time / rate), None, None
