"""Models and losses small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentode.training import Callback, FitState, Trainer


class Parts(NamedTuple):
    total: Tensor
    parts: Mapping[str, float | Tensor] = {}
    weight: float | Tensor = 1.0
    counts: Mapping[str, int | Tensor] = {}


class Point(nn.Module):
    """A vector and nothing else."""

    def __init__(self, *start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def half_squared_distance(self, target: Tensor, epoch: int) -> Parts:
        """½ |w − target|², whose gradient is w − target."""
        return Parts(0.5 * ((self.w - target) ** 2).sum())


class Diary(Callback):
    """What was seen at each call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.rates: list[float] = []
        self.weights: list[Tensor] = []
        self.grads: list[Tensor] = []

    def on_fit_begin(self, state: FitState) -> None:
        self.calls.append("fit begins")

    def on_batch_end(self, state: FitState) -> None:
        self.calls.append(f"batch {state.epoch}.{state.batch}")
        self.rates.append(state.optimiser.param_groups[0]["lr"])
        self.grads.append(next(state.model.parameters()).grad.clone())

    def on_epoch_end(self, state: FitState) -> None:
        self.calls.append(f"epoch {state.history[-1]['epoch']}")
        self.weights.append(next(state.model.parameters()).detach().clone())

    def on_fit_end(self, state: FitState) -> None:
        self.calls.append("fit ends")


def scripted(losses: Sequence[float]) -> Any:
    """Validation loss that follows a script, one number per epoch."""
    return lambda batch, epoch: Parts(torch.tensor(losses[epoch - 1], dtype=torch.float64))


def fit_scripted(losses: Sequence[float], *callbacks: Any, model: nn.Module | None = None) -> Any:
    """History of a training whose validation losses follow the script."""
    model = Point(5.0) if model is None else model
    trainer = Trainer(len(losses), lr=0.1, schedule="constant", callbacks=callbacks)
    target = torch.zeros(1, dtype=torch.float64)
    return trainer.fit(
        model,
        lambda epoch: [target],
        loss=model.half_squared_distance,
        validation_batches=lambda: [None],
        validation_loss=scripted(losses),
    )
