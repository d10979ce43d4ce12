"""Room for trajectories that could not pass each other otherwise."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Augment(nn.Module):
    """Zeros appended to axis 1: features of a vector, channels of an image (Dupont et al. 2019).

    Parameters
    ----------
    n : int
        How many; 0 leaves the input as it is.

    Raises
    ------
    ValueError
        For a number that is no count.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        if not (isinstance(n, int) and n >= 0):
            raise ValueError(f"augment_dim must be a number of features or channels, 0 or more; got {n!r}")
        self.n = n

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, ...) -> (N, D + n, ...)."""
        if not self.n:
            return x
        if x.ndim < 2:
            raise ValueError(
                f"augment_dim needs an axis 1 to append to; the input has shape {tuple(x.shape)}"
            )
        return torch.cat([x, x.new_zeros(len(x), self.n, *x.shape[2:])], dim=1)

    def extra_repr(self) -> str:
        """How many, for printing."""
        return str(self.n)
