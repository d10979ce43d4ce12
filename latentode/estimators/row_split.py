"""Which rows of an array are trained on, and which choose the epoch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class RowSplit(NamedTuple):
    """Positions of the rows of training and validation, each in increasing order."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_rows(
    n_rows: int, fraction: float, rng: np.random.Generator, codes: NDArray[np.int64] | None = None
) -> RowSplit:
    """Draw the validation rows: `fraction` of all, rounded down, and of every class where `codes` are given.

    Parameters
    ----------
    n_rows : int
    fraction : float in [0, 1)
    rng : numpy Generator
    codes : array (N,), optional
        Class of every row. Each class gives its share, so a class with few rows gives none and is trained on whole.
    """
    groups = [np.arange(n_rows)] if codes is None else [np.flatnonzero(codes == c) for c in np.unique(codes)]
    drawn = [rng.permutation(group)[: int(fraction * len(group))] for group in groups]
    held_out = np.zeros(n_rows, dtype=bool)
    held_out[np.concatenate(drawn)] = True
    return RowSplit(np.flatnonzero(~held_out), np.flatnonzero(held_out))
