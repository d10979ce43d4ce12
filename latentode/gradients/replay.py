"""Accepted steps, computed once more as differentiable functions of their inputs.

Step sizes count as constants, except that of a series' last step: it ends at the last query time and so moves
with it. The nodes of the mesh move with t0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.solvers.explicit_rk import ExplicitRK, Field, StepResult
from latentode.solvers.integrate import AcceptedSteps
from latentode.solvers.interpolation import interpolate


def replay(
    method: ExplicitRK,
    field: Field,
    steps: AcceptedSteps,
    t0: Tensor,
    y: Tensor,
    carry: Tensor,
    t_query: Tensor,
    t_last: Tensor,
) -> tuple[StepResult, Tensor]:
    """One round of accepted steps of n series, at most M query times inside each.

    Parameters
    ----------
    t0 : Tensor (n,)
        Initial times.
    y, carry : Tensor (n, D)
        Inputs of the steps; equal in value to those in `steps`.
    t_query : Tensor (n, M)
        Query times at the columns of `steps.covered`.
    t_last : Tensor (n,)
        Last query time of each series.

    Returns
    -------
    StepResult, Tensor (n, M, D)
        The steps, and the solution at the query times (a finite number where none is asked).
    """
    t = t0 + steps.offset
    h = torch.where(steps.last, (t_last - t0) - steps.offset, steps.h)
    step = method.step(field, t, y, h, carry)
    # replaced before the division: the derivative of a NaN that nobody asks for would be NaN, not 0
    t_query = torch.where(steps.covered.asked, t_query, t[:, None])
    theta = ((t_query - t0[:, None]) - steps.offset[:, None]) / h[:, None]
    return step, interpolate(y, h, step.dense, theta)


def at_start(t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Tensor]:
    """(row, column) of the query times that equal t0."""
    row, column = torch.nonzero(t_eval == t0[:, None], as_tuple=True)
    return row, column


def last_query_time(t_eval: Tensor) -> Tensor:
    """The last query time of every series, (N,), NaN where there is none (otherwise NaN stands only at the end)."""
    column = (~torch.isnan(t_eval)).sum(dim=1, keepdim=True) - 1
    return pad_columns(t_eval).gather(1, column.clamp(min=0))[:, 0]


def pad_columns(t_eval: Tensor) -> Tensor:
    """t_eval (N, T) with the column that nobody asks for, (N, T + 1): see `QueryGrid`."""
    return torch.nn.functional.pad(t_eval, (0, 1), value=torch.nan)
