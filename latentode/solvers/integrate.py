"""The integration loop: N initial value problems, each with its own clock, step size, error and status.

Where gradients are enabled, the states and the times of the accepted steps carry the graph of their inputs; step
sizes, except of a last step that is cut at a query time, and all decisions are numbers. Otherwise all are numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.solvers.event import Event, EventWatch
from latentode.solvers.front import (
    Front,
    Queries,
    Results,
    advance,
    begin,
    first_slopes,
    nothing_known,
    propose_step,
    retire,
)
from latentode.solvers.integration import AcceptedSteps, Integration, Observer, Pace, StepLog, assemble
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller


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
        (t (n,), y (n, D)) -> (n, D) for any subset of the series, row by row independent. Where it has an attribute
        `largest_step`, a function (t (n,), y (n, D), direction (n,)) -> (n,), no adaptive step is longer than that.
    y0 : Tensor (N, D)
    t0 : Tensor (N,)
    t_eval : Tensor (N, T)
        Query times on one side of t0, moving away from it along T; NaN (only at the end) asks nothing.
    max_steps : int
        Steps, accepted or not, that a series may take.
    keep_steps : bool
        Whether to return the accepted steps with their states.
    event : callable, optional
        (t (n,), y (n, D)) -> (n,): every series ends where its sign changes, with Status.EVENT and that time as
        `t_reached`. Query times up to the end of the step around it are answered.
    observe : callable, optional
        Shown every round's accepted steps when they are taken: `observe(steps, step)` with their results.
    pace : Pace, optional
        Of an integration before with the same controller: series with a step size there begin with it.
    """
    with torch.no_grad():
        queries = Queries.of(t0, t_eval)
        results = nothing_known(t0)
    started, slope = first_slopes(field, y0, t0, queries.asked > 0, method, results)
    front = begin(field, y0, t0, t_eval, queries, started, slope, method, controller, results, pace)
    log = StepLog([], [], [])
    watch = None if event is None else _begin_watch(event, front, results)
    limit = getattr(field, "largest_step", None) if controller.adaptive else None
    attempts = 0  # the same for all: who is still under way has taken part in every round
    while len(front.rows):
        attempts += 1
        t = front.t0 + front.direction * front.elapsed
        largest = None if limit is None else limit(t.detach(), front.y.detach(), front.direction)
        h, last = propose_step(front, largest)
        signed = front.direction * h
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
        advance(front, step, decision, chosen, reached, None if largest is None else h < front.h)
        with torch.no_grad():
            if watch is not None:
                end_at_event(front, watch, step, chosen, t, y_before, signed)
            leaving = retire(
                front,
                results,
                decision.accept,
                chosen is None,
                ratio,
                converged,
                controller.adaptive,
                attempts,
                max_steps,
            )
        if leaving is not None:
            front.keep(~leaving)
    if watch is not None and watch.crossings:
        rows, times = watch.times()
        results.status[rows], results.t_reached[rows] = int(Status.EVENT), times
    results.n_evals += results.n_steps * method.evaluations_per_step
    first_slope = torch.zeros_like(y0).index_copy(0, started, slope[:, : y0.shape[1]])
    coefficients, pieces = assemble(log, y0, first_slope, t0, queries.at_start, t_eval.shape[1])
    return Integration(coefficients, pieces, log.marks, log.steps, started, **vars(results))


def _only(
    chosen: Tensor,
    step: StepResult,
    ratio: Tensor,
    method: Method,
    field: Field,
    t: Tensor,
    front: Front,
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
    front: Front,
    log: StepLog,
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
        answers,
        front.y,
        front.carry,
    )
    if chosen is not None:
        entries = tuple(entry.index_select(0, chosen) for entry in entries)
    steps = AcceptedSteps(*entries)
    if not len(steps.rows):
        return
    if observe is not None:
        observe(steps, step)
    if keep_steps:
        log.steps.append(steps)
    log.answering(steps, steps.y, step.dense)


def _begin_watch(event: Event, front: Front, results: Results) -> EventWatch:
    """A watch over all series; those whose event is at t0 leave at once."""
    with torch.no_grad():
        watch = EventWatch(event, len(results.status))
        if len(front.rows):
            at_start = watch.begin(front.rows, front.t0, front.y)
            results.status[front.rows[at_start]] = int(Status.EVENT)
            front.keep(~at_start)
    return watch


def end_at_event(
    front: Front,
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
