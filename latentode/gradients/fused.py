"""The solve and its discrete adjoint by the native kernels, one call each, for fields that are perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from latentode.gradients.problem import Problem, Tally
from latentode.native.solve import AcceptedSteps, NativeSolve, Outcome, Steps, fixed_step, numbers
from latentode.native.structures import ControllerStructure, MethodStructure
from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.method import is_batched
from latentode.solvers.step_size import FixedStep, PIController
from latentode.solvers.tableaus import Tableau

ByGraph = Callable[[Tensor, Tensor, Tensor], Tensor]


def solve_natively(problem: Problem, solve: NativeSolve, by_graph: ByGraph) -> tuple[Tensor, Outcome]:
    """The answers (N, T, D) to a problem, as part of a graph where gradients are wanted.

    Parameters
    ----------
    problem : Problem
    solve : NativeSolve
    by_graph : callable
        (y0, t0, t_eval) -> the same answers by torch, as an ordinary graph: for second derivatives.
    """
    form = solve.form
    if not problem.wants_gradient(solve.y0, solve.t0, solve.t_eval):
        y, outcome, _ = solve.forward(keep=False)
        return y, outcome
    box: list[Outcome] = []
    inputs = (solve.y0, solve.t0, solve.t_eval, form.inputs, *form.tensors)
    return _FusedSolve.apply(solve, problem.tally, by_graph, box, *inputs), box[0]


def steps_of(problem: Problem) -> Steps:
    """How a problem is solved, as the kernels read it."""
    assert isinstance(problem.method, ExplicitRK)
    assert isinstance(problem.controller, (FixedStep, PIController))
    return _steps(problem.method.tableau, problem.controller, problem.max_steps)


class _FusedSolve(torch.autograd.Function):
    """From the inputs to the answers (N, T, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        solve: NativeSolve,
        tally: Tally | None,
        by_graph: ByGraph,
        box: list[Outcome],
        *inputs: Tensor | None,
    ) -> Tensor:
        y, outcome, kept = solve.forward(keep=True)
        box.append(outcome)
        ctx.solve, ctx.by_graph = solve, by_graph
        ctx.tally, ctx.counts = tally, outcome.n_evals_backward
        holder = torch.empty(0, device="cpu")
        holder.kept = kept  # type: ignore[attr-defined]
        # the inputs so that torch notices a change in place, the steps so that they go when the graph does
        ctx.save_for_backward(holder, *inputs)
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        holder, *saved = ctx.saved_tensors
        if is_batched(of_y):
            raise RuntimeError(
                "a solve takes one cotangent at a time: leave out is_grads_batched=True, or vectorize=True"
            )
        if torch.is_grad_enabled():
            return None, None, None, None, *_with_graph(ctx, saved, of_y)
        wanted = ctx.needs_input_grad[4:]
        solve: NativeSolve = ctx.solve
        kept: AcceptedSteps | None = getattr(holder, "kept", None)
        if kept is None:  # hooks on saved tensors have put another one in its place
            _, _, kept = solve.forward(keep=True)
            assert kept is not None
        found = solve.backward(kept, of_y, times=wanted[1] or wanted[2], parameters=any(wanted[4:]))
        if ctx.tally is not None:
            ctx.tally(slice(None), ctx.counts)
        of_tensors = found.parameters or (len(wanted) - 4) * [None]
        return None, None, None, None, found.y0, found.t0, found.t_eval, found.inputs, *of_tensors


def _with_graph(ctx: Any, inputs: Sequence[Tensor], of_y: Tensor) -> list[Tensor | None]:
    """The gradient as part of a graph: through the solve by torch, once more."""
    y = ctx.by_graph(*inputs[:3])
    wanted = [x for x, wants in zip(inputs, ctx.needs_input_grad[4:]) if wants]
    found = iter(torch.autograd.grad(y, wanted, of_y, create_graph=True, allow_unused=True))
    return [next(found) if wants else None for wants in ctx.needs_input_grad[4:]]


@lru_cache(maxsize=64)
def _steps(tableau: Tableau, controller: FixedStep | PIController, max_steps: int) -> Steps:
    return Steps(_method_structure(tableau), _controller_structure(controller, max_steps))


def _method_structure(tableau: Tableau) -> MethodStructure:
    stages = tableau.stages
    weights = [w for row in tableau.a for w in (*row, *[0.0] * (stages - len(row)))]
    return MethodStructure(
        stages=stages,
        degree=tableau.interpolant_matrix.shape[1],
        nodes=numbers(tableau.c),
        weights=numbers(weights),
        error=None if tableau.b_error is None else numbers(tableau.b_error),
        interpolant=numbers(tableau.interpolant_matrix.ravel().tolist()),
    )


def _controller_structure(controller: FixedStep | PIController, max_steps: int) -> ControllerStructure:
    if isinstance(controller, FixedStep):
        return fixed_step(controller.step_size, max_steps)
    alpha = controller.alpha
    return ControllerStructure(
        adaptive=1,
        rtol=controller.rtol,
        atol=controller.atol,
        order=controller.order,
        alpha=1 / controller.order - 0.75 * controller.beta if alpha is None else alpha,
        beta=controller.beta,
        gamma=controller.gamma,
        safety=controller.safety,
        smallest_factor=controller.min_factor,
        largest_factor=controller.max_factor,
        first_step=math.nan if controller.initial_step is None else controller.initial_step,
        min_step=controller.min_step,
        max_step=controller.max_step,
        step_size=math.nan,
        max_steps=max_steps,
    )
