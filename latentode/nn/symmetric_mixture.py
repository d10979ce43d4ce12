"""Quantiles of equal-weight mixtures of one symmetric distribution, moved and stretched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.nn.mixture import mixture_quantile


class Symmetric(NamedTuple):
    """A continuous distribution around 0 that looks the same from both sides.

    Parameters
    ----------
    upper_tail : callable
        u -> P(X > u), with all its digits where that is small.
    relative_density : callable
        u -> density at u over that at 0.
    peak : float
        Density at 0.
    quantile : callable
        Level (float) -> float.
    """

    upper_tail: Callable[[Tensor], Tensor]
    relative_density: Callable[[Tensor], Tensor]
    peak: float
    quantile: Callable[[float], float]


def symmetric_mixture_quantiles(
    shape: Symmetric, centres: Tensor, levels: Sequence[float], widths: Tensor | None = None
) -> Tensor:
    """Quantiles of the mixtures of `centres + widths * X` over their first axis, X of this shape.

    Parameters
    ----------
    shape : Symmetric
    centres : Tensor (K, C)
        Of K components, in C cells.
    levels : sequence of Q floats in (0, 1)
    widths : Tensor (K, C), optional
        Positive; default: 1 everywhere.

    Returns
    -------
    Tensor (Q, C)
    """
    size = _block_size(centres)
    blocks = centres.split(size, dim=1)
    stretched = [None] * len(blocks) if widths is None else widths.split(size, dim=1)
    found = [
        torch.stack([_quantile(shape, block, level, width) for level in levels])
        for block, width in zip(blocks, stretched)
    ]
    return torch.cat(found, dim=1)


def _block_size(centres: Tensor) -> int:
    """Cells to solve at once: few enough for the cache, since a solve passes over them dozens of times."""
    return max(1, 2**17 // max(1, len(centres)))


def _quantile(shape: Symmetric, centres: Tensor, level: float, widths: Tensor | None) -> Tensor:
    if level > 0.5:  # on the mirrored axis, where the tail does not round to 1
        return -_quantile(shape, -centres, 1.0 - level, widths)

    standard = shape.quantile(level)
    if widths is None:

        def excess(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
            u = centres - x
            return shape.upper_tail(u).mean(0) - level, shape.peak * shape.relative_density(u).mean(0)

        return mixture_quantile(centres + standard, excess, torch.ones_like(centres[0]), [centres])

    def stretched_excess(x: Tensor, centres: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
        u = (centres - x) / widths
        slope = shape.peak * (shape.relative_density(u) / widths).mean(0)
        return shape.upper_tail(u).mean(0) - level, slope

    return mixture_quantile(centres + widths * standard, stretched_excess, widths.amin(0), [centres, widths])
