"""What a training calls while it runs: early stopping, the best weights, the progress bar, the user's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from latentode.training.history import History, Record


@dataclass
class FitState:
    """Where a training stands; what every callback is given.

    Parameters
    ----------
    model : nn.Module
        The model in training, in place.
    history : History
        Records of the epochs that are complete.
    max_epochs, batches_per_epoch : int
        What was planned.
    has_validation : bool
        Whether records have a `validation_loss`.
    epoch, batch : int
        The running epoch and, within it, the last batch that is complete; both count from 1.
    step : int
        Optimiser steps taken.
    batch_loss : float
        Loss of that batch.
    lr_factor : float
        Factor of the learning rate: 1, and half as much after every restart.
    restarts : int
        How often the training went back to the last good epoch because a loss was not finite.
    stopped : bool
        Whether a callback has stopped the training.
    optimiser : torch.optim.Optimizer
        There from the first batch on, not yet when the training begins.
    """

    model: nn.Module
    history: History
    max_epochs: int
    batches_per_epoch: int
    has_validation: bool
    epoch: int = 0
    batch: int = 0
    step: int = 0
    batch_loss: float = math.nan
    lr_factor: float = 1.0
    restarts: int = 0
    stopped: bool = False
    optimiser: torch.optim.Optimizer = field(init=False, repr=False)


class Callback:
    """Base of all callbacks; override what you need.

    `on_fit_end` is also called when the training ends by an exception or by Ctrl-C. A callback may serve
    several trainings, one after the other: `on_fit_begin` starts it afresh. A training that is continued from a
    checkpoint begins anew for it, unless it tells its state by `state_dict` and takes it back.
    """

    def on_fit_begin(self, state: FitState) -> None:
        """Before the first epoch."""

    def on_batch_end(self, state: FitState) -> None:
        """After each optimiser step."""

    def on_epoch_end(self, state: FitState) -> bool | None:
        """After each epoch, its record being `state.history[-1]`; True stops the training."""
        return None

    def on_fit_end(self, state: FitState) -> None:
        """When the training is over, however it ended."""

    def state_dict(self) -> dict[str, Any]:
        """What it has to remember when a training goes back or is continued: tensors, and what JSON can hold."""
        return {}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        """Remember that again; not called for an empty one."""


class EpochFunction(Callback):
    """A plain function of the epoch's record, called at each epoch's end; True stops the training.

    Parameters
    ----------
    function : callable(dict) -> bool or None
        It is given a copy of the record, so it cannot change the history.
    """

    def __init__(self, function: Callable[[Record], bool | None]) -> None:
        self.function = function

    def on_epoch_end(self, state: FitState) -> bool | None:
        stop = self.function(dict(state.history[-1]))
        if stop and state.history.stop_reason is None:
            state.history.stop_reason = f"stopped by {getattr(self.function, '__name__', self.function)}"
        return stop


class EarlyStopping(Callback):
    """Stop when the validation loss has not improved for a number of epochs.

    Parameters
    ----------
    patience : int
        Epochs without an improvement after which training stops, at least 1.
    min_delta : float
        A loss must be lower than the best one by more than this to count as an improvement.

    Raises
    ------
    ValueError
        For a patience or min_delta out of range, and when a training without validation begins.
    """

    def __init__(self, patience: int, min_delta: float = 0.0) -> None:
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch; got {patience!r}")
        if not min_delta >= 0:
            raise ValueError(f"min_delta must be at least 0; got {min_delta!r}")
        self.patience = patience
        self.min_delta = min_delta
        self._best = math.inf
        self._waited = 0

    def on_fit_begin(self, state: FitState) -> None:
        if not state.has_validation:
            raise ValueError(
                "early stopping needs a validation loss, and this training has no validation batches: "
                "set some series aside for validation, or leave early stopping out"
            )
        self._best, self._waited = math.inf, 0

    def on_epoch_end(self, state: FitState) -> bool | None:
        loss = state.history[-1]["validation_loss"]
        if loss < self._best - self.min_delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1
        if self._waited < self.patience:
            return None
        state.history.stop_reason = f"no better validation loss for {self.patience} epochs"
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        self._best, self._waited = tree["best"], tree["waited"]


class BestWeights(Callback):
    """Keep the weights of the epoch with the lowest validation loss and put them back at the end.

    They are put back however the training ends, by an exception or Ctrl-C too. In a training without
    validation, and before the first epoch is complete, the model keeps its latest weights.
    """

    def __init__(self) -> None:
        self._loss = math.inf
        self._weights: dict[str, Any] | None = None

    def on_fit_begin(self, state: FitState) -> None:
        self._loss, self._weights = math.inf, None

    def on_epoch_end(self, state: FitState) -> bool | None:
        loss = state.history[-1].get("validation_loss", math.inf)
        if loss < self._loss:
            # one assignment of a finished copy: an interrupt in between cannot leave a mixture of epochs
            self._loss, self._weights = loss, copy.deepcopy(state.model.state_dict())
        return None

    def on_fit_end(self, state: FitState) -> None:
        if self._weights is not None:
            state.model.load_state_dict(self._weights)
        # a training that fails before it begins must not bring back the weights of this one
        self._weights = None

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self._loss, "weights": self._weights}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        self._loss, self._weights = tree["loss"], tree["weights"]


class ProgressBar(Callback):
    """A bar over all epochs that also moves within an epoch, on stderr or as a widget in a notebook.

    Parameters
    ----------
    verbose : int
        0 is silent.
    """

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = verbose
        self._bar: Any = None
        self._losses = ""

    def on_fit_begin(self, state: FitState) -> None:
        self._losses = ""
        if self.verbose:
            self._bar = tqdm(
                total=state.max_epochs,
                desc=f"epoch 1/{state.max_epochs}",
                dynamic_ncols=True,
                bar_format="{desc} |{bar}| {percentage:3.0f}% [{elapsed}<{remaining}{postfix}]",
            )

    def on_batch_end(self, state: FitState) -> None:
        if self._bar is not None and state.batches_per_epoch > 1:
            n = state.batches_per_epoch
            self._show(state, f", batch {state.batch}/{n}", f"loss {state.batch_loss:.4g}")
            # validation belongs to the epoch too, so its last batch does not complete it
            self._move(state.epoch - 1 + min(state.batch / (n + 1), 1.0))

    def on_epoch_end(self, state: FitState) -> bool | None:
        if self._bar is not None:
            record = state.history[-1]
            names = [name for name in ("train_loss", "validation_loss") if name in record]
            self._losses = ", ".join(f"{name.removesuffix('_loss')} {record[name]:.4g}" for name in names)
            self._show(state, "", "")
            self._move(state.epoch)
        return None

    def on_fit_end(self, state: FitState) -> None:
        if self._bar is None:
            return
        n_epochs = len(state.history)
        if n_epochs > self._bar.n:  # another process has trained them
            self._bar.set_description_str(f"epoch {n_epochs}/{state.max_epochs}", refresh=False)
            self._move(n_epochs)
        bar, self._bar = self._bar, None
        if state.history.stop_reason:
            # an early stop is a finished bar, not a broken one
            bar.total = bar.n = len(state.history)
            bar.set_description_str(f"epoch {bar.n}, {state.history.stop_reason}", refresh=False)
        bar.refresh()
        bar.close()

    def _show(self, state: FitState, where: str, figure: str) -> None:
        self._bar.set_description_str(f"epoch {state.epoch}/{state.max_epochs}{where}", refresh=False)
        self._bar.set_postfix_str(", ".join(filter(None, (figure, self._losses))), refresh=False)

    def _move(self, position: float) -> None:
        self._bar.update(position - self._bar.n)


def as_callbacks(given: Iterable[Callback | Callable[[Record], bool | None]]) -> tuple[Callback, ...]:
    """Callbacks as given, plain functions wrapped in `EpochFunction`.

    Raises
    ------
    ValueError
        For anything that is neither, and for a class in place of its object.
    """
    return tuple(_as_callback(one) for one in given)


def _as_callback(one: Callback | Callable[[Record], bool | None]) -> Callback:
    if isinstance(one, Callback):
        return one
    if isinstance(one, type) or not callable(one):
        raise ValueError(
            "a callback must be a Callback object or a function of the epoch's record; "
            f"got {one!r}" + (f": write {one.__name__}(...)" if isinstance(one, type) else "")
        )
    return EpochFunction(one)
