"""Saving a trained estimator on arrays to one file, and loading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from latentode import storage
from latentode.checks import Constraint, Whole
from latentode.estimators.parameters import CONSTRAINTS, check_parameter_names, device_of
from latentode.estimators.saved_arrays import SavedArrays, plain_facts
from latentode.estimators.saved_file import KINDS, check_kind, malformed
from latentode.estimators.saved_model import same_plain, upgraded
from latentode.estimators.saved_training import HISTORY, SavedTraining
from latentode.estimators.saved_weights import check_weights, load_weights, own_modules, stored_weights
from latentode.nn.initialisation import single_precision
from latentode.storage import Stored

if TYPE_CHECKING:
    import pandas as pd


class ArrayPersistence:
    """`save` and `load` of an `ArrayEstimator`.

    A subclass says in `_plan_constraints` what every entry of its plan allows (no plan of a file is built without), in
    `_check_plan` what entries must have in common, in `_facts` and `_adopt_facts` what it learns besides module and
    plan, and in `_own_parts` which entries may be modules of a user.
    """

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]]
    _plan_constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {}
    _own_parts: ClassVar[tuple[str, ...]] = ()

    model_: nn.Module
    history_: pd.DataFrame
    best_epoch_: int | None
    stop_reason_: str | None
    n_features_in_: int
    _plan: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trained model to one file: weights, scales, parameters and history.

        The file is safetensors with a JSON header: nothing in it can run. It appears under its name only when it is
        complete; a file that had this name before is replaced then, and kept when saving fails.

        Not saved: `callbacks` and `checkpoint_dir`; a `random_state` that is no int; a module of your own, whose
        weights are saved, but which `load` needs again.

        Parameters
        ----------
        path : str or PathLike
            Any name, such as "model.latentode", in a folder that exists; `~` is not expanded.

        Raises
        ------
        NotFittedError
        ValueError
            For a label, a name of a feature or a parameter of a type that a file cannot hold.
        OSError
            When the file cannot be written; the model stays as it is and can be saved elsewhere.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from latentode import ODENetRegressor
        >>> X = np.linspace(0, 1, 50)[:, None]
        >>> model = ODENetRegressor(max_epochs=2, random_state=0, verbose=0).fit(X, X[:, 0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(os.path.join(folder, "model.latentode"))
        ...     again = ODENetRegressor.load(os.path.join(folder, "model.latentode"))
        >>> np.array_equal(again.predict(X), model.predict(X))
        True
        """
        check_is_fitted(self, "model_")
        saved = SavedArrays(
            kind=self._kind(),
            parameters=self.get_params(deep=False),  # type: ignore[attr-defined]
            plan=self._plan,
            facts=self._facts(),
            training=SavedTraining(self.history_, self.best_epoch_, self.stop_reason_),
        )
        history, header = saved.stored()
        self._saved(
            Stored(history, header), type(self)()
        )  # one that could not be loaded again is not written
        storage.write(path, {**stored_weights(self.model_), **history}, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "auto", **own: nn.Module) -> Self:
        """A trained model from a file that `save` wrote, here or on another machine.

        Answers are those of the model that was saved, bit for bit on the same kind of machine. It can be saved,
        cloned and fitted as any other.

        Parameters
        ----------
        path : str or PathLike
        device : str, default "auto"
            Where the model shall be, whatever it was trained on; "auto" takes a GPU where there is one. It becomes the
            parameter `device` of what is returned.
        **own : nn.Module
            The modules that the model was fitted with, by the names of their parameters, if these were your own: built
            as then. Copies of them take the weights of the file.

        Returns
        -------
        estimator

        Raises
        ------
        ModelFileError
            For a file that is damaged, altered, of another kind, of another class or of a later version.
        TypeError, ValueError
            When a module of your own is missing, or not needed, or does not fit the weights; for an unknown device.
        OSError
            When there is no such file, or it cannot be read.
        """
        check_parameter_names(f"{cls.__name__}.load", own, ["path", "device", *cls._own_parts], TypeError)
        where = device_of(device)
        stored = storage.read(path)
        with malformed(path, stored.header):
            stored = upgraded(stored)
            check_kind(stored.header, cls._kind())
            estimator = cls()
            saved = cls._saved(stored, estimator)
        given = {name: own.get(name) for name in cls._own_parts}
        modules = own_modules(path, saved.own_parts(cls._own_parts), given)
        with malformed(path, stored.header):
            estimator.set_params(**{**saved.parameters, **modules, "device": device})  # type: ignore[attr-defined]
            estimator._restore(saved, stored, modules, where)
        return estimator

    @classmethod
    def _kind(cls) -> str:
        """The name of the class in files; a subclass of a user has that of its base."""
        return next((base.__name__ for base in cls.__mro__ if base.__name__ in KINDS), cls.__name__)

    @classmethod
    def _saved(cls, stored: Stored, unfitted: Any) -> SavedArrays:
        """What a file says, within its ranges."""
        known = unfitted.get_params(deep=False)
        constraints = CONSTRAINTS | dict(cls._constraints)
        saved = SavedArrays.of(stored, known, constraints, cls._plan_constraints, cls._own_parts)
        cls._check_plan(saved.plan)
        return saved

    def _restore(
        self, saved: SavedArrays, stored: Stored, own: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        plan = {**saved.plan, **{name: module for name, module in own.items() if saved.plan[name] is None}}
        weights: dict[str, Tensor] = {n: t for n, t in stored.tensors.items() if not n.startswith(HISTORY)}
        with single_precision(), torch.device("meta"):  # the shapes, without memory: the file may claim any
            expected = self._build(plan, torch.Generator(device="cpu"))  # type: ignore[attr-defined]
        check_weights(expected, weights, list(own))
        with single_precision():
            model = self._build(plan, torch.Generator())  # type: ignore[attr-defined]
        load_weights(model, weights)
        self._adopt(plan, model.to(device))  # type: ignore[attr-defined]
        self._adopt_facts(saved.facts)
        if not same_plain(plain_facts(self._facts()), stored.header["facts"]):
            raise ValueError("the facts hold values of wrong types, or unknown ones")
        self.history_, self.best_epoch_, self.stop_reason_ = saved.training

    @classmethod
    def _check_plan(cls, plan: Mapping[str, Any]) -> None:
        """Refuse a plan of a file whose entries, each in its range, no `fit` could have left together.

        Raises
        ------
        ValueError
        """

    def _facts(self) -> dict[str, Any]:
        """What was learned besides the module and its plan, of types that `as_plain` takes."""
        names = getattr(self, "feature_names_in_", None)
        return {"n_features_in": int(self.n_features_in_), "feature_names_in": names}

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        """Take what `_facts` gave, checked against the plan.

        Raises
        ------
        ValueError, KeyError, TypeError and others
            For what `_facts` never gives.
        """
        self.n_features_in_, names = facts["n_features_in"], facts["feature_names_in"]
        if not Whole(1).allows(self.n_features_in_):
            raise ValueError("n_features_in is no number of features")
        if names is None:
            return
        if not isinstance(names, np.ndarray) or not all(isinstance(name, str) for name in names.tolist()):
            raise ValueError("the names of the features are no texts")
        if len(names) != self.n_features_in_:
            raise ValueError("the features and their names differ in number")
        self.feature_names_in_ = names
