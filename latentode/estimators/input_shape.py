"""Vectors and images, as the arrays in which a caller may have them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from latentode.exceptions import warn_user

_FORMS = "vectors (n, p), images (n, H, W) or images with channels (n, C, H, W)"


def read_inputs(estimator: BaseEstimator, X: Any, *, y: Any = "no_validation", **checks: Any) -> Any:
    """X, and y where there is one, as finite numbers; `n_features_in_` is learned.

    Images that seem to have their channels last are taken as they are, with a warning.

    Raises
    ------
    ValueError
        For anything but 2 to 4 axes of numbers, none of them empty.
    """
    shape = _shape_of(X)
    if len(shape) > 4:
        raise ValueError(f"X must be {_FORMS}; got an array of shape {shape}")
    if len(shape) > 2 and 0 in shape[1:]:
        raise ValueError(f"X must be {_FORMS}, with at least one pixel; got an array of shape {shape}")
    kind = np.float64 if len(shape) == 2 else np.float32
    read = validate_data(estimator, X, y=y, dtype=kind, allow_nd=True, **checks)
    if _has_channels_last(shape):
        _, channels, height, width = shape
        warn_user(
            f"X {shape} looks like images with channels last; {channels} channels of {height} x {width} pixels are "
            "taken: use X.transpose(0, 3, 1, 2)"
        )
    return read


def _has_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether arrays of this shape are grey, RGB or RGBA images rather than many channels of narrow ones.

    Square ones are left alone: (n, 16, 4, 4) is what the features of a convolution look like.
    """
    return len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > shape[3] and shape[2] != shape[3]


def _shape_of(X: Any) -> tuple[int, ...]:
    return tuple(X.shape if hasattr(X, "shape") else np.asarray(X).shape)


def reread_inputs(estimator: BaseEstimator, X: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """X of a fitted estimator, whose inputs had this shape.

    Raises
    ------
    ValueError
        For inputs of another shape.
    """
    found = _shape_of(X)
    if len(shape) == 1 and len(found) > 2:
        raise ValueError(
            f"X must be vectors like those of fit, (n, {shape[0]}); got an array of shape {found}"
        )
    if len(shape) > 1 and found[1:] != shape:
        lone = f": one input is X[None], {(1, *shape)}" if found == shape else ""
        raise ValueError(
            f"X must be images like those of fit, (n, {', '.join(map(str, shape))}); got {found}{lone}"
        )
    kind = np.float64 if len(shape) == 1 else np.float32
    return validate_data(estimator, X, reset=False, dtype=kind, allow_nd=True)


def as_network_inputs(X: NDArray[Any]) -> NDArray[Any]:
    """X as the network has it, (n, D) or (n, C, H, W), laid out alike whatever the layout of the caller's array."""
    return X.ravel().reshape(len(X), *with_channels(X.shape[1:]))


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one input as the network has it: (D,) or (C, H, W)."""
    return (1, *shape) if len(shape) == 2 else shape


def level_and_spread(X: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every feature (axis 1 of (N, D)) or channel (of (N, C, H, W)).

    A spread that is 0, or no more than rounding, counts as 1.
    """
    axes = (0, *range(2, X.ndim))
    mean = X.mean(axis=axes, dtype=np.float64)
    spread = X.std(axis=axes, dtype=np.float64)
    rounding = 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean.tolist(), np.where(spread > rounding, spread, 1.0).tolist()
