"""A level and a spread per feature, as a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x − mean) / std along axis 1, in double precision, answered in single.

    Parameters
    ----------
    mean, std : sequence of D floats
        Features of a vector, or channels of an image. Not in the `state_dict`: they are given, not trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Scaled values (N, D, ...), float32."""
        along = (-1, *[1] * (x.ndim - 2))
        return ((x - self.mean.view(along)) / self.std.view(along)).float()

    def undo(self, x: Tensor) -> Tensor:
        """Values (N, D) of scaled ones, float64."""
        return x.double() * self.std + self.mean
