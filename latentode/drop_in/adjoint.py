"""The continuous adjoint with torchdiffeq's adjoint arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentode.drop_in.control import Announced, Callbacks
from latentode.drop_in.errors import ArgumentError
from latentode.drop_in.request import Request, check_options, method_named, with_options
from latentode.drop_in.solving import Differentiation, clock_from
from latentode.drop_in.state import State
from latentode.gradients import GRADIENTS, Adjoint
from latentode.solvers import FixedStep
from latentode.solvers.step_size import Controller


def by_adjoint(
    request: Request,
    params: Sequence[Tensor],
    rtol: Any,
    atol: Any,
    method: str | None,
    options: dict[str, Any],
) -> Differentiation:
    """The gradient of a request, solved backwards with a method, tolerances and options of its own."""
    name, solver, on_a_grid = method_named(method)
    callbacks = Callbacks.of(request.func, request.layout, "_adjoint", parts=2)
    callbacks.live = True  # the method announces the steps of the solve backwards only
    options = check_options(name, on_a_grid, options, callbacks)
    norm = adjoint_norm(options.pop("norm", "seminorm"), request, params)
    tolerances = (
        request.layout.tolerance("adjoint_rtol", rtol, request.row.device),
        request.layout.tolerance("adjoint_atol", atol, request.row.device),
    )
    solver = with_options(name, solver, options, *tolerances)
    if request.on_a_grid:
        return Differentiation(GRADIENTS["discrete_adjoint"], params, recompute=True)
    controller: Controller
    if on_a_grid:
        controller = _fixed_steps(options)
    else:
        clock = clock_from(request, solver, *tolerances, options)
        controller = replace(clock, norm=norm, callbacks=callbacks, parts=2)
    announced = Announced(solver, callbacks) if callbacks.functions else solver
    return Differentiation(Adjoint(method=announced, controller=controller), params, recompute=True)


def way_back_by(
    odeint: Callable[..., Any],
    request: Request,
    params: Sequence[Tensor],
    rtol: Any,
    atol: Any,
    method: str | None,
    options: dict[str, Any],
) -> Callable[..., Any]:
    """`odeint` with the adjoint arguments, for the tuple (y, adjoint, *gradients of the parameters)."""
    options, layout = dict(options), request.layout
    norm = adjoint_norm(options.pop("norm", "seminorm"), request, params)
    options["norm"] = lambda state: norm(layout.unpack(state[0]), layout.unpack(state[1]))

    def tolerance(name: str, value: Any) -> Any:
        given = layout.tolerance(name, value, request.row.device)
        if not isinstance(given, Tensor):
            return given
        row = given.repeat_interleave(2 if layout.dtype.is_complex else 1)
        return (row, row, *[given.min()] * len(params))

    return partial(
        odeint,
        rtol=tolerance("adjoint_rtol", rtol),
        atol=tolerance("adjoint_atol", atol),
        method=method,
        options=options,
    )


def _fixed_steps(options: dict[str, Any]) -> FixedStep:
    """One step between the times of the forward solve, or steps of the size given."""
    if options.get("grid_constructor") is not None:
        raise ArgumentError("grid_constructor is no adjoint option here: pass step_size")
    step_size = options.get("step_size")
    return FixedStep(float("inf") if step_size is None else float(step_size))


def adjoint_norm(
    given: str | Callable[[Any], Any], request: Request, params: Sequence[Tensor]
) -> Callable[[State, State], Any]:
    """The norm of the errors of the state and of its adjoint.

    Raises
    ------
    ArgumentError
        If it is neither "seminorm" nor a function.
    """
    if given == "seminorm":
        return lambda y, a: torch.maximum(torch.as_tensor(request.norm(y)), torch.as_tensor(request.norm(a)))
    if not callable(given):
        raise ArgumentError(f"adjoint norm must be 'seminorm' or a function of a tuple; got {given!r}")
    zeros = [torch.zeros((), dtype=param.dtype, device=param.device).expand_as(param) for param in params]

    def of_all(y: State, a: State) -> Any:
        states = (*y, *a) if isinstance(y, tuple) else (y, a)
        return given((request.row.new_zeros(()), *states, *zeros))

    return of_all
