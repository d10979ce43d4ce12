"""The exact gradient of the computed solution, in memory that does not grow with steps × state.

The forward pass keeps the last state of every series and, of each accepted step, numbers only: its time, its size and
what it answers (24 bytes per series and step, 32 where a neighbour's
step is rejected, whatever the size of the state). The backward pass takes the steps
back by algebra, with a graph of its own for each that lives for one step, and applies its vector-Jacobian product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latentode.exceptions import SolverError
from latentode.gradients.discrete_adjoint import Sweep, cotangents_of
from latentode.gradients.held_tensors import HeldTensors
from latentode.gradients.problem import Problem, refuse_second_derivatives
from latentode.gradients.replay import moving_pieces
from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.integration import AcceptedSteps, Integration, Marks
from latentode.solvers.interpolation import interpolate
from latentode.solvers.method import StepResult
from latentode.solvers.reversible import Reversible, increment


def reversible(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve with a reversible method, and take its steps back for the gradient.

    A method that is not reversible is put into the construction of McCallum and Foster (`solvers.Reversible`), with
    and without gradients: the solution is of the same order, but not that of the method alone.

    Good for many steps of a large state, and not for stiff or strongly contracting fields: y and z drift apart by the
    factor by which the flow contracts over the span, in any tolerance (see `solvers.reversible`). Rounding grows
    likewise on the way back; if the states do not find back to y0, the backward pass raises and gives no gradient.

    Returns
    -------
    Tensor (N, T, D), Integration

    Raises
    ------
    ValueError
        If the method is neither reversible nor an explicit Runge-Kutta method.
    """
    problem = replace(problem, method=made_reversible(problem.method))
    if not problem.wants_gradient(y0, t0, t_eval):
        with torch.no_grad():
            run = problem.integrate(y0, t0, t_eval, keep_steps=False)
            return run.at(t0, t_eval), run
    box: list[Integration] = []
    coefficients = _Reversing.apply(problem, box, y0, t0, t_eval, *problem.params)
    run = box[0]
    return interpolate(coefficients, moving_pieces(run, t0, t_eval), t0, t_eval), run


def made_reversible(method: Any) -> Any:
    """The reversible method that stands in for a method.

    Raises
    ------
    ValueError
    """
    if hasattr(method, "step_back"):
        return method
    if isinstance(method, ExplicitRK):
        return Reversible(method)
    raise ValueError(
        f"gradient='reversible' needs an explicit Runge-Kutta method or a reversible one; got "
        f"{type(method).__name__}: use gradient='discrete_adjoint'"
    )


_ROUNDS_TOGETHER = 256  # marks are packed, since a small tensor of its own takes more room than its numbers


class _Trail:
    """The marks of all accepted steps in order, and the states (N, D), (N, C) after each series' last useful step.

    A series that is solved ends with one; the steps of another beyond it, perhaps into a pole, are not taken back.
    """

    def __init__(self, y0: Tensor) -> None:
        self.rows: list[Tensor] = []  # mostly one and the same tensor: no memory per round
        self.packed: list[Tensor] = []  # (3, n) per round: offset, h, last + 2 answers; the early ones joined
        self.loose = 0
        self.y = y0.detach().clone()
        self.carry = y0.new_empty(0)

    def observe(self, steps: AcceptedSteps, step: StepResult) -> None:
        """What `integrate` shows of every round."""
        if not self.rows:
            self.carry = step.carry.new_zeros(len(self.y), step.carry.shape[1])
        self.rows.append(steps.rows)
        self.packed.append(torch.stack([steps.offset, steps.h, steps.last + 2.0 * (steps.answers > 0)]))
        self.loose += 1
        if self.loose == _ROUNDS_TOGETHER:
            self.packed[-self.loose :] = [torch.cat(self.packed[-self.loose :], dim=1)]
            self.loose = 0
        useful = torch.nonzero(steps.answers)[:, 0]
        if len(useful):
            rows = steps.rows.index_select(0, useful)
            self.y.index_copy_(0, rows, step.y.index_select(0, useful))
            self.carry.index_copy_(0, rows, step.carry.index_select(0, useful))

    def backwards(self) -> Iterator[Marks]:
        """The marks, the latest first, without steps beyond the last useful one."""
        under_way = torch.zeros(len(self.y), dtype=torch.bool, device=self.y.device)
        rounds = reversed(self.rows)
        for packed in reversed(self.packed):
            end = packed.shape[1]
            while end:
                rows = next(rounds)
                offset, h, flags = packed[:, end - len(rows) : end]
                end -= len(rows)
                mark = Marks(rows, offset, h, flags % 2 == 1, (flags >= 2).long())
                under_way[rows] |= mark.answers > 0
                taken = under_way[rows]
                if not bool(taken.all()):
                    mark = mark.only(torch.nonzero(taken)[:, 0])
                if len(mark.rows):
                    yield mark


class _Reversing(torch.autograd.Function):
    """From the inputs to those polynomials of the solution that answer query times."""

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
        trail = _Trail(y0)
        run = problem.integrate(y0, t0, t_eval, keep_steps=False, observe=trail.observe)
        box.append(run)
        ctx.problem, ctx.trail, ctx.started = problem, trail, run.started
        ctx.held = HeldTensors(problem.field)
        ctx.save_for_backward(y0, t0, t_eval, *params)  # params: so that torch notices a change in place
        return run.coefficients

    @staticmethod
    def backward(ctx: Any, of_coefficients: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the reversible gradient")
        y0, t0, t_eval, *_ = ctx.saved_tensors
        problem, trail = ctx.problem, ctx.trail
        kind = _CoupledSweep if isinstance(problem.method, Reversible) else _ReplayingSweep
        sweep = kind(problem, ctx.held, y0, t0, t_eval, wants_times=any(ctx.needs_input_grad[3:5]))
        of_pieces = of_coefficients.transpose(0, 1)  # (1 + degree, S, D)
        y, carry = trail.y.clone(), trail.carry.clone()
        largest = torch.maximum(_size(y0), _size(y))
        end = of_pieces.shape[1] - 1
        with ctx.held.put_back():
            for mark in trail.backwards():
                of_piece, end = cotangents_of(mark, of_pieces, end)
                sweep.back_through(mark, y, carry, of_piece)
                size = _size(y.index_select(0, mark.rows))
                largest.index_copy_(0, mark.rows, torch.maximum(largest.index_select(0, mark.rows), size))
            _check_return(sweep, y, carry, y0, largest)
            sweep.through_start(ctx.started, of_pieces[:, :end])
        times = (sweep.of_t0, sweep.of_t_eval) if sweep.wants_times else (None, None)
        return None, None, sweep.of_y, *times, *sweep.of_params


class _ReplayingSweep(Sweep):
    """Takes a round of steps back without a graph, and replays it with one."""

    def back_through(self, mark: Marks, y: Tensor, carry: Tensor, of_piece: Tensor) -> None:
        """Replace the states in y (N, D) and carry (N, C) by those before the steps, and pull cotangents back."""
        rows, method = mark.rows, self.problem.method
        with torch.no_grad():
            before, carry_before = method.step_back(  # type: ignore[attr-defined]
                self.problem.field,
                self.t0.index_select(0, rows) + mark.offset,
                y.index_select(0, rows),
                mark.h,
                carry.index_select(0, rows),
            )
        self.problem.count(rows, method.evaluations_per_step)
        y.index_copy_(0, rows, before)
        carry.index_copy_(0, rows, carry_before)
        self.through(
            AcceptedSteps(rows, mark.offset, mark.h, mark.last, mark.answers, before, carry_before), of_piece
        )


class _CoupledSweep(Sweep):
    """Takes steps of McCallum and Foster's construction back with a graph, in the two parts that they consist of.

    The stages that undo a part are those that its vector-Jacobian product needs: half the evaluations of a replay.
    """

    def back_through(self, mark: Marks, y: Tensor, carry: Tensor, of_piece: Tensor) -> None:
        """As that of `_ReplayingSweep`."""
        rows, method, field = mark.rows, self.problem.method, self.problem.field
        assert isinstance(method, Reversible)
        loose, size = 1 - method.coupling, y.shape[1]
        if self.of_carry is None:
            self.of_carry = torch.zeros_like(carry)
        z1 = carry.index_select(0, rows)[:, size:]
        with torch.enable_grad():
            t0, t_last = self._times(rows)
            y1 = y.index_select(0, rows).requires_grad_()
            t, h = self._clock(mark, t0, t_last)
            fall = increment(method.base.tableau, field, t + h, y1, -h)
            z = (z1 + fall.detach()).requires_grad_()
            t, h = self._clock(mark, t0, t_last)  # anew: a graph is walked once
            slope = field(t.to(z.dtype), z)
            step = method.base.step(field, t, z, h, slope)
            rise = step.y - z
            before = ((y1 - loose * z - rise) / method.coupling).detach().requires_grad_()
            pull = loose * (z - before)
            again = before + pull + rise
            dense = torch.cat([(step.dense[0] + pull)[None], step.dense[1:]])
        self.problem.count(rows, method.evaluations_per_step)
        of_z1 = self.of_carry.index_select(0, rows)[:, size:]
        more, of_t0, of_t_last = self._pull_back((fall,), (-of_z1,), (y1, t0, t_last))
        of_y1 = self.of_y.index_select(0, rows) + more
        of_y, of_z, *of_times = self._pull_back(
            (again, dense), (of_y1, of_piece[1:]), (before, z, t0, t_last)
        )
        self.of_y.index_copy_(0, rows, of_y + of_piece[0])
        self.of_carry.index_copy_(0, rows, torch.cat([torch.zeros_like(of_z), of_z1 + of_z], dim=1))
        self._add_of_times(rows, of_t0 + of_times[0], of_t_last + of_times[1])
        y.index_copy_(0, rows, before.detach())
        carry.index_copy_(0, rows, torch.cat([slope, z], dim=1).detach())


def _size(y: Tensor) -> Tensor:
    """The largest entry of every row, (N, D) -> (N,)."""
    return torch.nn.functional.pad(y, (0, 1)).abs().amax(dim=1)  # there may be no entries


def _check_return(sweep: Sweep, y: Tensor, carry: Tensor, y0: Tensor, largest: Tensor) -> None:
    """The way back must end where the way began, up to a third of the digits of the `largest` state (N,) on it.

    Asked of the series whose gradient is wanted.
    """
    if sweep.of_carry is None:
        return
    size = y0.shape[1]
    moved = carry.any(dim=1)
    z = torch.where(moved[:, None], carry[:, size:], y0)
    gap = torch.maximum(_size(y - y0), _size(z - y0))
    wanted = (sweep.of_y != 0).any(dim=1) | (sweep.of_carry != 0).any(dim=1)
    lost = moved & wanted & ~(gap <= torch.finfo(y0.dtype).eps ** (1 / 3) * largest)
    if bool(lost.any()):
        first = int(torch.nonzero(lost)[0])
        raise SolverError(
            f"the steps of series {first} could not be taken back: from {y0[first].tolist()[:4]} they return to "
            f"{y[first].tolist()[:4]}, because the field contracts too strongly or the steps are too many for "
            f"{y0.dtype}: use float64, a shorter span, or gradient='discrete_adjoint'"
        )
