"""Columns of numbers brought to mean 0 and spread 1, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Standardisation:
    """z = (x - mean) / scale, column by column; mean and scale are (D,)."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, X: NDArray[np.float64], weight: NDArray[np.float64]) -> Standardisation:
        """Mean and standard deviation of the rows X (N, D) by weight (N,).

        Raises
        ------
        ValueError
            For a constant column: a density has no place for it.
        """
        middle = X[0]  # any number near the data: differences from it keep their digits
        mean = middle + np.average(X - middle, axis=0, weights=weight)
        scale = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
        flat = np.flatnonzero(~(scale > 1e-12 * np.abs(mean)))
        if len(flat):
            raise ValueError(
                f"column {flat[0]} of X is constant ({X[0, flat[0]]:g}), or has no spread above rounding: it has no "
                "density; leave such columns out, and take several different rows"
            )
        return cls(mean, scale)

    @classmethod
    def checked(cls, mean: object, scale: object, n_columns: int) -> Standardisation:
        """From the numbers of a file.

        Raises
        ------
        ValueError
            For anything that `of` never gives.
        """
        for part in (mean, scale):
            if not (isinstance(part, np.ndarray) and part.shape == (n_columns,) and part.dtype == np.float64):
                raise ValueError(f"mean and scale must be {n_columns} numbers each")
        assert isinstance(mean, np.ndarray)
        assert isinstance(scale, np.ndarray)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("mean and scale must be finite, and scale positive")
        return cls(mean, scale)

    def apply(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return (X - self.mean) / self.scale

    def undo(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        return Z * self.scale + self.mean

    @property
    def log_scale(self) -> float:
        """log|det dx/dz|, by which log densities of x are lower than those of z."""
        return float(np.log(self.scale).sum())
