"""Points in the plane as arrays in scikit-learn's form: densities to estimate, two classes to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latentode.checks import check_parameters
from latentode.datasets.arguments import AT_LEAST_0, COUNT, POSITIVE
from latentode.seeding import RandomState, numpy_generator

FloatArray = NDArray[np.float64]

N_GAUSSIANS = 8


def make_eight_gaussians(
    n_samples: int = 1000, *, radius: float = 4.0, std: float = 0.5, random_state: RandomState = None
) -> FloatArray:
    """Points of eight equal Gaussians on a circle.

    Good for density estimation: the modes lie apart, a continuous map from one Gaussian has to tear it, and the true
    log density is known (:func:`eight_gaussians_log_density`).

    Parameters
    ----------
    n_samples : int, default 1000
        Number of points; each comes from one of the eight by a fair draw.
    radius : float, default 4.0
        Distance of the eight means from the origin; the first lies on the positive x axis.
    std : float, default 0.5
        Standard deviation of each Gaussian in every direction, in the unit of `radius`.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same points.

    Returns
    -------
    ndarray (n_samples, 2) of float64

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Grathwohl et al. (2019), "FFJORD", figure 2 (their points are these, divided by √2).

    Examples
    --------
    >>> from latentode.datasets import eight_gaussians_log_density, make_eight_gaussians
    >>> X = make_eight_gaussians(500, random_state=0)
    >>> X.shape, eight_gaussians_log_density(X).shape
    ((500, 2), (500,))
    """
    _check("make_eight_gaussians", n_samples=n_samples, radius=radius, std=std)
    rng = numpy_generator(random_state)
    means = _eight_means(radius)[rng.integers(N_GAUSSIANS, size=n_samples)]
    return means + std * rng.standard_normal((n_samples, 2))


def eight_gaussians_log_density(X: ArrayLike, *, radius: float = 4.0, std: float = 0.5) -> FloatArray:
    """The exact log density of :func:`make_eight_gaussians`.

    Parameters
    ----------
    X : array_like (n, 2)
        Points.
    radius, std : float
        As of the points; the defaults are the same.

    Returns
    -------
    ndarray (n,) of float64
        Natural logarithm of the density, in nats; its mean over points of the generator is the best score that any
        density estimator can expect.

    Raises
    ------
    ValueError
        If an argument is out of range, or `X` is no array of finite points in the plane.
    """
    _check("eight_gaussians_log_density", radius=radius, std=std)
    points = np.asarray(X, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"X must be points in the plane, an array of shape (n, 2); got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("X must be finite; it has NaN or infinity: drop or repair these points")
    standardised = (points[:, None] - _eight_means(radius)) / std  # (n, 8, 2)
    exponents = -0.5 * np.square(standardised).sum(axis=-1)  # (n, 8)
    return np.logaddexp.reduce(exponents, axis=1) - np.log(N_GAUSSIANS * 2.0 * np.pi * std**2)


def _eight_means(radius: float) -> FloatArray:
    angles = 2.0 * np.pi / N_GAUSSIANS * np.arange(N_GAUSSIANS)
    return radius * _on_circle(angles)


def make_pinwheel(
    n_samples: int = 1000,
    *,
    n_arms: int = 5,
    radial_std: float = 0.3,
    tangential_std: float = 0.1,
    rate: float = 0.25,
    random_state: RandomState = None,
) -> FloatArray:
    """Points of a wheel of bent arms around the origin.

    Good for density estimation beyond Gaussians: thin, curved clusters that nearly touch at the hub. The density has
    no closed form.

    An arm is a Gaussian cloud (r, s) with r from N(1, radial_std²) and s from N(0, tangential_std²), turned about the
    origin by the angle of the arm plus rate · exp(r): outer points turn further, which bends it.

    Parameters
    ----------
    n_samples : int, default 1000
        Number of points; each comes from one of the arms by a fair draw.
    n_arms : int, default 5
        Number of arms, at equal angles.
    radial_std, tangential_std : float, default 0.3 and 0.1
        Standard deviation along and across an arm; the middle of an arm is 1 from the origin.
    rate : float, default 0.25
        How much the arms bend, in radians; 0 leaves them straight.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same points.

    Returns
    -------
    ndarray (n_samples, 2) of float64

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Johnson, Duvenaud, Wiltschko, Datta, Adams (2016). Composing graphical models with neural networks for structured
    representations and fast inference, figure 1.

    Examples
    --------
    >>> from latentode.datasets import make_pinwheel
    >>> make_pinwheel(500, n_arms=3, random_state=0).shape
    (500, 2)
    """
    _check(
        "make_pinwheel",
        n_samples=n_samples,
        n_arms=n_arms,
        radial_std=radial_std,
        tangential_std=tangential_std,
        rate=rate,
    )
    rng = numpy_generator(random_state)
    arm = rng.integers(n_arms, size=n_samples)
    r, s = rng.standard_normal((2, n_samples))
    r, s = 1.0 + radial_std * r, tangential_std * s
    turn = _on_circle(2.0 * np.pi / n_arms * arm + rate * np.exp(r))  # (n, 2), where the direction of r goes
    across = np.stack([-turn[:, 1], turn[:, 0]], axis=-1)
    return r[:, None] * turn + s[:, None] * across


def make_two_spirals(
    n_samples: int = 1000, *, noise: float = 0.0, turns: float = 1.5, random_state: RandomState = None
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Two interleaved spirals in the plane, one per class.

    Good for classifiers that must bend space: no line and no simple curve separates the classes. A flow that only
    moves points of the plane continuously cannot make them linearly separable without untwisting both arms, which
    is easier with added dimensions (Dupont et al. 2019). For spirals as time series see
    :func:`~latentode.datasets.make_spirals`.

    Arm 0 is the Archimedean spiral with angle θ and radius θ / θ_end, θ from π/2 to θ_end = π/2 + 2π turns, so that it
    ends at radius 1; arm 1 is arm 0 turned by half a turn. Neighbouring arms are π / θ_end apart. θ² is uniform, which
    spreads the points nearly evenly along the arms.

    Parameters
    ----------
    n_samples : int, default 1000
        Number of points; half of them on each arm, of an odd number one more on arm 0.
    noise : float, default 0.0
        Standard deviation of the Gaussian noise on both coordinates; the classes overlap when it comes near half the
        distance of the arms (0.14 for the default turns).
    turns : float, default 1.5
        Turns of an arm about the origin.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same points; the points of a seed lie at the same places of the arms for any noise.

    Returns
    -------
    X : ndarray (n_samples, 2) of float64
        In random order.
    y : ndarray (n_samples,) of int64
        The arm, 0 or 1.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Lang and Witbrock (1988). Learning to tell two spirals apart.

    Examples
    --------
    >>> from latentode.datasets import make_two_spirals
    >>> X, y = make_two_spirals(500, noise=0.02, random_state=0)
    >>> X.shape, int(y.sum())
    ((500, 2), 250)
    """
    _check("make_two_spirals", n_samples=n_samples, noise=noise, turns=turns)
    rng = numpy_generator(random_state)
    y = rng.permutation(np.arange(n_samples, dtype=np.int64) % 2)
    start, end = np.pi / 2, np.pi / 2 + 2.0 * np.pi * turns
    angle = np.sqrt(rng.uniform(start**2, end**2, n_samples))
    clean = (angle / end)[:, None] * _on_circle(angle + np.pi * y)
    return clean + noise * rng.standard_normal((n_samples, 2)), y


def _on_circle(angle: FloatArray) -> FloatArray:
    """Points (n, 2) of the unit circle at angles (n,)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


_CONSTRAINTS = {
    "n_samples": COUNT,
    "n_arms": COUNT,
    "radius": AT_LEAST_0,
    "std": POSITIVE,
    "radial_std": AT_LEAST_0,
    "tangential_std": AT_LEAST_0,
    "rate": AT_LEAST_0,
    "noise": AT_LEAST_0,
    "turns": POSITIVE,
}


def _check(owner: str, **arguments: Any) -> None:
    check_parameters(owner, arguments, _CONSTRAINTS)
