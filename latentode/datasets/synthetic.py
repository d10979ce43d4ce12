"""Generated series whose truth is a closed form."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, NamedTuple, overload

import numpy as np
import pandas as pd

from latentode.seeding import RandomState, numpy_generator

FINE_TIMES = np.linspace(0.0, 6.0 * np.pi, 500)
WINDOW = 100  # fine times that may be observed; as many again follow as the truth of a forecast
LAST_START = len(FINE_TIMES) - 2 * WINDOW
GROWTH = 0.3  # b of r = a + b t, with a = 0


class Spirals(NamedTuple):
    """Generated spirals with the curve that the noise hides.

    Attributes
    ----------
    data : DataFrame
        The noisy observations: `id`, `time`, `x`, `y`.
    truth : DataFrame
        The noise-free curve, same columns: per series 200 rows, first the 100 fine times of which `data`
        shows some, then the next 100. The times of `data` are among them to the last bit.
    """

    data: pd.DataFrame
    truth: pd.DataFrame

    @property
    def interpolation(self) -> pd.DataFrame:
        """The truth at the first 100 fine times of every series, the stretch that was observed in part."""
        return self.truth[self._step < WINDOW].reset_index(drop=True)

    @property
    def extrapolation(self) -> pd.DataFrame:
        """The truth at the next 100 fine times of every series, of which nothing was observed."""
        return self.truth[self._step >= WINDOW].reset_index(drop=True)

    @property
    def _step(self) -> pd.Series:
        return self.truth.groupby("id").cumcount()


@overload
def make_spirals(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    noise: float = ...,
    start: tuple[int, int] = ...,
    return_truth: Literal[False] = ...,
    random_state: RandomState = ...,
) -> pd.DataFrame: ...
@overload
def make_spirals(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    noise: float = ...,
    start: tuple[int, int] = ...,
    return_truth: Literal[True],
    random_state: RandomState = ...,
) -> Spirals: ...
def make_spirals(
    n_series: int = 300,
    n_obs: int = 30,
    *,
    noise: float = 0.1,
    start: tuple[int, int] = (0, LAST_START),
    return_truth: bool = False,
    random_state: RandomState = None,
) -> pd.DataFrame | Spirals:
    """Clockwise and counter-clockwise spirals, observed at irregular times with noise.

    The first data set of the latent-ODE papers: small, with a known truth, and impossible to forecast
    without inferring the direction and the position on the spiral. It has no gaps in single targets and all
    series have the same length, so it is no test of those.

    Two Archimedean spirals live on 500 fine times t in [0, 6π]: counter-clockwise, radius 0.3 t and angle t
    about (5, 0); clockwise, radius 0.3 · 50 / (6π + 1 − t) and angle 6π + 1 − t about (−5, 0). A series
    follows one of them (a fair coin) from the fine time s on; of the 100 fine times s, ..., s + 99 it shows
    `n_obs`, drawn without replacement, with Gaussian noise on x and y.

    Parameters
    ----------
    n_series : int
        Number of series.
    n_obs : int
        Observations per series, 1 to 100.
    noise : float
        Standard deviation of the noise, in the unit of x and y (the curves lie within −11 and 13).
    start : (int, int)
        Smallest and largest fine index s, both included, within 0 and 300. Series for testing a forecast
        start in (0, 200), so that every state they reach was seen by some training series.
    return_truth : bool
        Whether to return the noise-free curve too.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same table; the curves of a seed do not depend on `n_obs` and `noise`.

    Returns
    -------
    DataFrame or Spirals
        Long table `id` (int), `time` (float, radians since the series' own start), `x`, `y` (float), sorted
        by id and time. With `return_truth=True` a :class:`Spirals`, whose `extrapolation` and
        `interpolation` are the tables to score forecasts and filled gaps against.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018). Neural Ordinary Differential Equations, section 5.1.

    Examples
    --------
    >>> from latentode.datasets import make_spirals
    >>> table = make_spirals(n_series=3, n_obs=10, random_state=0)
    >>> table.shape, list(table.columns)
    ((30, 4), ['id', 'time', 'x', 'y'])
    >>> spirals = make_spirals(n_series=3, n_obs=10, random_state=0, return_truth=True)
    >>> len(spirals.extrapolation)
    300
    """
    _check_arguments(n_series, n_obs, noise, start)
    rng = numpy_generator(random_state)
    clockwise = rng.integers(2, size=n_series).astype(bool)
    first = rng.integers(start[0], start[1] + 1, size=n_series)
    steps = np.sort(rng.random((n_series, WINDOW)).argsort(axis=1)[:, :n_obs], axis=1)  # (N, n_obs)
    clean = spiral(FINE_TIMES[first[:, None] + steps], clockwise)  # (N, n_obs, 2)
    data = _long_table(steps, clean + noise * rng.standard_normal(clean.shape))
    if not return_truth:
        return data
    all_steps = np.broadcast_to(np.arange(2 * WINDOW), (n_series, 2 * WINDOW))
    return Spirals(data, _long_table(all_steps, spiral(FINE_TIMES[first[:, None] + all_steps], clockwise)))


def spiral(t: np.ndarray, clockwise: np.ndarray) -> np.ndarray:
    """Points (N, T, 2) of the spirals at fine times `t` (N, T), `clockwise` (N,) or not."""
    clockwise = clockwise[:, None]
    angle = np.where(clockwise, FINE_TIMES[-1] + 1.0 - t, t)
    radius = GROWTH * np.where(clockwise, 50.0 / np.where(clockwise, angle, 1.0), angle)
    centre = np.where(clockwise, -5.0, 5.0)
    return np.stack([centre + radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _long_table(steps: np.ndarray, points: np.ndarray) -> pd.DataFrame:
    n_series, n_times = steps.shape
    return pd.DataFrame(
        {
            "id": np.repeat(np.arange(n_series), n_times),
            # the grid is even and begins at 0, so a step count is also the time since any start
            "time": FINE_TIMES[steps].ravel(),
            "x": points[..., 0].ravel(),
            "y": points[..., 1].ravel(),
        }
    )


def _check_arguments(n_series: int, n_obs: int, noise: float, start: tuple[int, int]) -> None:
    if not _is_int(n_series) or n_series < 1:
        raise ValueError(f"n_series must be a whole number of at least 1; got {n_series!r}")
    if not _is_int(n_obs) or not 1 <= n_obs <= WINDOW:
        raise ValueError(
            f"n_obs must be a whole number from 1 to {WINDOW}, the fine times to draw from; got {n_obs!r}"
        )
    if not isinstance(noise, (int, float, np.number)) or not 0 <= noise < np.inf:
        raise ValueError(f"noise must be a finite standard deviation of at least 0; got {noise!r}")
    bounds = tuple(start) if isinstance(start, (tuple, list)) else ()
    if len(bounds) != 2 or not all(map(_is_int, bounds)) or not 0 <= bounds[0] <= bounds[1] <= LAST_START:
        raise ValueError(
            "start must be two whole numbers (smallest, largest) with 0 <= smallest <= largest <= "
            f"{LAST_START}; got {start!r}"
        )


def _is_int(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
