"""Saving a trained estimator to one file, and loading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from latentode import storage
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import device_of
from latentode.estimators.saved_file import check_kind, malformed
from latentode.estimators.saved_model import SavedModel, upgraded
from latentode.estimators.saved_training import HISTORY, SavedTraining
from latentode.estimators.saved_weights import check_weights, load_weights, own_modules, stored_weights
from latentode.estimators.training_data import NOBODY, Roles
from latentode.models.latent_ode import LatentODE
from latentode.nn.initialisation import single_precision
from latentode.storage import Stored

if TYPE_CHECKING:
    import pandas as pd


class PersistenceMixin:
    """`save` and `load` of a `SeriesEstimator`."""

    _kind: ClassVar[str]

    model_: LatentODE
    history_: pd.DataFrame
    best_epoch_: int | None
    stop_reason_: str | None
    _learned: Learned
    _roles: Roles

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained model to one file: weights, scales, column roles, parameters and history.

        The file is safetensors with a JSON header: nothing in it can run. It appears under its name only when it is
        complete; a file that had this name before is replaced then, and kept when saving fails.

        Not saved: `callbacks` and `checkpoint_dir`; `seen_until_`, which names the series of the training; a
        `random_state` that is no int; an encoder or a field of your own, whose weights are saved, but whose module
        `load` needs again.

        Parameters
        ----------
        path : str or PathLike
            Any name, such as "model.latentode", in a folder that exists; `~` is not expanded.

        Raises
        ------
        NotFittedError
        ValueError
            For a column name, a label or a parameter of a type that a file cannot hold.
        OSError
            When the file cannot be written; the model stays as it is and can be saved elsewhere.

        Examples
        --------
        >>> import os, tempfile
        >>> from latentode import LatentODERegressor
        >>> from latentode.datasets import make_spirals
        >>> df = make_spirals(n_series=20, n_obs=20, random_state=0)
        >>> model = LatentODERegressor(max_epochs=2, random_state=0, verbose=0).fit(df)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "model.latentode"))
        ...     again = LatentODERegressor.load(os.path.join(folder, "model.latentode"))
        >>> again.predict(df).equals(model.predict(df))
        True
        """
        check_is_fitted(self, "model_")
        saved = SavedModel(
            kind=self._kind,
            parameters=self.get_params(deep=False),  # type: ignore[attr-defined]
            learned=self._learned,
            training=SavedTraining(self.history_, self.best_epoch_, self.stop_reason_),
            readout=self._readout_state(),
        )
        history, header = saved.stored()
        # A file that could not be loaded again is not written.
        SavedModel.of(Stored(history, header), type(self)().get_params(deep=False))  # type: ignore[attr-defined]
        storage.write(path, {**stored_weights(self._module()), **history}, header)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        encoder: nn.Module | None = None,
        field: nn.Module | None = None,
    ) -> Self:
        """A trained model from a file that `save` wrote, here or on another machine.

        Predictions are those of the model that was saved, bit for bit on the same kind of machine. It can be saved,
        cloned and fitted as any other.

        Parameters
        ----------
        path : str or PathLike
        device : str, default "auto"
            Where the model shall be, whatever it was trained on; "auto" takes a GPU where there is one. It becomes the
            parameter `device` of what is returned.
        encoder, field : nn.Module, optional
            The modules that the model was fitted with, if these were your own: built as then. Copies of them
            take the weights of the file.

        Returns
        -------
        estimator

        Raises
        ------
        ModelFileError
            For a file that is damaged, altered, of another kind, of another class or of a later version.
        ValueError
            When `encoder` or `field` is missing, or not needed, or does not fit the weights; for an unknown device.
        OSError
            When there is no such file, or it cannot be read.
        """
        where = device_of(device)
        stored = storage.read(path)
        with malformed(path, stored.header):
            stored = upgraded(stored)
            check_kind(stored.header, cls._kind)
            estimator = cls()
            saved = SavedModel.of(stored, estimator.get_params(deep=False))  # type: ignore[attr-defined]
        own = own_modules(path, saved.own_parts(), {"encoder": encoder, "field": field})
        with malformed(path, stored.header):
            estimator.set_params(**{**saved.parameters, **own, "device": device})  # type: ignore[attr-defined]
            estimator._restore(saved, stored.tensors, own, where)
        return estimator

    def _restore(
        self,
        saved: SavedModel,
        tensors: Mapping[str, Tensor],
        own: Mapping[str, nn.Module],
        device: torch.device,
    ) -> None:
        blueprint = saved.learned.blueprint
        blueprint = blueprint.with_own({name: own[name] for name in _none_of(blueprint)})
        learned, generator = replace(saved.learned, blueprint=blueprint), torch.Generator()
        weights = {name: value for name, value in tensors.items() if not name.startswith(HISTORY)}
        with single_precision(), torch.device("meta"):  # the shapes, without memory: the file may claim any
            expected = self._module_around(blueprint.build(generator), learned, saved.readout)
        check_weights(expected, weights, list(own))
        with single_precision():
            model = blueprint.build(generator)
            module = self._module_around(model, learned, saved.readout)
        load_weights(module, weights)
        module.to(device).eval()
        self._adopt(learned, model)  # type: ignore[attr-defined]
        self._roles = NOBODY
        self._adopt_module(module, saved.readout)
        self.history_, self.best_epoch_, self.stop_reason_ = saved.training

    def _module(self) -> nn.Module:
        """What was trained."""
        return self.model_

    def _readout_state(self) -> dict[str, Any]:
        """What the class adds to a latent ODE, as plain values."""
        return {}

    def _module_around(self, model: LatentODE, learned: Learned, readout: Mapping[str, Any]) -> nn.Module:
        """What was trained, around a new model."""
        if readout:
            raise ValueError("readout must be empty")
        return model

    def _adopt_module(self, module: nn.Module, readout: Mapping[str, Any]) -> None:
        """Keep what was trained, beside the model itself."""


def _none_of(blueprint: Any) -> list[str]:
    return [name for name in ("encoder", "field") if getattr(blueprint, name) is None]
