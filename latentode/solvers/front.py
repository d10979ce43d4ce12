"""The series that are still under way: where they are, how they begin, go on and leave."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.solvers.integration import Pace
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller, StepDecision


@dataclass
class Front:
    """The n series still under way; every entry has n as its first axis.

    `elapsed` and `span` are distances from t0, so that all logic runs forward in time. `t0`, `span`, `y` and `carry`
    may carry a graph.
    """

    rows: Tensor
    t0: Tensor
    elapsed: Tensor
    span: Tensor
    direction: Tensor
    h: Tensor
    y: Tensor
    carry: Tensor
    control: Tensor
    queries: Tensor  # (n, T) distance of the query times from t0, inf where there is none
    next_query: Tensor
    accepted: Tensor

    def keep(self, under_way: Tensor) -> None:
        rows = torch.nonzero(under_way)[:, 0]
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name).index_select(0, rows))


@dataclass
class Results:
    """What is known of the N series so far."""

    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor
    pace: Pace | None = None


class Queries(NamedTuple):
    """Query times of N series, counted from t0.

    `distance` (N, T) is inf where nothing is asked, `direction` (N,) that of time; `asked` and `at_start` (N,): how
    many there are, and how many of them equal t0.
    """

    distance: Tensor
    direction: Tensor
    asked: Tensor
    at_start: Tensor

    @classmethod
    def of(cls, t0: Tensor, t_eval: Tensor) -> Queries:
        offset = t_eval - t0[:, None]
        direction = torch.where((offset < 0).any(dim=1), -1.0, 1.0).to(t0.dtype)
        distance = (offset * direction[:, None]).nan_to_num_(nan=torch.inf)
        return cls(distance, direction, torch.isfinite(distance).sum(dim=1), (distance == 0).sum(dim=1))


def nothing_known(t0: Tensor) -> Results:
    counts = [torch.zeros(len(t0), dtype=torch.int64, device=t0.device) for _ in range(4)]
    return Results(counts[0], t0.detach().clone(), counts[1], counts[2], counts[3])


def first_slopes(
    field: Field, y0: Tensor, t0: Tensor, wanted: Tensor, method: Method, results: Results
) -> tuple[Tensor, Tensor]:
    """Positions (n,) of the wanted series whose state and slope at t0 are finite, and their carries (n, C)."""
    wanted = wanted & torch.isfinite(y0.detach()).all(dim=1)
    rows = torch.nonzero(wanted)[:, 0]
    results.n_evals += wanted
    if not len(rows):
        return rows, y0.index_select(0, rows)
    slope = method.start(field, t0.index_select(0, rows), y0.index_select(0, rows))
    finite = torch.isfinite(slope.detach()).all(dim=1)
    if bool(finite.all()):
        return rows, slope
    rows = rows[finite]
    if torch.is_grad_enabled() and len(rows):  # once more, for a graph without infinite values: see `_only`
        return rows, method.start(field, t0.index_select(0, rows), y0.index_select(0, rows))
    return rows, slope.detach()[finite]


def begin(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    queries: Queries,
    started: Tensor,
    slope: Tensor,
    method: Method,
    controller: Controller,
    results: Results,
    pace: Pace | None,
) -> Front:
    """The series that have somewhere to go, with their first step sizes."""
    ahead = queries.asked > queries.at_start
    results.status.masked_fill_(ahead, int(Status.NON_FINITE)).index_fill_(0, started, int(Status.SUCCESS))
    moving = torch.nonzero(ahead.index_select(0, started))[:, 0]
    carry, rows = slope.index_select(0, moving), started.index_select(0, moving)
    t0, y, t_eval, distance, direction = (
        x.index_select(0, rows) for x in (t0, y0, t_eval, queries.distance, queries.direction)
    )
    if not len(rows):
        span = h = control = t0
    else:
        last = t_eval.gather(1, queries.asked.index_select(0, rows)[:, None] - 1)[:, 0]
        span = (last - t0) * direction
        slope = carry[:, : y.shape[1]]
        with torch.no_grad():
            h, control = _first_steps(
                method, field, controller, rows, t0, y, slope, direction * span, results, pace
            )
    return Front(
        rows=rows,
        t0=t0,
        elapsed=torch.zeros_like(direction),
        span=span,
        direction=direction,
        h=h,
        y=y,
        carry=carry,
        control=control,
        queries=distance,
        next_query=queries.at_start.index_select(0, rows),
        accepted=torch.zeros_like(rows),
    )


def _first_steps(
    method: Method,
    field: Field,
    controller: Controller,
    rows: Tensor,
    t0: Tensor,
    y: Tensor,
    slope: Tensor,
    span: Tensor,
    results: Results,
    pace: Pace | None,
) -> Pace:
    """Those of `pace`, and of the controller where it has none."""
    if pace is None:
        results.n_evals[rows] += controller.first_step_evaluations
        return Pace(*(x.detach() for x in controller.first_step(method, field, t0, y, slope, span)))
    known = Pace(*(x.index_select(0, rows) for x in pace))
    new = torch.nonzero(torch.isnan(known.h))[:, 0]
    if not len(new):
        return known
    rows, t0, y, slope, span = (x.index_select(0, new) for x in (rows, t0, y, slope, span))
    found = _first_steps(method, field, controller, rows, t0, y, slope, span, results, None)
    return Pace(*(have.index_copy(0, new, x) for have, x in zip(known, found)))


def propose_step(front: Front, largest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Step sizes, at most `largest` (n,) and cut at the last query time; True where they are cut there.

    A rest of less than a hundredth of a step is taken along, so that no tiny step remains.
    """
    rest = front.span - front.elapsed
    h = front.h if largest is None else torch.minimum(front.h, largest)
    last = h * 1.01 >= rest
    return torch.where(last, rest, h), last


def advance(
    front: Front,
    step: StepResult,
    decision: StepDecision,
    chosen: Tensor | None,
    reached: Tensor,
    held_back: Tensor | None = None,
) -> None:
    """Move the series that accepted to the end of their step.

    Where a step was `held_back` (n,) from a larger one, its success says nothing against that.
    """
    if chosen is None:
        front.y, front.carry, front.elapsed = step.y, step.carry, reached
    else:
        front.y = front.y.index_copy(0, chosen, step.y)
        front.carry = front.carry.index_copy(0, chosen, step.carry)
        front.elapsed = torch.where(decision.accept, reached, front.elapsed)
    front.accepted = front.accepted + decision.accept
    # detached, because no_grad does not stop the tangents of forward mode: the choice of a step is a number
    h = decision.h.detach()
    if held_back is not None:
        h = torch.where(held_back & decision.accept, torch.maximum(h, front.h), h)
    front.control, front.h = decision.state.detach(), h


def retire(
    front: Front,
    results: Results,
    accept: Tensor,
    all_accepted: bool,
    ratio: Tensor,
    converged: Tensor | None,
    adaptive: bool,
    attempts: int,
    max_steps: int,
) -> Tensor | None:
    """Note the series that are done, or that cannot go on; True where one leaves, None if all stay."""
    done, stuck = standing(front, accept, all_accepted, ratio, adaptive)
    leaving = done | stuck
    if attempts >= max_steps:
        leaving = torch.ones_like(done)
    elif not bool(leaving.any()):
        return None
    which = torch.nonzero(leaving)[:, 0]
    note(front, which, ending(done, stuck, ratio, converged), results)
    results.n_steps.index_fill_(0, front.rows.index_select(0, which), attempts)
    return leaving


def standing(
    front: Front, accept: Tensor, all_accepted: bool, ratio: Tensor, adaptive: bool
) -> tuple[Tensor, Tensor]:
    """Which series (n,) are done, and which cannot go on; `all_accepted` spares what is then known."""
    done = front.elapsed >= front.span
    stuck = front.elapsed + front.h <= front.elapsed if adaptive else ~accept
    if adaptive and not all_accepted:
        t = front.t0 + front.direction * front.elapsed
        too_small = front.h <= 8 * torch.finfo(t.dtype).eps * t.abs()
        too_small |= ~torch.isfinite(ratio) & (front.h <= 1e-14 * front.span)
        stuck = stuck | (~accept & too_small)
    return done, stuck


def ending(done: Tensor, stuck: Tensor, ratio: Tensor, converged: Tensor | None) -> Tensor:
    """The status (n,) with which series end that leave now."""
    failure = torch.where(torch.isfinite(ratio), int(Status.STEP_UNDERFLOW), int(Status.NON_FINITE))
    if converged is not None:
        failure = torch.where(converged, failure, int(Status.NEWTON_DIVERGED))
    return torch.where(stuck, failure, int(Status.MAX_STEPS)).masked_fill_(done, int(Status.SUCCESS))


def note(front: Front, which: Tensor, status: Tensor, results: Results) -> None:
    """Write down how far some of the n series came, and with which status (n,); not their number of steps."""
    rows = front.rows.index_select(0, which)
    t = front.t0 + front.direction * front.elapsed
    results.status.index_copy_(0, rows, status.index_select(0, which))
    results.t_reached.index_copy_(0, rows, t.index_select(0, which))
    results.n_accepted.index_copy_(0, rows, front.accepted.index_select(0, which))
    if results.pace is None:
        n = len(results.status)
        h, control = front.h.new_full((n,), torch.nan), front.control
        results.pace = Pace(h, control.new_zeros(n, *control.shape[1:]))
    for have, found in zip(results.pace, (front.h, front.control)):
        have.index_copy_(0, rows, found.index_select(0, which))
