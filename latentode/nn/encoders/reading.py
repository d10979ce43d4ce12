"""In which order an encoder reads the rows of a series, and how far apart in time they are."""

from __future__ import annotations

import torch
from torch import Tensor


def reading_order(lengths: Tensor, n_times: int, backwards: bool) -> tuple[Tensor, Tensor]:
    """Which steps read a row (N, T), and which row each of them reads (N, T); padding stays where it is."""
    position = torch.arange(n_times, device=lengths.device)
    valid = position < lengths[:, None]
    if not backwards:
        return valid, position.expand_as(valid)
    return valid, torch.where(valid, lengths[:, None] - 1 - position, position)


def gaps_between(times: Tensor, valid: Tensor, backwards: bool) -> Tensor:
    """Time between a row and the one read before it, 0 for the first and in the padding: (N, T)."""
    gaps = torch.diff(times, dim=1, prepend=times[:, :1])  # before any rounding of the times to float32
    return torch.where(valid, -gaps if backwards else gaps, 0.0)
