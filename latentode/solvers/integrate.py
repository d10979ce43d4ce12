"""The integration loop: N initial value problems, each with its own clock, step size, error and status.

Numbers in, numbers out: nothing here builds a graph. What a gradient needs, the accepted steps, is returned.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from latentode.solvers.explicit_rk import ExplicitRK, Field, StepResult
from latentode.solvers.interpolation import QueryGrid, interpolate, query_grid
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller, StepDecision


@dataclass(frozen=True)
class AcceptedSteps:
    """The steps that n of the N series accepted in one round of the loop.

    rows : Tensor (n,) positions of these series among the N, each at most once
    offset, h : Tensor (n,) beginning of the steps as t - t0, and their signed size
    last : Tensor (n,) bool, True where the step was cut to end at the series' last query time
    y, carry : Tensor (n, D) state and method's carry at t
    covered : QueryGrid (n, M) the columns of t_eval inside these steps
    """

    rows: Tensor
    offset: Tensor
    h: Tensor
    last: Tensor
    y: Tensor
    carry: Tensor
    covered: QueryGrid


@dataclass(frozen=True)
class Integration:
    """y (N, T, D) with NaN where not reached, the accepted steps in order, and per-series status and counts (N,)."""

    y: Tensor
    steps: list[AcceptedSteps]
    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor


@dataclass
class _Front:
    """The n series still under way; every entry has n as its first axis.

    `elapsed` and `span` are distances from t0, so that all logic runs forward in time.
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
    queries: Tensor  # (n, T + 1) distance of the query times from t0, inf where there is none and at the end
    next_query: Tensor
    attempts: Tensor
    accepted: Tensor

    @property
    def t(self) -> Tensor:
        return self.t0 + self.direction * self.elapsed

    def keep(self, under_way: Tensor) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[under_way])


@torch.no_grad()
def integrate(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    *,
    method: ExplicitRK,
    controller: Controller,
    max_steps: int,
    keep_steps: bool = True,
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
        Whether to return the accepted steps (memory grows with their number).
    """
    distance, direction = _distances(t0, t_eval)
    at_start = distance == 0
    result = Integration(
        y=torch.where(at_start[..., None], y0[:, None], torch.nan),
        steps=[],
        status=torch.zeros(len(y0), dtype=torch.int64, device=y0.device),
        t_reached=t0.clone(),
        **{name: torch.zeros(len(y0), dtype=torch.int64, device=y0.device) for name in _COUNTS},
    )
    front = _begin(field, y0, t0, distance, at_start, direction, method, controller, result)
    while len(front.rows):
        h, last = propose_step(front)
        signed = front.direction * h
        step = method.step(field, front.t, front.y, signed, front.carry)
        ratio = controller.error_ratio(step.error, front.y, step.y)
        decision = controller.next_step(h, ratio, front.control)
        reached = torch.where(last, front.span, front.elapsed + h)
        record(front, result, step, decision.accept, reached, signed, last, keep_steps)
        advance(front, step, decision, reached)
        retire(front, result, decision.accept, torch.isfinite(ratio), controller.adaptive, max_steps)
    result.n_evals.add_(result.n_steps * method.evaluations_per_step)
    return replace(result, y=result.y[:, :-1].contiguous())


_COUNTS = ("n_steps", "n_accepted", "n_evals")


def _distances(t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of every query time from t0 (inf where there is none), (N, T + 1), and the direction of time (N,).

    The last column is asked by nobody: what a step computes for no query time is written there.
    """
    offset = torch.nn.functional.pad(t_eval - t0[:, None], (0, 1), value=torch.nan)
    direction = torch.where((offset < 0).any(dim=1), -1.0, 1.0).to(t0.dtype)
    return (offset * direction[:, None]).nan_to_num(nan=torch.inf), direction


def _begin(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    distance: Tensor,
    at_start: Tensor,
    direction: Tensor,
    method: ExplicitRK,
    controller: Controller,
    result: Integration,
) -> _Front:
    """The series that have somewhere to go, with their first step sizes."""
    span = distance.masked_fill(torch.isinf(distance), 0.0).amax(dim=1)
    rows = torch.nonzero(span > 0)[:, 0]
    t, y, direction = t0[rows], y0[rows], direction[rows]
    carry = method.start(field, t, y) if len(rows) else y
    h, control = (
        controller.first_step(method, field, t, y, carry, direction * span[rows]) if len(rows) else (t, t)
    )
    result.n_evals[rows] += 1 + controller.first_step_evaluations
    front = _Front(
        rows=rows,
        t0=t,
        elapsed=torch.zeros_like(t),
        span=span[rows],
        direction=direction,
        h=h,
        y=y,
        carry=carry,
        control=control,
        queries=distance[rows],
        next_query=at_start[rows].sum(dim=1),
        attempts=torch.zeros_like(rows),
        accepted=torch.zeros_like(rows),
    )
    broken = ~(torch.isfinite(y).all(dim=1) & torch.isfinite(carry).all(dim=1))
    if bool(broken.any()):
        result.status[rows[broken]] = int(Status.NON_FINITE)
        front.keep(~broken)
    return front


def propose_step(front: _Front) -> tuple[Tensor, Tensor]:
    """Step sizes, cut at the last query time; True where they are cut.

    A rest of less than a hundredth of a step is taken along, so that no tiny step remains.
    """
    rest = front.span - front.elapsed
    last = front.h * 1.01 >= rest
    return torch.where(last, rest, front.h), last


def record(
    front: _Front,
    result: Integration,
    step: StepResult,
    accept: Tensor,
    reached: Tensor,
    h: Tensor,
    last: Tensor,
    keep_steps: bool,
) -> None:
    """Write the solution at the query times inside the accepted steps, and remember these steps."""
    end = torch.searchsorted(front.queries, reached[:, None], right=True)[:, 0]
    end = torch.where(accept, end, front.next_query)
    covered = query_grid(front.next_query, end, nowhere=front.queries.shape[1] - 1)
    front.next_query = end
    if covered.column.shape[1]:
        inside = front.queries.gather(1, covered.column) - front.elapsed[:, None]
        theta = torch.where(covered.asked, inside / h.abs()[:, None], 0.0)
        result.y[front.rows[:, None], covered.column] = interpolate(front.y, h, step.dense, theta)
    if not keep_steps:
        return
    offset = front.direction * front.elapsed
    entries = (front.rows, offset, h, last, front.y, front.carry, *covered)
    if not bool(accept.all()):
        entries = tuple(entry[accept] for entry in entries)
    if len(entries[0]):
        result.steps.append(AcceptedSteps(*entries[:-2], covered=QueryGrid(*entries[-2:])))


def advance(front: _Front, step: StepResult, decision: StepDecision, reached: Tensor) -> None:
    """Move the series that accepted to the end of their step."""
    accept = decision.accept
    if bool(accept.all()):
        front.y, front.carry, front.elapsed = step.y, step.carry, reached
    else:
        front.y = torch.where(accept[:, None], step.y, front.y)
        front.carry = torch.where(accept[:, None], step.carry, front.carry)
        front.elapsed = torch.where(accept, reached, front.elapsed)
    front.attempts = front.attempts + 1
    front.accepted = front.accepted + accept
    front.control, front.h = decision.state, decision.h


def retire(
    front: _Front, result: Integration, accept: Tensor, finite: Tensor, adaptive: bool, max_steps: int
) -> None:
    """Take the series that are done, or that cannot go on, out of the working batch."""
    done = front.elapsed >= front.span
    status = torch.zeros_like(front.rows)
    status[front.attempts >= max_steps] = int(Status.MAX_STEPS)
    stuck = ~accept
    if adaptive:
        stuck = stuck & (front.h <= 8 * torch.finfo(front.h.dtype).eps * front.t.abs())
        stuck = stuck | (front.elapsed + front.h <= front.elapsed)
    hopeless = ~finite & (stuck | (front.h <= 1e-14 * front.span))
    status[stuck] = int(Status.STEP_UNDERFLOW)
    status[hopeless] = int(Status.NON_FINITE)
    status[done] = int(Status.SUCCESS)
    leaving = done | (status > 0)
    if not bool(leaving.any()):
        return
    rows = front.rows[leaving]
    result.status[rows] = status[leaving]
    result.t_reached[rows] = front.t[leaving]
    result.n_steps[rows] = front.attempts[leaving]
    result.n_accepted[rows] = front.accepted[leaving]
    front.keep(~leaving)
