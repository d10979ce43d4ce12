"""ODE-Nets that are fitted in a moment, and arrays to fit them on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentode import ODENetClassifier, ODENetRegressor
from latentode.estimators.base_ode_net import BLOCKS as BLOCKS

TINY = {
    "block": "resnet",  # the fastest, for what is the same with every block
    "hidden_dim": 8,
    "depth": 1,
    "n_blocks": 2,
    "tolerance": 1e-2,
    "max_epochs": 3,
    "batch_size": 16,
    "lr": 0.03,
    "random_state": 0,
    "verbose": 0,
}


class Sample(NamedTuple):
    X: NDArray[Any]
    y: NDArray[Any]


def classifier(**params: Any) -> ODENetClassifier:
    return ODENetClassifier(**(TINY | params))


def regressor(**params: Any) -> ODENetRegressor:
    return ODENetRegressor(**(TINY | params))


def clouds(n: int = 48, seed: int = 0) -> Sample:
    """Two clouds of points in the plane that a line separates, far from the origin and of two scales."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 2)) + 6.0 * y[:, None]
    return Sample(100 + X * np.array([1.0, 50.0]), y)


def stripes(n: int = 24, shape: tuple[int, ...] = (6, 6), seed: int = 0) -> Sample:
    """Images, rows bright or columns bright, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    *channels, height, width = shape
    upright = np.arange(width) % 2 * np.ones((height, 1))
    lying = np.arange(height)[:, None] % 2 * np.ones(width)
    images = np.where(y[:, None, None] == 1, upright, lying).reshape(n, *[1] * len(channels), height, width)
    return Sample((images + 0.1 * rng.normal(size=(n, *shape))).astype(np.float32), y)


def circles(n: int = 240, seed: int = 0) -> Sample:
    """A disc, and a ring around it: no line separates what a flow of the plane makes of them."""
    rng = np.random.default_rng(seed)
    inside = np.arange(n) % 2 == 0
    radius = np.sqrt(np.where(inside, rng.uniform(0, 1, n), rng.uniform(1.5, 4, n)))
    angle = rng.uniform(0, 2 * np.pi, n)
    return Sample(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), inside)


def line(n: int = 40) -> Sample:
    """x² at numbers from -2 to 2."""
    x = np.linspace(-2, 2, n)
    return Sample(x[:, None], x**2)
