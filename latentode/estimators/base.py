"""What regressor and classifier share: from a table to a trained latent ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from latentode import plotting
from latentode.checks import check_parameters
from latentode.estimators.beginning import beginning_of
from latentode.estimators.fitting import Objective, TrainingData, prepare, train
from latentode.estimators.forecaster import Forecaster, observed_rows, ties_by_value
from latentode.estimators.forecasts import REACH
from latentode.estimators.own_parts import check_direction, check_own_parts, own_copy, own_field
from latentode.estimators.parameters import CONSTRAINTS, device_of, window_length
from latentode.estimators.target_likelihoods import categorical_columns, check_values, likelihood_names
from latentode.models.build import build_latent_ode
from latentode.models.latent_ode import MAX_STEPS, LatentODE, LossOptions, SolveOptions
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS, likelihood_for
from latentode.seeding import torch_generator
from latentode.series import SeriesLoader, SeriesTable, TableLayout
from latentode.solvers import SOLVERS


class SeriesEstimator(BaseEstimator):
    """Abstract: an estimator whose parameters describe a latent ODE and its training."""

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

    def _infer_layout(self, df: pd.DataFrame, ignored: tuple[Any, ...] = ()) -> TableLayout:
        return TableLayout.infer(
            df.drop(columns=list(ignored)) if ignored else df,
            id_col=self.id_col,
            time_col=self.time_col,
            target_cols=self.target_cols,
            static_cols=list(self.static_cols),
            control_cols=list(self.control_cols),
            control_interpolation=self.control_interpolation,
            error_cols=self.error_cols,
            categorical=categorical_columns(self.likelihood, self.target_cols),
        )

    def _fit_table(
        self,
        layout: TableLayout,
        table: SeriesTable,
        around: Callable[[LatentODE, torch.Generator], nn.Module] = lambda model, generator: model,
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
        device = device_of(self.device)
        generator = torch_generator(rng)
        model = self._build(layout, likelihoods, data, generator)
        trained = around(model, generator).to(device)
        options = LossOptions(
            self.n_samples, float(self.free_bits), float(self.kinetic), float(self.jacobian)
        )
        objective = Objective(trained, data.scaler, self._share(), self.anchor, options, device)
        if isinstance(self.encoder, nn.Module) or isinstance(self.field, nn.Module):
            _, batch = next(iter(SeriesLoader(data.train, self.batch_size, shuffle=False)))
            check_own_parts(
                model, objective.piece(batch, torch_generator(np.random.default_rng(0))), self.latent_dim
            )
        history = train(
            data,
            objective,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            early_stopping=self.early_stopping,
            patience=self.patience,
            kl_weight=self.kl_weight,
            kl_schedule=self.kl_schedule,
            kl_warmup=self.kl_warmup,
            piece_warmup=self.piece_warmup,
            callbacks=self.callbacks or (),
            verbose=self.verbose,
            rng=rng,
            checkpoint=checkpoint,
        )
        self.layout_ = layout
        self.likelihoods_ = likelihoods
        self.time_scale_ = data.time_scale
        self.scaler_ = data.scaler
        self.covariates_ = data.covariates
        self.model_ = model.eval()
        self.history_ = pd.DataFrame(history.as_table())
        self.best_epoch_ = history.best_epoch
        self.stop_reason_ = history.stop_reason
        self.feature_names_in_ = np.array([str(name) for name in layout.target_cols], dtype=object)
        self.n_features_in_ = len(layout.target_cols)
        self._span = window if window is not None else float(table.spans.max())
        self._forecaster = Forecaster(
            model, data.time_scale, data.scaler, data.covariates, self.anchor, window, device
        )
        # parameters may be set anew without another fit
        self._latent_dim, self._first_part = self.latent_dim, self._share()
        self._rate_per_target = self.event_times == "poisson_per_target"
        return trained.eval()

    def _build(
        self, layout: TableLayout, likelihoods: dict[Any, str], data: TrainingData, generator: torch.Generator
    ) -> LatentODE:
        n_categories = [len(layout.categories.get(name, (0, 1))) for name in layout.target_cols]
        rates = [] if self.event_times is None else data.event_rates(self.event_times == "poisson_per_target")
        return build_latent_ode(
            encoder=own_copy(self.encoder, ENCODERS),
            field=own_field(self.field, FIELDS, self.time_dependent),
            likelihood=likelihood_for(list(likelihoods.values()), data.target_facts(n_categories)),
            decoder=MLPDecoder,
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            depth=self.depth,
            activation=self.activation,
            encoder_dim=self.encoder_dim or self.hidden_dim,
            time_dependent=self.time_dependent,
            backwards=self.anchor == "start",
            n_static=data.covariates.n_static if layout.static_cols else 0,
            n_controls=len(layout.control_cols),
            event_rates=rates,
            options=self._solve_options(),
            generator=generator,
        )

    def _solve_options(self) -> SolveOptions:
        adaptive = SOLVERS[self.solver].error_order is not None
        step_size = self.step_size if adaptive or self.step_size is not None else 0.1
        # fixed steps need as many as reach the farthest forecast
        max_steps = MAX_STEPS if step_size is None else max(MAX_STEPS, int(4 * REACH / step_size))
        return SolveOptions(self.solver, self.rtol, self.atol, step_size, self.gradient, max_steps)

    def _share(self) -> str | float:
        """`context`, a number of any kind as a float."""
        return self.context if isinstance(self.context, str) else float(self.context)


def in_order_of_ids(table: SeriesTable) -> SeriesTable:
    """Series sorted by id, so that the order of rows does not matter to `fit`."""
    try:
        order = table.ids.argsort()
    except TypeError:  # ids of several types
        order = np.argsort([f"{type(name).__name__} {name!r}" for name in table.ids])
    return table.take(np.asarray(order, dtype=np.int64))


def observed_series(table: SeriesTable) -> SeriesTable:
    """Only rows and series that observe something, in an order that the caller's rows do not decide."""
    table = ties_by_value(observed_rows(table))
    anything = np.zeros(len(table), dtype=bool)
    anything[table.series[~np.isnan(table.values).all(axis=1)]] = True
    return table.take(np.flatnonzero(anything))
