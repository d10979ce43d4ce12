"""Equal-weight mixtures over K posterior samples: moments and quantiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

MAX_ITERATIONS = 200  # bisection alone would need about 60 in float64; Newton steps need 4 to 8


def mixture_mean(means: Tensor) -> Tensor:
    """Mean of the mixture, (K, ...) -> (...)."""
    return means.mean(0)


def mixture_std(means: Tensor, stds: Tensor) -> Tensor:
    """Standard deviation of the mixture by the law of total variance, (K, ...) twice -> (...)."""
    return (stds.square().mean(0) + means.var(0, correction=0)).sqrt()


def mixture_quantile(
    components: Tensor,
    excess: Callable[..., tuple[Tensor, Tensor]],
    scale: Tensor,
    of_cells: Sequence[Tensor] = (),
) -> Tensor:
    """Quantile of a mixture, by Newton's method kept inside a bracket.

    The quantile of a mixture lies between the smallest and the largest quantile of its components: a bracket
    from the start. A Newton step that leaves the bracket, or does not halve the step before, is replaced by
    bisection, so gaps between components are no trap (Press et al., "Numerical recipes", 3rd edition, section
    9.4, `rtsafe`).

    Parameters
    ----------
    components : Tensor (K, ...)
        The quantile of each component at the wanted level.
    excess : callable
        x (...) and `of_cells` -> (F(x) - level, F'(x)) with F the distribution function of the mixture.
    scale : Tensor, broadcastable to (...)
        Width over which F changes; the result is right to some roundings of x and of this width.
    of_cells : sequence of Tensor (..., C), optional
        What `excess` must know of each cell, for components (K, C). Cells that are done leave these, so that the last
        few, which may need many steps, cost little.

    Returns
    -------
    Tensor (...)
    """
    low, high = components.amin(0), components.amax(0)
    x, step = components.mean(0), high - low
    scale = scale.expand(x.shape)
    found, open_cells = x, torch.arange(x.numel(), device=x.device)
    eps = torch.finfo(x.dtype).eps
    for _ in range(MAX_ITERATIONS):
        value, slope = excess(x, *of_cells)
        low, high = torch.where(value <= 0, x, low), torch.where(value >= 0, x, high)
        newton = x - value / slope
        move, tolerance = (newton - x).abs(), 4 * eps * (scale + x.abs())
        # A cell that has converged must not be sent away by bisection while others are still on their way.
        trusted = (newton >= low) & (newton <= high) & ((2 * move <= step) | (move <= tolerance))
        proposal = torch.where(trusted, newton, low + 0.5 * (high - low))
        x, step = proposal, (proposal - x).abs()
        going = step > tolerance  # NaN counts as done
        n_going = int(going.sum())
        if n_going == 0:
            break
        if of_cells and 2 * n_going < len(x):
            found[open_cells] = x
            low, high, x, step, scale = (part[going] for part in (low, high, x, step, scale))
            of_cells, open_cells = [part[..., going] for part in of_cells], open_cells[going]
    if not of_cells:
        return x
    found[open_cells] = x
    return found
