"""Saving a trained estimator to one file, and loading it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from latentode import storage
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import device_of
from latentode.estimators.saved_model import SavedModel, upgraded
from latentode.estimators.training_data import NOBODY, Roles
from latentode.exceptions import ModelFileError
from latentode.models.latent_ode import LatentODE
from latentode.storage import Stored
from latentode.version import __version__

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = "weights."
HISTORY = "history."
KINDS = ("LatentODEClassifier", "LatentODERegressor")
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


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
            history=self.history_,
            best_epoch=self.best_epoch_,
            stop_reason=self.stop_reason_,
            readout=self._readout_state(),
        )
        history, header = saved.stored()
        # A file that could not be loaded again is not written.
        SavedModel.of(Stored(history, header), type(self)().get_params(deep=False))  # type: ignore[attr-defined]
        weights = {
            WEIGHTS + name: _tensor(name, value) for name, value in self._module().state_dict().items()
        }
        storage.write(path, {**weights, **history}, header)

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
        with _malformed(path, stored.header):
            stored = upgraded(stored)
            cls._check_kind(stored.header)
            estimator = cls()
            saved = SavedModel.of(stored, estimator.get_params(deep=False))  # type: ignore[attr-defined]
        own = _own_modules(path, saved, {"encoder": encoder, "field": field})
        with _malformed(path, stored.header):
            estimator.set_params(**{**saved.parameters, **own, "device": device})  # type: ignore[attr-defined]
            estimator._restore(saved, stored.tensors, own, where)
        return estimator

    @classmethod
    def _check_kind(cls, header: Mapping[str, Any]) -> None:
        kind = header.get("kind")
        if kind == cls._kind:
            return
        if kind in KINDS:
            raise ValueError(f"it holds a {kind}: load it with {kind}.load")
        raise ValueError(f"it holds no {cls._kind}, but {str(kind)[:100]!r}")

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
        with torch.device("meta"):  # the shapes, without memory: the file may claim any
            expected = self._module_around(blueprint.build(generator), learned, saved.readout)
        _check_weights(expected, weights, list(own))
        model = blueprint.build(generator)
        module = self._module_around(model, learned, saved.readout)
        module.load_state_dict({name.removeprefix(WEIGHTS): value for name, value in weights.items()})
        module.to(device).eval()
        self._adopt(learned, model)  # type: ignore[attr-defined]
        self._roles = NOBODY
        self._adopt_module(module, saved.readout)
        self.history_, self.best_epoch_, self.stop_reason_ = (
            saved.history,
            saved.best_epoch,
            saved.stop_reason,
        )

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


def _tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(
            f"the state {name!r} of a module is no tensor, but {type(value).__name__}: it cannot be saved"
        )
    return value


@contextmanager
def _malformed(path: str | os.PathLike[str], header: Mapping[str, Any]) -> Iterator[None]:
    """Whatever goes wrong with the content of a file, as `ModelFileError`."""
    try:
        yield
    except (ModelFileError, _WrongPartError):
        raise
    except _MALFORMED as error:
        versions = header.get("versions")
        writer = versions.get("latentode") if isinstance(versions, dict) else None
        found = f"{type(error).__name__}: " if not isinstance(error, ValueError) else ""
        raise ModelFileError(
            f"{os.fspath(path)!r} cannot be loaded: {found}{str(error)[:500]} (written by latentode "
            f"{str(writer)[:20]}, read by {__version__}); give a file that `save` of this class has written"
        ) from error


class _WrongPartError(ValueError):
    """A user's own module that does not fit the file."""


def _none_of(blueprint: Any) -> list[str]:
    return [name for name in ("encoder", "field") if getattr(blueprint, name) is None]


def _own_modules(
    path: str | os.PathLike[str], saved: SavedModel, given: Mapping[str, nn.Module | None]
) -> dict[str, nn.Module]:
    """The modules that a user gave, exactly those that the file does not describe."""
    needed = saved.own_parts()
    for name, module in given.items():
        if module is None and name in needed:
            raise ValueError(
                f"{os.fspath(path)!r} was fitted with {name}= a module of your own, of which it holds the weights "
                f"only: give that module again, load(path, {name}=...)"
            )
        if module is not None and name not in needed:
            raise ValueError(f"{os.fspath(path)!r} has no {name} of your own: leave {name}= out")
        if module is not None and not isinstance(module, nn.Module):
            raise ValueError(f"{name} must be an nn.Module; got {type(module).__name__}")
    return {name: module for name, module in given.items() if module is not None}


def _check_weights(expected: nn.Module, weights: Mapping[str, Tensor], own: list[str]) -> None:
    """Names, shapes, dtypes as the model has them, and no weight that is NaN or infinite."""
    wanted = {WEIGHTS + name: value for name, value in expected.state_dict().items()}
    for name in sorted({*wanted, *weights}):
        part = next((part for part in own if f".{part}." in f".{name}"), None)
        if name not in weights or name not in wanted:
            _differs(part, f"{'has no' if name not in weights else 'has an unknown'} tensor {name[:200]!r}")
        want, have = wanted[name], weights[name]
        if want.shape != have.shape or want.dtype != have.dtype:
            _differs(
                part,
                f"has {name[:200]!r} of shape {tuple(have.shape)} {have.dtype}, and the model needs "
                f"{tuple(want.shape)} {want.dtype}",
            )
    checked: dict[str, Tensor] = dict(expected.named_parameters(remove_duplicate=False))
    if not own:  # a buffer of a user may hold infinities, as a mask
        checked.update(expected.named_buffers())
    for name in checked:
        if not bool(torch.isfinite(weights[WEIGHTS + name]).all()):
            raise ValueError(f"the weights {name!r} are not finite")


def _differs(part: str | None, what: str) -> None:
    if part is None:
        raise ValueError(f"the file {what}")
    raise _WrongPartError(f"the {part} given is not the one of the training: the file {what}")
