"""What an integration leaves behind: accepted steps, their polynomials, status and counts per series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.solvers.interpolation import Pieces, interpolate
from latentode.solvers.method import StepResult


@dataclass(frozen=True)
class Marks:
    """Where the steps stand that n of the N series accepted in one round of the loop.

    rows : Tensor (n,) positions of these series among the N, increasing
    offset, h : Tensor (n,) beginning of the steps as t - t0, and their signed size
    last : Tensor (n,) bool, True where the step was cut to end at the series' last query time
    answers : Tensor (n,) how many query times lie inside
    """

    rows: Tensor
    offset: Tensor
    h: Tensor
    last: Tensor
    answers: Tensor

    def only(self, which: Tensor) -> Marks:
        """Those at some positions (m,) among the n."""
        return Marks(*(getattr(self, entry.name).index_select(0, which) for entry in fields(Marks)))


@dataclass(frozen=True)
class AcceptedSteps(Marks):
    """Marks with the states y (n, D) and the method's carries (n, C) at the beginnings of the steps."""

    y: Tensor
    carry: Tensor


Observer = Callable[[AcceptedSteps, StepResult], None]


class Pace(NamedTuple):
    """Step sizes h (N,) to go on with, NaN where none is known, and the controller's state (N, ...)."""

    h: Tensor
    control: Tensor


@dataclass(frozen=True)
class Integration:
    """The solution as polynomials, the accepted steps in order, and per-series status and counts (N,).

    `pieces` and `coefficients` (S, 1 + degree, D) are those of `interpolate`: first one piece per series that
    answers at t0, then the accepted steps that answer a query time, whose `marks` are in order, then the piece of what
    is not known. `steps` are all accepted ones, where they were to be kept. `started` holds the positions of the
    series whose field was evaluated at t0. `pace` is what another integration may go on with.
    """

    coefficients: Tensor
    pieces: Pieces
    marks: list[Marks]
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
class StepLog:
    """Accepted steps, if they are to be kept; marks and polynomials (1 + degree, n, D) of those that answer."""

    steps: list[AcceptedSteps]
    marks: list[Marks]
    polynomials: list[Tensor]

    def answering(self, marks: Marks, y: Tensor, dense: Tensor) -> None:
        """Remember the polynomials of the steps that answer a query time."""
        if not bool((marks.answers > 0).all()):
            useful = torch.nonzero(marks.answers)[:, 0]
            if not len(useful):
                return
            marks, y, dense = marks.only(useful), y.index_select(0, useful), dense.index_select(1, useful)
        self.marks.append(Marks(marks.rows, marks.offset, marks.h, marks.last, marks.answers))
        self.polynomials.append(torch.cat([y[None], dense]))


def assemble(
    log: StepLog, y0: Tensor, slope: Tensor, t0: Tensor, at_start: Tensor, n_queries: int
) -> tuple[Tensor, Pieces]:
    """All polynomials in one tensor, and which of them answers which query time."""
    n = len(y0)
    degree = len(log.polynomials[0]) - 1 if log.polynomials else 1
    start = torch.stack([y0, slope, *[torch.zeros_like(y0)] * (degree - 1)])
    unknown = y0.new_full((degree + 1, 1, y0.shape[1]), torch.nan)
    coefficients = torch.cat([start, *log.polynomials, unknown], dim=1).transpose(0, 1).contiguous()
    # along each series its pieces stand in the order of time, and each answers the next few query times
    series = torch.arange(n, device=y0.device)
    row = torch.cat([series, *(kept.rows for kept in log.marks), series])
    known = torch.cat([at_start, *(kept.answers for kept in log.marks)])
    answered = torch.zeros_like(at_start).index_add_(0, row[: len(known)], known)
    answers = torch.cat([known, n_queries - answered])
    order = torch.argsort(row, stable=True)
    place = torch.repeat_interleave(order, answers[order], output_size=n * n_queries)
    place = place.clamp_(max=len(coefficients) - 1).reshape(n, n_queries)
    runs = order.clamp(max=len(coefficients) - 1)
    offset = torch.cat([t0.new_zeros(n), *(kept.offset for kept in log.marks), t0.new_zeros(1)])
    h = torch.cat([t0.new_ones(n), *(kept.h for kept in log.marks), t0.new_ones(1)])
    return coefficients, Pieces(place, offset, h, runs, answers[order])
