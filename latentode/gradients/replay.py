"""Accepted steps, computed once more as differentiable functions of their inputs.

Step sizes count as constants, except that of a series' last step: it ends at the last query time and so moves
with it. The nodes of the mesh move with t0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.solvers.integration import Integration, Marks
from latentode.solvers.interpolation import Pieces


def step_size(steps: Marks, t0: Tensor, t_last: Tensor) -> Tensor:
    """Sizes (n,) of the steps of n series as functions of their initial and last query times (n,)."""
    return torch.where(steps.last, (t_last - t0) - steps.offset, steps.h)


def last_query_time(t_eval: Tensor) -> Tensor:
    """The last query time of every series, (N,), NaN where there is none (otherwise NaN stands only at the end)."""
    return _pad(t_eval).gather(1, last_column(t_eval)[:, None])[:, 0]


def last_column(t_eval: Tensor) -> Tensor:
    """Column of the last query time of every series, (N,); 0 where there is none."""
    return ((~torch.isnan(t_eval)).sum(dim=1) - 1).clamp(min=0)


def moving_pieces(run: Integration, t0: Tensor, t_eval: Tensor) -> Pieces:
    """`run.pieces`, with their lengths as functions of t0 and the query times."""
    if not (t0.requires_grad or t_eval.requires_grad):
        return run.pieces
    t_last = last_query_time(t_eval)
    sizes = [step_size(steps, t0[steps.rows], t_last[steps.rows]) for steps in run.marks]
    n = len(t0)
    return run.pieces._replace(h=torch.cat([run.pieces.h[:n], *sizes, run.pieces.h[-1:]]))


def _pad(t_eval: Tensor) -> Tensor:
    return torch.nn.functional.pad(t_eval, (0, 1), value=torch.nan)
