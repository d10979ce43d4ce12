"""Dense output: the solution between the ends of accepted steps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pieces(NamedTuple):
    """Where each of T query times of N series finds its polynomial, among S pieces.

    place : Tensor (N, T), int64
        Which piece answers; the last one answers what is not asked or not reached, with NaN.
    offset, h : Tensor (S,)
        Beginning of the pieces as t - t0, and their signed length.
    """

    place: Tensor
    offset: Tensor
    h: Tensor


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
    n_pieces, n_powers = coefficients.shape[:2]
    place = pieces.place.flatten()
    elapsed = t_eval - t0[:, None]
    # replaced before the division: the derivative of a NaN that nobody asks for would be NaN, not 0
    elapsed = torch.where(pieces.place == n_pieces - 1, 0.0, elapsed).flatten()
    theta = (elapsed - pieces.offset.index_select(0, place)) / pieces.h.index_select(0, place)
    theta = theta.to(coefficients.dtype)[:, None]
    chosen = coefficients.flatten(1).index_select(0, place).unflatten(1, (n_powers, -1))  # (N T, powers, D)
    *lower, value = chosen.unbind(dim=1)
    for coefficient in reversed(lower):
        value = torch.addcmul(coefficient, value, theta)
    return value.unflatten(0, t_eval.shape)
