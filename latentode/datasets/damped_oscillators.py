"""Generated oscillators whose frequency a covariate tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from latentode.checks import check_parameters
from latentode.datasets.arguments import AT_LEAST_0, COUNT, POSITIVE, POSITIVE_RANGE
from latentode.datasets.questions import Times, asked_rows
from latentode.seeding import RandomState, numpy_generator


@dataclass(frozen=True, eq=False)
class DampedOscillators:
    """Generated oscillators with what the noise hides.

    Parameters
    ----------
    data : DataFrame
        The noisy observations: `id`, `time`, `x`, `v`, `stiffness`.
    series : DataFrame
        One row per series: `id`, `stiffness`, and `x` and `v` at time 0.
    damping : float
    """

    data: pd.DataFrame
    series: pd.DataFrame
    damping: float

    def truth_at(self, times: Times) -> pd.DataFrame:
        """The noise-free curves, with the columns of `data`, at `times`: a sequence, or a table `id`, `time`."""
        rows = asked_rows(times, len(self.series))
        own = self.series.iloc[rows["id"].to_numpy()]
        x, v = oscillation(rows["time"], own["x"], own["v"], own["stiffness"], self.damping)
        return rows.assign(x=x, v=v, stiffness=own["stiffness"].to_numpy())


@overload
def make_damped_oscillators(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    noise: float = ...,
    stiffness: tuple[float, float] = ...,
    damping: float = ...,
    return_truth: Literal[False] = ...,
    random_state: RandomState = ...,
) -> pd.DataFrame: ...
@overload
def make_damped_oscillators(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    noise: float = ...,
    stiffness: tuple[float, float] = ...,
    damping: float = ...,
    return_truth: Literal[True],
    random_state: RandomState = ...,
) -> DampedOscillators: ...
def make_damped_oscillators(
    n_series: int = 300,
    n_obs: int = 20,
    *,
    span: float = 10.0,
    noise: float = 0.05,
    stiffness: tuple[float, float] = (1.0, 9.0),
    damping: float = 0.2,
    return_truth: bool = False,
    random_state: RandomState = None,
) -> pd.DataFrame | DampedOscillators:
    """Oscillators that differ in a known stiffness, observed at irregular times with noise.

    Good for static covariates: one early observation tells x and v, and only with `stiffness` beside it is the
    future known; without it, the frequency has to be inferred from several observations. No test of dynamics that are
    hard to learn: for each stiffness they are linear.

    x' = v, v' = -stiffness x - damping v; x and v at time 0 are standard normal, `stiffness` is uniform, and the times
    are uniform on [0, span].

    Parameters
    ----------
    n_series : int
        Number of series.
    n_obs : int
        Observations per series.
    span : float
        Length of the observed stretch; periods are 2π / sqrt(stiffness), so 2.1 to 6.3 by default.
    noise : float
        Standard deviation of the noise on x and v, each in its unit.
    stiffness : (float, float)
        Its smallest and largest value; smallest > damping² / 4, so that all series oscillate.
    damping : float
        At least 0; amplitudes fall as exp(-damping t / 2).
    return_truth : bool
        Whether to return the noise-free curves too.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same table; the curves of a seed do not depend on `n_obs` and `noise`.

    Returns
    -------
    DataFrame or DampedOscillators
        Long table `id` (int), `time`, `x`, `v`, `stiffness` (float, constant within a series), sorted by id and time.
        With `return_truth=True` a :class:`DampedOscillators`, whose `truth_at(times)` is the table to score against.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from latentode.datasets import make_damped_oscillators
    >>> oscillators = make_damped_oscillators(n_series=3, n_obs=10, random_state=0, return_truth=True)
    >>> list(oscillators.data.columns)
    ['id', 'time', 'x', 'v', 'stiffness']
    >>> oscillators.truth_at([10.0, 20.0]).shape
    (6, 5)
    """
    _check(n_series, n_obs, span, noise, stiffness, damping)
    rng = numpy_generator(random_state)
    series = pd.DataFrame({"id": np.arange(n_series), "stiffness": rng.uniform(*stiffness, size=n_series)})
    series[["x", "v"]] = rng.standard_normal((n_series, 2))
    times = np.sort(rng.uniform(0.0, span, (n_series, n_obs)), axis=1)
    made = DampedOscillators(pd.DataFrame(), series, damping)
    data = made.truth_at(pd.DataFrame({"id": np.repeat(series["id"], n_obs), "time": times.ravel()}))
    data[["x", "v"]] += noise * rng.standard_normal((len(data), 2))
    return DampedOscillators(data, series, damping) if return_truth else data


def oscillation(
    t: ArrayLike, x0: ArrayLike, v0: ArrayLike, stiffness: ArrayLike, damping: float
) -> tuple[NDArray, NDArray]:
    """x and v at times `t` of an oscillator that starts with x0, v0; underdamped, all arrays of one shape."""
    t, x0, v0, stiffness = (np.asarray(part, dtype=float) for part in (t, x0, v0, stiffness))
    decay = damping / 2
    omega = np.sqrt(stiffness - decay**2)
    cos, sin, envelope = np.cos(omega * t), np.sin(omega * t) / omega, np.exp(-decay * t)
    x = envelope * (x0 * cos + (v0 + decay * x0) * sin)
    v = envelope * (v0 * cos - (stiffness * x0 + decay * v0) * sin)
    return x, v


_CONSTRAINTS = {
    "n_series": COUNT,
    "n_obs": COUNT,
    "span": POSITIVE,
    "noise": AT_LEAST_0,
    "stiffness": POSITIVE_RANGE,
    "damping": AT_LEAST_0,
}


def _check(
    n_series: int, n_obs: int, span: float, noise: float, stiffness: tuple[float, float], damping: float
) -> None:
    check_parameters("make_damped_oscillators", locals(), _CONSTRAINTS)
    if not stiffness[0] > damping**2 / 4:
        raise ValueError(
            f"make_damped_oscillators: with damping {damping:g} a series oscillates only if its stiffness is above "
            f"damping² / 4 = {damping**2 / 4:g}; got stiffness={stiffness!r}"
        )
