"""Generated events whose times tell something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import pandas as pd

from latentode.checks import check_parameters
from latentode.datasets.arguments import AT_LEAST_0, COUNT, POSITIVE, POSITIVE_RANGE, RANGE, SHARE
from latentode.datasets.questions import Times, asked_rows
from latentode.seeding import RandomState, numpy_generator


@dataclass(frozen=True, eq=False)
class EventTimes:
    """Generated events with the intensity that made them.

    Parameters
    ----------
    data : DataFrame
        The events: `id`, `time`, `mark`. A series without an event has no row.
    series : DataFrame
        One row per series: `id`, `period`, `phase`.
    span : float
        Events could happen from 0 to this time.
    base, amplitude : float
        Mean intensity, and how far it swings as a share of it.
    """

    data: pd.DataFrame
    series: pd.DataFrame
    span: float
    base: float
    amplitude: float

    def truth_at(self, times: Times) -> pd.DataFrame:
        """The truth at `times`, a sequence or a table: `id`, `time`, `mark` without noise, `intensity`, `cumulative`.

        `intensity` is in events per unit of time; `cumulative` is its integral from 0, the expected number of events.
        """
        rows = asked_rows(times, len(self.series))
        own = self.series.iloc[rows["id"].to_numpy()]
        t, rate, phase = (
            rows["time"].to_numpy(),
            2 * np.pi / own["period"].to_numpy(),
            own["phase"].to_numpy(),
        )
        wave = np.sin(rate * t + phase)
        area = (np.cos(phase) - np.cos(rate * t + phase)) / rate  # ∫ wave dt from 0
        return rows.assign(
            mark=wave,
            intensity=self.base * (1 + self.amplitude * wave),
            cumulative=self.base * (t + self.amplitude * area),
        )


@overload
def make_event_times(
    n_series: int = ...,
    *,
    span: float = ...,
    base: float = ...,
    amplitude: float = ...,
    period: tuple[float, float] = ...,
    phase: tuple[float, float] = ...,
    noise: float = ...,
    return_truth: Literal[False] = ...,
    random_state: RandomState = ...,
) -> pd.DataFrame: ...
@overload
def make_event_times(
    n_series: int = ...,
    *,
    span: float = ...,
    base: float = ...,
    amplitude: float = ...,
    period: tuple[float, float] = ...,
    phase: tuple[float, float] = ...,
    noise: float = ...,
    return_truth: Literal[True],
    random_state: RandomState = ...,
) -> EventTimes: ...
def make_event_times(
    n_series: int = 300,
    *,
    span: float = 10.0,
    base: float = 3.0,
    amplitude: float = 0.9,
    period: tuple[float, float] = (4.0, 4.0),
    phase: tuple[float, float] = (0.0, 2 * np.pi),
    noise: float = 0.1,
    return_truth: bool = False,
    random_state: RandomState = None,
) -> pd.DataFrame | EventTimes:
    """Events that come thick and thin in waves, with a value measured at each of them.

    Good for models of when series are observed: the events are an inhomogeneous Poisson process whose intensity swings
    with the value that is measured, as where a patient is looked at more often when ill. Each series has its own
    phase, so both the times and the values tell where in its cycle it is.

    wave = sin(2π t / period + phase), intensity = base (1 + amplitude wave), mark = wave + noise. Made by thinning a
    homogeneous process of rate base (1 + amplitude).

    Parameters
    ----------
    n_series : int
        Number of series.
    span : float
        Events happen from 0 to this time.
    base : float
        Mean intensity, in events per unit of time.
    amplitude : float
        0 for a homogeneous process, 1 for one that falls silent once in a period.
    period, phase : (float, float)
        Smallest and largest value; uniform between them for each series, and shared by all if they are equal.
    noise : float
        Standard deviation of the noise on the mark.
    return_truth : bool
        Whether to return the intensity too.
    random_state : int, numpy Generator, numpy RandomState or None
        The same int gives the same table; the times of a seed do not depend on `noise`.

    Returns
    -------
    DataFrame or EventTimes
        Long table `id` (int), `time`, `mark` (float), sorted by id and time; a series without any event, rare at base
        times span of some ten, has no row. With `return_truth=True` an :class:`EventTimes`, whose `truth_at(times)`
        has the true intensity.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Lewis & Shedler (1979), "Simulation of nonhomogeneous Poisson processes by thinning", algorithm 1.

    Examples
    --------
    >>> from latentode.datasets import make_event_times
    >>> events = make_event_times(n_series=3, random_state=0, return_truth=True)
    >>> list(events.truth_at(events.data).columns)
    ['id', 'time', 'mark', 'intensity', 'cumulative']
    """
    _check(n_series, span, base, amplitude, period, phase, noise)
    rng = numpy_generator(random_state)
    series = pd.DataFrame({"id": np.arange(n_series), "period": rng.uniform(*period, size=n_series)})
    series["phase"] = rng.uniform(*phase, size=n_series)
    made = EventTimes(pd.DataFrame(), series, span, base, amplitude)
    highest = base * (1 + amplitude)
    ids = np.repeat(series["id"], rng.poisson(highest * span, n_series))
    candidates = made.truth_at(pd.DataFrame({"id": ids, "time": rng.uniform(0.0, span, len(ids))}))
    kept = candidates[rng.uniform(0.0, highest, len(ids)) < candidates["intensity"]]
    data = kept[["id", "time", "mark"]].sort_values(["id", "time"], ignore_index=True)
    data["mark"] += noise * rng.standard_normal(len(data))
    return EventTimes(data, series, span, base, amplitude) if return_truth else data


_CONSTRAINTS = {
    "n_series": COUNT,
    "span": POSITIVE,
    "base": POSITIVE,
    "amplitude": SHARE,
    "period": POSITIVE_RANGE,
    "phase": RANGE,
    "noise": AT_LEAST_0,
}


def _check(
    n_series: int,
    span: float,
    base: float,
    amplitude: float,
    period: tuple[float, float],
    phase: tuple[float, float],
    noise: float,
) -> None:
    check_parameters("make_event_times", locals(), _CONSTRAINTS)
