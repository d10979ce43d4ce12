"""Columns of numbers brought to mean 0, spread 1 and no correlation, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEPENDENT = 1e-10  # smallest variance of a combination of standardised columns that counts as spread
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Whitening:
    """z = root⁻¹ (x - mean) / scale, row by row: the affine map that makes rows white and moves them least.

    Parameters
    ----------
    mean, scale : array (D,)
        Mean and standard deviation of the columns.
    root : array (D, D)
        Symmetric square root of their correlation, which is drawn towards none by (D / N)² of the way: N rows cannot
        tell N or more directions apart.

    References
    ----------
    Kessy, Lewin, Strimmer (2018), "Optimal whitening and decorrelation" (ZCA-cor).
    """

    mean: Array
    scale: Array
    root: Array

    @classmethod
    def of(cls, X: Array, weight: Array) -> Whitening:
        """From rows X (N, D) by weight (N,).

        Raises
        ------
        ValueError
            For a constant column, and for columns of which one is a combination of the others: a density has no place
            for them.
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
        return cls(mean, scale, _root((X - mean) / scale, weight))

    @classmethod
    def checked(cls, mean: object, scale: object, root: object, n_columns: int) -> Whitening:
        """From the numbers of a file.

        Raises
        ------
        ValueError
            For anything that `of` never gives.
        """
        parts = []
        for part, n_axes in ((mean, 1), (scale, 1), (root, 2)):
            if not isinstance(part, list) or not all(isinstance(number, float) for number in part):
                raise ValueError("mean, scale and root must be lists of numbers")
            if len(part) != n_columns**n_axes or not np.isfinite(part).all():
                raise ValueError(f"mean, scale and root must be finite numbers for {n_columns} columns")
            parts.append(np.array(part).reshape((n_columns,) * n_axes))
        if not (parts[1] > 0).all():
            raise ValueError("scale must be positive")
        if not (np.linalg.eigvalsh(parts[2]) > 0).all() or not np.array_equal(parts[2], parts[2].T):
            raise ValueError("root must be symmetric and positive definite")
        return cls(*parts)

    def apply(self, X: Array) -> Array:
        """White rows (N, D)."""
        white = np.linalg.solve(self.root, ((X - self.mean) / self.scale).T).T
        return np.ascontiguousarray(white, dtype=np.float64)

    def undo(self, Z: Array) -> Array:
        """Rows (N, D) of white ones."""
        return (Z @ self.root) * self.scale + self.mean

    @property
    def log_scale(self) -> float:
        """log|det dx/dz|, by which log densities of x are lower than those of z."""
        return float(np.log(self.scale).sum() + np.linalg.slogdet(self.root)[1])


def _root(standard: Array, weight: Array) -> Array:
    """The square root of the correlation of standardised rows."""
    n_rows, n_columns = standard.shape
    correlation = (standard.T * (weight / weight.sum())) @ standard
    variances, directions = np.linalg.eigh(correlation)
    if n_rows > n_columns and variances[0] < DEPENDENT:
        first, second = np.argsort(-np.abs(directions[:, 0]))[:2]
        raise ValueError(
            f"column {max(first, second)} of X is a combination of others, such as column {min(first, second)}: rows "
            "that lie in a plane have no density; leave such columns out"
        )
    pull = min(n_columns / n_rows, 1.0) ** 2
    drawn = (1 - pull) * np.maximum(variances, 0.0) + pull
    root = (directions * np.sqrt(drawn)) @ directions.T
    return (root + root.T) / 2
