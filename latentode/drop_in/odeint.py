"""`odeint` and `odeint_adjoint`: torchdiffeq's arguments, axes and defaults on this engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from latentode.drop_in.adjoint import by_adjoint, way_back_by
from latentode.drop_in.augmented_adjoint import by_augmented_adjoint
from latentode.drop_in.errors import ArgumentError
from latentode.drop_in.event import event_on_rows, solve_to_event
from latentode.drop_in.request import SCIPY, Request, prepare
from latentode.drop_in.scipy_solver import request_of_scipy, solve_by_scipy
from latentode.drop_in.solving import Differentiation, solve
from latentode.gradients import GRADIENTS
from latentode.gradients.event import through_event


def odeint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
) -> Any:
    """Solve dy/dt = func(t, y), y(t[0]) = y0: torchdiffeq's `odeint` with this engine behind it.

    For code written for torchdiffeq 0.2.5: change the import. The whole state has one clock; for a batch of series
    that should not wait for each other, use `latentode.solve_ivp`. Gradients go through the accepted steps, to
    everything that `func` uses.

    Parameters
    ----------
    func : callable
        `func(t, y) -> dy/dt` with t a scalar tensor and y like y0. May carry the functions `callback_step`,
        `callback_accept_step` and `callback_reject_step` of (t, y, dt).
    y0 : Tensor or tuple of Tensor
        Any shape; floating point or complex.
    t : Tensor (T,)
        Strictly increasing or decreasing; the state is y0 at t[0]. Kept in float64.
    rtol, atol : float, or one per part of a tuple, default 1e-7 and 1e-9
    method : str, default "dopri5"
        A name of torchdiffeq's or any other of `latentode.solvers.SOLVERS`. "rk4" is the 3/8 rule, as there
        (in `solve_ivp` it is the classical method). Methods without an error estimate step over `t` itself, or as
        `options` says, and do not check for infinite values, as there. "scipy_solver" hands the problem to SciPy:
        numbers without a graph, and no events; `odeint_adjoint` differentiates it. "explicit_adams" needs a max_order
        below its default, 6 for example, unless its steps are tiny.
    options : dict, optional
        Adaptive methods: first_step, min_step, max_step, step_t, jump_t (times to land on; across the latter `func`
        may jump), safety, ifactor, dfactor, max_num_steps. Fixed steps: step_size or grid_constructor, interp
        ("linear" or "cubic"), perturb; Adams methods also max_order (12), the implicit one max_iters (4). All these:
        norm, a function of an error like y0. `dtype` has no effect: time is kept in float64. SciPy: solver ("LSODA",
        "Radau", "DOP853", ... or a class), max_step, min_step (of LSODA).
    event_fn : callable, optional
        `event_fn(t, y) -> Tensor`: the solve goes on from t[0] in the direction of t[1] until an entry changes its
        sign. For gradients through the time found, see `odeint_event`.

    Returns
    -------
    Tensor (T, *state) or a tuple of them
        With `event_fn` the time of the event, and the state at t[0] and there, (2, *state).

    Raises
    ------
    ArgumentError, TypeError, ValueError
        For arguments; the first is a ValueError, and an AssertionError as in torchdiffeq.
    IntegrationError
        Where the solve fails, with time and repair: a SolverError, and an AssertionError as in torchdiffeq.

    Examples
    --------
    >>> import torch
    >>> from latentode import odeint
    >>> y = odeint(lambda t, y: -y, torch.ones(1, dtype=torch.float64), torch.tensor([0.0, 1.0]))
    >>> round(y[1].item(), 6)
    0.367879
    """
    if method == SCIPY:
        request, given = request_of_scipy(func, y0, t, rtol, atol, options, event_fn)
        return request.layout.unpack(solve_by_scipy(request, given))
    request = prepare(func, y0, t, rtol, atol, method, options)
    return answer(request, Differentiation(GRADIENTS["backprop"]), event_fn)


def answer(request: Request, differentiation: Differentiation, event_fn: Callable[..., Tensor] | None) -> Any:
    """The caller's states, and the time of the event if there is one."""
    if event_fn is None:
        return request.layout.unpack(solve(request, differentiation))
    time, rows = solve_to_event(request, event_fn, differentiation)
    return time.to(request.t_given.dtype), request.layout.unpack(rows)


def odeint_adjoint(
    func: Callable[..., Any],
    y0: Any,
    t: Tensor,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable[..., Tensor] | None = None,
    adjoint_rtol: Any = None,
    adjoint_atol: Any = None,
    adjoint_method: str | None = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Iterable[Tensor] | None = None,
) -> Any:
    """`odeint` with gradients in little memory: torchdiffeq's `odeint_adjoint`.

    Adaptive methods are differentiated by the continuous adjoint. The parameters' gradients never steer its step
    sizes, so it always goes by the seminorm. Fixed steps keep their states and are computed once more on the way
    back: their gradient is the exact one of the solution computed, so the adjoint arguments do not matter to them.

    Parameters
    ----------
    func, y0, t, rtol, atol, method, options, event_fn
        As for `odeint`. `func` may also carry `callback_step_adjoint` and so on, functions of (t, (y, adjoint), dt).
    adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options : optional
        Of the solve backwards; default: as forwards. `norm` among the options is "seminorm", or a function of the
        errors (t, y, adjoint, *params) in which those of t and the parameters are 0.
    adjoint_params : iterable of Tensor, optional
        What `func` uses and gradients are wanted for; default: the parameters of the module `func`.

    Returns
    -------
    As `odeint`.

    Raises
    ------
    As `odeint`; ValueError where `func` is no nn.Module and adjoint_params are not given.
    """
    if adjoint_params is None and not isinstance(func, nn.Module):
        raise ValueError(
            "func must be an instance of nn.Module to specify the adjoint parameters; otherwise pass them as "
            "adjoint_params=, or adjoint_params=() if there are none"
        )
    if adjoint_method not in (None, method) and options is not None and adjoint_options is None:
        raise ValueError(
            "adjoint_options cannot be taken from options where adjoint_method differs from method: "
            "pass adjoint_options= too"
        )
    if adjoint_params is None:
        assert isinstance(func, nn.Module)
        adjoint_params = func.parameters()
    if adjoint_options is None:
        adjoint_options = {name: value for name, value in (options or {}).items() if name != "norm"}
    adjoint_method = method if adjoint_method is None else adjoint_method
    if adjoint_method == SCIPY != method:
        raise ArgumentError(
            f"adjoint_method {SCIPY!r} goes with method {SCIPY!r} only: take an adaptive method"
        )
    params = list({id(param): param for param in adjoint_params if param.requires_grad}.values())  # each once
    tolerances = (
        rtol if adjoint_rtol is None else adjoint_rtol,
        atol if adjoint_atol is None else adjoint_atol,
    )
    if method == SCIPY:
        request, given = request_of_scipy(func, y0, t, rtol, atol, options, event_fn)
        way_back = way_back_by(odeint, request, params, *tolerances, adjoint_method, adjoint_options)
        rows = by_augmented_adjoint(request, lambda: solve_by_scipy(request, given), way_back, params)
        return request.layout.unpack(rows)
    request = prepare(func, y0, t, rtol, atol, method, options)
    differentiation = by_adjoint(request, params, *tolerances, adjoint_method, adjoint_options)
    return answer(request, differentiation, event_fn)


def odeint_event(
    func: Callable[..., Any],
    y0: Any,
    t0: Tensor,
    *,
    event_fn: Callable[..., Tensor],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] = odeint,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Solve until an event, with gradients through its time: torchdiffeq's `odeint_event`.

    Gradients (first derivatives) reach whatever y0, t0, `func` and, other than in torchdiffeq, `event_fn` depend on.

    Parameters
    ----------
    func, y0
        As for `odeint`.
    t0 : Tensor ()
        Time of y0.
    event_fn : callable
        `event_fn(t, y) -> Tensor`; the event is the first change of sign of an entry, and t0 where one is 0 there.
    reverse_time : bool, default False
        Whether to search backwards.
    odeint_interface : callable, default odeint
        `odeint`, `odeint_adjoint` or another function like them.
    **kwargs
        For `odeint_interface`.

    Returns
    -------
    event_t : Tensor ()
    solution : Tensor (2, *state) or a tuple of them, at t0 and at the event

    References
    ----------
    Chen, Amos, Nickel (2021), Learning Neural Event Functions for Ordinary Differential Equations.
    """
    start = t0.reshape(1)
    t = torch.cat([start, start.detach() + (-1.0 if reverse_time else 1.0)])
    found, solution = odeint_interface(func, y0, t, event_fn=event_fn, **kwargs)
    request = prepare(func, y0, t, 0.0, 0.0, None, None)
    last = tuple(part[-1] for part in solution) if request.layout.is_tuple else solution[-1]
    event = event_on_rows(event_fn, request.layout, request.t[:1], request.row)
    times, rows = through_event(
        event,
        request.field,
        request.t[:1],
        found.detach().reshape(1).to(request.t),
        request.layout.pack(last),
    )
    ends = request.layout.unpack(torch.cat([request.layout.pack(y0), rows]))
    return times[0].to(found.dtype), ends
