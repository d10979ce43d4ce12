"""Generated pendulums under a known torque."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd

from latentode.checks import check_parameters
from latentode.datasets.arguments import AT_LEAST_0, COUNT, POSITIVE
from latentode.datasets.questions import Times, asked_rows
from latentode.datasets.trajectories import FloatArray, states_at
from latentode.exceptions import DataError
from latentode.seeding import RandomState, numpy_generator


@dataclass(frozen=True, eq=False)
class DrivenPendulums:
    """Generated pendulums: what was observed, the truth at any time, and what another torque would have done.

    Parameters
    ----------
    data : DataFrame
        `id`, `time`, `angle`, `torque`: the noisy observations, and the knots of the torque with `angle` NaN.
    forcing : DataFrame
        The knots alone: `id`, `time`, `torque`; a straight line between them, constant after the last one.
    series : DataFrame
        One row per series: `id`, and `angle` and `velocity` at time 0.
    damping : float
    """

    data: pd.DataFrame
    forcing: pd.DataFrame
    series: pd.DataFrame
    damping: float

    def truth_at(self, times: Times, forcing: pd.DataFrame | None = None) -> pd.DataFrame:
        """The noise-free pendulums of the same initial states.

        Parameters
        ----------
        times : sequence of float, or DataFrame
            At least 0; for every series, or a table with `id` and `time`.
        forcing : DataFrame, optional
            Knots `id`, `time`, `torque` of another torque, at least one per series, sorted by time within a series;
            None takes the one of the data.

        Returns
        -------
        DataFrame
            `id`, `time`, `angle`, `torque`.

        Raises
        ------
        DataError
            For times before 0, and for a series without a torque.
        """
        rows = asked_rows(times, len(self.series))
        torque = Torque(self.forcing if forcing is None else forcing, len(self.series))
        ids = np.concatenate([rows["id"], torque.ids])  # knots are rows too: the field has a kink there
        states = states_at(
            self._swing,
            self.series[["angle", "velocity"]].to_numpy(),
            ids,
            np.concatenate([rows["time"], torque.times]),
            drive=torque.of,
        )
        return rows.assign(angle=states[: len(rows), 0], torque=torque.at(rows))

    def other_forcing(self, after: float, random_state: RandomState = None) -> pd.DataFrame:
        """Another future of the torque: the same up to the first knot at or beyond `after`, then drawn anew.

        Its knots beyond are at the times of `forcing`, with Gaussian torques of the same spread.

        Raises
        ------
        ValueError
            When no knot lies beyond `after`.
        """
        knots = self.forcing.copy()
        if not after < knots["time"].max():
            raise ValueError(
                f"after must be a time before the last knot, {knots['time'].max():g}, or nothing is drawn anew; "
                f"got {after!r}"
            )
        turn = knots["id"].map(knots[knots["time"] >= after].groupby("id")["time"].min())
        new = knots["time"] > turn
        spread = np.sqrt(np.mean(self.forcing["torque"] ** 2))
        knots.loc[new, "torque"] = spread * numpy_generator(random_state).standard_normal(int(new.sum()))
        return knots

    def context(self, until: float, forcing: pd.DataFrame | None = None) -> pd.DataFrame:
        """What a forecaster knows at time `until`: the observations up to then, and all knots of the torque.

        Parameters
        ----------
        until : float
            In the unit of `time`.
        forcing : DataFrame, optional
            A plan for the torque, such as `other_forcing(until)`; None takes the one of the data.

        Returns
        -------
        DataFrame
            As `data`.

        Raises
        ------
        DataError
            When the plan contradicts the torque under which the observations were made.
        """
        seen = self.data[self.data["angle"].notna() & (self.data["time"] <= until)]
        plan = self.forcing if forcing is None else forcing
        planned = Torque(plan, len(self.series)).at(seen)
        if not np.allclose(planned, seen["torque"], rtol=1e-9, atol=1e-9):
            raise DataError(
                f"the torque of `forcing` is not the one under which the series were observed until {until:g}: "
                "change it after that time only, for example by other_forcing(after)"
            )
        return _together(seen, plan)

    def _swing(self, y: FloatArray, torque: FloatArray) -> FloatArray:
        """Derivative of (angle, velocity), (N, 2)."""
        return np.stack([y[:, 1], torque - np.sin(y[:, 0]) - self.damping * y[:, 1]], axis=-1)


@overload
def make_driven_pendulum(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    horizon: float = ...,
    noise: float = ...,
    torque: float = ...,
    knot_gap: float = ...,
    damping: float = ...,
    return_truth: Literal[False] = ...,
    random_state: RandomState = ...,
) -> pd.DataFrame: ...
@overload
def make_driven_pendulum(
    n_series: int = ...,
    n_obs: int = ...,
    *,
    span: float = ...,
    horizon: float = ...,
    noise: float = ...,
    torque: float = ...,
    knot_gap: float = ...,
    damping: float = ...,
    return_truth: Literal[True],
    random_state: RandomState = ...,
) -> DrivenPendulums: ...
def make_driven_pendulum(
    n_series: int = 300,
    n_obs: int = 40,
    *,
    span: float = 20.0,
    horizon: float = 10.0,
    noise: float = 0.05,
    torque: float = 0.3,
    knot_gap: float = 1.0,
    damping: float = 0.2,
    return_truth: bool = False,
    random_state: RandomState = None,
) -> pd.DataFrame | DrivenPendulums:
    """Pendulums pushed by a known random torque, observed at irregular times with noise.

    Good for controls and for "what if": the torque is known in the future too, forecasts without it soon fail, and the
    truth under any other torque can be had. The velocity is never observed.

    angle'' = torque - sin(angle) - damping angle'; at time 0 the angle is uniform in ±1.5, the velocity in ±1. Torques
    at the knots are independent N(0, torque²), with a straight line between them. Solved to ten digits.

    Parameters
    ----------
    n_series : int
        Number of series.
    n_obs : int
        Observations per series, uniform on [0, span].
    span : float
        Length of the observed stretch; small swings last 2π.
    horizon : float
        How long the torque is known beyond `span`, at least 0.
    noise : float
        Standard deviation of the noise on the angle, in radians.
    torque : float
        Standard deviation of the torque at its knots; 1 holds the pendulum horizontal.
    knot_gap : float
        Time between two knots, the first of which is at 0.
    damping : float
        At least 0.
    return_truth : bool
        Whether to return what gives the truth too.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same table; the curves of a seed do not depend on `n_obs` and `noise`.

    Returns
    -------
    DataFrame or DrivenPendulums
        Long table `id` (int), `time`, `angle` (radians, not wrapped: beyond ±π it has gone over the top), `torque`
        (float), sorted by id and time; rows at knots have `angle` NaN. With `return_truth=True` a
        :class:`DrivenPendulums`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from latentode.datasets import make_driven_pendulum
    >>> pendulums = make_driven_pendulum(n_series=3, random_state=0, return_truth=True)
    >>> plan = pendulums.other_forcing(after=10.0, random_state=1)
    >>> known = pendulums.context(until=10.0, forcing=plan)  # what to forecast from, under another torque
    >>> pendulums.truth_at([15.0, 20.0], plan).shape  # and what would have come of it
    (6, 4)
    """
    _check(n_series, n_obs, span, horizon, noise, torque, knot_gap, damping)
    rng = numpy_generator(random_state)
    series = pd.DataFrame({"id": np.arange(n_series)})
    series[["angle", "velocity"]] = rng.uniform(-1.0, 1.0, (n_series, 2)) * (1.5, 1.0)
    grid = knot_gap * np.arange(1 + math.ceil((span + horizon) / knot_gap))
    forcing = asked_rows(grid, n_series)
    forcing["torque"] = torque * rng.standard_normal(len(forcing))
    times = np.sort(rng.uniform(0.0, span, (n_series, n_obs)), axis=1)
    made = DrivenPendulums(pd.DataFrame(), forcing, series, damping)
    seen = made.truth_at(pd.DataFrame({"id": np.repeat(series["id"], n_obs), "time": times.ravel()}))
    seen["angle"] += noise * rng.standard_normal(len(seen))
    data = _together(seen, forcing)
    return DrivenPendulums(data, forcing, series, damping) if return_truth else data


class Torque:
    """Piecewise linear torques of all series, from a table `id`, `time`, `torque`."""

    def __init__(self, forcing: pd.DataFrame, n_series: int) -> None:
        rows = asked_rows(forcing, n_series)
        self.ids, self.times = rows["id"].to_numpy(), rows["time"].to_numpy()
        torques = forcing["torque"].to_numpy(dtype=float)
        members = [np.flatnonzero(self.ids == n) for n in range(n_series)]
        self._knots = [(self.times[rows], torques[rows]) for rows in members]
        for n, (times, _) in enumerate(self._knots):
            if len(times) == 0:
                raise DataError(f"no torque for series {n}: `forcing` needs at least one knot per series")
            if (np.diff(times) <= 0).any():
                raise DataError(
                    f"the knots of series {n} must increase in time: sort `forcing` by id and time"
                )

    def of(self, n: int, times: FloatArray) -> FloatArray:
        """Torque of series n at times (T,)."""
        return np.interp(times, *self._knots[n])

    def at(self, rows: pd.DataFrame) -> FloatArray:
        """Torque at rows with `id` and `time`, (R,)."""
        ids, times, found = rows["id"].to_numpy(), rows["time"].to_numpy(), np.empty(len(rows))
        for n in np.unique(ids):
            found[ids == n] = self.of(n, times[ids == n])
        return found


def _together(seen: pd.DataFrame, forcing: pd.DataFrame) -> pd.DataFrame:
    """Observations and knots, sorted by id and time."""
    columns = ["id", "time", "angle", "torque"]
    both = pd.concat([seen[columns], forcing.assign(angle=np.nan)[columns]])
    return both.sort_values(["id", "time"], ignore_index=True, kind="stable")


_CONSTRAINTS = {
    "n_series": COUNT,
    "n_obs": COUNT,
    "span": POSITIVE,
    "horizon": AT_LEAST_0,
    "noise": AT_LEAST_0,
    "torque": AT_LEAST_0,
    "knot_gap": POSITIVE,
    "damping": AT_LEAST_0,
}


def _check(
    n_series: int,
    n_obs: int,
    span: float,
    horizon: float,
    noise: float,
    torque: float,
    knot_gap: float,
    damping: float,
) -> None:
    check_parameters("make_driven_pendulum", locals(), _CONSTRAINTS)
