"""The fused solve of a multilayer perceptron and its discrete adjoint, on tensors: numbers in, numbers out."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from latentode.native.library import library
from latentode.native.perceptron import Perceptron
from latentode.native.structures import (
    ACTIVATIONS,
    ControllerStructure,
    CotangentsStructure,
    FieldStructure,
    MethodStructure,
    SolveStructure,
)


class Outcome(NamedTuple):
    """Per series (N,): as those of `latentode.solvers.Integration`."""

    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor


@dataclass(frozen=True)
class Steps:
    """An explicit Runge-Kutta method and how its steps are chosen, as the kernels read it.

    Parameters
    ----------
    method : MethodStructure
    controller : ControllerStructure
        Without `max_steps`.
    """

    method: MethodStructure
    controller: ControllerStructure


class AcceptedSteps:
    """Handle on the steps that a solve has kept; they are freed with it."""

    def __init__(self, pointer: ctypes.c_void_p) -> None:
        self.pointer = pointer
        weakref.finalize(self, _entry("latentode_free_steps"), pointer)


def numbers(values: Sequence[float]) -> ctypes.Array[ctypes.c_double]:
    """An array of doubles for a structure, which keeps it alive."""
    return (ctypes.c_double * len(values))(*values)


def inspect_times(t0: Tensor, t_eval: Tensor) -> tuple[bool, bool]:
    """Whether there are query times (N, T) before t0 (N,), and ones that come closer to t0 again."""
    problem = SolveStructure()
    _set_times(problem, t0, t_eval)
    found = _call("latentode_inspect_times", ctypes.byref(problem))
    return bool(found & 1), bool(found & 2)


def solve_forward(
    form: Perceptron, steps: Steps, max_steps: int, y0: Tensor, t0: Tensor, t_eval: Tensor, *, keep: bool
) -> tuple[Tensor, Outcome, AcceptedSteps | None]:
    """Solve to the query times.

    Parameters
    ----------
    form : Perceptron
        Of the field, for these series.
    steps : Steps
    max_steps : int
    y0 : Tensor (N, D)
        float32 or float64 on the CPU, as all tensors of the form.
    t0 : Tensor (N,), float64
    t_eval : Tensor (N, T), float64
        Query times on one side of t0, moving away from it along T; NaN (only at the end) asks nothing.
    keep : bool
        Whether to keep the accepted steps, for `solve_backward`.

    Returns
    -------
    Tensor (N, T, D), Outcome, AcceptedSteps or None

    Raises
    ------
    MemoryError
    """
    n, n_times = t_eval.shape
    problem, alive = _problem(form, steps, max_steps, y0, t0, t_eval)
    y = y0.new_empty(n, n_times, y0.shape[1])
    counts = torch.empty(4, n, dtype=torch.int64, device="cpu")
    t_reached = torch.empty(n, dtype=torch.float64, device="cpu")
    problem.y, problem.t_reached = y.data_ptr(), t_reached.data_ptr()
    first, size = counts.data_ptr(), counts.stride(0) * 8
    problem.status, problem.n_steps = first, first + size
    problem.n_accepted, problem.n_evals = first + 2 * size, first + 3 * size
    kept = ctypes.c_void_p()
    failed = _call("latentode_solve_forward", ctypes.byref(problem), ctypes.byref(kept) if keep else None)
    del alive
    if failed:
        raise MemoryError(f"no memory for the solve of {n} series with {n_times} query times each")
    status, n_steps, n_accepted, n_evals = counts.unbind(0)
    outcome = Outcome(status, t_reached, n_steps, n_accepted, n_evals)
    return y, outcome, AcceptedSteps(kept) if keep else None


class Cotangents(NamedTuple):
    """Of y0 (N, D), t0 (N,), t_eval (N, T), the inputs (N, C), and the tensors of the form; None or empty where it was
    not wanted."""

    y0: Tensor
    t0: Tensor | None
    t_eval: Tensor | None
    inputs: Tensor | None
    parameters: list[Tensor]


def solve_backward(
    form: Perceptron,
    steps: Steps,
    max_steps: int,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    kept: AcceptedSteps,
    of_y: Tensor,
    *,
    times: bool,
    parameters: bool,
) -> Cotangents:
    """The discrete adjoint of a solve before with the same arguments.

    Parameters
    ----------
    kept : AcceptedSteps
    of_y : Tensor (N, T, D)
    times, parameters : bool
        Whether the cotangents of t0 and t_eval, and of the parameters, are wanted.

    Raises
    ------
    MemoryError
    """
    problem, alive = _problem(form, steps, max_steps, y0, t0, t_eval)
    of_y = of_y.resolve_neg().contiguous()

    def like(x: Tensor | None) -> Tensor | None:
        return None if x is None else torch.empty(x.shape, dtype=x.dtype, device="cpu")

    of_t0, of_times, of_inputs = (
        like(t0 if times else None),
        like(t_eval if times else None),
        like(form.inputs),
    )
    of_y0 = torch.empty(y0.shape, dtype=y0.dtype, device="cpu")
    cotangents = CotangentsStructure(
        of_y=of_y.data_ptr(),
        of_y0=of_y0.data_ptr(),
        of_t0=_pointer(of_t0),
        of_times=_pointer(of_times),
        of_inputs=_pointer(of_inputs),
    )
    of_parameters: list[Tensor] = []
    if parameters:
        of_weights, of_biases = [like(w) for w in form.weights], [like(b) for b in form.biases]
        of_speed = like(form.raw_speed)
        cotangents.of_weights, cotangents.of_biases = _pointers(of_weights), _pointers(of_biases)
        cotangents.of_speed = _pointer(of_speed)
        of_parameters = [x for x in (*of_weights, *of_biases, of_speed) if x is not None]
    failed = _call("latentode_solve_backward", ctypes.byref(problem), kept.pointer, ctypes.byref(cotangents))
    del alive
    if failed:
        raise MemoryError(f"no memory for the gradient of the solve of {len(y0)} series")
    if parameters and form.raw_speed is not None:
        of_parameters[-1] *= form.raw_speed.sigmoid()
    return Cotangents(of_y0, of_t0, of_times, of_inputs, of_parameters)


def evaluate(function: str, x: Tensor) -> Tensor:
    """An elementary function of the kernels, for tests: an activation, "exp", "expm1" or (in float64) "log"."""
    number = {**ACTIVATIONS, "exp": 100, "log": 101, "expm1": 102}[function]
    x = x.contiguous()
    y = torch.empty_like(x)
    pointers = ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr())
    double = ctypes.c_int64(x.dtype == torch.float64)
    _call("latentode_evaluate", ctypes.c_int64(number), double, *pointers, ctypes.c_int64(x.numel()))
    return y


def fixed_step(step_size: float) -> ControllerStructure:
    """Steps of one size."""
    return ControllerStructure(adaptive=0, step_size=step_size, first_step=math.nan, max_step=math.inf)


def _call(name: str, *arguments: object) -> int:
    return int(_entry(name)(*arguments))


@cache
def _entry(name: str) -> Callable[..., int]:
    found = library()
    assert found is not None, "asked for native kernels that are not there"
    entry: Callable[..., int] = getattr(found, name)
    return entry


def _problem(
    form: Perceptron, steps: Steps, max_steps: int, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[SolveStructure, tuple[object, ...]]:
    """The arguments of a solve as a structure, and what must live as long as it."""
    y0 = y0 if y0.stride(-1) == 1 or y0.shape[1] <= 1 else y0.contiguous()
    weights = [w.contiguous() for w in form.weights]
    biases = [None if b is None else b.contiguous() for b in form.biases]
    speed = None if form.raw_speed is None else functional.softplus(form.raw_speed)
    inputs = None if form.inputs is None else form.inputs.contiguous()
    widths = (ctypes.c_int64 * (len(weights) + 1))(weights[0].shape[1], *(len(w) for w in weights))
    problem = SolveStructure(
        double_precision=y0.dtype == torch.float64,
        n_threads=torch.get_num_threads(),
        n_still=y0.shape[1] - form.dim,
        field=FieldStructure(
            dim=form.dim,
            n_inputs=0 if inputs is None else inputs.shape[1],
            n_layers=len(weights),
            time_input=form.time_input,
            activation=ACTIVATIONS[form.activation],
            widths=widths,
            weights=_pointers(weights),
            biases=_pointers(biases),
            speed=_pointer(speed),
        ),
        method=steps.method,
        controller=steps.controller,
        y0=y0.data_ptr(),
        y0_stride=y0.stride(0),
        inputs=_pointer(inputs),
        inputs_stride=0 if inputs is None else inputs.stride(0),
    )
    problem.controller.max_steps = max_steps
    _set_times(problem, t0, t_eval)
    return problem, (y0, weights, biases, speed, inputs, widths, t0, t_eval)


def _set_times(problem: SolveStructure, t0: Tensor, t_eval: Tensor) -> None:
    problem.n, problem.n_times = t_eval.shape
    problem.t0, problem.t0_stride = t0.data_ptr(), t0.stride(0)
    problem.times = t_eval.data_ptr()
    problem.times_stride, problem.time_stride = t_eval.stride()


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*map(_pointer, tensors))
