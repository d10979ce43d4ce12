"""Scaling of time and values, learned from training rows and undone on the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.series.batch import SeriesBatch
from latentode.series.covariates import CovariateScaler
from latentode.series.table import FloatArray, SeriesTable
from latentode.series.variogram import turning_time

UNITS_PER_TURN = (
    2.0  # model time in which half of what a series forgets is forgotten: fields of order 1 can follow
)
SPAN = 5.0  # model time that a typical series lasts at least
LONGEST_SPAN = 80.0  # and at most: the cost of a solve grows with it
PRIOR_CELLS = 8.0  # a context of this many cells weighs as much as the typical spread of the training series
NORMAL_IQR = 1.3489795003921634  # interquartile range of a standard normal


@dataclass(frozen=True)
class TimeScale:
    """Model time: 0 at the first training time, in units in which series change about as fast as random fields do.

    Parameters
    ----------
    origin : float
        The smallest training time, in the unit of the table's times.
    unit : float
        Length of one unit of model time, in the unit of the table's times.
    """

    origin: float
    unit: float

    @classmethod
    def fit(cls, table: SeriesTable) -> TimeScale:
        """Learn the scale from training series.

        The unit is half of the series' `turning_time`, such that a typical series lasts between `SPAN` and
        `LONGEST_SPAN` units; without a turning time it lasts `SPAN`. Shifting or rescaling the times of the table
        shifts `origin` and rescales both numbers, so model times stay the same.

        Parameters
        ----------
        table : SeriesTable
            Training series, or the windows that are trained on.
        """
        origin = float(table.times.min()) if table.n_rows else 0.0
        spans = table.spans[table.spans > 0]
        if not len(spans):
            return cls(origin, 1.0)
        span, turn = float(np.median(spans)), turning_time(table)
        units = SPAN if turn is None else UNITS_PER_TURN * span / turn
        return cls(origin, span / min(max(units, SPAN), LONGEST_SPAN))

    def to_model(self, times: FloatArray) -> FloatArray:
        """Model times of the table's times."""
        return (times - self.origin) / self.unit

    def from_model(self, times: FloatArray) -> FloatArray:
        """Times of the table, of model times."""
        return times * self.unit + self.origin

    def state(self) -> dict[str, float]:
        """Everything learned, as plain values that JSON can hold."""
        return {"origin": self.origin, "unit": self.unit}

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> TimeScale:
        """The scale that `state()` came from."""
        return cls(**state)


@dataclass(frozen=True)
class Affine:
    """A level and a spread per series and target, for `scaler="series"`: x -> (x - loc) / scale.

    Parameters
    ----------
    loc, scale : Tensor (N, D)
        In globally scaled values.
    """

    loc: Tensor
    scale: Tensor

    def apply(self, batch: SeriesBatch) -> SeriesBatch:
        """The batch with each series brought to its own level and spread; unobserved cells stay 0."""
        values = (batch.values - self.loc[:, None]) / self.scale[:, None]
        errors = None if batch.errors is None else batch.errors / self.scale[:, None]
        return batch.with_parts(values=torch.where(batch.mask, values, 0.0), errors=errors)

    def invert(self, x: Tensor) -> Tensor:
        """Globally scaled values (..., N, T, D) of values in each series' own scale."""
        return x * self.scale[:, None] + self.loc[:, None]


@dataclass(frozen=True, eq=False)
class ValueScaler:
    """Values of order 1 for the model, and back to the caller's units; learned from observed cells only.

    Parameters
    ----------
    kind : str
        One of `SCALERS`. "standard": mean and standard deviation. "robust": median and interquartile range,
        for heavy tails. "minmax": the training range becomes 0 to 1. "series": standard, and then level and
        spread of each series' own context, for series that drift out of the training range.
    loc, scale : array (D,)
        Model values are (values - loc) / scale.
    within : array (D,)
        Typical standard deviation inside a training series, in model values; 1 unless `kind` is "series".
    scaled : array (D,), bool
        False for targets that keep their own values, such as counts and codes of categories.
    """

    kind: str
    loc: FloatArray
    scale: FloatArray
    within: FloatArray
    scaled: NDArray[np.bool_]

    @classmethod
    def fit(
        cls, table: SeriesTable, kind: str = "standard", scaled: Sequence[bool] | None = None
    ) -> ValueScaler:
        """Learn the scaling from training series.

        Parameters
        ----------
        table : SeriesTable
            Training series, or the windows that are trained on.
        kind : str
            One of `SCALERS`.
        scaled : sequence of D bools, optional
            As the field of this name; default: all True.

        Raises
        ------
        ValueError
            When there is no such kind.
        """
        if kind not in _STATISTICS:
            raise ValueError(f"scaler must be one of {SCALERS}, got {kind!r}")
        statistics = [_location(column, _STATISTICS[kind]) for column in table.values.T]
        loc, scale = np.array(statistics, dtype=np.float64).reshape(-1, 2).T
        within = _spread_within(table, loc, scale) if kind == "series" else np.ones_like(loc)
        which = np.ones(len(loc), dtype=bool) if scaled is None else np.asarray(scaled, dtype=bool)
        loc, scale, within = (
            np.where(which, loc, 0.0),
            np.where(which, scale, 1.0),
            np.where(which, within, 1.0),
        )
        return cls(kind, loc, scale, within, which)

    def to_model(self, values: FloatArray) -> FloatArray:
        """Model values (..., D) of the table's values, in float64; NaN stays NaN."""
        return (values - self.loc) / self.scale

    def from_model(self, values: NDArray) -> FloatArray:
        """Values (..., D) in the caller's units, of model values (also of quantiles and samples)."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.loc

    def std_from_model(self, std: NDArray) -> FloatArray:
        """Standard deviations (..., D) in the caller's units: these have no level."""
        return np.asarray(std, dtype=np.float64) * self.scale

    @property
    def per_series(self) -> bool:
        """Whether `affine` is ever anything but the identity."""
        return self.kind == "series"

    def affine(self, context: SeriesBatch) -> Affine:
        """Level and spread of each series, from its context.

        The level is the mean of the n observed cells, the spread sqrt((n·var + n0·s0²) / (n + n0)): it starts
        at the typical spread s0 = `within` where little is observed (n0 = `PRIOR_CELLS`). All kinds but
        "series" give the identity.
        """
        if not self.per_series:
            n_series, _, n_targets = context.values.shape
            loc = context.values.new_zeros(n_series, n_targets)
            return Affine(loc, torch.ones_like(loc))
        values = context.values.double()
        count = context.mask.sum(dim=1)  # (N, D)
        level = values.sum(dim=1) / count.clamp(min=1)  # unobserved cells are 0
        deviation = torch.where(context.mask, values - level[:, None], 0.0)
        prior = PRIOR_CELLS * torch.as_tensor(self.within, device=values.device) ** 2
        spread = torch.sqrt(((deviation**2).sum(dim=1) + prior) / (count + PRIOR_CELLS))
        scaled = torch.as_tensor(self.scaled, device=values.device)
        level, spread = torch.where(scaled, level, 0.0), torch.where(scaled, spread, 1.0)
        return Affine(level.to(context.values.dtype), spread.to(context.values.dtype))

    def state(self) -> dict[str, Any]:
        """Everything learned, as plain values that JSON can hold."""
        arrays = {name: getattr(self, name).tolist() for name in ("loc", "scale", "within", "scaled")}
        return {"kind": self.kind, **arrays}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ValueScaler:
        """The scaler that `state()` came from."""
        arrays = {name: np.asarray(state[name], dtype=np.float64) for name in ("loc", "scale", "within")}
        return cls(state["kind"], **arrays, scaled=np.asarray(state["scaled"], dtype=bool))


def scale_table(
    table: SeriesTable, time_scale: TimeScale, scaler: ValueScaler, covariates: CovariateScaler | None = None
) -> SeriesTable:
    """The same series in model times and model values, still in float64."""
    if covariates is not None:
        table = covariates.apply(table, time_scale.to_model)
    return replace(
        table,
        times=time_scale.to_model(table.times),
        values=scaler.to_model(table.values),
        errors=None if table.errors is None else table.errors / scaler.scale,
    )


Statistics = tuple[float, float]


def _location(column: FloatArray, statistics: Callable[[FloatArray], Statistics]) -> Statistics:
    """Level and scale of one target; a target that never varies keeps its own unit."""
    observed = column[~np.isnan(column)]
    if len(observed) == 0:
        return 0.0, 1.0
    if observed.min() == observed.max():
        return float(observed[0]), 1.0
    return statistics(observed)


def _standard(x: FloatArray) -> Statistics:
    return float(x.mean()), float(x.std())


def _robust(x: FloatArray) -> Statistics:
    low, median, high = np.quantile(x, (0.25, 0.5, 0.75))
    return float(median), float((high - low) / NORMAL_IQR or x.std())


def _minmax(x: FloatArray) -> Statistics:
    return float(x.min()), float(x.max() - x.min())


_STATISTICS: dict[str, Callable[[FloatArray], Statistics]] = {
    "standard": _standard,
    "robust": _robust,
    "minmax": _minmax,
    "series": _standard,
}
SCALERS = tuple(_STATISTICS)


def _spread_within(table: SeriesTable, loc: FloatArray, scale: FloatArray) -> FloatArray:
    """Pooled standard deviation inside series, (D,), in model values; 1 where no series shows any."""
    series, spread = table.series, np.ones(table.n_targets)
    for d in range(table.n_targets):
        observed = ~np.isnan(table.values[:, d])
        x, of = (table.values[observed, d] - loc[d]) / scale[d], series[observed]
        count = np.bincount(of, minlength=len(table))
        mean = np.bincount(of, x, minlength=len(table)) / np.maximum(count, 1)
        squares, freedom = ((x - mean[of]) ** 2).sum(), np.maximum(count - 1, 0).sum()
        if squares > 0:
            spread[d] = np.sqrt(squares / freedom)
    return spread
