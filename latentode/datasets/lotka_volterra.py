"""Generated populations of prey and predators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd

from latentode.checks import check_parameters
from latentode.datasets.arguments import AT_LEAST_0, COUNT, POSITIVE, POSITIVE_RANGE
from latentode.datasets.questions import Times, asked_rows
from latentode.datasets.trajectories import FloatArray, states_at
from latentode.seeding import RandomState, numpy_generator

BIRTH, EATEN, FED, DEATH = 2 / 3, 4 / 3, 1.0, 1.0  # rest at prey 1, predator 1/2; small cycles last 7.7


@dataclass(frozen=True, eq=False)
class LotkaVolterra:
    """Generated populations with what the noise hides.

    Parameters
    ----------
    data : DataFrame
        The noisy observations: `id`, `time`, `prey`, `predator`.
    series : DataFrame
        One row per series: `id`, and `prey` and `predator` at time 0.
    """

    data: pd.DataFrame
    series: pd.DataFrame

    def truth_at(self, times: Times) -> pd.DataFrame:
        """The noise-free populations, with the columns of `data`, at `times` of at least 0: a sequence, or a table."""
        rows = asked_rows(times, len(self.series))
        start = np.log(self.series[["prey", "predator"]].to_numpy())
        logs = states_at(_log_growth, start, rows["id"].to_numpy(), rows["time"].to_numpy())
        return rows.assign(prey=np.exp(logs[:, 0]), predator=np.exp(logs[:, 1]))


@overload
def make_lotka_volterra(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    noise: float = ...,
    initial: tuple[float, float] = ...,
    return_truth: Literal[False] = ...,
    random_state: RandomState = ...,
) -> pd.DataFrame: ...
@overload
def make_lotka_volterra(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    noise: float = ...,
    initial: tuple[float, float] = ...,
    return_truth: Literal[True],
    random_state: RandomState = ...,
) -> LotkaVolterra: ...
def make_lotka_volterra(
    n_series: int = 300,
    n_obs: int = 40,
    *,
    span: float = 20.0,
    noise: float = 0.05,
    initial: tuple[float, float] = (0.5, 2.0),
    return_truth: bool = False,
    random_state: RandomState = None,
) -> pd.DataFrame | LotkaVolterra:
    """Prey and predators that chase each other in cycles, observed at irregular times with noise.

    Good for nonlinear dynamics with a conserved quantity: every series stays on a closed orbit of its own, at a period
    that depends on the orbit, so a forecast that drifts is easy to see. All series share their four rates.

    prey' = 2/3 prey - 4/3 prey predator, predator' = prey predator - predator; both populations at time 0 are uniform
    in `initial`, and the times uniform on [0, span]. Solved to ten digits.

    Parameters
    ----------
    n_series : int
        Number of series.
    n_obs : int
        Observations per series.
    span : float
        Length of the observed stretch; a cycle lasts about 8 to 10.
    noise : float
        Standard deviation of the noise on the logarithm of the populations: relative, so they stay positive.
    initial : (float, float)
        Smallest and largest population at time 0.
    return_truth : bool
        Whether to return the noise-free curves too.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same table; the curves of a seed do not depend on `n_obs` and `noise`.

    Returns
    -------
    DataFrame or LotkaVolterra
        Long table `id` (int), `time`, `prey`, `predator` (float), sorted by id and time. With `return_truth=True` a
        :class:`LotkaVolterra`, whose `truth_at(times)` is the table to score against.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Lotka (1925), "Elements of physical biology", chapter 8; Volterra (1926), "Fluctuations in the abundance of a
    species considered mathematically".

    Examples
    --------
    >>> from latentode.datasets import make_lotka_volterra
    >>> make_lotka_volterra(n_series=3, n_obs=10, random_state=0).shape
    (30, 4)
    """
    _check(n_series, n_obs, span, noise, initial)
    rng = numpy_generator(random_state)
    series = pd.DataFrame({"id": np.arange(n_series)})
    series[["prey", "predator"]] = rng.uniform(*initial, size=(n_series, 2))
    times = np.sort(rng.uniform(0.0, span, (n_series, n_obs)), axis=1)
    made = LotkaVolterra(pd.DataFrame(), series)
    data = made.truth_at(pd.DataFrame({"id": np.repeat(series["id"], n_obs), "time": times.ravel()}))
    data[["prey", "predator"]] *= np.exp(noise * rng.standard_normal((len(data), 2)))
    return LotkaVolterra(data, series) if return_truth else data


def _log_growth(log: FloatArray, _: FloatArray) -> FloatArray:
    """Derivative of the logarithms of both populations, (N, 2): no step can make them negative."""
    prey, predator = np.exp(log[:, 0]), np.exp(log[:, 1])
    return np.stack([BIRTH - EATEN * predator, FED * prey - DEATH], axis=-1)


_CONSTRAINTS = {
    "n_series": COUNT,
    "n_obs": COUNT,
    "span": POSITIVE,
    "noise": AT_LEAST_0,
    "initial": POSITIVE_RANGE,
}


def _check(n_series: int, n_obs: int, span: float, noise: float, initial: tuple[float, float]) -> None:
    check_parameters("make_lotka_volterra", locals(), _CONSTRAINTS)
