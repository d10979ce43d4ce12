"""The training loop: Adam, clipped gradients, a learning rate per step, callbacks; no model by name.

It survives what it can: it goes back from losses that are not finite, ends in good order at Ctrl-C, and is continued
from a checkpoint as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from latentode.exceptions import SolverError, warn_user
from latentode.training.callbacks import Callback, FitState, as_callbacks
from latentode.training.checkpoint import Checkpoint
from latentode.training.history import History, Record
from latentode.training.loss_parts import LossParts, WeightedMean
from latentode.training.non_finite import Names, NonFiniteLossError, finite_loss, non_finite
from latentode.training.schedules import LearningRateSchedule, schedule_for
from latentode.training.snapshot import Stateful, Tree, go_back, resume, take_snapshot

BatchLoss = Callable[[Any, int], LossParts]
RESTARTS = 3  # of one training


@dataclass(frozen=True)
class Passes:
    """What is passed over in an epoch, and what it costs; `Trainer.fit` has the arguments of these names."""

    train_batches: Callable[[int], Iterable[Any]]
    loss: BatchLoss
    validation_batches: Callable[[], Iterable[Any]] | None
    validation_loss: BatchLoss
    names: Names


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
        self.lr = float(lr)
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
        names: Names = lambda batch: (),
        sources: Sequence[Stateful] = (),
        checkpoint: Checkpoint | None = None,
    ) -> History:
        """Train `model` in place.

        A loss or gradient that is not finite, or a differential equation that cannot be solved, takes the training
        back to the end of the last good epoch, with half the learning rate, at most three times. Ctrl-C after the first
        epoch ends the training with a warning, and with the weights of the last complete epoch or, with `BestWeights`,
        the best ones.

        Parameters
        ----------
        model : nn.Module
            In training mode while it trains, in evaluation mode while it is validated; afterwards in the
            modes it came with.
        train_batches : callable(epoch) -> iterable of batches
            Called once per epoch, and again when it restarts. What it gives needs a length, the same in every epoch,
            for the schedule.
        loss : callable(batch, epoch) -> LossParts
        validation_batches : callable() -> iterable of batches, optional
            Called once per epoch.
        validation_loss : callable(batch, epoch) -> LossParts, optional
            `loss` by default; called without gradients.
        names : callable(batch) -> sequence, optional
            What the series of a batch are called in errors.
        sources : sequence of Stateful, optional
            Everything that batches and losses draw random numbers from.
        checkpoint : Checkpoint, optional
            Written after every epoch. Where it holds a training already, that is continued, with the same weights in
            the end as if it had not been interrupted; a training that was finished is returned at once. A training
            that a callback stopped counts as finished.

        Returns
        -------
        History

        Raises
        ------
        NonFiniteLossError
            When a loss or gradient is not finite after three restarts, too; the weights are those of the last good
            epoch, or the best ones with `BestWeights`.
        ValueError
            For a model without trainable parameters, and for batches that are missing or cannot be counted.
        """
        passes = Passes(train_batches, loss, validation_batches, validation_loss or loss, names)
        parameters = _trainable(model)
        saved = None if checkpoint is None else checkpoint.saved
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
            good = take_snapshot(state, self.callbacks, sources)
            if checkpoint is not None and saved is not None:
                good = self._resumed(saved, good, state, sources, checkpoint)
            self._run(state, passes, good, first, sources, checkpoint)
        if state.history.was_interrupted:
            _tell_of_interrupt(state.history, checkpoint)
        return state.history

    def _run(
        self,
        state: FitState,
        passes: Passes,
        good: Tree,
        first: Iterable[Any],
        sources: Sequence[Stateful],
        checkpoint: Checkpoint | None,
    ) -> None:
        """All epochs that are left after the `good` one; `first` are the batches of epoch 1."""
        try:
            while _goes_on(state):
                self._epoch(state, passes, good, first if state.epoch == 0 else None)
                good = take_snapshot(state, self.callbacks, sources)
                if checkpoint is not None:
                    checkpoint.save(good)
        except KeyboardInterrupt:
            if good["epoch"] == 0:
                raise
            go_back(good, state, self.callbacks)
            if _goes_on(state):
                state.history.stop_reason = f"interrupted by Ctrl-C in epoch {state.epoch + 1}"

    def _resumed(
        self,
        saved: Tree,
        fresh: Tree,
        state: FitState,
        sources: Sequence[Stateful],
        checkpoint: Checkpoint,
    ) -> Tree:
        """The saved training, or the fresh one where what was saved does not fit this model."""
        try:
            resume(saved, state, self.callbacks, sources)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            resume(fresh, state, self.callbacks, sources)
            checkpoint.refuse(f"it is of another model: {str(error).splitlines()[0]}")
            return fresh
        return saved

    def _epoch(self, state: FitState, passes: Passes, good: Tree, batches: Iterable[Any] | None) -> None:
        """One epoch, begun again where it fails, with its record and the callbacks at its end."""
        began = time.perf_counter()
        restarts = state.restarts
        while True:
            state.epoch, state.batch = state.epoch + 1, 0
            try:
                record = self._pass_over(state, passes, batches)
                break
            except (NonFiniteLossError, SolverError):
                before, factor = state.restarts, state.lr_factor
                go_back(good, state, self.callbacks)
                if before == RESTARTS:
                    raise
                state.restarts, state.lr_factor, batches = before + 1, factor / 2, None
        record |= {"restarts": state.restarts - restarts, "seconds": time.perf_counter() - began}
        state.history.append(record)
        state.stopped = self._stops(state)

    def _pass_over(self, state: FitState, passes: Passes, batches: Iterable[Any] | None) -> Record:
        """The record of a pass over the batches of training and validation; `batches` are those already asked for."""
        given = passes.train_batches(state.epoch) if batches is None else batches
        record: Record = {"epoch": state.epoch, **self._train(state, given, passes)}
        return record | _validate(state, passes)

    def _train(self, state: FitState, batches: Iterable[Any], passes: Passes) -> Record:
        """One pass of optimiser steps."""
        state.model.train()
        mean, norms = WeightedMean(), []
        for batch in batches:
            parts = passes.loss(batch, state.epoch)
            names = passes.names(batch)
            state.batch_loss = finite_loss(parts, state, "training", state.batch + 1, names)
            norms.append(self._step(parts, state, names))
            mean.add(parts)
            state.batch += 1
            state.step += 1
            for callback in self.callbacks:
                callback.on_batch_end(state)
        means = mean.means("train")
        rate = state.optimiser.param_groups[0]["lr"]
        return {**means, "learning_rate": rate, "gradient_norm": math.fsum(norms) / len(norms)}

    def _step(self, parts: LossParts, state: FitState, names: Sequence[object]) -> float:
        """Step down the gradient of one batch; its norm before clipping."""
        state.optimiser.zero_grad(set_to_none=True)
        parts.total.backward()
        max_norm = math.inf if self.max_norm is None else self.max_norm
        (group,) = state.optimiser.param_groups
        norm = float(nn.utils.clip_grad_norm_(group["params"], max_norm))
        if not math.isfinite(norm):
            raise non_finite("norm of the gradient", norm, state, "training", state.batch + 1, names)
        last = max(state.max_epochs * state.batches_per_epoch - 1, 1)
        group["lr"] = self.lr * state.lr_factor * self.schedule(min(state.step / last, 1.0))
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


def _goes_on(state: FitState) -> bool:
    return state.epoch < state.max_epochs and not state.stopped


def _validate(state: FitState, passes: Passes) -> Record:
    """Means over the validation batches; nothing where there are none."""
    if passes.validation_batches is None:
        return {}
    state.model.eval()
    mean = WeightedMean()
    with torch.no_grad():
        for number, batch in enumerate(passes.validation_batches(), start=1):
            parts = passes.validation_loss(batch, state.epoch)
            finite_loss(parts, state, "validation", number, passes.names(batch))
            mean.add(parts)
    return dict(mean.means("validation"))


def _tell_of_interrupt(history: History, checkpoint: Checkpoint | None) -> None:
    epoch = history.best_epoch or len(history)
    way_on = (
        "give checkpoint_dir= to be able to continue a training"
        if checkpoint is None
        else "the same fit with the same checkpoint_dir continues it"
    )
    warn_user(f"training was {history.stop_reason}; the weights of epoch {epoch} are kept; {way_on}")


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
