"""The exact gradient of the computed solution, in memory O(steps × state).

The forward pass keeps only (t, h, y, carry) of the accepted steps. The backward pass replays them in reverse order,
each with a graph of its own that lives for one step, and applies their vector-Jacobian products:
a(t) = a(t + h)ᵀ ∂y(t + h)/∂y(t), and likewise for the carry, the parameters and the times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentode.gradients.problem import Problem
from latentode.gradients.replay import at_start, last_query_time, pad_columns, replay
from latentode.solvers.integrate import AcceptedSteps, Integration


def discrete_adjoint(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve, with the discrete adjoint as gradient.

    Returns
    -------
    Tensor (N, T, D), Integration
    """
    inputs = (y0, t0, t_eval, *problem.params)
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in inputs)):
        run = problem.integrate(y0, t0, t_eval, keep_steps=False)
        return run.y, run
    box: list[Integration] = []
    y = _DiscreteAdjoint.apply(problem, box, *inputs)
    return y, box[0]


class _DiscreteAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        box: list[Integration],
        y0: Tensor,
        t0: Tensor,
        t_eval: Tensor,
        *params: Tensor,
    ) -> Tensor:
        run = problem.integrate(y0, t0, t_eval, keep_steps=True)
        box.append(run)
        ctx.problem, ctx.steps = problem, run.steps
        ctx.save_for_backward(y0, t0, t_eval, *params)  # params: so that torch notices a change in place
        return run.y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the discrete adjoint has first derivatives only; for second derivatives (create_graph=True) "
                "solve with gradient='backprop'"
            )
        y0, t0, t_eval, *_ = ctx.saved_tensors
        wants_times = any(ctx.needs_input_grad[3:5])
        sweep = _Sweep(ctx.problem, y0, t0, t_eval, grad_y, wants_times)
        for steps in reversed(ctx.steps):
            sweep.through(steps)
        sweep.through_start()
        times = (sweep.of_t0, sweep.of_t_eval[:, :-1]) if wants_times else (None, None)
        return None, None, sweep.of_y, *times, *sweep.of_params


class _Sweep:
    """The cotangents, carried backwards through the steps."""

    def __init__(
        self, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor, grad_y: Tensor, wants_times: bool
    ) -> None:
        self.problem = problem
        self.y0, self.t0, self.t_eval = y0.detach(), t0.detach(), t_eval.detach()
        self.grad_y = torch.nn.functional.pad(grad_y, (0, 0, 0, 1))  # 0 for the column that nobody asks for
        self.wants_times = wants_times
        self.of_y = torch.zeros_like(y0)
        self.of_carry = torch.zeros_like(y0)
        self.of_t0 = torch.zeros_like(t0)
        self.t_padded = pad_columns(self.t_eval)
        self.of_t_eval = torch.zeros_like(self.t_padded)
        self.of_params: list[Tensor | None] = [None] * len(problem.params)
        self.t_last = last_query_time(self.t_eval)
        self.last_column = (~torch.isnan(self.t_eval)).sum(dim=1) - 1

    def through(self, steps: AcceptedSteps) -> None:
        """Backwards through one round of accepted steps."""
        rows = steps.rows
        query = (rows[:, None], steps.covered.column)
        times = (self.t0[rows], self.t_padded[query], self.t_last[rows])
        with torch.enable_grad():
            y, carry, t0, t_query, t_last = leaves = self._leaves((steps.y, steps.carry), times)
            step, answer = replay(
                self.problem.method, self.problem.field, steps, t0, y, carry, t_query, t_last
            )
        outputs = (step.y, step.carry, answer)
        cotangents = (self.of_y[rows], self.of_carry[rows], self.grad_y[query])
        of_y, of_carry, of_t0, of_query, of_last = self._pull_back(outputs, cotangents, leaves)
        self.of_y.index_copy_(0, rows, _or_zero(of_y, y))
        self.of_carry.index_copy_(0, rows, _or_zero(of_carry, carry))
        if self.wants_times:
            self.of_t0.index_add_(0, rows, _or_zero(of_t0, t0))
            self.of_t_eval.index_put_(query, _or_zero(of_query, t_query), accumulate=True)
            self.of_t_eval.index_put_(
                (rows, self.last_column[rows]), _or_zero(of_last, t_last), accumulate=True
            )

    def through_start(self) -> None:
        """Backwards through the first carry, f(t0, y0), and the query times that equal t0."""
        query = at_start(self.t0, self.t_eval)
        row = query[0]
        with torch.enable_grad():
            y0, t0, t_query = leaves = self._leaves((self.y0,), (self.t0, self.t_eval[query]))
            carry = self.problem.method.start(self.problem.field, t0, y0)
            answer = y0[row] + (t_query - t0[row]).to(y0.dtype)[:, None] * carry[row]
        of_y, of_t, of_query = self._pull_back((carry, answer), (self.of_carry, self.grad_y[query]), leaves)
        self.of_y += _or_zero(of_y, y0)
        if self.wants_times:
            self.of_t0 += _or_zero(of_t, t0)
            self.of_t_eval.index_put_(query, _or_zero(of_query, t_query), accumulate=True)

    def _leaves(self, states: tuple[Tensor, ...], times: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Leaves of a graph of their own; times only take part where their gradient is wanted."""
        return (
            *(x.detach().requires_grad_() for x in states),
            *(x.detach().requires_grad_(self.wants_times) for x in times),
        )

    def _pull_back(
        self, outputs: tuple[Tensor, ...], cotangents: tuple[Tensor, ...], leaves: tuple[Tensor, ...]
    ) -> list[Tensor | None]:
        """Cotangents of the leaves; those of the parameters are added up."""
        pairs = [(out, cot) for out, cot in zip(outputs, cotangents) if out.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = list(
            torch.autograd.grad(
                [out for out, _ in pairs],
                [*wanted, *self.problem.params],
                [cot for _, cot in pairs],
                allow_unused=True,
            )
        )
        for i, gradient in enumerate(found[len(wanted) :]):
            have = self.of_params[i]
            self.of_params[i] = (
                gradient if have is None else have if gradient is None else have.add_(gradient)
            )
        of_wanted = iter(found)
        return [next(of_wanted) if leaf.requires_grad else None for leaf in leaves]


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
