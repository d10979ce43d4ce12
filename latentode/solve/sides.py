"""Query times on both sides of t0, in any order, as problems that start at t0 and move away from it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.gradients import Gradient, Problem
from latentode.solvers.integration import Integration


class Answer(NamedTuple):
    y: Tensor
    status: Tensor
    t_reached: Tensor
    n_steps: Tensor
    n_accepted: Tensor
    n_evals: Tensor
    failed: bool | None = None  # whether a series was not solved, where that is known


def solve_sides(gradient: Gradient, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> Answer:
    """Query times after t0 and before it are two problems of one batch; a series may have both."""
    before = t_eval.detach() < t0.detach()[:, None]
    if not bool(before.any()):
        y, run = _solve_in_order(gradient, problem, y0, t0, t_eval)
        return Answer(y, run.status, run.t_reached, run.n_steps, run.n_accepted, run.n_evals)
    backward = torch.nonzero(before.any(dim=1))[:, 0]
    forward = torch.nonzero((~before & ~torch.isnan(t_eval)).any(dim=1))[:, 0]
    rows = torch.cat([backward, forward])  # this way round `_merge` keeps the later time reached
    mine = torch.cat([before[backward], ~before[forward]])
    queries = torch.where(mine, t_eval[rows], torch.nan)
    tally = problem.tally
    if tally is not None:
        problem = replace(problem, tally=lambda some, counts: tally(rows[some], counts))
    y, run = _solve_in_order(gradient, problem, y0[rows], t0[rows], queries)
    row, column = torch.nonzero(mine & ~torch.isnan(queries), as_tuple=True)
    unasked = torch.full((*t_eval.shape, y.shape[2]), torch.nan, dtype=y.dtype, device=y.device)
    whole = unasked.index_put((rows[row], column), y[row, column])
    return _merge(whole, run, rows, t0)


def _merge(y: Tensor, run: Integration, rows: Tensor, t0: Tensor) -> Answer:
    """Status and counts of both sides of a series as one: a failure and its time, the sum of the counts."""
    n = len(t0)

    def total(x: Tensor) -> Tensor:
        return torch.zeros(n, dtype=x.dtype, device=x.device).index_add(0, rows, x)

    failed = run.status > 0
    status = torch.zeros(n, dtype=torch.int64, device=y.device)
    status[rows[failed]] = run.status[failed]
    t_reached = t0.detach().clone()
    t_reached[rows] = run.t_reached
    t_reached[rows[failed]] = run.t_reached[failed]
    return Answer(y, status, t_reached, total(run.n_steps), total(run.n_accepted), total(run.n_evals))


def _solve_in_order(
    gradient: Gradient, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor
) -> tuple[Tensor, Integration]:
    """Sort each series' query times away from t0, solve, and put the answers back in the caller's order."""
    distance = (t_eval.detach() - t0.detach()[:, None]).abs().nan_to_num(nan=torch.inf)
    if not bool((distance[:, 1:] < distance[:, :-1]).any()):
        return gradient(problem, y0, t0, t_eval)
    order = distance.argsort(dim=1, stable=True)
    y, run = gradient(problem, y0, t0, t_eval.gather(1, order))
    back = order.argsort(dim=1)[..., None].expand(*order.shape, y.shape[2])
    return y.gather(1, back), run
