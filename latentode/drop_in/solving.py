"""Requests solved by the engine: the whole state is one series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latentode.drop_in.control import Announced, OneClock
from latentode.drop_in.errors import ArgumentError, IntegrationError
from latentode.drop_in.grid import GridWalk, grid_of, inside, walk_grid
from latentode.drop_in.request import Request
from latentode.gradients import Gradient, Problem
from latentode.solvers import Status
from latentode.solvers.integration import Integration
from latentode.solvers.method import Field, Method

NO_LIMIT = 2**31 - 1  # of steps, as in torchdiffeq


@dataclass(frozen=True)
class Differentiation:
    """How an adaptive solve is differentiated, and whether fixed steps keep only their states for that."""

    gradient: Gradient
    params: Sequence[Tensor] = ()
    recompute: bool = False


def solve(request: Request, differentiation: Differentiation) -> Tensor:
    """Rows (T, D) at the times of a request."""
    request.callbacks.live = True
    try:
        if request.on_a_grid:
            return _solve_on_grid(request, differentiation.recompute)
        return solve_adaptively(request, request.t, differentiation)
    finally:
        request.callbacks.live = False


def _solve_on_grid(request: Request, recompute: bool) -> Tensor:
    grid = grid_of(request.options, request.func, request.y0, request.t_given).to(request.t)
    interp = request.options.get("interp", "linear")
    return walk_grid(walk_of(request, recompute), request.row, grid, request.t, interp)


def walk_of(request: Request, recompute: bool) -> GridWalk:
    perturb = bool(request.options.get("perturb", False))
    return GridWalk(request.method, request.field, request.callbacks, recompute=recompute, perturb=perturb)


def solve_adaptively(request: Request, t: Tensor, differentiation: Differentiation) -> Tensor:
    """Rows (T, D) at times t, piece by piece between the times of `step_t` and `jump_t`, where there are any."""
    clock, pace = clock_of(request), None
    begin, row, ahead, rows = t[:1], request.row, t[1:], [request.row]
    for stop, field in pieces(request, t) if len(t) > 1 else []:
        queries = ahead[: int(torch.searchsorted(_forward(ahead, t), _forward(stop, t), right=True))]
        n, ahead = len(queries), ahead[len(queries) :]
        if n == 0 or bool(queries[-1] != stop):
            queries = torch.cat([queries, stop])
        problem = replace(problem_of(request, field, clock, differentiation.params), pace=pace)
        y, run = differentiation.gradient(problem, row, begin, queries[None])
        raise_for_status(run)
        rows.append(y[0, :n])
        begin, row, pace = stop, y[0, -1:], run.pace
    return torch.cat(rows)


def _forward(times: Tensor, t: Tensor) -> Tensor:
    """Times as numbers that increase along t."""
    return times.detach() if bool(t[-1] > t[0]) else -times.detach()


def pieces(request: Request, t: Tensor) -> list[tuple[Tensor, Field]]:
    """Times (1,) to land on, from t[0] to t[-1], each with the field of the piece that ends there."""
    if request.options.get("step_t") is None and request.options.get("jump_t") is None:
        return [(t[-1:], request.field)]
    steps, jumps = (_times_to_land_on(request, name, t) for name in ("step_t", "jump_t"))
    stops = torch.cat([steps, jumps])
    if len(stops.unique()) < len(stops):
        raise ArgumentError("step_t and jump_t must not have any repeated elements between them")
    stops = stops[_forward(stops, t).argsort()]
    found, begin = [], t[:1]
    for stop in [*stops.split(1), t[-1:]] if len(stops) else [t[-1:]]:
        beside_a_jump = bool(torch.isin(torch.cat([begin, stop]).detach(), jumps).any())
        field = inside(request.field, begin, stop, request.row.dtype) if beside_a_jump else request.field
        found.append((stop, field))
        begin = stop
    return found


def _times_to_land_on(request: Request, name: str, t: Tensor) -> Tensor:
    """An option with times, as far as they lie between t[0] and t[-1]."""
    given = request.options.get(name)
    times = (
        torch.as_tensor([] if given is None else given, dtype=t.dtype, device=t.device).detach().reshape(-1)
    )
    ahead = _forward(times, t)
    return times[(ahead > _forward(t[0], t)) & (ahead < _forward(t[-1], t))]


def clock_of(request: Request) -> OneClock:
    return clock_from(request, request.method, request.rtol, request.atol, request.options)


def clock_from(
    request: Request, method: Method, rtol: float | Tensor, atol: float | Tensor, options: dict[str, Any]
) -> OneClock:
    """Step-size control of an adaptive method with the options given."""
    return OneClock(
        request.layout,
        request.norm,
        rtol,
        atol,
        order=(method.error_order or 0) + 1,
        callbacks=request.callbacks,
        first_step_size=options.get("first_step"),
        min_step=float(options.get("min_step", 0.0)),
        max_step=float(options.get("max_step", float("inf"))),
        safety=float(options.get("safety", 0.9)),
        ifactor=float(options.get("ifactor", 10.0)),
        dfactor=float(options.get("dfactor", 0.2)),
    )


def problem_of(
    request: Request,
    field: Field,
    clock: OneClock,
    params: Sequence[Tensor],
    most_steps: int = NO_LIMIT,
) -> Problem:
    """A piece of a request for the engine."""
    announced: Any = (
        Announced(request.method, request.callbacks) if request.callbacks.functions else request.method
    )
    max_steps = int(request.options.get("max_num_steps", most_steps))
    return Problem(field=field, params=params, method=announced, controller=clock, max_steps=max_steps)


def raise_for_status(run: Integration) -> None:
    """An error where the engine could not go on."""
    status = Status(int(run.status[0]))
    if status > 0:
        repair = status.message.replace("raise max_steps", "raise options['max_num_steps']")
        raise IntegrationError(
            f"odeint could not go beyond t={run.t_reached[0].item():.6g} [{status.name}]: {repair}"
        )
