"""What a training learns from: its series split and scaled, and the scales."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from latentode.exceptions import DataError
from latentode.nn.likelihoods import TargetFacts
from latentode.series import (
    CovariateScaler,
    SeriesTable,
    TimeScale,
    ValueScaler,
    draw_windows,
    scale_table,
    split_series,
    split_time,
)

LARGEST_TIME_SHARE = 1 / 3  # of a single series that may be held out for validation


@dataclass(frozen=True)
class TrainingData:
    """Training and validation series in model units, and the scales learned from the training series.

    `window` is in model time; `validation` is None where no series can be spared, and `held_out` is the same in the
    caller's units.
    """

    train: SeriesTable
    validation: SeriesTable | None
    time_scale: TimeScale
    scaler: ValueScaler
    covariates: CovariateScaler
    window: float | None
    held_out: SeriesTable | None = None

    def target_facts(self, n_categories: Sequence[int]) -> list[TargetFacts]:
        """What likelihoods need to know of the training rows; `n_categories` of each target."""
        levels = [
            float(column[~np.isnan(column)].mean()) if (~np.isnan(column)).any() else 1.0
            for column in self.train.values.T
        ]
        return [TargetFacts(level, count) for level, count in zip(levels, n_categories)]

    def event_rates(self, per_target: bool) -> list[float]:
        """Events per unit of model time and series: rows after the first one, or cells of each target."""
        total = float(self.train.spans.sum())
        later = np.ones(self.train.n_rows, dtype=bool)
        later[self.train.offsets[:-1]] = False
        seen = ~np.isnan(self.train.values[later])
        counts = seen.sum(axis=0) if per_target else [seen.any(axis=1).sum()]
        return [max(float(count), 1.0) / total for count in counts]


def prepare(
    table: SeriesTable,
    *,
    scaler: str,
    scaled: Sequence[bool],
    static_cols: Sequence[Hashable],
    window: float | None,
    validation_fraction: float,
    rng: np.random.Generator,
) -> TrainingData:
    """Split the series and scale both parts by what the training part teaches.

    Parameters
    ----------
    table : SeriesTable
        All series, in the caller's units.
    scaler : str
        One of `SCALERS`.
    scaled : sequence of D bools
        False for targets that keep their own values.
    static_cols : sequence of S names
        For messages.
    window : float or None
        In the unit of the times.
    validation_fraction : float
        0 holds nothing out.

    Raises
    ------
    DataError
        When no series has two observations at different times.
    """
    train, validation = _learnable_split(table, window, validation_fraction, rng)
    seen = train if window is None else draw_windows(train, window, rng)
    scales = Scales(
        TimeScale.fit(seen),
        ValueScaler.fit(seen if scaler == "series" else train, scaler, scaled),
        CovariateScaler.fit(train, static_cols, table),
    )
    return _scaled(train, validation, scales, window)


class Roles(NamedTuple):
    """Which series, by id, were trained on so far, and which were held out: no series changes sides."""

    trained: pd.Index
    held_out: pd.Index

    @classmethod
    def of(cls, data: TrainingData) -> Roles:
        held_out = data.train.ids[:0] if data.held_out is None else data.held_out.ids
        return cls(data.train.ids, held_out)

    def joined(self, later: Roles) -> Roles:
        """With those of a later training."""
        return Roles(
            *(one.astype(object).union(other.astype(object), sort=False) for one, other in zip(self, later))
        )

    def split(
        self, table: SeriesTable, fraction: float, rng: np.random.Generator
    ) -> tuple[SeriesTable, SeriesTable | None]:
        """Old series as they were, and of the new ones a fraction held out."""
        trained, held_out = (table.ids.isin(ids) for ids in self)
        new = np.flatnonzero(~trained & ~held_out)
        to_train, to_hold_out = split_series(len(new), fraction, rng)
        train = np.sort(np.r_[np.flatnonzero(trained), new[to_train]])
        validation = np.sort(np.r_[np.flatnonzero(held_out & ~trained), new[to_hold_out]])
        return table.take(train), table.take(validation) if len(validation) and fraction > 0 else None


NOBODY = Roles(pd.Index([], dtype=object), pd.Index([], dtype=object))


def prepare_more(
    table: SeriesTable,
    scales: Scales,
    roles: Roles,
    *,
    window: float | None,
    validation_fraction: float,
    rng: np.random.Generator,
) -> TrainingData:
    """Split further series and scale both parts by what an earlier training learned; as `prepare` otherwise."""
    if len(table) > 1 and table.spans.any():
        train, validation = roles.split(table, validation_fraction, rng)
        if not (train.spans > 0).any():
            train, validation = table, None
    else:
        train, validation = _learnable_split(table, window, validation_fraction, rng)
    return _scaled(train, validation, scales, window)


class Scales(NamedTuple):
    """From the caller's units to those of the model."""

    time_scale: TimeScale
    scaler: ValueScaler
    covariates: CovariateScaler


def _scaled(
    train: SeriesTable, validation: SeriesTable | None, scales: Scales, window: float | None
) -> TrainingData:
    return TrainingData(
        scale_table(train, *scales),
        None if validation is None else scale_table(validation, *scales),
        *scales,
        window=None if window is None else window / scales.time_scale.unit,
        held_out=validation,
    )


def _learnable_split(
    table: SeriesTable, window: float | None, fraction: float, rng: np.random.Generator
) -> tuple[SeriesTable, SeriesTable | None]:
    """Training and validation series, the former with something to learn dynamics from."""
    if not (table.spans > 0).any():
        raise DataError(
            "nothing to learn dynamics from: no series has observations at two different times "
            f"({len(table)} series, {table.n_rows} rows with observations)"
        )
    train, validation = _split(table, window, fraction, rng)
    return (train, validation) if (train.spans > 0).any() else (table, None)


def _split(
    table: SeriesTable, window: float | None, fraction: float, rng: np.random.Generator
) -> tuple[SeriesTable, SeriesTable | None]:
    """Whole series for validation; of a single long series its end, at least a window of it where that is a third."""
    if fraction == 0:
        return table, None
    if len(table) > 1:
        train, validation = split_series(len(table), fraction, rng, table.labels)
        return table.take(train), table.take(validation) if len(validation) else None
    if window is None:
        return table, None
    share = min(max(fraction, window / float(table.spans[0])), LARGEST_TIME_SHARE)
    return split_time(table, share)
