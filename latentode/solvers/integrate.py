"""The integration loop: N initial value problems, each with its own clock, step size, error and status.

Where gradients are enabled, the states and the times of the accepted steps carry the graph of their inputs; step
sizes, except of a last step that is cut at a query time, and all decisions are numbers. Otherwise all are numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.solvers.event import Event, EventWatch
from latentode.solvers.interpolation import Pieces, interpolate
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller, StepDecision


@dataclass(frozen=True)
class AcceptedSteps:
    """The steps that n of the N series accepted in one round of the loop.

    rows : Tensor (n,) positions of these series among the N, increasing
    offset, h : Tensor (n,) beginning of the steps as t - t0, and their signed size
    last : Tensor (n,) bool, True where the step was cut to end at the series' last query time
    y, carry : Tensor (n, D), (n, C) state and method's carry at t
    """

    rows: Tensor
    offset: Tensor
    h: Tensor
    last: Tensor
    y: Tensor
    carry: Tensor


Observer = Callable[[AcceptedSteps, StepResult, Tensor], None]


class Pace(NamedTuple):
    """Step sizes h (N,) to go on with, NaN where none is known, and the controller's state (N, ...)."""

    h: Tensor
    control: Tensor


@dataclass(frozen=True)
class Integration:
    """The solution as polynomials, the accepted steps in order, and per-series status and counts (N,).

    `pieces` and `coefficients` (S, 1 + degree, D) are those of `interpolate`: first one piece per series that
    answers at t0, then the accepted steps in order, then the piece of what is not known. `started` holds the
    positions of the series whose field was evaluated at t0. `pace` is what another integration may go on with.
    """

    coefficients: Tensor
    pieces: Pieces
    steps: list[AcceptedSteps]
    started: Tensor
    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor
    pace: Pace | None

    def at(self, t0: Tensor, t_eval: Tensor) -> Tensor:
        """The solution at the query times, (N, T, D); NaN where not asked or not reached."""
        return interpolate(self.coefficients, self.pieces, t0, t_eval)


@dataclass
class _Front:
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
class _Results:
    """What is known of the N series so far."""

    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor
    pace: Pace | None = None


@dataclass
class _Log:
    """Accepted steps with their polynomials (1 + degree, n, D), and how many query times these answer (n,)."""

    steps: list[AcceptedSteps]
    polynomials: list[Tensor]
    answers: list[Tensor]


class _Queries(NamedTuple):
    """Query times of N series, counted from t0.

    `distance` (N, T) is inf where nothing is asked, `direction` (N,) that of time; `asked` and `at_start` (N,): how
    many there are, and how many of them equal t0.
    """

    distance: Tensor
    direction: Tensor
    asked: Tensor
    at_start: Tensor

    @classmethod
    def of(cls, t0: Tensor, t_eval: Tensor) -> _Queries:
        offset = t_eval - t0[:, None]
        direction = torch.where((offset < 0).any(dim=1), -1.0, 1.0).to(t0.dtype)
        distance = (offset * direction[:, None]).nan_to_num_(nan=torch.inf)
        return cls(distance, direction, torch.isfinite(distance).sum(dim=1), (distance == 0).sum(dim=1))


def integrate(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    *,
    method: Method,
    controller: Controller,
    max_steps: int,
    keep_steps: bool = True,
    event: Event | None = None,
    observe: Observer | None = None,
    pace: Pace | None = None,
) -> Integration:
    """Solve dy/dt = field(t, y) from (t0, y0) to the query times of every series.

    Parameters
    ----------
    field : callable
        (t (n,), y (n, D)) -> (n, D) for any subset of the series, row by row independent.
    y0 : Tensor (N, D)
    t0 : Tensor (N,)
    t_eval : Tensor (N, T)
        Query times on one side of t0, moving away from it along T; NaN (only at the end) asks nothing.
    max_steps : int
        Steps, accepted or not, that a series may take.
    keep_steps : bool
        Whether to return every accepted step; otherwise those that answer a query time.
    event : callable, optional
        (t (n,), y (n, D)) -> (n,): every series ends where its sign changes, with Status.EVENT and that time as
        `t_reached`. Query times up to the end of the step around it are answered.
    observe : callable, optional
        Shown every round's accepted steps when they are taken: `observe(steps, step, answers)` with their results
        and the number of query times that each of them answers, (n,).
    pace : Pace, optional
        Of an integration before with the same controller: series with a step size there begin with it.
    """
    with torch.no_grad():
        queries = _Queries.of(t0, t_eval)
        results = _nothing_known(t0)
    started, slope = _first_slopes(field, y0, t0, queries.asked > 0, method, results)
    front = _begin(field, y0, t0, t_eval, queries, started, slope, method, controller, results, pace)
    log = _Log([], [], [])
    watch = None if event is None else _begin_watch(event, front, results)
    attempts = 0  # the same for all: who is still under way has taken part in every round
    while len(front.rows):
        attempts += 1
        h, last = propose_step(front)
        t, signed = front.t0 + front.direction * front.elapsed, front.direction * h
        step = method.step(field, t, front.y, signed, front.carry)
        with torch.no_grad():
            ratio, converged = controller.error_ratio(front.y, step), step.converged
            if step.evaluations is not None:
                results.n_evals[front.rows] += step.evaluations
            decision = controller.next_step(h, ratio, front.control)
            reached = torch.where(last, front.span, front.elapsed + h)
            chosen = None if bool(decision.accept.all()) else torch.nonzero(decision.accept)[:, 0]
        if chosen is not None:
            step = _only(chosen, step, ratio, method, field, t, front, signed)
        record(front, log, step, decision.accept, chosen, reached, signed, last, keep_steps, observe)
        y_before = front.y
        advance(front, step, decision, chosen, reached)
        with torch.no_grad():
            if watch is not None:
                end_at_event(front, watch, step, chosen, t, y_before, signed)
            leaving = retire(
                front, results, decision.accept, ratio, converged, controller.adaptive, attempts, max_steps
            )
        if leaving is not None:
            front.keep(~leaving)
    if watch is not None and watch.crossings:
        rows, times = watch.times()
        results.status[rows], results.t_reached[rows] = int(Status.EVENT), times
    results.n_evals += results.n_steps * method.evaluations_per_step
    first_slope = torch.zeros_like(y0).index_copy(0, started, slope[:, : y0.shape[1]])
    coefficients, pieces = _assemble(log, y0, first_slope, t0, queries.at_start, t_eval.shape[1])
    return Integration(coefficients, pieces, log.steps, started, **vars(results))


def _nothing_known(t0: Tensor) -> _Results:
    counts = [torch.zeros(len(t0), dtype=torch.int64, device=t0.device) for _ in range(4)]
    return _Results(counts[0], t0.detach().clone(), counts[1], counts[2], counts[3])


def _first_slopes(
    field: Field, y0: Tensor, t0: Tensor, wanted: Tensor, method: Method, results: _Results
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


def _begin(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    queries: _Queries,
    started: Tensor,
    slope: Tensor,
    method: Method,
    controller: Controller,
    results: _Results,
    pace: Pace | None,
) -> _Front:
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
    return _Front(
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
    results: _Results,
    pace: Pace | None,
) -> Pace:
    """Those of `pace`, and of the controller where it has none."""
    if pace is None:
        results.n_evals[rows] += controller.first_step_evaluations
        return Pace(*controller.first_step(method, field, t0, y, slope, span))
    known = Pace(*(x.index_select(0, rows) for x in pace))
    new = torch.nonzero(torch.isnan(known.h))[:, 0]
    if not len(new):
        return known
    rows, t0, y, slope, span = (x.index_select(0, new) for x in (rows, t0, y, slope, span))
    found = _first_steps(method, field, controller, rows, t0, y, slope, span, results, None)
    return Pace(*(have.index_copy(0, new, x) for have, x in zip(known, found)))


def propose_step(front: _Front) -> tuple[Tensor, Tensor]:
    """Step sizes, cut at the last query time; True where they are cut.

    A rest of less than a hundredth of a step is taken along, so that no tiny step remains.
    """
    rest = front.span - front.elapsed
    last = front.h * 1.01 >= rest
    return torch.where(last, rest, front.h), last


def _only(
    chosen: Tensor,
    step: StepResult,
    ratio: Tensor,
    method: Method,
    field: Field,
    t: Tensor,
    front: _Front,
    h: Tensor,
) -> StepResult:
    """The step of some of the series.

    In a graph, it is taken once more if another one was not finite: a gradient of 0 times infinity would be NaN.
    """
    if torch.is_grad_enabled() and not bool(torch.isfinite(ratio).all()):
        if len(chosen):
            inputs = (x.index_select(0, chosen) for x in (t, front.y, h, front.carry))
            return method.step(field, *inputs)
        step = StepResult(step.y.detach(), None, step.dense.detach(), step.carry.detach())
    y, carry = step.y.index_select(0, chosen), step.carry.index_select(0, chosen)
    return StepResult(y, None, step.dense.index_select(1, chosen), carry)


def record(
    front: _Front,
    log: _Log,
    step: StepResult,
    accept: Tensor,
    chosen: Tensor | None,
    reached: Tensor,
    h: Tensor,
    last: Tensor,
    keep_steps: bool,
    observe: Observer | None = None,
) -> None:
    """Remember the accepted steps, their polynomials, and how many query times lie inside."""
    end = torch.searchsorted(front.queries, reached[:, None], right=True)[:, 0]
    if chosen is not None:
        end = torch.where(accept, end, front.next_query)
    answers = end - front.next_query
    front.next_query = end
    entries: tuple[Tensor, ...] = (
        front.rows,
        front.direction * front.elapsed,
        h,
        last,
        front.y,
        front.carry,
        answers,
    )
    if chosen is not None:
        entries = tuple(entry.index_select(0, chosen) for entry in entries)
    if observe is not None and len(entries[0]):
        observe(AcceptedSteps(*entries[:-1]), step, entries[-1])
    polynomial = torch.cat([entries[4][None], step.dense])
    if not keep_steps and not bool((entries[-1] > 0).all()):
        useful = torch.nonzero(entries[-1])[:, 0]
        entries = tuple(entry.index_select(0, useful) for entry in entries)
        polynomial = polynomial.index_select(1, useful)
    if len(entries[0]):
        log.steps.append(AcceptedSteps(*entries[:-1]))
        log.polynomials.append(polynomial)
        log.answers.append(entries[-1])


def advance(
    front: _Front, step: StepResult, decision: StepDecision, chosen: Tensor | None, reached: Tensor
) -> None:
    """Move the series that accepted to the end of their step."""
    if chosen is None:
        front.y, front.carry, front.elapsed = step.y, step.carry, reached
    else:
        front.y = front.y.index_copy(0, chosen, step.y)
        front.carry = front.carry.index_copy(0, chosen, step.carry)
        front.elapsed = torch.where(decision.accept, reached, front.elapsed)
    front.accepted = front.accepted + decision.accept
    front.control, front.h = decision.state, decision.h


def retire(
    front: _Front,
    results: _Results,
    accept: Tensor,
    ratio: Tensor,
    converged: Tensor | None,
    adaptive: bool,
    attempts: int,
    max_steps: int,
) -> Tensor | None:
    """Note the series that are done, or that cannot go on; True where one leaves, None if all stay."""
    done = front.elapsed >= front.span
    t = front.t0 + front.direction * front.elapsed
    stuck = ~accept
    if adaptive:
        too_small = front.h <= 8 * torch.finfo(t.dtype).eps * t.abs()
        too_small |= ~torch.isfinite(ratio) & (front.h <= 1e-14 * front.span)
        stuck = (stuck & too_small) | (front.elapsed + front.h <= front.elapsed)
    leaving = done | stuck
    if attempts >= max_steps:
        leaving = torch.ones_like(done)
    elif not bool(leaving.any()):
        return None
    failure = torch.where(torch.isfinite(ratio), int(Status.STEP_UNDERFLOW), int(Status.NON_FINITE))
    if converged is not None:
        failure = torch.where(converged, failure, int(Status.NEWTON_DIVERGED))
    status = torch.where(stuck, failure, int(Status.MAX_STEPS)).masked_fill_(done, int(Status.SUCCESS))
    which = torch.nonzero(leaving)[:, 0]
    rows = front.rows.index_select(0, which)
    results.status.index_copy_(0, rows, status.index_select(0, which))
    results.t_reached.index_copy_(0, rows, t.index_select(0, which))
    results.n_steps.index_fill_(0, rows, attempts)
    results.n_accepted.index_copy_(0, rows, front.accepted.index_select(0, which))
    if results.pace is None:
        n = len(results.status)
        h, control = front.h.new_full((n,), torch.nan), front.control
        results.pace = Pace(h, control.new_zeros(n, *control.shape[1:]))
    for have, found in zip(results.pace, (front.h, front.control)):
        have.index_copy_(0, rows, found.index_select(0, which))
    return leaving


def _begin_watch(event: Event, front: _Front, results: _Results) -> EventWatch:
    """A watch over all series; those whose event is at t0 leave at once."""
    with torch.no_grad():
        watch = EventWatch(event, len(results.status))
        if len(front.rows):
            at_start = watch.begin(front.rows, front.t0, front.y)
            results.status[front.rows[at_start]] = int(Status.EVENT)
            front.keep(~at_start)
    return watch


def end_at_event(
    front: _Front,
    watch: EventWatch,
    step: StepResult,
    chosen: Tensor | None,
    t: Tensor,
    y: Tensor,
    h: Tensor,
) -> None:
    """Let the step from (t, y) by h be the last one of the series whose event changed its sign in it."""
    where = torch.arange(len(front.rows), device=t.device) if chosen is None else chosen
    if not len(where):
        return
    t_end = (front.t0 + front.direction * front.elapsed)[where]
    polynomial = torch.cat([y[where][None], step.dense])
    crossed = watch.after(front.rows[where], t[where], h[where], t_end, step.y, polynomial)
    ended = where[crossed]
    front.span = front.span.index_copy(0, ended, front.elapsed[ended])


def _assemble(
    log: _Log, y0: Tensor, slope: Tensor, t0: Tensor, at_start: Tensor, n_queries: int
) -> tuple[Tensor, Pieces]:
    """All polynomials in one tensor, and which of them answers which query time."""
    n = len(y0)
    degree = len(log.polynomials[0]) - 1 if log.polynomials else 1
    start = torch.stack([y0, slope, *[torch.zeros_like(y0)] * (degree - 1)])
    unknown = y0.new_full((degree + 1, 1, y0.shape[1]), torch.nan)
    coefficients = torch.cat([start, *log.polynomials, unknown], dim=1).transpose(0, 1).contiguous()
    # along each series its pieces stand in the order of time, and each answers the next few query times
    series = torch.arange(n, device=y0.device)
    row = torch.cat([series, *(kept.rows for kept in log.steps), series])
    known = torch.cat([at_start, *log.answers])
    answered = torch.zeros_like(at_start).index_add_(0, row[: len(known)], known)
    answers = torch.cat([known, n_queries - answered])
    order = torch.argsort(row, stable=True)
    place = torch.repeat_interleave(order, answers[order], output_size=n * n_queries)
    place = place.clamp_(max=len(coefficients) - 1).reshape(n, n_queries)
    offset = torch.cat([t0.new_zeros(n), *(kept.offset for kept in log.steps), t0.new_zeros(1)])
    h = torch.cat([t0.new_ones(n), *(kept.h for kept in log.steps), t0.new_ones(1)])
    return coefficients, Pieces(place, offset, h)
