"""Dense output: the solution between the ends of accepted steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class QueryGrid(NamedTuple):
    """The query times inside the steps of n series, at most M in one: their columns, (n, M).

    Where a series asks for fewer than M, `asked` is False and the column is one that nobody reads.
    """

    column: Tensor
    asked: Tensor


def query_grid(begin: Tensor, end: Tensor, *, nowhere: int) -> QueryGrid:
    """Columns begin to end (exclusive), (n,) each, side by side; `nowhere` where a series has fewer."""
    count = (end - begin)[:, None]
    position = torch.arange(int(count.max()) if len(count) else 0, device=begin.device)
    asked = position < count
    return QueryGrid(torch.where(asked, begin[:, None] + position, nowhere), asked)


def interpolate(y: Tensor, h: Tensor, dense: Tensor, theta: Tensor) -> Tensor:
    """Solution at fractions of a step.

    Parameters
    ----------
    y : Tensor (n, D)
        State at the beginning of the steps.
    h : Tensor (n,)
        Signed step sizes.
    dense : Tensor (n, degree, D)
        Polynomial coefficients, as `StepResult.dense`.
    theta : Tensor (n, M)
        Fractions of the steps, between 0 and 1.

    Returns
    -------
    Tensor (n, M, D)
        y + h Σ_j dense_j θ^j.
    """
    powers = [theta.to(y.dtype)]
    while len(powers) < dense.shape[1]:
        powers.append(powers[-1] * powers[0])
    increment = torch.stack(powers, dim=2) @ dense
    return torch.addcmul(y[:, None], h.to(y.dtype)[:, None, None], increment)
