"""The loss of a batch of independent rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, SupportsFloat

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowLoss:
    """What a trainer minimises over rows that do not know of each other, such as images or points.

    Parameters
    ----------
    total : Tensor, scalar
        Mean over the rows, by weight where they have weights.
    parts : mapping of str to number
        Figures for the history.
    weight : float or scalar Tensor
        Number of rows, or the sum of their weights.
    counts : mapping of str to int
    """

    total: Tensor
    parts: Mapping[str, SupportsFloat]
    weight: float | Tensor
    counts: Mapping[str, int | Tensor] = field(default_factory=dict)


class MeanLater(NamedTuple):
    """The mean of the sum of tensors that are still being counted in, taken when it is asked for."""

    tensors: Sequence[Tensor]

    def __float__(self) -> float:
        return float(torch.stack(list(self.tensors)).sum(0).double().mean())
