"""`ODENetClassifier` and `ODENetRegressor`: networks with a differential equation in place of residual blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from latentode.estimators.base_ode_net import BaseODENet
from latentode.estimators.input_shape import as_network_inputs, level_and_spread, read_inputs
from latentode.estimators.parameters import suggests_names
from latentode.estimators.row_split import split_rows
from latentode.estimators.saved_checks import check_classes
from latentode.models.ode_net import ODENet
from latentode.seeding import RandomState
from latentode.training import Callback


class ODENetClassifier(ClassifierMixin, BaseODENet):
    """Classify images or vectors by a network whose depth is the time of a differential equation.

    Images pass two convolutions, each of which halves images of at least 8 pixels a side, vectors are standardised;
    then one solve of dy/dt = f(t, y) carries each input from t = 0 to t = 1, where a linear head reads its class. A
    solver spends on every input as many evaluations of f as it needs, and `tolerance` can be raised when predicting to
    trade accuracy for speed. The same field with fixed steps, and a stack of residual blocks, are there to compare.

    Good for studying networks of continuous depth, and where a third of a residual network's parameters shall do. Not
    the fastest classifier for images: a residual network of the same accuracy trains several times faster.

    Parameters
    ----------
    block : {"ode", "rk", "resnet"}, default "ode"
        "ode": one solve. "rk": the same field, with fixed Runge-Kutta steps and backprop through them. "resnet":
        `n_blocks` residual blocks.
    hidden_dim : int, default 64
        Channels of the block for images; width of the hidden layers of its field for vectors.
    depth : int, default 2
        Hidden layers of the field, or of each residual block, for vectors; images have two convolutions.
    activation : str, default "tanh"
        Of these layers, for vectors: "tanh", "softplus", "elu", "silu" or "relu"; images have relu.
    n_blocks : int, default 6
        Of `block="resnet"`.
    augment_dim : int or None, default None
        Zeros that the state gets beside its input (features, or channels after the convolutions), so that paths can
        pass each other (Dupont et al. 2019). None: 5 for vectors, 0 for images, whose channels give room enough.
    solver : str or None, default None
        A name in `latentode.solvers.SOLVERS`; None: "dopri5", and "rk4" for `block="rk"`.
    tolerance : float, default 1e-3
        rtol and atol of an adaptive solver, in training and, if not told otherwise, in prediction.
    step_size : float or None, default None
        Fixed steps of this size. None: adaptive steps, and 0.5 for `block="rk"` and for solvers that cannot adapt.
    gradient : str or None, default None
        A name in `latentode.gradients.GRADIENTS` for `block="ode"`. None: "discrete_adjoint", which keeps a few states
        per step; "adjoint" and "reversible" keep a memory that does not grow with the evaluations. The others are
        differentiated by backprop.
    class_weight : "balanced", mapping from class to weight, or None, default None
        As in scikit-learn.
    max_epochs : int or None, default None
        None: as many as make 1,500 steps of the optimiser, at most 200.
    batch_size : int, default 128
    lr : float, default 1e-2
        Highest learning rate of Adam, on a one-cycle schedule.
    early_stopping : bool, default True
        Stop when the validation loss no longer falls; the weights of the best epoch are kept in any case.
    validation_fraction : float in [0, 1), default 0.1
        Share of each class that chooses the epoch; 0 trains on all.
    patience : int or None, default None
        Epochs without a lower validation loss; None: half of `max_epochs`, at least 10.
    callbacks : list of Callback or callable, optional
        As in `LatentODERegressor`.
    checkpoint_dir : path, optional
        Folder where the training is saved after each epoch; the same fit continues it.
    device : str, default "auto"
        "auto" takes a GPU where there is one.
    random_state : int, numpy Generator, numpy RandomState or None, default None
    verbose : int, default 1
        0 shows no progress bar.

    Attributes
    ----------
    classes_ : array (C,)
    model_ : latentode.models.ode_net.ODENet
        The trained torch module: inputs as given (with channels) to logits.
    history_ : DataFrame
        Per epoch: losses, accuracies, and the mean evaluations of the field per input, forwards (`train_n_evals`) and
        backwards (`train_n_evals_backward`).
    best_epoch_, stop_reason_, n_features_in_, feature_names_in_
        As in `LatentODERegressor` and scikit-learn; for images `n_features_in_` is the length of axis 1.

    Notes
    -----
    A block leaves aside what it has no use for, so that a grid over `block` works: "resnet" has none for `solver`,
    `tolerance`, `step_size` and `gradient`, "ode" and "rk" have none for `n_blocks`, fixed steps none for `tolerance`,
    images none for `depth` and `activation`. But "rk" is refused with another `gradient` than "backprop".
    A few hundred rows learn in `max_epochs=50`.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations, section 3;
    Dupont, Doucet, Teh (2019), Augmented Neural ODEs.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from latentode import ODENetClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = ODENetClassifier(max_epochs=20, lr=0.02, random_state=0, verbose=0).fit(X, y)
    >>> model.predict_proba(X).shape, bool(model.score(X, y) > 0.9)
    ((200, 2), True)
    """

    classes_: NDArray[Any]

    @suggests_names
    def __init__(
        self,
        *,
        block: str = "ode",
        hidden_dim: int = 64,
        depth: int = 2,
        activation: str = "tanh",
        n_blocks: int = 6,
        augment_dim: int | None = None,
        solver: str | None = None,
        tolerance: float = 1e-3,
        step_size: float | None = None,
        gradient: str | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        max_epochs: int | None = None,
        batch_size: int = 128,
        lr: float = 1e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
        self.block = block
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.activation = activation
        self.n_blocks = n_blocks
        self.augment_dim = augment_dim
        self.solver = solver
        self.tolerance = tolerance
        self.step_size = step_size
        self.gradient = gradient
        self.class_weight = class_weight
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from inputs and their classes.

        Parameters
        ----------
        X : array (n, p) of vectors, (n, H, W) of images, or (n, C, H, W) of images with channels
            Channels first: images (n, H, W, C) are given as `X.transpose(0, 3, 1, 2)`. Numbers of any scale: each
            feature or channel is standardised by the training rows.
        y : array (n,)
            Classes: numbers or text.
        sample_weight : array (n,), optional
            Factors of the losses of the rows, 0 or more; rows of weight 0 are as if they were not there.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For arrays that cannot be used, and for parameters out of range.
        NonFiniteLossError, SolverError
            When training fails after three restarts with ever smaller learning rates, too.
        """
        self._check_parameters()
        X, y = read_inputs(self, X, y=y)
        check_classification_targets(y)
        given = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self._input_shape = X.shape[1:]
        inputs, y, given = as_network_inputs(X)[given > 0], y[given > 0], given[given > 0]
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y must have at least two classes to tell apart; got one class, {classes.tolist()}"
            )
        weight = given * compute_sample_weight(self.class_weight, y)
        kept = weight > 0
        if not kept.any():
            raise ValueError(
                "class_weight is 0 for every row of positive weight: nothing is left to learn from"
            )
        inputs, codes, weight = inputs[kept], codes[kept], weight[kept]
        beginning = self._beginning([inputs, codes, weight])
        split = split_rows(len(inputs), self.validation_fraction, beginning.rng, codes)
        plan = self._plan_for(inputs[split.train], len(classes))
        self._fit_network(plan, inputs, codes, weight, split, beginning, ODENet.classification_loss)
        self.classes_ = classes
        return self

    def decision_function(self, X: Any, *, tolerance: float | None = None) -> NDArray[np.float64]:
        """Logits (n, C); of two classes the difference (n,), positive for the second one.

        Parameters
        ----------
        X : array
            As in `fit`.
        tolerance : float, optional
            rtol and atol of the solver for this call: higher is faster and less accurate. Default: as in training.
        """
        logits = self._outputs(X, tolerance)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any, *, tolerance: float | None = None) -> NDArray[np.float64]:
        """Probabilities (n, C), a column per class of `classes_`; arguments as in `decision_function`."""
        return softmax(self._outputs(X, tolerance), axis=1)

    def predict(self, X: Any, *, tolerance: float | None = None) -> NDArray[Any]:
        """The most probable classes (n,); arguments as in `decision_function`."""
        codes = self._outputs(X, tolerance).argmax(axis=1)
        return self.classes_[codes]

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, tolerance: float | None = None) -> float:
        """Share of right answers; `tolerance` as in `decision_function`."""
        return float(accuracy_score(y, self.predict(X, tolerance=tolerance), sample_weight=sample_weight))

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "classes": self.classes_}

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        super()._adopt_facts(facts)
        self.classes_ = check_classes(facts["classes"])
        if len(self.classes_) != self._plan["n_outputs"]:
            raise ValueError("the classes and the outputs differ in number")


class ODENetRegressor(RegressorMixin, BaseODENet):
    """Regression on images or vectors by a network whose depth is the time of a differential equation.

    As `ODENetClassifier`, with a mean squared error of the standardised targets as loss.

    Parameters
    ----------
    block, hidden_dim, depth, activation, n_blocks, augment_dim, solver, tolerance, step_size, gradient
        As in `ODENetClassifier`.
    max_epochs, batch_size, lr, early_stopping, validation_fraction, patience, callbacks, checkpoint_dir
        As in `ODENetClassifier`.
    device, random_state, verbose
        As in `ODENetClassifier`.

    Attributes
    ----------
    model_, history_, best_epoch_, stop_reason_, n_features_in_, feature_names_in_
        As in `ODENetClassifier`; the module answers in scaled targets.

    References
    ----------
    Chen et al. (2018), section 3; Dupont et al. (2019).

    Examples
    --------
    >>> import numpy as np
    >>> from latentode import ODENetRegressor
    >>> X = np.linspace(-2, 2, 100)[:, None]
    >>> model = ODENetRegressor(max_epochs=60, lr=0.02, random_state=0, verbose=0).fit(X, X[:, 0] ** 2)
    >>> bool(model.score(X, X[:, 0] ** 2) > 0.9)
    True
    """

    @suggests_names
    def __init__(
        self,
        *,
        block: str = "ode",
        hidden_dim: int = 64,
        depth: int = 2,
        activation: str = "tanh",
        n_blocks: int = 6,
        augment_dim: int | None = None,
        solver: str | None = None,
        tolerance: float = 1e-3,
        step_size: float | None = None,
        gradient: str | None = None,
        max_epochs: int | None = None,
        batch_size: int = 128,
        lr: float = 1e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
        self.block = block
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.activation = activation
        self.n_blocks = n_blocks
        self.augment_dim = augment_dim
        self.solver = solver
        self.tolerance = tolerance
        self.step_size = step_size
        self.gradient = gradient
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from inputs and their targets.

        Parameters
        ----------
        X : array
            As in `ODENetClassifier.fit`: channels first, so `X.transpose(0, 3, 1, 2)` of images (n, H, W, C).
        y : array (n,) or (n, k)
            Targets, in any unit.
        sample_weight : array (n,), optional
            Factors of the losses of the rows, 0 or more; rows of weight 0 are as if they were not there.

        Returns
        -------
        self

        Raises
        ------
        ValueError, NonFiniteLossError, SolverError
            As in `ODENetClassifier.fit`.
        """
        self._check_parameters()
        X, y = read_inputs(self, X, y=y, y_numeric=True, multi_output=True)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        self._input_shape = X.shape[1:]
        self._single = y.ndim == 1
        inputs = as_network_inputs(X)
        targets = np.asarray(y, dtype=np.float64).reshape(len(X), -1)
        kept = weight > 0
        inputs, targets, weight = inputs[kept], targets[kept], weight[kept]
        beginning = self._beginning([inputs, targets, weight])
        split = split_rows(len(inputs), self.validation_fraction, beginning.rng)
        plan = self._plan_for(inputs[split.train], targets.shape[1])
        plan["target_mean"], plan["target_std"] = level_and_spread(targets[split.train])
        self._fit_network(plan, inputs, targets, weight, split, beginning, ODENet.regression_loss)
        return self

    def predict(self, X: Any, *, tolerance: float | None = None) -> NDArray[np.float64]:
        """Targets (n,) or (n, k), as `fit` was given them.

        Parameters
        ----------
        X : array
            As in `fit`.
        tolerance : float, optional
            As in `ODENetClassifier.decision_function`.
        """
        found = self._outputs(X, tolerance)
        return found[:, 0] if self._single else found

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, tolerance: float | None = None) -> float:
        """R² of the predictions; `tolerance` as in `predict`."""
        return float(r2_score(y, self.predict(X, tolerance=tolerance), sample_weight=sample_weight))

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "single": self._single}

    def _adopt_facts(self, facts: Mapping[str, Any]) -> None:
        super()._adopt_facts(facts)
        self._single = facts["single"]
        if not isinstance(self._single, bool) or (self._single and self._plan["n_outputs"] > 1):
            raise ValueError("single is not what the outputs say")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
