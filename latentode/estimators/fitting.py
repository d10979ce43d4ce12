"""From a table of series to a trained model: split, scale, batches, and the loss that the trainer minimises."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from latentode.exceptions import DataError, SolverError
from latentode.models.latent_ode import LossOptions
from latentode.nn.likelihoods import TargetFacts
from latentode.seeding import generator_state, set_generator_state, torch_generator
from latentode.series import (
    CovariateScaler,
    SeriesBatch,
    SeriesLoader,
    SeriesTable,
    TimeScale,
    ValueScaler,
    anchored,
    cut_pieces,
    draw_windows,
    scale_table,
    split_series,
    split_time,
)
from latentode.series.split import Piece, with_gaps
from latentode.training import (
    KL_SCHEDULES,
    BestWeights,
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    ProgressBar,
    Trainer,
    linear,
)
from latentode.training.loss_parts import LossParts

DEFAULT_STEPS = 2000  # optimiser steps that `max_epochs=None` aims at
SHORTEST_PIECE = 0.1  # of a series' rows: what random pieces begin with
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


def prepare_more(
    table: SeriesTable,
    scales: Scales,
    *,
    window: float | None,
    validation_fraction: float,
    rng: np.random.Generator,
) -> TrainingData:
    """Split further series and scale both parts by what an earlier training learned; as `prepare` otherwise."""
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


class BatchModel(Protocol):
    """A model with a loss per batch of pieces, such as `LatentODE`."""

    def loss(
        self,
        piece: Piece,
        *,
        generator: torch.Generator,
        options: LossOptions,
        kl_weight: float,
        names: Sequence[object] | None,
    ) -> LossParts: ...


class NamedBatch(NamedTuple):
    """Series with their ids, which errors name."""

    ids: list[Hashable]
    series: SeriesBatch


@dataclass(frozen=True)
class Objective:
    """The loss of a batch: cut into context and target, scale by the context, bound by the model.

    Parameters
    ----------
    model : nn.Module
        A `BatchModel`.
    scaler : ValueScaler
    context, anchor
        As `cut_pieces` and `anchored`.
    gaps : float
        Share of the contexts that are read with gaps, as `with_gaps`.
    options : LossOptions
    device : torch.device
    """

    model: Any
    scaler: ValueScaler
    context: str | float
    anchor: str
    gaps: float
    options: LossOptions
    device: torch.device

    def __call__(
        self, batch: NamedBatch, kl_weight: float, generator: torch.Generator, longest: float = 1.0
    ) -> LossParts:
        piece = self.piece(batch.series, generator, longest)
        return self.model.loss(
            piece, generator=generator, options=self.options, kl_weight=kl_weight, names=batch.ids
        )

    def piece(self, batch: SeriesBatch, generator: torch.Generator, longest: float = 1.0) -> Piece:
        """Context and target of every series, as the model reads them."""
        piece = anchored(cut_pieces(batch, self.context, generator, longest=longest), self.anchor)
        context = with_gaps(piece.context, self.gaps, generator)
        affine = self.scaler.affine(context)
        return replace(
            piece,
            context=affine.apply(context).to(self.device),
            target=affine.apply(piece.target).to(self.device),
            origin=piece.origin.to(self.device),
        )


class Batches:
    """Batches of an epoch; of long series, those of windows that are drawn anew for each epoch."""

    def __init__(
        self, table: SeriesTable, batch_size: int, window: float | None, rng: np.random.Generator
    ) -> None:
        self.table, self.batch_size, self.window, self.rng = table, batch_size, window, rng
        self._draw()

    def _draw(self) -> None:
        """The series of the next epoch, and what they were drawn from."""
        self._drawn_from = generator_state(self.rng)
        self._series = self.table
        if self.window is not None:
            self._series = draw_windows(self.table, self.window, self.rng, self._windows_per_series())
        self._loader = SeriesLoader(self._series, self.batch_size, rng=self.rng)

    def _windows_per_series(self) -> int:
        """Twice as many windows as cover the longest series, and at least one batch of them."""
        assert self.window is not None
        cover = 2 * int(np.ceil(self.table.spans.max() / self.window))
        return max(cover, -(-self.batch_size // len(self.table)))

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[NamedBatch]:
        for index, batch in self._loader:
            yield NamedBatch(self._series.ids[index].tolist(), batch)
        if self.window is not None:
            self._draw()

    def state_dict(self) -> dict[str, Any]:
        """Where the generator stands, and where it stood before it drew the windows that come next."""
        return {"drawn_from": self._drawn_from, "now": generator_state(self.rng)}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        set_generator_state(self.rng, tree["drawn_from"])
        if self.window is not None:
            self._draw()
        set_generator_state(self.rng, tree["now"])


@dataclass(frozen=True)
class TorchDraws:
    """A torch generator as a source whose state can be kept."""

    generator: torch.Generator

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.generator.get_state()}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        self.generator.set_state(tree["state"])


def train(
    data: TrainingData,
    objective: Objective,
    *,
    max_epochs: int | None,
    batch_size: int,
    lr: float,
    patience: int | None,
    early_stopping: bool,
    callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]],
    verbose: int,
    kl_schedule: str,
    kl_warmup: float,
    kl_weight: float,
    piece_warmup: float,
    rng: np.random.Generator,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Train `objective.model` in place; the best weights of the validation stay.

    Every validation pass cuts the same pieces and draws the same posterior samples, with the full weight of the
    KL term, so that its losses can be compared. With a checkpoint, a training that was interrupted is continued.

    Raises
    ------
    SolverError
        When the differential equation of some series could not be solved.
    """
    batches = Batches(data.train, batch_size, data.window, rng)
    generator, validation_seed = torch_generator(rng), int(rng.integers(2**62))
    epochs = max_epochs or max(1, round(DEFAULT_STEPS / len(batches)))
    fixed = None if data.validation is None else _FixedPasses(data, batch_size, validation_seed)

    def loss(batch: NamedBatch, epoch: int) -> LossParts:
        weight = kl_weight * KL_SCHEDULES[kl_schedule]((epoch - 1) / max(epochs - 1, 1), kl_warmup)
        longest = linear(epoch - 1, piece_warmup * epochs, start=SHORTEST_PIECE)
        found = objective(batch, weight, generator, longest)
        parts = {**found.parts, "kl_weight": weight, "longest_piece": longest}
        return Scheduled(found.total, parts, found.weight, found.counts)

    def validation_loss(batch: NamedBatch, epoch: int) -> LossParts:
        assert fixed is not None
        return objective(batch, kl_weight, fixed.generator)

    own: list[Callback] = [ProgressBar(verbose)]
    if fixed is not None:
        own.append(BestWeights())
        if early_stopping:
            own.append(EarlyStopping(patience or max(10, epochs // 2)))
    trainer = Trainer(epochs, lr=lr, callbacks=[*own, *callbacks])
    try:
        return trainer.fit(
            objective.model,
            lambda epoch: batches,
            loss=loss,
            validation_batches=fixed,
            validation_loss=validation_loss,
            names=lambda batch: batch.ids,
            sources=[batches, TorchDraws(generator)],
            checkpoint=checkpoint,
        )
    except SolverError as error:
        raise SolverError(
            f"the dynamics could not be solved in training: try a smaller lr, or a solver with fixed steps ({error})"
        ) from error


class Scheduled(NamedTuple):
    """`LossParts` with the weights that a schedule gave them among the parts."""

    total: Tensor
    parts: Mapping[str, float | Tensor]
    weight: float | Tensor
    counts: Mapping[str, int | Tensor]


class _FixedPasses:
    """The validation batches, with a generator that begins every pass with the same numbers."""

    def __init__(self, data: TrainingData, batch_size: int, seed: int) -> None:
        assert data.validation is not None
        table, rng = data.validation, np.random.default_rng(seed)
        windows = table if data.window is None else draw_windows(table, data.window, rng)
        self._series = windows
        self._loader = SeriesLoader(windows, batch_size, shuffle=False)
        self._seed = seed
        self.generator = torch.Generator()

    def __call__(self) -> Iterator[NamedBatch]:
        self.generator.manual_seed(self._seed)
        for index, batch in self._loader:
            yield NamedBatch(self._series.ids[index].tolist(), batch)
