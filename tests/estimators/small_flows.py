"""Density estimators that are fitted in a moment, and rows to fit them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from latentode import ContinuousFlowDensity, PlanarFlowDensity

QUICK = {"max_epochs": 3, "batch_size": 64, "random_state": 0, "verbose": 0}
FLOWS = {
    "continuous": (ContinuousFlowDensity, {"hidden_dim": 8, **QUICK}),
    "planar": (PlanarFlowDensity, {"n_layers": 4, **QUICK}),
}

MEANS = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, 2.5]])
COVARIANCES = np.array([[[0.5, 0.3], [0.3, 0.4]], [[0.3, -0.2], [-0.2, 0.6]], [[0.8, 0.0], [0.0, 0.1]]])
SHARES = (0.3, 0.4, 0.3)


def small(which: str = "continuous", **params: Any) -> Any:
    """An unfitted density estimator that trains for a few epochs."""
    kind, defaults = FLOWS[which]
    return kind(**(defaults | params))


def mixture(n_rows: int, seed: int = 0) -> NDArray[np.float64]:
    """Rows of a mixture of three Gaussians in the plane."""
    rng = np.random.default_rng(seed)
    which = rng.choice(3, n_rows, p=SHARES)
    return np.stack([rng.multivariate_normal(MEANS[k], COVARIANCES[k]) for k in which])


def mixture_log_density(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """The truth."""
    parts = [w * multivariate_normal(m, c).pdf(X) for w, m, c in zip(SHARES, MEANS, COVARIANCES)]
    return np.log(sum(parts))
