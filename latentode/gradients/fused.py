"""The solve and its discrete adjoint by the native kernels, one call each, for fields that are perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from latentode.gradients.backprop import backprop
from latentode.gradients.problem import Problem
from latentode.native import Perceptron
from latentode.native.solve import (
    AcceptedSteps,
    Outcome,
    Steps,
    fixed_step,
    numbers,
    solve_backward,
    solve_forward,
)
from latentode.native.structures import ControllerStructure, MethodStructure
from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.method import is_batched
from latentode.solvers.step_size import FixedStep, PIController
from latentode.solvers.tableaus import Tableau


class Fused:
    """A gradient, `(problem, y0, t0, t_eval) -> (y, outcome)`, whose solve and discrete adjoint are native calls.

    Second derivatives are those of `backprop`, which then solves once more.

    Parameters
    ----------
    perceptron : callable
        (y0 (N, D)) -> Perceptron, the form of the problem's field for these series.
    y0, form : Tensor (N, D) and Perceptron
        That for these ones, which is known already.
    """

    def __init__(self, perceptron: Callable[[Tensor], Perceptron], y0: Tensor, form: Perceptron) -> None:
        self.perceptron = perceptron
        self.y0, self.form = y0, form

    def __call__(self, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Outcome]:
        form = self.form if y0 is self.y0 else self.perceptron(y0)
        steps = steps_of(problem)
        if not problem.wants_gradient(y0, t0, t_eval):
            y, outcome, _ = solve_forward(form, steps, problem.max_steps, y0, t0, t_eval, keep=False)
            return y, outcome
        box: list[Outcome] = []
        y = _FusedSolve.apply(problem, form, steps, box, y0, t0, t_eval, form.inputs, *form.tensors)
        return y, box[0]


def steps_of(problem: Problem) -> Steps:
    """How a problem is solved, as the kernels read it."""
    assert isinstance(problem.method, ExplicitRK)
    assert isinstance(problem.controller, (FixedStep, PIController))
    return Steps(_method_structure(problem.method.tableau), _controller_structure(problem.controller))


class _FusedSolve(torch.autograd.Function):
    """From the inputs to the answers (N, T, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        form: Perceptron,
        steps: Steps,
        box: list[Outcome],
        y0: Tensor,
        t0: Tensor,
        t_eval: Tensor,
        inputs: Tensor | None,
        *tensors: Tensor,
    ) -> Tensor:
        y, outcome, kept = solve_forward(form, steps, problem.max_steps, y0, t0, t_eval, keep=True)
        box.append(outcome)
        ctx.problem, ctx.form, ctx.steps, ctx.kept, ctx.outcome = problem, form, steps, kept, outcome
        ctx.save_for_backward(y0, t0, t_eval, inputs, *tensors)  # so that torch notices a change in place
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        y0, t0, t_eval, _, *tensors = ctx.saved_tensors
        if is_batched(of_y):
            raise RuntimeError(
                "a solve takes one cotangent at a time: leave out is_grads_batched=True, or vectorize=True"
            )
        if torch.is_grad_enabled():
            return None, None, None, None, *_with_graph(ctx, of_y)
        kept: AcceptedSteps = ctx.kept
        wanted = ctx.needs_input_grad[4:]
        found = solve_backward(
            ctx.form,
            ctx.steps,
            ctx.problem.max_steps,
            y0,
            t0,
            t_eval,
            kept,
            of_y,
            times=any(wanted[1:3]),
            parameters=any(wanted[4:]),
        )
        _count(ctx.problem, ctx.outcome)
        of_tensors = found.parameters or len(tensors) * [None]
        return None, None, None, None, found.y0, found.t0, found.t_eval, found.inputs, *of_tensors


def _count(problem: Problem, outcome: Outcome) -> None:
    """Evaluations of a backward pass: those of every accepted step, and one at t0."""
    if problem.tally is not None:
        started = (outcome.n_evals > 0).to(outcome.n_accepted.dtype)
        counts = outcome.n_accepted * problem.method.evaluations_per_step + started
        problem.tally(torch.arange(len(counts), device="cpu"), counts)


def _with_graph(ctx: Any, of_y: Tensor) -> list[Tensor | None]:
    """The gradient as part of a graph: through the solve by torch, once more."""
    inputs = ctx.saved_tensors
    for saved, own in zip(inputs[4:], ctx.form.tensors):
        if saved is not own:
            raise RuntimeError(
                "the field's parameters were replaced since the solve: use gradient='backprop'"
            )
    y, _ = backprop(ctx.problem, *inputs[:3])
    wanted = [x for x, wants in zip(inputs, ctx.needs_input_grad[4:]) if wants]
    found = iter(torch.autograd.grad(y, wanted, of_y, create_graph=True, allow_unused=True))
    return [next(found) if wants else None for wants in ctx.needs_input_grad[4:]]


@lru_cache(maxsize=64)
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


def _controller_structure(controller: FixedStep | PIController) -> ControllerStructure:
    if isinstance(controller, FixedStep):
        return fixed_step(controller.step_size)
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
    )
