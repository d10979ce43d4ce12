"""Trajectories of generated series that have no closed form, by SciPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from latentode.exceptions import DataError

FloatArray = NDArray[np.float64]
Field = Callable[[FloatArray, FloatArray], FloatArray]

RTOL, ATOL = 1e-10, 1e-12  # far below any noise that is added: the answer counts as the truth


def states_at(
    field: Field,
    start: FloatArray,
    series: NDArray[np.int64],
    times: FloatArray,
    drive: Callable[[int, FloatArray], FloatArray] | None = None,
) -> FloatArray:
    """States of N series at rows of (series, time), each series with times of its own.

    All series are solved together from one of their times to the next, on a clock that runs from 0 to 1 between these
    two: so every step ends at a wanted time and nothing is interpolated.

    Parameters
    ----------
    field : callable
        (y (N, S), u (N,)) -> dy/dt (N, S).
    start : array (N, S)
        States at time 0.
    series, times : array (R,)
        In any order; times are at least 0.
    drive : callable, optional
        (n, times (T,)) -> u (T,), the input of series n, linear between any two of its neighbouring rows: where it has
        a kink, the series needs a row. None for no input (u = 0).

    Returns
    -------
    array (R, S)
    """
    if len(times) and times.min() < 0:
        raise DataError(f"times must be at least 0, where the series begin; got {times.min():g}")
    n_series, n_states = start.shape
    clock, order, rank = _by_series(series, times, n_series)
    inputs = (
        np.zeros_like(clock) if drive is None else np.stack([drive(n, clock[n]) for n in range(n_series)])
    )
    states = np.empty((n_series, clock.shape[1], n_states))
    states[:, 0] = start
    for j in range(1, clock.shape[1]):
        gap, u = np.diff(clock[:, j - 1 : j + 1]), inputs[:, j - 1 : j + 1]
        states[:, j] = _across(field, states[:, j - 1], gap, u) if gap.any() else states[:, j - 1]
    found = np.empty((len(times), n_states))
    found[order] = states[series[order], rank]
    return found


def _by_series(
    series: NDArray[np.int64], times: FloatArray, n_series: int
) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.int64]]:
    """Times (N, 1 + T): 0, then those of each series, the last one repeated; the rows sorted, and their places."""
    order = np.lexsort((times, series))
    lengths = np.bincount(series, minlength=n_series)
    rank = 1 + np.arange(len(times)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    clock = np.zeros((n_series, 1 + int(lengths.max(initial=0))))
    clock[series[order], rank] = times[order]
    return np.maximum.accumulate(clock, axis=1), order, rank


def _across(field: Field, y: FloatArray, gap: FloatArray, u: FloatArray) -> FloatArray:
    """States (N, S) after `gap` (N, 1), with inputs that go from u[:, 0] to u[:, 1] in a straight line."""

    def slope(s: float, flat: FloatArray) -> FloatArray:
        return (gap * field(flat.reshape(y.shape), u[:, 0] + s * (u[:, 1] - u[:, 0]))).ravel()

    solution = solve_ivp(slope, (0.0, 1.0), y.ravel(), method="DOP853", rtol=RTOL, atol=ATOL, t_eval=(1.0,))
    assert solution.success, solution.message
    return solution.y[:, -1].reshape(y.shape)
