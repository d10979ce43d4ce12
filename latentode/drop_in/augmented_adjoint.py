"""The continuous adjoint around solves that the engine does not take part in: state, adjoint and gradients in one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from latentode.drop_in.request import Request
from latentode.gradients.problem import refuse_second_derivatives

Solve = Callable[[Callable[..., Any], tuple[Tensor, ...], Tensor], tuple[Tensor, ...]]


def by_augmented_adjoint(
    request: Request, rows: Callable[[], Tensor], way_back: Solve, params: Sequence[Tensor]
) -> Tensor:
    """Rows (T, D) at the times of a request, differentiable.

    Parameters
    ----------
    rows : callable
        Computes them; no graph is built.
    way_back : callable
        `odeint` with its options, for a function, a tuple (y (D,), adjoint (D,), *gradients) and two times.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations, algorithm 1.
    """
    answer: Tensor = _AugmentedAdjoint.apply(request, rows, way_back, request.row, request.t, *params)
    return answer


class _AugmentedAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        request: Request,
        rows: Callable[[], Tensor],
        way_back: Solve,
        row: Tensor,
        t: Tensor,
        *params: Tensor,
    ) -> Tensor:
        y = rows()
        ctx.request, ctx.way_back = request, way_back
        ctx.save_for_backward(y, t, *params)
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the continuous adjoint")
        y, t, *params = ctx.saved_tensors
        slopes = _slopes_of(ctx.request, params)
        adjoint, of_params = torch.zeros_like(y[0]), [torch.zeros_like(param) for param in params]
        of_t = torch.zeros_like(t)
        for i in reversed(range(1, len(t))):
            adjoint = adjoint + of_y[i]
            of_t[i] = of_y[i] @ ctx.request.field(t[i : i + 1], y[i : i + 1])[0]
            state = ctx.way_back(slopes, (y[i], adjoint, *of_params), t[[i, i - 1]])
            _, adjoint, *of_params = (part[-1] for part in state)
        if len(t) > 1:
            of_t[0] = -(adjoint @ ctx.request.field(t[:1], y[:1])[0])
        return None, None, None, (adjoint + of_y[0])[None], of_t, *of_params


def _slopes_of(request: Request, params: Sequence[Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    """d(y, a, dL/dθ)/dt = (f, -aᵀ ∂f/∂y, -aᵀ ∂f/∂θ)."""

    def slopes(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            y = state[0].detach().requires_grad_()
            slope = request.field(t.detach().double().reshape(1), y[None])[0]
            inputs = (y, *params)
            found: Sequence[Tensor | None] = [None] * len(inputs)
            if slope.requires_grad:
                found = torch.autograd.grad(slope, inputs, -state[1].detach(), allow_unused=True)
        pulled = (torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs))
        return (slope.detach(), *pulled)

    return slopes
