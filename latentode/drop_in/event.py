"""Solves that end at an event instead of at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentode.drop_in.errors import ArgumentError, IntegrationError
from latentode.drop_in.grid import GridStep
from latentode.drop_in.request import Request
from latentode.drop_in.solving import (
    Differentiation,
    clock_of,
    pieces,
    problem_of,
    raise_for_status,
    solve_adaptively,
    walk_of,
)
from latentode.drop_in.state import StateLayout
from latentode.solvers import Status, integrate
from latentode.solvers.event import HALVINGS, Event

MOST_FIXED_STEPS = 20_000  # as in torchdiffeq
MOST_STEPS = 100_000  # of an adaptive method from one doubling of the search to the next
REACH = 100.0  # the search goes this many times the way from t[0] to t[1] at first, and then so many times farther


def event_on_rows(event_fn: Callable[..., Tensor], layout: StateLayout, t0: Tensor, row0: Tensor) -> Event:
    """The caller's event function on times (n,) and rows (n, D), positive at the start: the least of its entries."""

    def values(t: Tensor, row: Tensor) -> Tensor:
        value = event_fn(t.to(layout.real_dtype), layout.unpack(row))
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ArgumentError(
                f"event_fn(t, y) must return a tensor of real numbers; got {type(value).__name__}"
            )
        return value

    with torch.no_grad():
        signs = values(t0[0].detach(), row0[0].detach()).sign()

    def event(t: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([(values(*pair) * signs).min() for pair in zip(t, rows)])

    return event


def solve_to_event(
    request: Request, event_fn: Callable[..., Tensor], differentiation: Differentiation
) -> tuple[Tensor, Tensor]:
    """Time () of the event, as a number, and the rows (2, D) at the start and there, differentiable."""
    if len(request.t) != 2:
        raise ArgumentError(
            f"with event_fn, t must have two entries, the start and a time on the side to search; got {len(request.t)}"
        )
    event = event_on_rows(event_fn, request.layout, request.t[:1], request.row)
    request.callbacks.live = True
    try:
        if request.on_a_grid:
            return _walk_to_event(request, event, differentiation.recompute)
        with torch.no_grad():
            time = _search(request, event)
    finally:
        request.callbacks.live = False
    if bool(time == request.t[0]):
        return time[0], torch.cat([request.row, request.row])
    return time[0], solve_adaptively(request, torch.cat([request.t[:1], time]), differentiation)


def _search(request: Request, event: Event) -> Tensor:
    """Time (1,) of the event; the search goes farther and farther."""
    clock, pace, begin, row = clock_of(request), None, request.t[:1].detach(), request.row
    way = (request.t[1:] - request.t[:1]).detach()
    while bool(torch.isfinite(way)):
        way = way * REACH
        for stop, field in pieces(request, torch.cat([begin, begin + way])):
            problem = problem_of(request, field, clock, (), most_steps=MOST_STEPS)
            run = integrate(
                field,
                row,
                begin,
                stop[None],
                method=problem.method,
                controller=clock,
                max_steps=problem.max_steps,
                keep_steps=False,
                event=event,
                pace=pace,
            )
            if int(run.status[0]) == Status.EVENT:
                return run.t_reached
            raise_for_status(run)
            begin, row, pace = stop, run.at(begin, stop[None])[0], run.pace
    raise IntegrationError("odeint found no event however far it went: check event_fn and the direction of t")


def _walk_to_event(request: Request, event: Event, recompute: bool) -> tuple[Tensor, Tensor]:
    """Fixed steps until the sign changes, and the root of the interpolant in the last one."""
    size = request.options.get("step_size")
    if size is None or not float(size) > 0:
        raise ArgumentError(f"fixed steps to an event need a positive step_size in options; got {size}")
    t0 = request.t[:1]
    h = (request.t[1:] - t0).detach().sign() * float(size)
    walk, interp = walk_of(request, recompute), request.options.get("interp", "linear")
    with torch.no_grad():
        if bool(event(t0, request.row) <= 0):
            return t0[0].detach(), torch.cat([request.row, request.row])
    knot = walk.begin(t0, request.row, t0 + h)
    for _ in range(MOST_FIXED_STEPS):
        step = walk.step(knot, knot.t + h)
        with torch.no_grad():
            passed = bool(event(step.end.t, step.end.y) <= 0)
        if passed:
            time = _root(event, step, interp)
            return time[0], torch.cat([request.row, step.at(time, interp)])
        knot = step.end
    raise IntegrationError(
        f"odeint found no event in {MOST_FIXED_STEPS} steps, until t={knot.t.item():.6g}: raise step_size, "
        "or check event_fn and the direction of t"
    )


@torch.no_grad()
def _root(event: Event, step: GridStep, interp: str) -> Tensor:
    """Time (1,) in a step where the event, positive at its start, is no longer positive."""
    low, high = step.start.t, step.end.t
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        before = event(middle, step.at(middle, interp)) > 0
        low, high = torch.where(before, middle, low), torch.where(before, high, middle)
    return high
