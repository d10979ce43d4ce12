"""Which engine solves: the native kernels where they know all that is asked for, torch everywhere else."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from latentode.checks import did_you_mean
from latentode.gradients import GRADIENTS, Adjoint, Gradient, Problem
from latentode.gradients.backprop import backprop
from latentode.gradients.fused import solve_natively, steps_of
from latentode.native import Perceptron
from latentode.native.library import library, why_absent
from latentode.native.solve import InfiniteTimesError, NativeSolve
from latentode.native.structures import ACTIVATIONS, MAX_DEGREE, MAX_LAYERS, MAX_STAGES
from latentode.solve.arguments import check_finite
from latentode.solve.flat import FlatField
from latentode.solve.only_torch import is_changed, overrides, why_only_torch_here, why_only_torch_of
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
        raise ValueError(f"engine='native' cannot solve this, because {found}: use engine='auto'")
    return None


def _is_faster(form: Perceptron, problem: Problem, *inputs: Tensor) -> bool:
    widest = max([max(weight.shape) for weight in form.weights])
    return widest < (WIDEST_FASTER if problem.wants_gradient(*inputs) else WIDEST_FORWARD)


def solve_fused(solve: NativeSolve, problem: Problem) -> Answer:
    """As `solve_sides`."""

    def by_graph(y0: Tensor, t0: Tensor, t_eval: Tensor) -> Tensor:
        _check_not_replaced(_own_field(problem).as_perceptron(y0), solve.form)
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
    field = _own_field(problem)
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
    found = (
        why_only_torch_here()
        or why_only_torch_of((y0, t0, t_eval))
        or _form_or_why_not_field(field, problem, y0)
    )
    if isinstance(found, Perceptron) and isinstance(field, nn.Module) and len(y0):
        return _why_not_sound(field, found, problem, y0, t0) or found
    return found


def _own_field(problem: Problem) -> Any:
    """The caller's field."""
    return problem.field.field if isinstance(problem.field, FlatField) else problem.field


def _form_or_why_not_field(field: Any, problem: Problem, y0: Tensor) -> Perceptron | str:
    if getattr(field, "largest_step", None) is not None:
        return "the field bounds its steps by `largest_step`, as control columns make it"
    if any(map(is_changed, _modules_of(field))) or overrides(type(field), "as_perceptron"):  # type: ignore[arg-type]
        return "the field, or a part of it, has a hook, or a `forward` of its own beside `as_perceptron`"
    form = field.as_perceptron(y0)
    if form is None:
        return "the field's parts are not those of a plain perceptron (nor are event times)"
    if not isinstance(form, Perceptron):
        raise TypeError(
            f"{type(field).__name__}.as_perceptron must return a latentode.native.Perceptron, such as "
            f"Perceptron.of(self.net), or None; got {type(form).__name__}"
        )
    return _why_not_form(form, problem, y0) or form


def _why_not_form(form: Perceptron, problem: Problem, y0: Tensor) -> str | None:
    tensors = form.tensors if form.inputs is None else (*form.tensors, form.inputs)
    known = set(map(id, problem.params))
    dtype = y0.dtype
    for x in form.tensors:
        if x.requires_grad and id(x) not in known:
            return "the field uses tensors that require a gradient and are not among its params"
    for x in tensors:
        if x.dtype is not dtype or not x.is_cpu:
            return f"not all tensors of the field are {dtype} on {y0.device}, as y0 is"
    changed = why_only_torch_of(tensors)
    if changed is not None:
        return changed
    if form.activation not in ACTIVATIONS or not 0 < len(form.weights) <= MAX_LAYERS:
        return f"its kernels know {', '.join(ACTIVATIONS)} and up to {MAX_LAYERS} layers"
    if not _shapes_fit(form, len(y0)):
        return "the shapes of the tensors that its `as_perceptron` returned do not fit each other"
    n_inputs = 0 if form.inputs is None else form.inputs.shape[1]
    n_seen = form.dim + form.time_input + n_inputs
    flat = form.n_still > 0 or not isinstance(problem.field, FlatField) or problem.field.layout.is_flat
    if form.weights[0].shape[1] != n_seen or y0.shape[1] != form.dim + form.n_still or not flat:
        return (
            f"the field's network reads {form.weights[0].shape[1]} numbers and returns {form.dim}, for states (N, D) "
            f"of {y0.shape[1]} numbers"
        )
    if form.inputs is not None and form.inputs.requires_grad and not form.n_still:
        return "the field has inputs that require a gradient and are no part of the state"
    return None


def _shapes_fit(form: Perceptron, n_series: int) -> bool:
    """Whether every layer reads what the one before it returns."""
    if len(form.biases) != len(form.weights) or any(weight.ndim != 2 for weight in form.weights):
        return False
    width = form.weights[0].shape[1]
    for weight, bias in zip(form.weights, form.biases):
        n_out, n_in = weight.shape
        if n_in != width or not n_in or not n_out or (bias is not None and bias.shape != (n_out,)):
            return False
        width = n_out
    if form.raw_speed is not None and form.raw_speed.shape != (width,):
        return False
    return form.inputs is None or (form.inputs.ndim == 2 and len(form.inputs) == n_series)


@torch.no_grad()
def _why_not_sound(
    field: nn.Module, form: Perceptron, problem: Problem, y0: Tensor, t0: Tensor
) -> str | None:
    """Compare a form with the field that has it, on the first two series, once for every field and kind of state."""
    kind = (y0.dtype, y0.shape[1], form.n_still)
    known = _FOUND_SOUND.setdefault(field, set())
    if kind in known:
        return None
    t, y = t0.detach()[:2], y0.detach()[:2]
    try:
        slope = problem.field(t, y.clone())
    except Exception:  # torch's check of the field says better what is wrong
        return "the field cannot be evaluated for two of the series"
    expected = form.slope(t, y)
    scale = float(slope.abs().max()) if slope.numel() else 0.0
    if not math.isfinite(scale):  # nothing to compare: some other time
        return None
    near = 100 * torch.finfo(y.dtype).eps ** 0.5 * scale
    if not torch.allclose(slope, expected, rtol=0.0, atol=near):
        return (
            f"{type(field).__name__}.as_perceptron says something else than its forward (at the first series' y0 "
            f"{expected[0, :4].tolist()} in place of {slope[0, :4].tolist()})"
        )
    known.add(kind)
    return None


_FOUND_SOUND: WeakKeyDictionary[nn.Module, set[object]] = WeakKeyDictionary()


def _modules_of(field: Any) -> list[nn.Module]:
    """The field, or the modules that it holds, where it is none itself."""
    if isinstance(field, nn.Module):
        return [field]
    return [part for part in vars(field).values() if isinstance(part, nn.Module)]
