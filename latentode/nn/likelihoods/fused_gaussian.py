"""The Gaussian log likelihood by the native kernels, where these know all that is asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentode.native.gaussian import gaussian_backward, gaussian_forward
from latentode.native.library import library
from latentode.nn.normal import HALF_LOG_2PI
from latentode.solve.engine import check_engine
from latentode.solve.only_torch import why_only_torch
from latentode.solvers.method import is_batched


def gaussian_log_lik(params: Tensor, noise: Tensor, values: Tensor, mask: Tensor, engine: str) -> Tensor:
    """Log likelihood (K, N) of the observed cells, with gradients of all orders to means and noise.

    Parameters
    ----------
    params : Tensor (K, N, T, D)
        The means.
    noise : Tensor (D,)
        Standard deviations.
    values : Tensor (N, T, D)
        What stands in unobserved cells, even NaN, reaches neither result nor gradient.
    mask : Tensor (N, T, D), bool
    engine : {"auto", "torch", "native"}
        "torch" keeps to torch; both others take the kernels where they know all that is asked for, and torch
        elsewhere.

    Raises
    ------
    ValueError
        For another engine.
    """
    check_engine(engine)
    if engine == "torch" or not _is_known(params, noise, values, mask):
        return by_torch(params, noise, values, mask)
    if torch.is_grad_enabled() and (params.requires_grad or noise.requires_grad):
        return _FusedGaussian.apply(params, noise, values, mask)
    return gaussian_forward(params, noise, values, mask)


def by_torch(params: Tensor, noise: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same by torch."""
    # Summed over time before the noise comes in: fewer passes over the K N T D cells, backwards too.
    squares = torch.where(mask, values - params, 0.0).square().sum(-2)  # (K, N, D)
    counts = mask.sum(-2).to(squares.dtype)  # (N, D)
    return (-0.5 * squares / noise.square() - counts * (noise.log() + HALF_LOG_2PI)).sum(-1)


def _is_known(params: Tensor, noise: Tensor, values: Tensor, mask: Tensor) -> bool:
    shape = params.shape[1:]
    return (
        library() is not None
        and params.ndim == 4
        and params.dtype in (torch.float32, torch.float64)
        and params.dtype == noise.dtype == values.dtype
        and mask.dtype == torch.bool
        and values.shape == mask.shape == shape
        and noise.shape == shape[2:]
        and not values.requires_grad
        and why_only_torch((params, noise, values, mask)) is None
    )


class _FusedGaussian(torch.autograd.Function):
    """From means and noise to the log likelihood (K, N)."""

    @staticmethod
    def forward(ctx: Any, params: Tensor, noise: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(params, noise, values, mask)
        return gaussian_forward(params, noise, values, mask)

    @staticmethod
    def backward(ctx: Any, d_log_lik: Tensor) -> tuple[Tensor | None, ...]:
        params, noise, values, mask = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched(d_log_lik):  # create_graph, is_grads_batched
            wanted = ctx.needs_input_grad[:2]
            inputs = [x for x, wants in zip((params, noise), wanted) if wants]
            with torch.enable_grad():
                log_lik = by_torch(params, noise, values, mask)
            graph = torch.is_grad_enabled()
            found = iter(torch.autograd.grad(log_lik, inputs, d_log_lik, create_graph=graph))
            return *[next(found) if wants else None for wants in wanted], None, None
        return *gaussian_backward(d_log_lik, params, noise, values, mask), None, None
