"""Conformal calibration: how much wider or narrower predictions must be to hold what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.estimators import readouts
from latentode.estimators.forecaster import Forecaster, Prediction, Readout, observed_rows
from latentode.models.latent_ode import LatentODE
from latentode.series import SeriesTable
from latentode.series.split import ROUNDING, draw_windows

COVERAGE = 0.9  # of the central interval that is made to hold on the calibration series
NORMAL_HALF_WIDTH = 1.6448536269514722  # of that interval of a standard normal distribution
FIRST_PARTS = (0.25, 0.5, 0.75)  # shares of a series' time that forecasts of its rest are made from
LEFT_OUT = 1 / 3  # of the rows of a series, as gaps to be filled
FEWEST_CELLS = 20  # that a target is calibrated by
CELLS_PER_BIN = 100  # of horizons, where there are several bins; those of one series are not independent
MOST_BINS = 8


@dataclass(frozen=True)
class Calibration:
    """Factors of the predictive spread of each target by horizon, the time from the nearest observation on.

    Parameters
    ----------
    horizons : tuple of D arrays
        Knots, increasing, in the unit of encoded times; 0 is a gap between observations.
    factors : tuple of D arrays
        Of the spread about the median, at the knots; between them they change linearly, beyond the last one they stay.
        Targets without a spread to scale (counts, classes) have the one factor 1.
    """

    horizons: tuple[NDArray[np.float64], ...]
    factors: tuple[NDArray[np.float64], ...]

    def at(self, horizons: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors (R, D) at horizons (R,)."""
        pairs = zip(self.horizons, self.factors)
        return np.stack([np.interp(horizons, knots, factors) for knots, factors in pairs], axis=-1)

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold."""
        return {
            "horizons": [knots.tolist() for knots in self.horizons],
            "factors": [factors.tolist() for factors in self.factors],
        }

    @property
    def uncalibrated(self) -> list[int]:
        """Positions of targets that keep their own spread."""
        return [d for d, factors in enumerate(self.factors) if len(factors) == 1 and factors[0] == 1]

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Calibration:
        """The calibration that `state()` came from."""
        return cls(
            *(tuple(np.array(x, dtype=np.float64) for x in state[name]) for name in ("horizons", "factors"))
        )


def calibrate(
    forecaster: Forecaster,
    held_out: SeriesTable,
    *,
    continuous: Sequence[bool],
    latent_dim: int,
    rng: np.random.Generator,
) -> Calibration:
    """Learn how the spread must change from series that the model was not trained on.

    Each series is forecast from several first parts of it, and gaps that are cut into it are filled. Of every cell, the
    distance to the median is compared with the half-width of the central 90 % interval on its side; the conformal
    quantile of these ratios, over the cells of one target at similar horizons, is the factor: an interval that is
    stretched by it held 90 % of them (and holds as much of a new cell, as far as series are exchangeable). What a known
    measurement error explains of a distance is not the model's to explain: its square is taken off first.

    Parameters
    ----------
    forecaster : Forecaster
        A trained model.
    held_out : SeriesTable
        Series of at least two rows, in the caller's units.
    continuous : sequence of D bools
        False for targets whose spread is not scaled.
    latent_dim : int
    rng : numpy Generator
        Source of gaps and windows.

    Returns
    -------
    Calibration
        With factors 1 for targets of fewer than `FEWEST_CELLS` cells to learn from.

    References
    ----------
    Romano, Patterson, Candès (2019), "Conformalized quantile regression"; Stankevičiūtė, Alaa, van der Schaar (2021),
    "Conformal time-series forecasting", for factors by horizon.
    """
    table = observed_rows(held_out)
    if forecaster.window is not None:
        windows = draw_windows(table, forecaster.window, rng)
        table = replace(windows, ids=pd.RangeIndex(len(windows)))  # two windows of a series are two series
    noise = readouts.shared_noise(readouts.POSTERIOR_SAMPLES, latent_dim)
    levels = ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)
    horizons, ratios = [], []
    for known, rest in _parts(table, rng):
        queries = replace(rest, values=np.empty((rest.n_rows, 0)), rows=np.arange(rest.n_rows))
        low, median, high = forecaster.predict(known, queries, noise, readouts.quantiles(levels))
        truth = forecaster.scaler.to_model(rest.values)
        half_width = np.where(truth > median, high - median, median - low)
        distance = np.abs(truth - median)
        if rest.errors is not None:
            explained = NORMAL_HALF_WIDTH * rest.errors / forecaster.scaler.scale
            distance = np.sqrt(np.maximum(distance**2 - explained**2, 0.0))
        horizons.append(horizons_of(known, queries))
        ratios.append(distance / np.maximum(half_width, np.finfo(np.float32).tiny))
    return _by_horizon(np.concatenate(horizons), np.concatenate(ratios), continuous)


def horizons_of(known: SeriesTable, queries: SeriesTable) -> NDArray[np.float64]:
    """Time from the last observation of its series (or to the first one) of each query, 0 between them, (R,)."""
    seen = observed_rows(known)
    first, last = seen.times[seen.offsets[:-1]], seen.times[seen.offsets[1:] - 1]
    beyond = np.maximum(queries.times - last[queries.series], first[queries.series] - queries.times)
    return np.maximum(beyond, 0.0)


def stretched(readout: Readout, factors: Tensor) -> Readout:
    """The read-out of values, each about its median by its factor.

    Parameters
    ----------
    readout : Readout
        Of values (..., n, Q, D), globally scaled.
    factors : Tensor (R, D)
        In the order of the answer.
    """

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        found = readout(model, prediction)
        centre, factor = readouts.median(model, prediction), _of(factors, prediction, found)
        return torch.where(factor == 1, found, centre + factor * (found - centre))

    return read


def multiplied(readout: Readout, factors: Tensor) -> Readout:
    """The read-out of widths (..., n, Q, D), each by its factor."""

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        found = readout(model, prediction)
        return found * _of(factors, prediction, found)

    return read


def _of(factors: Tensor, prediction: Prediction, like: Tensor) -> Tensor:
    return factors[prediction.rows].to(like.device, like.dtype)


def _parts(table: SeriesTable, rng: np.random.Generator) -> list[tuple[SeriesTable, SeriesTable]]:
    """Contexts and what they do not show: first parts of the series, and series with gaps."""
    begin = table.times[table.offsets[:-1]]
    parts = []
    for share in FIRST_PARTS:
        until = begin + (share + ROUNDING) * table.spans
        parts.append(table.times <= until[table.series])
    inside = np.ones(table.n_rows, dtype=bool)
    inside[table.offsets[:-1]] = inside[table.offsets[1:] - 1] = False
    parts.append(~inside | (rng.random(table.n_rows) >= LEFT_OUT))
    return [(table.take_rows(seen), table.take_rows(~seen)) for seen in parts if not seen.all()]


def _by_horizon(
    horizons: NDArray[np.float64], ratios: NDArray[np.float64], continuous: Sequence[bool]
) -> Calibration:
    knots, factors = [], []
    for column, scales in zip(ratios.T, continuous):
        seen = ~np.isnan(column)
        if scales and seen.sum() >= FEWEST_CELLS:
            at, factor = _factors(horizons[seen], column[seen])
        else:
            at, factor = np.zeros(1), np.ones(1)
        knots.append(at)
        factors.append(factor)
    return Calibration(tuple(knots), tuple(factors))


def _factors(
    horizons: NDArray[np.float64], ratios: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots and factors of one target: one for gaps, and some for groups of about equally many farther cells."""
    gap = horizons == 0
    groups = [gap] if gap.sum() >= CELLS_PER_BIN else []
    far = ~gap if groups else np.ones(len(ratios), dtype=bool)
    n_bins = min(MOST_BINS, max(int(far.sum()) // CELLS_PER_BIN, int(far.sum() >= FEWEST_CELLS)))
    if n_bins:
        edges = np.quantile(horizons[far], np.linspace(0, 1, n_bins + 1)[1:-1])
        of = np.searchsorted(np.unique(edges), horizons, side="right")
        groups += [far & (of == group) for group in np.unique(of[far])]
    knots = np.array([np.median(horizons[group]) for group in groups])
    return knots, np.array([_conformal_quantile(ratios[group]) for group in groups])


def _conformal_quantile(ratios: NDArray[np.float64]) -> float:
    """The smallest ratio such that `COVERAGE` of n + 1 exchangeable ones are expected below it."""
    rank = min(int(np.ceil((len(ratios) + 1) * COVERAGE)), len(ratios))
    return float(np.sort(ratios)[rank - 1])
