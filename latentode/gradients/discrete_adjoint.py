"""The exact gradient of the computed solution, in memory O(steps × state).

The forward pass keeps only (t, h, y, carry) of the accepted steps, and the polynomials of those that answer a query
time. The backward pass replays the steps in reverse order, each with a graph of its own that lives for one step, and
applies their vector-Jacobian products: a(t) = a(t + h)ᵀ ∂y(t + h)/∂y(t), and likewise for the carry, the parameters
and the times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentode.gradients.held_tensors import HeldTensors
from latentode.gradients.problem import Problem, refuse_second_derivatives
from latentode.gradients.replay import last_column, last_query_time, moving_pieces, step_size
from latentode.solvers.integration import AcceptedSteps, Integration, Marks
from latentode.solvers.interpolation import interpolate


def discrete_adjoint(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve, with the discrete adjoint as gradient.

    Returns
    -------
    Tensor (N, T, D), Integration
    """
    inputs = (y0, t0, t_eval, *problem.params)
    if not problem.wants_gradient(y0, t0, t_eval):
        with torch.no_grad():
            run = problem.integrate(y0, t0, t_eval, keep_steps=False)
            return run.at(t0, t_eval), run
    box: list[Integration] = []
    coefficients = _DiscreteAdjoint.apply(problem, box, *inputs)
    run = box[0]
    return interpolate(coefficients, moving_pieces(run, t0, t_eval), t0, t_eval), run


class _DiscreteAdjoint(torch.autograd.Function):
    """From the inputs to the polynomials (S, 1 + degree, D) of the solution: see `Integration.coefficients`."""

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
        ctx.problem, ctx.steps, ctx.started = problem, run.steps, run.started
        ctx.held = HeldTensors(problem.field)
        ctx.save_for_backward(y0, t0, t_eval, *params)  # params: so that torch notices a change in place
        return run.coefficients

    @staticmethod
    def backward(ctx: Any, of_coefficients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the discrete adjoint")
        y0, t0, t_eval, *_ = ctx.saved_tensors
        sweep = Sweep(ctx.problem, ctx.held, y0, t0, t_eval, wants_times=any(ctx.needs_input_grad[3:5]))
        of_pieces = of_coefficients.transpose(0, 1)  # (1 + degree, S, D)
        end = of_pieces.shape[1] - 1
        with ctx.held.put_back():
            for steps in reversed(ctx.steps):
                of_piece, end = cotangents_of(steps, of_pieces, end)
                sweep.through(steps, of_piece)
            sweep.through_start(ctx.started, of_pieces[:, :end])
        times = (sweep.of_t0, sweep.of_t_eval) if sweep.wants_times else (None, None)
        return None, None, sweep.of_y, *times, *sweep.of_params


def cotangents_of(marks: Marks, of_pieces: Tensor, end: int) -> tuple[Tensor, int]:
    """Cotangents (1 + degree, n, D) of the polynomials of n steps, 0 for those that answer nothing.

    Those that answer are the last ones before `end`; returned is also where they begin.
    """
    answering = torch.nonzero(marks.answers)[:, 0]
    begin = end - len(answering)
    of_piece = of_pieces[:, begin:end]
    if len(answering) < len(marks.rows):
        whole = of_pieces.new_zeros(len(of_pieces), len(marks.rows), of_pieces.shape[2])
        of_piece = whole.index_copy(1, answering, of_piece)
    return of_piece, begin


class Sweep:
    """The cotangents, carried backwards through the steps."""

    def __init__(
        self,
        problem: Problem,
        held: HeldTensors,
        y0: Tensor,
        t0: Tensor,
        t_eval: Tensor,
        *,
        wants_times: bool,
    ) -> None:
        self.problem, self.held = problem, held
        self.y0, self.t0, self.t_eval = y0.detach(), t0.detach(), t_eval.detach()
        self.t_last = last_query_time(self.t_eval)
        self.wants_times = wants_times
        self.of_y = torch.zeros_like(y0)
        self.of_carry: Tensor | None = None  # (N, C); C is the method's
        self.of_t0, self.of_t_eval = torch.zeros_like(t0), torch.zeros_like(t_eval)
        self.of_params: list[Tensor | None] = [None] * len(problem.params)

    def through(self, steps: AcceptedSteps, of_piece: Tensor) -> None:
        """Backwards through one round of accepted steps; `of_piece` (1 + degree, n, D) is of their polynomials."""
        rows = steps.rows
        if self.of_carry is None:
            self.of_carry = steps.carry.new_zeros(len(self.y0), steps.carry.shape[1])
        with torch.enable_grad():
            y, carry = steps.y.detach().requires_grad_(), steps.carry.detach().requires_grad_()
            t0, t_last = self._times(rows)
            t, h = self._clock(steps, t0, t_last)
            step = self.problem.method.step(self.problem.field, t, y, h, carry)
        self.problem.count(rows, self.problem.method.evaluations_per_step, step.evaluations)
        of_dense = of_piece[1:]
        if len(of_dense) != len(
            step.dense
        ):  # no step of the whole solve answers anything: those pieces are of t0
            of_dense = torch.zeros_like(step.dense)
        of_y, of_carry, of_t0, of_t_last = self._pull_back(
            (step.y, step.carry, step.dense),
            (self.of_y.index_select(0, rows), self.of_carry.index_select(0, rows), of_dense),
            (y, carry, t0, t_last),
        )
        self.of_y.index_copy_(0, rows, of_y + of_piece[0])
        self.of_carry.index_copy_(0, rows, of_carry)
        self._add_of_times(rows, of_t0, of_t_last)

    def through_start(self, rows: Tensor, of_piece: Tensor) -> None:
        """Backwards through the first carry, f(t0, y0), which is also the slope of the solution at t0."""
        self.of_y += of_piece[0]
        if not len(rows):
            return
        with torch.enable_grad():
            y0, (t0, _) = self.y0.index_select(0, rows).requires_grad_(), self._times(rows)
            carry = self.problem.method.start(self.problem.field, t0, y0)
        self.problem.count(rows, 1)
        of_carry = (
            carry.new_zeros(carry.shape) if self.of_carry is None else self.of_carry.index_select(0, rows)
        )
        of_carry[:, : y0.shape[1]] += of_piece[1].index_select(0, rows)
        of_y, of_t0 = self._pull_back((carry,), (of_carry,), (y0, t0))
        self.of_y.index_add_(0, rows, of_y)
        if self.wants_times:
            self.of_t0.index_add_(0, rows, of_t0)

    def _add_of_times(self, rows: Tensor, of_t0: Tensor, of_t_last: Tensor) -> None:
        if self.wants_times:
            self.of_t0.index_add_(0, rows, of_t0)
            place = (rows, last_column(self.t_eval)[rows])
            self.of_t_eval.index_put_(place, of_t_last, accumulate=True)

    def _times(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Initial and last query times of some series; leaves, if their gradient is wanted."""
        t0, t_last = self.t0.index_select(0, rows), self.t_last.index_select(0, rows)
        return t0.requires_grad_(self.wants_times), t_last.requires_grad_(self.wants_times)

    def _clock(self, steps: Marks, t0: Tensor, t_last: Tensor) -> tuple[Tensor, Tensor]:
        """Beginnings and signed sizes of steps, (n,)."""
        return t0 + steps.offset, step_size(steps, t0, t_last) if self.wants_times else steps.h

    def _pull_back(
        self, outputs: tuple[Tensor, ...], cotangents: tuple[Tensor, ...], leaves: tuple[Tensor, ...]
    ) -> list[Tensor]:
        """Cotangents of the leaves; those of the parameters are added up."""
        pairs = [(out, cot) for out, cot in zip(outputs, cotangents) if out.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found: list[Tensor | None] = [None] * (len(wanted) + len(self.problem.params))
        if pairs:
            found = list(
                torch.autograd.grad(
                    [out for out, _ in pairs],
                    [*wanted, *self.problem.params],
                    [cot for _, cot in pairs],
                    allow_unused=True,
                )
            )
            self.held.check([out for out, _ in pairs], [*wanted, *self.problem.params], found[len(wanted) :])
        for i, gradient in enumerate(found[len(wanted) :]):
            have = self.of_params[i]
            # not in place: autograd may hand out one tensor for two parameters
            self.of_params[i] = gradient if have is None else have if gradient is None else have + gradient
        of_wanted = dict(zip(map(id, wanted), found))
        return [_or_zero(of_wanted.get(id(leaf)), leaf) for leaf in leaves]


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
