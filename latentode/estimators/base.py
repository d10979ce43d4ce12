"""What regressor and classifier share: from a table to a trained latent ODE."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from latentode import plotting
from latentode.checks import check_parameters
from latentode.estimators.arrays import OneSeries, SeriesPerRow
from latentode.estimators.beginning import beginning_of
from latentode.estimators.blueprint import Blueprint
from latentode.estimators.calibration import calibrate
from latentode.estimators.fitting import Objective, train
from latentode.estimators.forecaster import observed_rows, ties_by_value
from latentode.estimators.learned import Learned
from latentode.estimators.long_series import warn_of_long_series
from latentode.estimators.own_parts import check_direction, check_own_parts
from latentode.estimators.parameters import (
    CONSTRAINTS,
    TRAINING,
    UPDATE_CONSTRAINTS,
    check_parameter_names,
    device_of,
    window_length,
)
from latentode.estimators.persistence import PersistenceMixin
from latentode.estimators.target_likelihoods import (
    categorical_columns,
    check_values,
    likelihood_names,
    named_likelihoods,
)
from latentode.estimators.training_data import Roles, Scales, TrainingData, prepare, prepare_more
from latentode.exceptions import DataError, warn_user
from latentode.models.latent_ode import FARTHEST, MAX_STEPS, LatentODE, LossOptions, SolveOptions
from latentode.nn.initialisation import single_precision
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.seeding import numpy_generator, torch_generator
from latentode.series import SeriesLoader, SeriesTable, TableForm, TableLayout, open_table
from latentode.series.columns import factorize, some
from latentode.series.key_columns import NIXTLA_TARGET
from latentode.solvers import SOLVERS
from latentode.training import History

UPDATE_STEPS = 500  # of the optimiser, that an update takes by default
UPDATE_LR = 0.3  # of `lr`: large enough to learn from new rows, too small to forget the old ones at once


class SeriesEstimator(PersistenceMixin, BaseEstimator):
    """Abstract: an estimator whose parameters describe a latent ODE and its training."""

    history_: pd.DataFrame
    best_epoch_: int | None
    stop_reason_: str | None

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name; a misspelt name is answered with the one that was probably meant."""
        check_parameter_names(type(self).__name__, params, list(self.get_params(deep=False)))
        return super().set_params(**params)

    def plot_history(self, *, ax: Any = None) -> Any:
        """Draw the losses of training per epoch, with the epoch whose weights were kept; returns the Axes."""
        check_is_fitted(self, "model_")
        return plotting.plot_history(self.history_, ax=ax)

    def _check_parameters(self) -> None:
        check_parameters(type(self).__name__, self.get_params(deep=False), CONSTRAINTS)
        if self.free_bits > 0 and self.n_samples > 1:
            raise ValueError(
                f"free_bits={self.free_bits} needs n_samples=1: the importance-weighted bound of n_samples="
                f"{self.n_samples} has no KL term per dimension"
            )

    def _open(
        self, df: Any, ignored: Collection[Hashable] = ()
    ) -> tuple[TableForm, pd.DataFrame, TableLayout]:
        """The form of a training table, the long table in it, and the layout of that; `ignored` are no targets."""
        roles = {
            *(() if self.target_cols is None else self.target_cols),
            *self.static_cols,
            *self.control_cols,
            *ignored,
        }
        roles |= {*(self.error_cols or {}).values(), *named_likelihoods(self.likelihood)}
        form, frame = open_table(df, self.id_col, self.time_col, roles=roles)
        ignored = [name for name in ignored if name in frame]
        targets = self.target_cols
        if targets is None and form.is_nixtla and NIXTLA_TARGET in frame and NIXTLA_TARGET not in roles:
            targets = [NIXTLA_TARGET]  # the format says so: its other columns are known, not learned
        layout = TableLayout.infer(
            frame.drop(columns=ignored) if ignored else frame,
            id_col=form.id_col,
            time_col=form.time_col,
            target_cols=targets,
            static_cols=list(self.static_cols),
            control_cols=list(self.control_cols),
            control_interpolation=self.control_interpolation,
            error_cols=self.error_cols,
            categorical=categorical_columns(self.likelihood, self.target_cols),
        )
        return form, frame, replace(layout, single=form.single)

    def _fit_table(
        self,
        layout: TableLayout,
        table: SeriesTable,
        around: Callable[[LatentODE, torch.Generator], nn.Module] = lambda model, generator: model,
        *,
        calibrated: bool = False,
        arrays: OneSeries | SeriesPerRow | None = None,
    ) -> nn.Module:
        """Train on a table in the caller's units, and keep what predictions need.

        `around` makes the module that is trained, such as one with a classifier; it is what is returned.
        """
        check_direction(self.encoder, self.anchor)
        likelihoods = likelihood_names(self.likelihood, layout)
        check_values(table, likelihoods)
        window = window_length(self.window, layout, table)
        rng, checkpoint = beginning_of(type(self).__name__, self.get_params(deep=False), table)
        data = prepare(
            table,
            scaler=self.scaler,
            scaled=[LIKELIHOODS[name].scaled for name in likelihoods.values()],
            static_cols=layout.static_cols,
            window=window,
            validation_fraction=self.validation_fraction,
            rng=rng,
        )
        if calibrated and data.held_out is None:
            raise DataError(
                "calibrate=True needs validation series, and this training has none: set validation_fraction > 0 and "
                "give two series or more, or a window"
            )
        if window is None:
            warn_of_long_series(data.train, data.time_scale, layout.clock)
        learned = Learned(
            blueprint=self._blueprint(layout, likelihoods, data),
            layout=layout,
            time_scale=data.time_scale,
            scaler=data.scaler,
            covariates=data.covariates,
            anchor=self.anchor,
            context=self.context if isinstance(self.context, str) else float(self.context),
            window=window,
            span=window if window is not None else float(table.spans.max()),
            event_times=self.event_times,
            arrays=arrays,
        )
        generator = torch_generator(rng)
        with single_precision():
            model = learned.blueprint.build(generator)
            trained = around(model, generator)
        history = self._train(learned, model, trained, data, rng, checkpoint=checkpoint)
        if calibrated and data.held_out is not None:
            learned = _calibrated(learned, model.eval(), data.held_out)
        self._adopt(learned, model)
        self._keep_history(history)
        self._roles = Roles.of(data)
        return trained.eval()

    def _train(
        self,
        learned: Learned,
        model: LatentODE,
        trained: nn.Module,
        data: TrainingData,
        rng: np.random.Generator,
        **changes: Any,
    ) -> History:
        """Train a model, or a module `trained` around it, in place; `changes` come before the parameters."""
        device = device_of(self.device)
        model.run_on(self.engine)
        options = LossOptions(
            self.n_samples, float(self.free_bits), float(self.kinetic), float(self.jacobian)
        )
        objective = Objective(
            trained.to(device),
            learned.scaler,
            learned.context,
            learned.anchor,
            float(self.context_gaps),
            options,
            device,
        )
        if learned.blueprint.own_parts:
            _, batch = next(iter(SeriesLoader(data.train, self.batch_size, shuffle=False)))
            check_own_parts(
                model, objective.piece(batch, torch_generator(np.random.default_rng(0))), learned.latent_dim
            )
        parameters = {name: getattr(self, name) for name in TRAINING} | changes
        return train(data, objective, rng=rng, **parameters | {"callbacks": self.callbacks or ()})

    def _adopt(self, learned: Learned, model: LatentODE) -> None:
        """Be what a training left: of `fit`, or of a file."""
        self._learned = learned
        self.layout_ = learned.layout
        self.likelihoods_ = learned.likelihoods
        self.time_scale_ = learned.time_scale
        self.scaler_ = learned.scaler
        self.covariates_ = learned.covariates
        self.model_ = model.eval().run_on(self.engine)
        if learned.arrays is None:
            names = [str(name) for name in learned.layout.target_cols]
            self.feature_names_in_, self.n_features_in_ = np.array(names, dtype=object), len(names)
        else:
            if hasattr(self, "feature_names_in_"):  # of an earlier fit
                del self.feature_names_in_
            self.n_features_in_ = learned.arrays.n_features
        self._forecaster = learned.forecaster(model)

    def _update_table(self, table: SeriesTable, max_epochs: int | None, lr: float | None) -> None:
        """Train a copy of the model on more series in the scales that were learned, and be what that leaves."""
        check_parameters("update", {"max_epochs": max_epochs, "lr": lr}, UPDATE_CONSTRAINTS)
        learned, rng = self._learned, numpy_generator(self.random_state)
        check_values(table, learned.likelihoods)
        data = prepare_more(
            table,
            Scales(learned.time_scale, learned.scaler, learned.covariates),
            self._roles,
            window=learned.window,
            validation_fraction=self.validation_fraction,
            rng=rng,
        )
        model = copy.deepcopy(self.model_)
        enough = max(1, round(UPDATE_STEPS / -(-len(data.train) // self.batch_size)))
        history = self._train(
            learned,
            model,
            model,
            data,
            rng,
            max_epochs=max_epochs or min(enough, self.max_epochs or enough),
            lr=UPDATE_LR * self.lr if lr is None else lr,
            kl_warmup=0.0,
            piece_warmup=0.0,
        )
        if learned.calibration is not None:
            learned = _recalibrated(learned, model.eval(), data.held_out)
        self._adopt(learned, model)
        self._add_history(history)
        self._roles = self._roles.joined(Roles.of(data))

    def _add_history(self, history: History) -> None:
        """Go on with the count of epochs."""
        before = int(self.history_["epoch"].max())
        more = pd.DataFrame(history.as_table())
        more["epoch"] += before
        self.history_ = pd.concat([self.history_, more], ignore_index=True)
        self.stop_reason_ = history.stop_reason
        self.best_epoch_ = None if history.best_epoch is None else before + history.best_epoch

    def _keep_history(self, history: History) -> None:
        self.history_ = pd.DataFrame(history.as_table())
        self.best_epoch_ = history.best_epoch
        self.stop_reason_ = history.stop_reason

    def _blueprint(self, layout: TableLayout, likelihoods: dict[Any, str], data: TrainingData) -> Blueprint:
        n_categories = [len(layout.categories.get(name, (0, 1))) for name in layout.target_cols]
        rates = [] if self.event_times is None else data.event_rates(self.event_times == "poisson_per_target")
        return Blueprint(
            encoder=self.encoder,
            field=self.field,
            likelihoods=tuple(likelihoods.values()),
            target_facts=tuple(data.target_facts(n_categories)),
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            depth=self.depth,
            activation=self.activation,
            encoder_dim=self.encoder_dim or self.hidden_dim,
            time_dependent=self.time_dependent,
            backwards=self.anchor == "start",
            n_static=data.covariates.n_static if layout.static_cols else 0,
            n_controls=len(layout.control_cols),
            event_rates=tuple(rates),
            options=self._solve_options(),
        )

    def _solve_options(self) -> SolveOptions:
        adaptive = SOLVERS[self.solver].error_order is not None
        step_size = self.step_size if adaptive or self.step_size is not None else 0.1
        # fixed steps need as many as reach the farthest forecast
        max_steps = MAX_STEPS if step_size is None else max(MAX_STEPS, int(FARTHEST / step_size))
        return SolveOptions(self.solver, self.rtol, self.atol, step_size, self.gradient, max_steps)


def _calibrated(learned: Learned, model: LatentODE, held_out: SeriesTable) -> Learned:
    """What was learned, and how wide predictions must be by series that were not trained on."""
    continuous = [LIKELIHOODS[name].scaled for name in learned.likelihoods.values()]
    try:
        found = calibrate(
            learned.forecaster(model),
            held_out,
            continuous=continuous,
            latent_dim=learned.latent_dim,
            rng=np.random.default_rng(0),  # of gaps and windows: nothing that the training draws
        )
    except KeyboardInterrupt:
        warn_user("interrupted while calibrating: the model is trained, but its intervals are not calibrated")
        return learned
    few = [name for d, name in enumerate(learned.likelihoods) if continuous[d] and d in found.uncalibrated]
    if few:
        warn_user(
            f"too few observations in the {len(held_out)} validation series to calibrate {some(few)}: their intervals "
            "stay as learned; raise validation_fraction"
        )
    return replace(learned, calibration=found)


def _recalibrated(learned: Learned, model: LatentODE, held_out: SeriesTable | None) -> Learned:
    if held_out is not None:
        return _calibrated(learned, model, held_out)
    warn_user("this update has no validation series: the intervals keep the calibration that they had before")
    return learned


def in_order_of_ids(table: SeriesTable) -> SeriesTable:
    """Series sorted by id, so that the order of rows does not matter to `fit`."""
    return table.take(table.order_of_ids())


def observed_series(table: SeriesTable) -> SeriesTable:
    """Only rows and series that observe something, in an order that the caller's rows do not decide."""
    table = ties_by_value(observed_rows(table))
    anything = np.zeros(len(table), dtype=bool)
    anything[table.series[~np.isnan(table.values).all(axis=1)]] = True
    return table.take(np.flatnonzero(anything))


def last_times(df: pd.DataFrame, layout: TableLayout) -> pd.Series:
    """Last time at which each series was observed, by id."""
    observed = df[df[list(layout.target_cols)].notna().any(axis=1)]
    codes, ids = factorize(observed[layout.id_col])
    return observed[layout.time_col].groupby(codes).max().set_axis(ids)
