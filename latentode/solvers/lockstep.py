"""The integration loop for a device that the host must not wait for: the same steps, decided where the numbers are.

All series stay in the batch, those that are done or have failed behind a mask. They stand at their beginning, where
field and slope are finite, and take steps of length 0: nothing in their rows is infinite or NaN. Every few rounds the
host reads how many steps were accepted and how many series are under way, in one transfer; it takes the accepted
steps out of the rounds since then, and drops the masked series where they are half of the batch. Rounds after the
last series has left change nothing and count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.front import (
    Front,
    Queries,
    Results,
    begin,
    ending,
    first_slopes,
    note,
    nothing_known,
    propose_step,
    standing,
)
from latentode.solvers.integration import AcceptedSteps, Integration, Marks, Pace, StepLog, assemble
from latentode.solvers.method import Field, Method, inside_torch_func
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller, FixedStep, PIController

DEVICES = {"cuda"}
ROUNDS_PER_READING = 8


def suits_lockstep(field: Field, y0: Tensor, method: Method, controller: Controller) -> bool:
    """Whether `integrate_in_lockstep` knows the method and the controller, and y0 is where it is the quicker loop.

    Graphs, and tangents of forward mode, are left to `integrate`.
    """
    return (
        y0.device.type in DEVICES
        and isinstance(method, ExplicitRK)
        and isinstance(controller, (FixedStep, PIController))
        and getattr(field, "largest_step", None) is None
        and not (torch.is_grad_enabled() or inside_torch_func() or forward_ad._current_level >= 0)
    )


@torch.no_grad()
def integrate_in_lockstep(
    field: Field,
    y0: Tensor,
    t0: Tensor,
    t_eval: Tensor,
    *,
    method: Method,
    controller: Controller,
    max_steps: int,
    keep_steps: bool = True,
    pace: Pace | None = None,
    rounds_per_reading: int = ROUNDS_PER_READING,
) -> Integration:
    """As `integrate`, for an explicit Runge-Kutta method with a `FixedStep` or `PIController`, and without a graph.

    Parameters
    ----------
    rounds_per_reading : int, default 8
        Rounds between two readings by the host.
    """
    assert isinstance(controller, (FixedStep, PIController))
    queries = Queries.of(t0, t_eval)
    results = nothing_known(t0)
    started, slope = first_slopes(field, y0, t0, queries.asked > 0, method, results)
    front = begin(field, y0, t0, t_eval, queries, started, slope, method, controller, results, pace)
    ranks, log = Ranks.of(front), StepLog([], [], [])
    under_way, attempts = len(front.rows), 0
    while under_way and attempts < max_steps:
        if 2 * under_way <= len(front.rows):
            ranks.note(results)
            ranks.keep_under_way()
        n_rounds = min(rounds_per_reading, max_steps - attempts)
        rounds = [ranks.take_step(field, method, controller) for _ in range(n_rounds)]
        under_way = _record(log, front.rows, rounds, ranks.under_way, keep_steps)
        attempts += n_rounds
    if len(front.rows):
        ranks.note(results)
    results.n_evals += results.n_steps * method.evaluations_per_step
    first_slope = torch.zeros_like(y0).index_copy(0, started, slope[:, : y0.shape[1]])
    coefficients, pieces = assemble(log, y0, first_slope, t0, queries.at_start, t_eval.shape[1])
    return Integration(coefficients, pieces, log.marks, log.steps, started, **vars(results))


class Round(NamedTuple):
    """One step of all n series: the entries of `AcceptedSteps` but the rows, and what says which were accepted."""

    offset: Tensor
    h: Tensor
    last: Tensor
    answers: Tensor
    y: Tensor
    carry: Tensor
    accept: Tensor
    dense: Tensor  # (degree, n, D)


@dataclass
class Ranks:
    """A front whose series stay in it when they have left; every entry has n as its first axis.

    `status` is MAX_STEPS until a series leaves. `y_start` and `carry_start` are where a series began.
    """

    front: Front
    under_way: Tensor
    n_steps: Tensor
    status: Tensor
    y_start: Tensor
    carry_start: Tensor

    @classmethod
    def of(cls, front: Front) -> Ranks:
        return cls(
            front=front,
            under_way=torch.ones_like(front.rows, dtype=torch.bool),
            n_steps=torch.zeros_like(front.rows),
            status=torch.full_like(front.rows, int(Status.MAX_STEPS)),
            y_start=front.y,
            carry_start=front.carry,
        )

    def keep_under_way(self) -> None:
        rows = torch.nonzero(self.under_way)[:, 0]
        self.front.keep(self.under_way)
        for field in fields(self)[1:]:
            setattr(self, field.name, getattr(self, field.name).index_select(0, rows))

    def note(self, results: Results) -> None:
        """Write down what is known of these series; what is said of those under way holds until the next time."""
        everyone = torch.arange(len(self.status), device=self.status.device)
        note(self.front, everyone, self.status, results)
        results.n_steps.index_copy_(0, self.front.rows, self.n_steps)

    def take_step(self, field: Field, method: Method, controller: FixedStep | PIController) -> Round:
        """Let every series under way take a step, accepted or not; this reads no number from the device."""
        front, under_way = self.front, self.under_way
        y = torch.where(under_way[:, None], front.y, self.y_start)
        carry = torch.where(under_way[:, None], front.carry, self.carry_start)
        t = front.t0 + front.direction * torch.where(under_way, front.elapsed, 0.0)
        h, last = propose_step(front)
        h = torch.where(under_way, h, 0.0)
        signed = front.direction * h
        step = method.step(field, t, y, signed, carry)
        ratio = controller.error_ratio(y, step)
        decision = controller.masked_next_step(h, ratio, front.control)
        accept = decision.accept & under_way
        reached = torch.where(last, front.span, front.elapsed + h)
        end = torch.searchsorted(front.queries, reached[:, None], right=True)[:, 0]
        answers = torch.where(accept, end - front.next_query, 0)
        offset = front.direction * front.elapsed
        front.next_query = front.next_query + answers
        front.y = torch.where(accept[:, None], step.y, y)
        front.carry = torch.where(accept[:, None], step.carry, carry)
        front.elapsed = torch.where(accept, reached, front.elapsed)
        front.accepted = front.accepted + accept
        front.h = torch.where(under_way, decision.h, front.h)
        front.control = torch.where(_beside(under_way, front.control), decision.state, front.control)
        self._retire(accept, ratio, controller.adaptive)
        return Round(offset, signed, last, answers, y, carry, accept, step.dense)

    def _retire(self, accept: Tensor, ratio: Tensor, adaptive: bool) -> None:
        """Count the step, and mask the series that it was the last one of."""
        self.n_steps = self.n_steps + self.under_way
        done, stuck = standing(self.front, accept, False, ratio, adaptive)
        leaving = self.under_way & (done | stuck)
        self.status = torch.where(leaving, ending(done, stuck, ratio, None), self.status)
        self.under_way = self.under_way & ~leaving


def _beside(mask: Tensor, x: Tensor) -> Tensor:
    """A mask (n,) with as many axes as x (n, ...)."""
    return mask.reshape(-1, *[1] * (x.ndim - 1))


def _record(log: StepLog, rows: Tensor, rounds: list[Round], under_way: Tensor, keep_steps: bool) -> int:
    """Remember the accepted steps of some rounds as `integrate` does; returned is how many series are under way."""
    *columns, accept, dense = zip(*rounds)
    accepted, entries = torch.stack(accept), [torch.stack(column).flatten(0, 1) for column in columns]
    answering = torch.stack([one.answers for one in rounds]) > 0
    counts = torch.cat([accepted.sum(dim=1), answering.sum(dim=1), under_way.sum()[None]]).tolist()
    n, entries = len(rounds), [rows.repeat(len(rounds)), *entries]
    if keep_steps:
        log.steps += [AcceptedSteps(*one) for one in _by_round(entries, accepted, counts[:n])]
    if any(counts[n : 2 * n]):
        log.marks += [Marks(*one) for one in _by_round(entries[:5], answering, counts[n : 2 * n])]
        polynomials = torch.cat([torch.stack([one.y for one in rounds])[None], torch.stack(dense, dim=1)])
        chosen = _positions(answering, sum(counts[n : 2 * n]))
        log.polynomials.append(polynomials.flatten(1, 2).index_select(1, chosen))
    return counts[-1]


def _by_round(entries: list[Tensor], mask: Tensor, counts: list[int]) -> list[tuple[Tensor, ...]]:
    """Entries (rounds · n, ...) where the mask (rounds, n) is set, in rounds of as many as `counts` says."""
    chosen = _positions(mask, sum(counts))
    parts = zip(*(entry.index_select(0, chosen).split(counts) for entry in entries))
    return [one for one, count in zip(parts, counts) if count]


def _positions(mask: Tensor, count: int) -> Tensor:
    """Where the flattened mask is set, which is known to be at `count` places: as `nonzero`, but nothing waits."""
    return torch.argsort(mask.flatten().to(torch.uint8), descending=True, stable=True)[:count]
