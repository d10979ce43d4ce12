"""What the estimators on arrays of rows share: parameters, training, history, answers in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from latentode import plotting
from latentode.checks import Constraint, check_parameters
from latentode.estimators.array_persistence import ArrayPersistence
from latentode.estimators.beginning import Beginning, beginning_of
from latentode.estimators.fitting import TorchDraws
from latentode.estimators.parameters import CONSTRAINTS, check_parameter_names, device_of
from latentode.estimators.row_batches import FixedRows, Rows, ShuffledRows
from latentode.nn.initialisation import single_precision
from latentode.seeding import torch_generator
from latentode.training import BestWeights, Callback, EarlyStopping, History, ProgressBar, Trainer
from latentode.training.loss_parts import LossParts

RowsLoss = Callable[[nn.Module, Rows, torch.Generator], LossParts]


class ArrayEstimator(ArrayPersistence, BaseEstimator, ABC):
    """An estimator that trains one torch module on rows of arrays.

    A subclass says in `_constraints` what its own parameters allow, in `_default_steps` how many optimiser steps
    `max_epochs=None` aims at, in `_most_epochs` how many epochs these may take at most, and in `_build` how its module
    is made from a plan of plain values; and what its files need besides, as `ArrayPersistence` tells.

    Attributes
    ----------
    model_ : nn.Module
        The trained module, in evaluation mode.
    history_ : DataFrame
        One row per epoch.
    best_epoch_ : int or None
        The epoch whose weights were kept; None without validation, where these are the last ones.
    stop_reason_ : str or None
        Why the training ended before `max_epochs`; None where it did not.
    """

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {}
    _default_steps: ClassVar[int] = 2000
    _most_epochs: ClassVar[int | None] = None

    max_epochs: int | None
    batch_size: int
    lr: float
    early_stopping: bool
    patience: int | None
    callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None
    device: str
    verbose: int

    model_: nn.Module
    history_: pd.DataFrame
    best_epoch_: int | None
    stop_reason_: str | None

    @staticmethod
    @abstractmethod
    def _build(plan: Mapping[str, Any], generator: torch.Generator) -> nn.Module:
        """A new module on the CPU, its first weights from `generator`; two of one plan can exchange weights."""

    def set_params(self, **params: Any) -> Any:
        """Set parameters by name, as in scikit-learn; a name that does not exist is refused with a near one."""
        check_parameter_names(type(self).__name__, params, list(self.get_params(deep=False)))
        return super().set_params(**params)

    def plot_history(self, *, ax: Any = None) -> Any:
        """Draw the losses of training per epoch, with the epoch whose weights were kept; returns the Axes."""
        check_is_fitted(self, "model_")
        return plotting.plot_history(self.history_, ax=ax)

    def _check_parameters(self) -> None:
        check_parameters(
            type(self).__name__, self.get_params(deep=False), CONSTRAINTS | dict(self._constraints)
        )

    def _beginning(self, arrays: Sequence[NDArray[Any]]) -> Beginning:
        """The generator of a fit to these arrays, and the checkpoint that it continues."""
        return beginning_of(type(self).__name__, self.get_params(deep=False), arrays)

    def _train(
        self,
        plan: Mapping[str, Any],
        loss: RowsLoss,
        train: Rows,
        validation: Rows | None,
        beginning: Beginning,
    ) -> None:
        """Build the module of a plan, train it, and keep it with its history.

        Parameters
        ----------
        plan : mapping of str to plain values
        loss : callable(module, batch, generator) -> LossParts
            `batch` has the parts of `train`, on the module's device.
        train, validation : tuples of Tensor (N, ...)
            On the CPU; without validation rows the weights of the last epoch are kept.
        beginning : Beginning
        """
        rng, device = beginning.rng, device_of(self.device)
        with single_precision():
            model = self._build(plan, torch_generator(rng)).to(device)
        batches = ShuffledRows(train, self.batch_size, rng)
        draws, seed = torch_generator(rng), int(rng.integers(2**62))
        fixed = None if validation is None else FixedRows(validation, self.batch_size, seed)
        epochs = self.max_epochs or self._default_epochs(len(batches))

        def on(generator: torch.Generator) -> Callable[[Rows, int], LossParts]:
            return lambda batch, epoch: loss(model, tuple(part.to(device) for part in batch), generator)

        history = Trainer(epochs, lr=self.lr, callbacks=self._callbacks(epochs, fixed)).fit(
            model,
            lambda epoch: batches,
            loss=on(draws),
            validation_batches=fixed,
            validation_loss=None if fixed is None else on(fixed.generator),
            sources=[batches, TorchDraws(draws)],
            checkpoint=beginning.checkpoint,
        )
        self._adopt(plan, model)
        self._keep_history(history)

    def _default_epochs(self, n_batches: int) -> int:
        """Epochs of so many batches that `max_epochs=None` stands for."""
        epochs = max(1, round(self._default_steps / n_batches))
        return epochs if self._most_epochs is None else min(epochs, self._most_epochs)

    def _callbacks(self, epochs: int, fixed: FixedRows | None) -> list[Any]:
        own: list[Any] = [ProgressBar(self.verbose)]
        if fixed is not None:
            own.append(BestWeights())
            if self.early_stopping:
                own.append(EarlyStopping(self.patience or max(10, epochs // 2)))
        return [*own, *(self.callbacks or ())]

    def _adopt(self, plan: Mapping[str, Any], model: nn.Module) -> None:
        """Be what a training left: of `fit`, or of a file."""
        self._plan = dict(plan)
        self.model_ = model.eval()

    def _keep_history(self, history: History) -> None:
        self.history_ = pd.DataFrame(history.as_table())
        self.best_epoch_ = history.best_epoch
        self.stop_reason_ = history.stop_reason

    @property
    def _device(self) -> torch.device:
        """Where the trained module is."""
        return next(self.model_.parameters()).device

    @torch.no_grad()
    def _in_pieces(self, answer: Callable[[Tensor], Tensor], X: NDArray[Any], n_rows: int) -> NDArray[Any]:
        """`answer` for `n_rows` rows of X at a time, on the module's device, put together on the CPU."""
        return torch.cat([answer(piece.to(self._device)).cpu() for piece in _pieces(X, n_rows)]).numpy()


def _pieces(X: NDArray[Any], n_rows: int) -> Iterator[Tensor]:
    yield from as_rows(X).split(n_rows)


def as_rows(array: NDArray[Any]) -> Tensor:
    """An array as a tensor, which shares its memory where that lies in order and can be written to."""
    return torch.as_tensor(np.require(array, requirements=("C", "W")))
