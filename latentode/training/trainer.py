"""The training loop: Adam, clipped gradients, a learning rate per step, callbacks; no model by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from latentode.training.callbacks import Callback, FitState, as_callbacks
from latentode.training.history import History, Record
from latentode.training.loss_parts import LossParts, WeightedMean
from latentode.training.schedules import LearningRateSchedule, schedule_for

BatchLoss = Callable[[Any, int], LossParts]


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite.

    Attributes
    ----------
    epoch, batch : int
        Where, both counted from 1.
    """

    def __init__(self, message: str, *, epoch: int, batch: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch


class Trainer:
    """Minimise a loss over batches, epoch by epoch, with Adam.

    Epochs count from 1 everywhere: in `train_batches`, in the losses, in the history and in messages.
    The trainer draws no random number; the same model, batches and losses give the same weights.

    Parameters
    ----------
    max_epochs : int
        Epochs at most; callbacks may stop earlier.
    lr : float
        Highest learning rate of Adam.
    max_norm : float or None
        The gradient of all parameters together is scaled down to this Euclidean norm; None leaves it.
    schedule : str or callable(float) -> float
        Name in `SCHEDULES`, or a function of the fraction of planned steps taken: factor of `lr`, set
        before each step.
    callbacks : iterable of Callback or callable(dict) -> bool or None
        Called in this order. A plain function is called with each epoch's record; True stops.

    Raises
    ------
    ValueError
        For arguments out of range.
    """

    def __init__(
        self,
        max_epochs: int,
        *,
        lr: float = 1e-2,
        max_norm: float | None = 10.0,
        schedule: str | LearningRateSchedule = "one_cycle",
        callbacks: Iterable[Callback | Callable[[Record], bool | None]] = (),
    ) -> None:
        if max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1; got {max_epochs!r}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite; got {lr!r}")
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be positive, or None for no clipping; got {max_norm!r}")
        self.max_epochs = max_epochs
        self.lr = lr
        self.max_norm = max_norm
        self.schedule = schedule_for(schedule)
        self.callbacks = as_callbacks(callbacks)

    def fit(
        self,
        model: nn.Module,
        train_batches: Callable[[int], Iterable[Any]],
        *,
        loss: BatchLoss,
        validation_batches: Callable[[], Iterable[Any]] | None = None,
        validation_loss: BatchLoss | None = None,
    ) -> History:
        """Train `model` in place.

        Parameters
        ----------
        model : nn.Module
            In training mode while it trains, in evaluation mode while it is validated; afterwards in the
            modes it came with.
        train_batches : callable(epoch) -> iterable of batches
            Called once per epoch. What it gives needs a length, the same in every epoch, for the schedule.
        loss : callable(batch, epoch) -> LossParts
        validation_batches : callable() -> iterable of batches, optional
            Called once per epoch.
        validation_loss : callable(batch, epoch) -> LossParts, optional
            `loss` by default; called without gradients.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            When a loss or gradient is not finite; the weights are those before that step, or the best ones
            with `BestWeights`.
        ValueError
            For a model without trainable parameters, and for batches that are missing or cannot be counted.
        """
        parameters = _trainable(model)
        first = train_batches(1)
        state = FitState(
            model=model,
            history=History(),
            max_epochs=self.max_epochs,
            batches_per_epoch=_count(first),
            has_validation=validation_batches is not None,
        )
        with _modes_kept(model), self._callbacks_told(state):
            # after the callbacks began: torch takes seconds to make its first optimiser, while the bar shows
            state.optimiser = _adam(parameters, self.lr)
            for epoch in range(1, self.max_epochs + 1):
                began = time.perf_counter()
                state.epoch, state.batch = epoch, 0
                batches = first if epoch == 1 else train_batches(epoch)
                record: Record = {"epoch": epoch, **self._train(state, batches, loss)}
                if validation_batches is not None:
                    record |= _validate(state, validation_batches(), validation_loss or loss)
                state.history.append({**record, "seconds": time.perf_counter() - began})
                if self._stops(state):
                    break
        return state.history

    def _train(self, state: FitState, batches: Iterable[Any], loss: BatchLoss) -> Record:
        """One pass of optimiser steps."""
        state.model.train()
        mean, norms = WeightedMean(), []
        for batch in batches:
            parts = loss(batch, state.epoch)
            state.batch_loss = _finite_loss(parts, state, "training", state.batch + 1)
            norms.append(self._step(parts, state))
            mean.add(parts)
            state.batch += 1
            state.step += 1
            for callback in self.callbacks:
                callback.on_batch_end(state)
        means = mean.means("train")
        rate = state.optimiser.param_groups[0]["lr"]
        return {**means, "learning_rate": rate, "gradient_norm": math.fsum(norms) / len(norms)}

    def _step(self, parts: LossParts, state: FitState) -> float:
        """Step down the gradient of one batch; its norm before clipping."""
        state.optimiser.zero_grad(set_to_none=True)
        parts.total.backward()
        max_norm = math.inf if self.max_norm is None else self.max_norm
        (group,) = state.optimiser.param_groups
        norm = float(nn.utils.clip_grad_norm_(group["params"], max_norm))
        if not math.isfinite(norm):
            raise _non_finite("norm of the gradient", norm, state, "training", state.batch + 1)
        last = max(state.max_epochs * state.batches_per_epoch - 1, 1)
        group["lr"] = self.lr * self.schedule(min(state.step / last, 1.0))
        state.optimiser.step()
        return norm

    def _stops(self, state: FitState) -> bool:
        """End the epoch for every callback; whether any of them stops the training."""
        stops = False
        for callback in self.callbacks:
            if callback.on_epoch_end(state):
                stops = True
                reason = f"stopped by {type(callback).__name__}"
                state.history.stop_reason = state.history.stop_reason or reason
        return stops

    @contextmanager
    def _callbacks_told(self, state: FitState) -> Iterator[None]:
        """Begin and end of the training for every callback, the end also when another one fails at it."""
        with ExitStack() as endings:
            for callback in reversed(self.callbacks):  # the stack unwinds backwards: the first ends first
                endings.callback(callback.on_fit_end, state)
            for callback in self.callbacks:
                callback.on_fit_begin(state)
            yield


def _validate(state: FitState, batches: Iterable[Any], loss: BatchLoss) -> Record:
    state.model.eval()
    mean = WeightedMean()
    with torch.no_grad():
        for number, batch in enumerate(batches, start=1):
            parts = loss(batch, state.epoch)
            _finite_loss(parts, state, "validation", number)
            mean.add(parts)
    return dict(mean.means("validation"))


def _finite_loss(parts: LossParts, state: FitState, phase: str, batch: int) -> float:
    total = float(parts.total.detach())
    if not math.isfinite(total):
        raise _non_finite("loss", total, state, phase, batch)
    return total


def _non_finite(what: str, value: float, state: FitState, phase: str, batch: int) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"the {what} is {value} in epoch {state.epoch}, {phase} batch {batch}: try a smaller lr or "
        "max_norm, and look for extreme values in the data",
        epoch=state.epoch,
        batch=batch,
    )


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("the model has no trainable parameters (none has requires_grad=True)")
    return parameters


def _adam(parameters: list[nn.Parameter], lr: float) -> torch.optim.Adam:
    """Adam in one kernel, three times as fast for small models on a CPU, where this torch has it."""
    try:
        return torch.optim.Adam(parameters, lr=lr, fused=True)
    except RuntimeError:  # the parameters' device has no such kernel
        return torch.optim.Adam(parameters, lr=lr)


def _count(batches: Iterable[Any]) -> int:
    if not isinstance(batches, Sized):
        raise ValueError(
            "train_batches must give something with a length, such as a list or a loader, since the schedule "
            f"needs the number of steps beforehand; got {type(batches).__name__}"
        )
    return len(batches)


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Every module back in its own mode afterwards, a part that was frozen in evaluation mode too."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
