"""Dense output: the solution between the ends of accepted steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import embedding_bag

from latentode.solvers.method import inside_torch_func


class Pieces(NamedTuple):
    """Where each of T query times of N series finds its polynomial, among S pieces.

    place : Tensor (N, T), int64
        Which piece answers; the last one answers what is not asked or not reached, with NaN.
    offset, h : Tensor (S,)
        Beginning of the pieces as t - t0, and their signed length.
    runs, lengths : Tensor (R,), int64
        `place`, flattened, as runs: piece `runs[r]` answers the next `lengths[r]` query times.
    """

    place: Tensor
    offset: Tensor
    h: Tensor
    runs: Tensor
    lengths: Tensor


def interpolate(coefficients: Tensor, pieces: Pieces, t0: Tensor, t_eval: Tensor) -> Tensor:
    """Solution at all query times at once.

    Parameters
    ----------
    coefficients : Tensor (S, 1 + degree, D)
        Of θ⁰..θ^degree in each piece, with θ the fraction of it that has passed.
    t0 : Tensor (N,)
    t_eval : Tensor (N, T)

    Returns
    -------
    Tensor (N, T, D)
    """
    place = pieces.place.flatten()
    elapsed = t_eval - t0[:, None]
    # replaced before the division: the derivative of a NaN that nobody asks for would be NaN, not 0
    elapsed = torch.where(pieces.place == len(coefficients) - 1, 0.0, elapsed).flatten()
    theta = (elapsed - pieces.offset.index_select(0, place)) / pieces.h.index_select(0, place)
    theta = theta.to(coefficients.dtype)[:, None]
    by_torch_alone = inside_torch_func() or forward_ad._current_level >= 0
    if by_torch_alone or not coefficients.numel() or torch.finfo(coefficients.dtype).bits < 32:
        value = _evaluate(coefficients, theta, place)
    else:
        value = _Evaluation.apply(coefficients, theta, place, pieces.runs, pieces.lengths)
    return value.unflatten(0, t_eval.shape)


def _evaluate(coefficients: Tensor, theta: Tensor, place: Tensor) -> Tensor:
    """Polynomials at theta (Q, 1), (Q, D), by Horner's rule; `place` (Q,) says which."""
    chosen = coefficients.flatten(1).index_select(0, place).unflatten(1, coefficients.shape[1:])
    *lower, value = chosen.unbind(dim=1)
    for coefficient in reversed(lower):
        value = torch.addcmul(coefficient, value, theta)
    return value


class _Evaluation(torch.autograd.Function):
    """`_evaluate`, with sums over runs in place of a scatter over all query times; second derivatives included."""

    @staticmethod
    def forward(
        ctx: Any, coefficients: Tensor, theta: Tensor, place: Tensor, runs: Tensor, lengths: Tensor
    ) -> Tensor:
        ctx.save_for_backward(coefficients, theta, place, runs, lengths)
        return _evaluate(coefficients, theta, place)

    @staticmethod
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor | None, ...]:
        coefficients, theta, place, runs, lengths = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or wanted[1]:
            inputs = [x for x, wants in zip((coefficients, theta), wanted) if wants]
            with torch.enable_grad():
                value = _evaluate(coefficients, theta, place)
            found = iter(torch.autograd.grad(value, inputs, of_value, create_graph=torch.is_grad_enabled()))
            return *(next(found) if wants else None for wants in wanted), None, None, None
        everyone, begin = torch.arange(len(place), device=place.device), lengths.cumsum(0) - lengths
        of_coefficients = torch.zeros_like(coefficients)
        for power in range(coefficients.shape[1]):
            of_runs = embedding_bag(everyone, of_value, begin, mode="sum")
            of_coefficients[:, power].index_add_(0, runs, of_runs)
            of_value = of_value * theta
        return of_coefficients, None, None, None, None
