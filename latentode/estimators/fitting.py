"""From series to a trained model: the loss of a batch, its schedules, and the run of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, SupportsFloat

import numpy as np
import torch
from torch import Tensor

from latentode.estimators.batches import Batches, FixedPasses, NamedBatch
from latentode.estimators.training_data import TrainingData
from latentode.exceptions import SolverError
from latentode.models.latent_ode import LossOptions
from latentode.seeding import torch_generator
from latentode.series import (
    SeriesBatch,
    ValueScaler,
    anchored,
    cut_pieces,
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
        context, target = with_gaps(piece.context, self.gaps, generator), piece.target
        if self.scaler.per_series:
            affine = self.scaler.affine(context)
            context, target = affine.apply(context), affine.apply(target)
        return Piece(context.to(self.device), target.to(self.device), piece.origin.to(self.device))


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
    fixed = None if data.validation is None else FixedPasses(data, batch_size, validation_seed)

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
    parts: Mapping[str, SupportsFloat]
    weight: float | Tensor
    counts: Mapping[str, int | Tensor]
