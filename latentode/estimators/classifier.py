"""`LatentODEClassifier`: the class of an irregular series, or of each of its rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from narwhals.typing import IntoDataFrameT
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from latentode.checks import OneOf, check_parameters
from latentode.estimators import labels as of
from latentode.estimators.arrays import SeriesPerRow, is_array, refuse_roles
from latentode.estimators.base import SeriesEstimator, in_order_of_ids, observed_series
from latentode.estimators.forecaster import Prediction
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import CONSTRAINTS, suggests_names
from latentode.estimators.readouts import POSTERIOR_SAMPLES, shared_noise
from latentode.estimators.saved_checks import check_classes
from latentode.exceptions import DataError
from latentode.models.classifier import ClassifyingLatentODE
from latentode.models.latent_ode import LatentODE
from latentode.seeding import RandomState
from latentode.series import SeriesTable
from latentode.series.plain_values import as_plain, from_plain
from latentode.training import Callback


class LatentODEClassifier(ClassifierMixin, SeriesEstimator):
    """Classify irregular time series, or their rows, by the latent state that explains them.

    A latent ODE learns the series themselves, and a small network reads the class off its state; both are trained
    together, so that series without a label teach, too.

    Good where there are few labels, long gaps and missing cells. Not where a class shows in a detail that hardly
    changes the series: the state keeps what explains the observations.

    Parameters
    ----------
    labels_per : {"series", "row"}, default "series"
        Whether a series has one label, or each of its rows.
    class_weight : "balanced", mapping from class to weight, or None, default None
        As in scikit-learn: "balanced" gives all classes the same total weight.
    label_weight : float, default 1.0
        Weight of the cross-entropy of a label beside the bound per observed cell.
    context : "all", "random" or float in (0, 1), default "all"
        As in `LatentODERegressor`, but by default everything is read.
    id_col, time_col, target_cols and all others
        As in `LatentODERegressor`.

    Attributes
    ----------
    classes_ : array (C,)
        In increasing order, as are the columns of `predict_proba`.
    classifier_ : latentode.models.classifier.ClassifyingLatentODE
        The trained torch module; `model_` is the latent ODE in it.
    history_, layout_, time_scale_, scaler_, covariates_, likelihoods_, best_epoch_, stop_reason_, feature_names_in_
        As in `LatentODERegressor`; `history_` also has the cross-entropy and the accuracy.

    References
    ----------
    Rubanova, Chen, Duvenaud (2019), Latent ODEs for Irregularly-Sampled Time Series, section 4.4.

    Examples
    --------
    >>> from latentode import LatentODEClassifier
    >>> from latentode.datasets import make_spirals
    >>> df = make_spirals(n_series=20, n_obs=20, random_state=0)
    >>> side = df.groupby("id")["x"].mean() > 0
    >>> model = LatentODEClassifier(max_epochs=2, random_state=0, verbose=0).fit(df, side)
    >>> model.predict_proba(df).shape
    (20, 2)
    """

    _kind = "LatentODEClassifier"

    classifier_: ClassifyingLatentODE

    @suggests_names
    def __init__(
        self,
        *,
        labels_per: str = "series",
        class_weight: str | Mapping[Any, float] | None = None,
        label_weight: float = 1.0,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
        target_cols: Sequence[Hashable] | None = None,
        static_cols: Sequence[Hashable] = (),
        control_cols: Sequence[Hashable] = (),
        control_interpolation: str = "linear",
        error_cols: Mapping[Hashable, Hashable] | None = None,
        latent_dim: int = 8,
        hidden_dim: int = 64,
        depth: int = 2,
        activation: str = "tanh",
        encoder_dim: int | None = None,
        encoder: str | nn.Module = "gru",
        field: str | nn.Module = "mlp",
        likelihood: str | Mapping[Hashable, str] = "gaussian",
        event_times: str | None = None,
        time_dependent: bool = False,
        solver: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-4,
        step_size: float | None = None,
        gradient: str = "discrete_adjoint",
        engine: str = "auto",
        context: str | float = "all",
        context_gaps: float = 0.1,
        anchor: str = "end",
        window: Any = None,
        n_samples: int = 1,
        kl_weight: float = 1.0,
        kl_schedule: str = "linear",
        kl_warmup: float = 0.1,
        free_bits: float = 0.0,
        kinetic: float = 0.0,
        jacobian: float = 0.0,
        piece_warmup: float = 0.2,
        max_epochs: int | None = None,
        batch_size: int = 50,
        lr: float = 1e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        scaler: str = "standard",
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
        self.labels_per = labels_per
        self.class_weight = class_weight
        self.label_weight = label_weight
        self.id_col = id_col
        self.time_col = time_col
        self.target_cols = target_cols
        self.static_cols = static_cols
        self.control_cols = control_cols
        self.control_interpolation = control_interpolation
        self.error_cols = error_cols
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.activation = activation
        self.encoder_dim = encoder_dim
        self.encoder = encoder
        self.field = field
        self.likelihood = likelihood
        self.event_times = event_times
        self.time_dependent = time_dependent
        self.solver = solver
        self.rtol = rtol
        self.atol = atol
        self.step_size = step_size
        self.gradient = gradient
        self.engine = engine
        self.context = context
        self.context_gaps = context_gaps
        self.anchor = anchor
        self.window = window
        self.n_samples = n_samples
        self.kl_weight = kl_weight
        self.kl_schedule = kl_schedule
        self.kl_warmup = kl_warmup
        self.free_bits = free_bits
        self.kinetic = kinetic
        self.jacobian = jacobian
        self.piece_warmup = piece_warmup
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scaler = scaler
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, df: Any, y: Any) -> LatentODEClassifier:
        """Learn from a table of series and their labels.

        Ctrl-C after the first epoch ends the training with a warning and leaves a fitted model, with the weights of the
        best epoch so far; before that it is a KeyboardInterrupt. A loss that is not finite takes the training back to
        the last good epoch with half the learning rate, at most three times.

        Parameters
        ----------
        df : DataFrame
            Long table, as in `LatentODERegressor.fit`.
            An array of numbers (N, p) is one series per row, observed at the times 0, 1, ..., p - 1 (NaN where not);
            answers to arrays are arrays.
        y : mapping, Series, sequence or column name
            The labels. With `labels_per="series"` a mapping or a pandas Series from id to label, or one label per row
            of `df`, the same in all rows of a series; with "row" one label per row. A Series with the index of `df`, in
            any order, is matched by it; columns of polars and pyarrow are one label per row. The name of a column of
            `df` stands for that column, which is then no target. A missing label (None, NaN) is no label: what was
            observed is learned from all the same.

        Returns
        -------
        self

        Raises
        ------
        DataError
            When the table or the labels cannot be used.
        ValueError
            When a parameter is out of range.
        NonFiniteLossError
            When a loss is not finite after three restarts, too; with the series of the batch.
        SolverError
            When the dynamics of a series can be solved neither by `solver` nor by those that are tried after it, also
            after three restarts.
        """
        self._check_parameters()
        if y is None:
            raise ValueError(
                "LatentODEClassifier requires y to be passed, but the target y is None: labels must be given as a "
                "mapping from id to label, one label per row, or a column name"
            )
        arrays, df, labels = self._arrays(df, of.in_pandas(y))
        column = labels if isinstance(labels, Hashable) and not isinstance(labels, tuple) else None
        if column is not None and self.target_cols is not None and column in list(self.target_cols):
            raise ValueError(f"column {column!r} holds the labels: it cannot be in target_cols, too")
        form, frame, layout = self._open(df, ignored=() if column is None else (column,))
        table = layout.read(frame, require_observed=True)
        rows = frame.set_axis(form.index)  # labels may be matched by the caller's index
        if self.labels_per == "series":
            by_id = of.series_labels(rows, labels, layout.id_col)
            found = of.encoded(by_id)
            of.refuse_leaks(frame, frame[layout.id_col].map(by_id), layout.target_cols)
            codes = pd.Series(found.codes, index=by_id.index)
            table = replace(table, labels=of.per_series(codes, table))
        else:
            by_row = of.row_labels(rows, labels)
            found = of.encoded(by_row)
            of.refuse_leaks(frame, by_row, layout.target_cols)
            table = replace(table, row_labels=found.codes[table.rows])
        weights = torch.as_tensor(of.class_weights(self.class_weight, found), dtype=torch.float32)

        def around(model: LatentODE, generator: torch.Generator) -> nn.Module:
            return ClassifyingLatentODE(
                model,
                self.latent_dim,
                self.hidden_dim,
                weights,
                label_weight=float(self.label_weight),
                per_row=self.labels_per == "row",
                generator=generator,
            )

        trained = self._fit_table(layout, observed_series(in_order_of_ids(table)), around, arrays=arrays)
        assert isinstance(trained, ClassifyingLatentODE)
        self.classifier_ = trained
        self.classes_ = found.classes
        self._per_row = self.labels_per == "row"
        return self

    def _arrays(self, X: Any, y: Any) -> tuple[SeriesPerRow | None, Any, Any]:
        """Arrays as a table, its labels by id; None before a table and its labels as they are."""
        if not is_array(X):
            return None, X, y
        refuse_roles(self.get_params(deep=False))
        if self.labels_per == "row":
            raise ValueError('labels_per="row" needs a table: each row of an array is a series')
        X, y = validate_data(
            self, X, y, dtype=np.float64, ensure_all_finite="allow-nan", ensure_min_features=2
        )
        check_classification_targets(y)
        arrays = SeriesPerRow(X.shape[1])
        return arrays, arrays.table(X), dict(enumerate(y.tolist()))

    def predict_proba(self, df: IntoDataFrameT) -> IntoDataFrameT:
        """Probability of every class.

        Parameters
        ----------
        df : DataFrame
            Series as in `fit`, trained on or new.

        Returns
        -------
        DataFrame
            One column per class; one row per series, indexed by id, in order of first appearance, or with
            `labels_per="row"` one row per row of `df`, with its index. For a table of another library than pandas one
            of that library, per series with an id column; its columns are called as the classes are written.
        """
        form, table = self._known(df)
        found = pd.DataFrame(self._probabilities(table), columns=self.classes_)
        return form.write_rows(found) if self._per_row else form.write_series(found, table.ids)

    def predict(self, df: Any) -> Any:
        """The most probable class of each series, indexed by id, or of each row, with the index of `df`.

        A pandas Series; for a table of another library without an index, a table of id and `label`, or with
        `labels_per="row"` a column.
        """
        form, table = self._known(df)
        found = self._classes_of(table)
        if self._per_row:
            return form.write_row_labels(pd.Series(found, name="label"))
        return form.write_series_labels(found, table.ids)

    def score(self, df: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of right answers among the labels of the series, or rows, of `df`; labels `y` as in `fit`.

        `sample_weight` is for arrays only, one weight per label, as in scikit-learn.
        """
        if self._takes_arrays:
            return float(accuracy_score(y, self.predict(df), sample_weight=sample_weight))
        if sample_weight is not None:
            raise ValueError("sample_weight must be None: every label counts the same")
        form, frame = self.layout_.open(df)
        table, rows = self.layout_.read(frame), frame.set_axis(form.index)
        given = of.in_pandas(y)
        id_col = self.layout_.id_col
        truth = of.row_labels(rows, given) if self._per_row else of.series_labels(rows, given, id_col)
        known = truth.notna().to_numpy(dtype=bool)
        if not known.any():
            raise DataError("nothing to score: no label is given")
        return float(np.mean(self._classes_of(table)[known] == truth.to_numpy()[known]))

    @property
    def _takes_arrays(self) -> bool:
        check_is_fitted(self, "classifier_")
        return self._learned.arrays is not None

    def _known(self, df: Any) -> tuple[Any, SeriesTable]:
        """Form and series of a table, or of an array."""
        check_is_fitted(self, "classifier_")
        arrays = self._learned.arrays
        if isinstance(arrays, SeriesPerRow):
            X = validate_data(self, df, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
            return arrays, self.layout_.read(arrays.table(X))
        form, frame = self.layout_.open(df)
        return form, self.layout_.read(frame)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _probabilities(self, table: SeriesTable) -> NDArray:
        """Probabilities of the series (N, C), or of the rows (R, C)."""
        return self._of_rows(table) if self._per_row else self._of_series(table)

    def _classes_of(self, table: SeriesTable) -> NDArray:
        return self.classes_[self._probabilities(table).argmax(axis=1)]

    @torch.no_grad()
    def _of_series(self, table: SeriesTable) -> NDArray:
        """Probabilities (N, C) from the states at the anchors."""
        posterior = self._forecaster.posterior(table)
        eps = shared_noise(POSTERIOR_SAMPLES, self._learned.latent_dim)(np.arange(len(table)))
        z0 = posterior.sample(eps).to(self._forecaster.device)
        return self.classifier_.probabilities(z0).cpu().double().numpy()

    def _of_rows(self, table: SeriesTable) -> NDArray:
        """Probabilities (R, C) from the states at the rows, in their order."""
        queries = replace(table, values=np.empty((table.n_rows, 0)), errors=None)

        def readout(model: LatentODE, prediction: Prediction) -> Tensor:
            return self.classifier_.probabilities(prediction.z)

        noise = shared_noise(POSTERIOR_SAMPLES, self._learned.latent_dim)
        return self._forecaster.predict(table, queries, noise, readout)

    def _module(self) -> nn.Module:
        return self.classifier_

    def _readout_state(self) -> dict[str, Any]:
        weight = self.classifier_.label_weight
        return {"classes": as_plain(self.classes_), "label_weight": weight, "per_row": self._per_row}

    def _module_around(self, model: LatentODE, learned: Learned, readout: Mapping[str, Any]) -> nn.Module:
        constraints = {"label_weight": CONSTRAINTS["label_weight"], "per_row": (OneOf([True, False]),)}
        check_parameters("readout", {name: readout[name] for name in constraints}, constraints)
        return ClassifyingLatentODE(
            model,
            learned.latent_dim,
            learned.blueprint.hidden_dim,
            torch.ones(len(_classes(readout))),
            label_weight=readout["label_weight"],
            per_row=readout["per_row"],
            generator=torch.Generator(),
        )

    def _adopt_module(self, module: nn.Module, readout: Mapping[str, Any]) -> None:
        assert isinstance(module, ClassifyingLatentODE)
        self.classifier_ = module
        self.classes_ = _classes(readout)
        self._per_row = module.per_row


def _classes(readout: Mapping[str, Any]) -> NDArray[Any]:
    return check_classes(from_plain(readout["classes"]))
