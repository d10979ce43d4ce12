"""The fused solve of a multilayer perceptron and its discrete adjoint, on tensors: numbers in, numbers out."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

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

_NO_MEMORY, _INFINITE_TIMES = -1, -2


class Outcome(NamedTuple):
    """Per series (N,): as those of `latentode.solvers.Integration`, the evaluations that a backward pass takes, and how
    many series could not be solved."""

    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor
    n_evals_backward: Tensor
    n_failed: int


@dataclass(frozen=True)
class Steps:
    """An explicit Runge-Kutta method and how its steps are chosen, as the kernels read it.

    Parameters
    ----------
    method : MethodStructure
    controller : ControllerStructure
        With `max_steps`.
    """

    method: MethodStructure
    controller: ControllerStructure


class AcceptedSteps:
    """The steps that a solve has kept for its gradient; they are freed with this handle."""

    def __init__(self) -> None:
        self.pointer = ctypes.c_void_p()
        self._free = entry("latentode_free_steps")  # here, as at the end of the process globals are gone

    def __del__(self) -> None:
        self._free(self.pointer)


class Cotangents(NamedTuple):
    """Of y0 (N, D), t0 (N,), t_eval (N, T), the inputs (N, C), and the tensors of the form; None or empty where it was
    not wanted."""

    y0: Tensor
    t0: Tensor | None
    t_eval: Tensor | None
    inputs: Tensor | None
    parameters: list[Tensor]


class InfiniteTimesError(ValueError):
    """A query time or an initial time is infinite, or an initial time NaN."""


class NativeSolve:
    """A solve of N series that is ready for the kernels, and then its discrete adjoint.

    Parameters
    ----------
    form : Perceptron
        Of the field, for these series.
    steps : Steps
    y0 : Tensor (N, D)
        float32 or float64 on the CPU, as all tensors of the form.
    t0 : Tensor (N,), float64
    t_eval : Tensor (N, T), float64
        In any order, before and after t0; NaN asks nothing.
    """

    def __init__(self, form: Perceptron, steps: Steps, y0: Tensor, t0: Tensor, t_eval: Tensor) -> None:
        self.form, self.y0, self.t0, self.t_eval = form, y0, t0, t_eval
        self._problem, self._alive = _problem(form, steps, y0, t0, t_eval)
        self._places = self._where()

    def forward(self, *, keep: bool) -> tuple[Tensor, Outcome, AcceptedSteps | None]:
        """Solve to the query times.

        Parameters
        ----------
        keep : bool
            Whether to keep the accepted steps, for `backward`.

        Returns
        -------
        Tensor (N, T, D), Outcome, AcceptedSteps or None

        Raises
        ------
        InfiniteTimesError
        MemoryError
        """
        (n, dim), n_times = self.y0.shape, self.t_eval.shape[1]
        y = torch.empty(n, n_times, dim, dtype=self.y0.dtype, device="cpu")
        counts = torch.empty(5, n, dtype=torch.int64, device="cpu")
        t_reached = torch.empty(n, dtype=torch.float64, device="cpu")
        problem = self._problem
        problem.y, problem.t_reached = y.data_ptr(), t_reached.data_ptr()
        first, size = counts.data_ptr(), 8 * n
        problem.status, problem.n_steps, problem.n_accepted = first, first + size, first + 2 * size
        problem.n_evals, problem.n_evals_backward = first + 3 * size, first + 4 * size
        kept = AcceptedSteps() if keep else None
        place = None if kept is None else ctypes.byref(kept.pointer)
        failed = entry("latentode_solve_forward")(ctypes.byref(problem), place)
        if failed == _INFINITE_TIMES:
            raise InfiniteTimesError
        if failed == _NO_MEMORY:
            raise MemoryError(f"no memory for the solve of {n} series with {n_times} query times each")
        return y, Outcome(counts[0], t_reached, counts[1], counts[2], counts[3], counts[4], failed), kept

    def backward(self, kept: AcceptedSteps, of_y: Tensor, *, times: bool, parameters: bool) -> Cotangents:
        """The discrete adjoint of `forward`.

        Parameters
        ----------
        kept : AcceptedSteps
            What `forward` has kept.
        of_y : Tensor (N, T, D)
        times, parameters : bool
            Whether the cotangents of t0 and t_eval, and of the parameters, are wanted.

        Raises
        ------
        MemoryError
        RuntimeError
            Where the memory of a tensor was replaced since.
        """
        form = self.form
        if self._where() != self._places:
            raise RuntimeError(
                "a tensor of the solve was given other data between the solve and its gradient, as `tensor.data = ...` "
                "and `module.double()` do: take the gradient first"
            )
        of_y = of_y.resolve_neg().contiguous()
        of_y0, of_inputs = _like(self.y0), _like(form.inputs)
        of_t0, of_times = (_like(self.t0), _like(self.t_eval)) if times else (None, None)
        cotangents = CotangentsStructure(of_y.data_ptr(), of_y0.data_ptr())
        cotangents.of_inputs = _pointer(of_inputs)
        cotangents.of_t0, cotangents.of_times = _pointer(of_t0), _pointer(of_times)
        of_parameters: list[Tensor] = []
        if parameters:
            of_weights, of_biases = list(map(_like, form.weights)), list(map(_like, form.biases))
            of_speed = _like(form.raw_speed)
            cotangents.of_weights, cotangents.of_biases = _pointers(of_weights), _pointers(of_biases)
            cotangents.of_speed = _pointer(of_speed)
            of_parameters = [x for x in (*of_weights, *of_biases, of_speed) if x is not None]
        failed = entry("latentode_solve_backward")(
            ctypes.byref(self._problem), kept.pointer, ctypes.byref(cotangents)
        )
        if failed == _NO_MEMORY:
            raise MemoryError(f"no memory for the gradient of the solve of {len(self.y0)} series")
        if parameters and form.raw_speed is not None:
            of_parameters[-1] *= form.raw_speed.sigmoid()
        return Cotangents(of_y0, of_t0, of_times, of_inputs, of_parameters)

    def _where(self) -> list[int]:
        """Where the numbers stand that the kernels read."""
        read = (self.y0, self.t0, self.t_eval, *self.form.tensors, self.form.inputs)
        return [x.data_ptr() for x in read if x is not None]


def numbers(values: Sequence[float]) -> ctypes.Array[ctypes.c_double]:
    """An array of doubles for a structure, which keeps it alive."""
    return (ctypes.c_double * len(values))(*values)


def evaluate(function: str, x: Tensor) -> Tensor:
    """An elementary function of the kernels, for tests: an activation, "exp", "expm1" or (in float64) "log"."""
    number = {**ACTIVATIONS, "exp": 100, "log": 101, "expm1": 102}[function]
    x = x.contiguous()
    y = torch.empty_like(x)
    pointers = ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr())
    double = ctypes.c_int64(x.dtype == torch.float64)
    entry("latentode_evaluate")(ctypes.c_int64(number), double, *pointers, ctypes.c_int64(x.numel()))
    return y


def fixed_step(step_size: float, max_steps: int) -> ControllerStructure:
    """Steps of one size."""
    return ControllerStructure(
        adaptive=0, step_size=step_size, first_step=math.nan, max_step=math.inf, max_steps=max_steps
    )


@cache
def entry(name: str) -> Callable[..., int]:
    """An entry point of the kernels, which must be there."""
    found = library()
    assert found is not None, "asked for native kernels that are not there"
    function: Callable[..., int] = getattr(found, name)
    if name.startswith("latentode_solve"):
        function.restype = ctypes.c_int64  # type: ignore[attr-defined]
    return function


def _problem(
    form: Perceptron, steps: Steps, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[SolveStructure, tuple[object, ...]]:
    """The arguments of a solve as a structure, and what was made for it and must live as long as it."""
    n, dim = y0.shape
    y0_stride, step = y0.stride()
    if step != 1 and dim > 1:
        y0, y0_stride = y0.contiguous(), dim
    weights = [w if w.is_contiguous() else w.contiguous() for w in form.weights]
    biases = [b if b is None or b.is_contiguous() else b.contiguous() for b in form.biases]
    speed = None if form.raw_speed is None else functional.softplus(form.raw_speed)
    inputs = None if form.inputs is None else form.inputs.contiguous()
    widths = [w.shape[0] for w in weights]
    field = FieldStructure(
        widths[-1],
        0 if inputs is None else inputs.shape[1],
        len(weights),
        form.time_input,
        ACTIVATIONS[form.activation],
        (ctypes.c_int64 * (len(widths) + 1))(weights[0].shape[1], *widths),
        _pointers(weights),
        _pointers(biases),
        _pointer(speed),
    )
    problem = SolveStructure(
        y0.dtype == torch.float64,
        torch.get_num_threads(),
        n,
        t_eval.shape[1],
        dim - widths[-1],
        field,
        steps.method,
        steps.controller,
        y0.data_ptr(),
        y0_stride,
        t0.data_ptr(),
        t0.stride(0),
        t_eval.data_ptr(),
        *t_eval.stride(),
        _pointer(inputs),
        0 if inputs is None else inputs.stride(0),
    )
    return problem, (y0, weights, biases, speed, inputs)


def _like(x: Tensor | None) -> Any:
    return None if x is None else torch.empty_like(x, memory_format=torch.contiguous_format)


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _pointers(tensors: Sequence[Tensor | None]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])
