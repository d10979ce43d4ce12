"""Solving until an event: first to find it, then, with a gradient, up to it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from latentode.gradients import Gradient, Problem
from latentode.gradients.event import through_event
from latentode.gradients.reversible import made_reversible, reversible
from latentode.solve.flat import FlatEvent
from latentode.solve.sides import Answer, solve_sides
from latentode.solvers.integrate import integrate
from latentode.solvers.integration import Integration
from latentode.solvers.solution import Status


def solve_to_event(
    gradient: Gradient, problem: Problem, event: FlatEvent, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[Answer, Tensor, Tensor]:
    """The answer up to the events, and the times (N,) and flat states (N, D) of these, NaN where there are none."""
    way = (t_eval - t0[:, None]).detach()
    if bool(((way < 0).any(dim=1) & (way > 0).any(dim=1)).any()):
        raise ValueError(
            "with event= the query times of a series must lie on one side of its t0: solve both sides one by one"
        )
    if gradient is reversible:  # the event of the solution that it answers with
        problem = replace(problem, method=made_reversible(problem.method))
    search = _search(problem, event, y0, t0, t_eval, way)
    found = search.status == int(Status.EVENT)
    stop = torch.where(found, search.t_reached, torch.nan)
    beyond = way.abs() > (stop - t0.detach()).abs()[:, None]
    queries = torch.cat([t_eval.masked_fill(beyond, torch.nan), stop[:, None]], dim=1)
    answer = solve_sides(gradient, problem, y0, t0, queries)
    rows = torch.nonzero(found & (answer.status == 0))[:, 0]
    times, states = torch.full_like(t0, torch.nan), torch.full_like(y0, torch.nan)
    if len(rows):
        time, state = through_event(event, problem.field, t0[rows], stop[rows], answer.y[rows, -1])
        times, states = times.index_copy(0, rows, time), states.index_copy(0, rows, state)
    status = torch.where(answer.status == 0, search.status, answer.status)
    until = Answer(
        answer.y[:, :-1],
        status,
        torch.where(status == 0, answer.t_reached, torch.where(found, stop, answer.t_reached)),
        answer.n_steps + search.n_steps,
        answer.n_accepted + search.n_accepted,
        answer.n_evals + search.n_evals + found,
    )
    return until, times, states


@torch.no_grad()
def _search(
    problem: Problem, event: FlatEvent, y0: Tensor, t0: Tensor, t_eval: Tensor, way: Tensor
) -> Integration:
    """Solve to the last query time or the event, whichever comes first."""
    if not t_eval.shape[1]:
        t_eval, way = t0[:, None] * torch.nan, t0[:, None] * torch.nan
    last = way.abs().nan_to_num(nan=-1.0).argmax(dim=1, keepdim=True)
    return integrate(
        problem.field,
        y0,
        t0,
        t_eval.gather(1, last),
        method=problem.method,
        controller=problem.controller,
        max_steps=problem.max_steps,
        keep_steps=False,
        event=event,
    )
