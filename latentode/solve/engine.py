"""Which engine solves: the native kernels where they know all that is asked for, torch everywhere else."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.checks import did_you_mean
from latentode.exceptions import warn_user
from latentode.gradients import GRADIENTS, Adjoint, Gradient, Problem
from latentode.gradients.backprop import backprop
from latentode.gradients.fused import solve_natively, steps_of
from latentode.native import Perceptron
from latentode.native.library import library, why_absent
from latentode.native.solve import InfiniteTimesError, NativeSolve
from latentode.native.structures import MAX_DEGREE, MAX_STAGES
from latentode.solve.arguments import check_finite
from latentode.solve.forms import Mistake, form_or_why_not, own_field
from latentode.solve.only_torch import why_only_torch_here, why_only_torch_of
from latentode.solve.sides import Answer, solve_sides
from latentode.solvers import SOLVERS
from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.step_size import FixedStep, PIController

ENGINES = ("auto", "torch", "native")
WIDEST_FASTER = (
    512  # width of a layer from which on torch's products of matrices are faster, measured with gradients
)
WIDEST_FORWARD = 1024  # and without


def check_engine(engine: str) -> None:
    """Refuse a name that is none of `ENGINES`."""
    if engine not in ENGINES:
        names = ", ".join(map(repr, ENGINES))
        raise ValueError(f"unknown engine {engine!r}{did_you_mean(engine, ENGINES)}: expected one of {names}")


def fused(
    engine: str,
    problem: Problem,
    gradient: Gradient,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    *,
    with_event: bool,
) -> NativeSolve | None:
    """A problem as the kernels solve it; None where torch has to.

    Raises
    ------
    ValueError
        With engine="native", where the kernels cannot; it says why.
    """
    check_engine(engine)
    if engine == "torch":
        return None
    found = (
        "its kernels know no events" if with_event else _form_or_why_not(problem, gradient, y0, t0, t_eval)
    )
    if isinstance(found, Perceptron) and (engine == "native" or _is_faster(found, problem, y0, t0, t_eval)):
        return NativeSolve(found, steps_of(problem), y0, t0, t_eval)
    if engine == "native":
        raise ValueError(
            f"engine='native' cannot solve this, because {found} (engine='auto' leaves it to torch)"
        )
    if isinstance(found, Mistake):
        warn_user(f"torch solves in the place of the native kernels, because {found}")
    return None


def _is_faster(form: Perceptron, problem: Problem, *inputs: Tensor) -> bool:
    widest = max([max(weight.shape) for weight in form.weights])
    return widest < (WIDEST_FASTER if problem.wants_gradient(*inputs) else WIDEST_FORWARD)


def solve_fused(solve: NativeSolve, problem: Problem) -> Answer:
    """As `solve_sides`."""

    def by_graph(y0: Tensor, t0: Tensor, t_eval: Tensor) -> Tensor:
        _check_not_replaced(own_field(problem).as_perceptron(y0), solve.form)
        return solve_sides(backprop, problem, y0, t0, t_eval).y

    try:
        y, outcome = solve_natively(problem, solve, by_graph)
    except InfiniteTimesError:
        check_finite(solve.t_eval, solve.t0)
        raise
    return Answer(y, *outcome[:5], failed=outcome.n_failed > 0)


def _check_not_replaced(now: Perceptron | None, then: Perceptron) -> None:
    """Refuse to solve again by other parameters, as after `torch.func.functional_call` has returned."""
    tensors = [() if form is None else form.tensors for form in (now, then)]
    lent = [one is not other and (one.requires_grad or other.requires_grad) for one, other in zip(*tensors)]
    if len(tensors[0]) != len(tensors[1]) or any(lent):
        raise RuntimeError("the field's parameters were replaced since the solve: use gradient='backprop'")


def _form_or_why_not(
    problem: Problem, gradient: Gradient, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> Perceptron | str:
    """The form of the field, or what the kernels do not know about this problem."""
    field = own_field(problem)
    if not hasattr(type(field), "as_perceptron"):
        return (
            "its kernels know multilayer perceptrons alone, such as latentode.nn.fields.MLPField, and fields with "
            f"a method `as_perceptron`; got a {type(field).__name__}"
        )
    if library() is None:
        return f"there are no native kernels ({why_absent()})"
    method, controller = problem.method, problem.controller
    if type(method) is not ExplicitRK or method.tableau.stages > MAX_STAGES:
        names = ", ".join(name for name, one in SOLVERS.items() if type(one) is ExplicitRK)
        return f"its kernels know explicit Runge-Kutta methods alone ({names})"
    if method.tableau.interpolant_matrix.shape[1] > MAX_DEGREE or type(controller) not in (
        FixedStep,
        PIController,
    ):
        return "its kernels know the step-size controllers of latentode.solvers alone"
    wanted = problem.wants_gradient(y0, t0, t_eval)
    if gradient is not GRADIENTS["discrete_adjoint"] and (
        wanted or not (gradient is GRADIENTS["backprop"] or isinstance(gradient, Adjoint))
    ):
        return "its kernels have the gradient 'discrete_adjoint' alone"
    if y0.dtype not in (torch.float32, torch.float64):
        return f"its kernels know float32 and float64; got {y0.dtype}"
    return (
        why_only_torch_here()
        or why_only_torch_of((y0, t0, t_eval))
        or form_or_why_not(problem, y0, t0, t_eval)
    )
