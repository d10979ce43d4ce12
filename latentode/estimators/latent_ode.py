"""`LatentODERegressor`: one table of irregular series in, forecasts with uncertainty at any time out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin

from latentode.checks import check_parameters
from latentode.estimators.fitting import Objective, prepare, train
from latentode.estimators.forecaster import Forecaster, observed_rows, ties_by_value
from latentode.estimators.forecasts import REACH, ForecastsMixin
from latentode.estimators.parameters import CONSTRAINTS, device_of, window_length
from latentode.models.latent_ode import MAX_STEPS, SolveOptions, build_latent_ode
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.seeding import RandomState, numpy_generator, torch_generator
from latentode.series import SeriesTable, TableLayout
from latentode.solvers import SOLVERS
from latentode.training import Callback


class LatentODERegressor(ForecastsMixin, RegressorMixin, BaseEstimator):
    """Forecast and interpolate irregular time series with one continuous-time model of all of them.

    A recognition network reads the observations of a series, at whatever times they were made and with whatever
    gaps, and gives a Gaussian over a latent state; an ordinary differential equation carries the state to any time;
    a decoder gives the distribution of the observations there. All parts are learned together from a table of
    series by maximising the evidence lower bound.

    Good for many series of the same kind, each sampled irregularly or incompletely, or one long series (with
    `window`). Not for series whose future depends on inputs that are not in the table.

    Parameters
    ----------
    id_col, time_col : str, default "id" and "time"
        Columns with the name of the series and the time (numbers, or datetimes with or without time zone).
    target_cols : list of str, optional
        Columns to learn; default: all numeric columns that have no other role. NaN means not observed.
    latent_dim : int, default 8
        Size of the latent state.
    hidden_dim : int, default 64
        Width of the hidden layers of field and decoder.
    depth : int, default 2
        Hidden layers of the field.
    encoder_dim : int, optional
        Size of the encoder's state; default: `hidden_dim`.
    encoder : {"gru"}, default "gru"
        Recognition network.
    field : {"mlp"}, default "mlp"
        Right-hand side of the differential equation.
    likelihood : {"gaussian"}, default "gaussian"
        Distribution of an observation: Gaussian, with noise learned per target.
    time_dependent : bool, default False
        Whether the dynamics may depend on absolute time, not only on the state.
    solver : str, default "dopri5"
        "dopri5" and "tsit5" choose their own steps; "rk4" and "euler" take steps of `step_size`.
    rtol, atol : float, default 1e-3 and 1e-4
        Tolerances of an adaptive solver, for latent states of order 1.
    step_size : float, optional
        Fixed steps of this size, in model time (`time_scale_.unit` is one unit of it in your time; a typical series
        lasts 5 to 80 units). Default: the solver's own steps, or 0.1 for solvers that have none.
    gradient : {"discrete_adjoint", "backprop"}, default "discrete_adjoint"
        How the solve is differentiated; both are exact, the first needs less memory.
    context : "random", "all" or float in (0, 1), default "random"
        What the encoder reads of a training series. "random": a random piece, and the likelihood scores everything
        from its first row on, so that one model learns to fill gaps and to forecast. "all": everything, as a
        variational autoencoder (Chen et al.); fills gaps, forecasts poorly. A number: the rows in this first part
        of the time (Rubanova et al.).
    anchor : {"start", "end"}, default "end"
        Whether the latent state belongs to the first row of the context, as in the papers, or to the last one; it is
        solved in both directions from there. "end" forecasts better: the way to the future is shorter.
    window : float, timedelta or str, optional
        Train on random windows of this length (in the unit of the time column; a Timedelta such as "3650D" for
        datetimes), for one or few long series. Answers are then read from parts of half a window, counted from the
        end: a forecast from the last one; a time inside the record from the part it lies in or, in a gap, from the
        one before, so that the curve may jump between parts.
    n_samples : int, default 1
        Posterior samples per training series; more than one gives the tighter importance-weighted bound.
    kl_weight : float, default 1.0
        Final weight of the KL term; 1 is the evidence lower bound.
    kl_warmup : float, default 0.1
        Share of the planned epochs over which that weight grows from 0, linearly.
    piece_warmup : float, default 0.2
        With `context="random"`, share of the planned epochs over which the pieces grow from a tenth of a series to
        the whole of it; 0 has whole ones from the beginning. More helps where a series turns many times.
    max_epochs : int, optional
        Passes over the training series; default: as many as make about 2,000 steps of the optimiser.
    batch_size : int, default 50
        Series per optimiser step.
    lr : float, default 0.01
        Largest learning rate of Adam; it rises, and falls to almost 0 at the last of the planned epochs.
    early_stopping : bool, default True
        Whether to stop when the validation loss has not improved for `patience` epochs.
    validation_fraction : float, default 0.1
        Share of the series that is held out to choose the epoch whose weights are kept; 0 holds none out. Of a
        single series with `window`, its end is held out; a single series without `window` has no validation.
    patience : int, optional
        Epochs; default: a fifth of the planned ones, at least 10.
    scaler : {"standard", "robust", "minmax", "series"}, default "standard"
        How values are scaled, by training rows only. "series" takes level and spread of each series from its own
        context, for series that drift out of the training range.
    callbacks : list, optional
        `latentode.training.Callback` objects, or functions of an epoch's record (True stops the training).
    device : str, default "auto"
        "auto" takes a GPU where there is one; otherwise a name that torch knows.
    random_state : int, Generator, RandomState or None, default None
        An int makes `fit` and `sample` repeatable.
    verbose : int, default 1
        0 hides the progress bar.

    Attributes
    ----------
    history_ : DataFrame
        One row per epoch: losses per observed cell, their parts, learning rate, gradient norm, seconds.
    model_ : latentode.models.latent_ode.LatentODE
        The trained torch module.
    layout_, time_scale_, scaler_
        Column roles and the scales, learned from training rows.
    best_epoch_ : int or None
        Epoch whose weights are kept; None without validation (the last one).
    feature_names_in_ : array of str
        Target columns.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations, section 5.
    Rubanova, Chen, Duvenaud (2019), Latent ODEs for Irregularly-Sampled Time Series.

    Examples
    --------
    >>> from latentode import LatentODERegressor
    >>> from latentode.datasets import make_spirals
    >>> df = make_spirals(n_series=20, n_obs=20, random_state=0)
    >>> model = LatentODERegressor(max_epochs=2, random_state=0, verbose=0).fit(df)
    >>> model.predict(df[df["id"] == 3], times=[4.0, 5.0]).shape
    (2, 4)
    """

    def __init__(
        self,
        *,
        id_col: Hashable = "id",
        time_col: Hashable = "time",
        target_cols: Sequence[Hashable] | None = None,
        latent_dim: int = 8,
        hidden_dim: int = 64,
        depth: int = 2,
        encoder_dim: int | None = None,
        encoder: str = "gru",
        field: str = "mlp",
        likelihood: str = "gaussian",
        time_dependent: bool = False,
        solver: str = "dopri5",
        rtol: float = 1e-3,
        atol: float = 1e-4,
        step_size: float | None = None,
        gradient: str = "discrete_adjoint",
        context: str | float = "random",
        anchor: str = "end",
        window: Any = None,
        n_samples: int = 1,
        kl_weight: float = 1.0,
        kl_warmup: float = 0.1,
        piece_warmup: float = 0.2,
        max_epochs: int | None = None,
        batch_size: int = 50,
        lr: float = 1e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        scaler: str = "standard",
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
        self.id_col = id_col
        self.time_col = time_col
        self.target_cols = target_cols
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.depth = depth
        self.encoder_dim = encoder_dim
        self.encoder = encoder
        self.field = field
        self.likelihood = likelihood
        self.time_dependent = time_dependent
        self.solver = solver
        self.rtol = rtol
        self.atol = atol
        self.step_size = step_size
        self.gradient = gradient
        self.context = context
        self.anchor = anchor
        self.window = window
        self.n_samples = n_samples
        self.kl_weight = kl_weight
        self.kl_warmup = kl_warmup
        self.piece_warmup = piece_warmup
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.scaler = scaler
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, df: pd.DataFrame, y: None = None) -> LatentODERegressor:
        """Learn from a table of series.

        Parameters
        ----------
        df : DataFrame
            Long table: one row per series and time, in any order, with the columns of the constructor. Series may
            differ in length and times, times may repeat, NaN in a target means not observed.
        y : None
            Must stay None: the targets are columns of `df`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            When the table cannot be used; the message names column, series or row.
        ValueError
            When a parameter is out of range.
        """
        check_parameters(type(self).__name__, self.get_params(deep=False), CONSTRAINTS)
        if y is not None:
            raise ValueError(
                "y must be None: the targets are columns of the table; name them with target_cols="
            )
        layout = TableLayout.infer(
            df, id_col=self.id_col, time_col=self.time_col, target_cols=self.target_cols
        )
        table = _in_order_of_ids(layout.read(df, require_observed=True))
        table = _observed_series(table)
        window = window_length(self.window, layout, table)
        rng = numpy_generator(self.random_state)
        data = prepare(
            table,
            scaler=self.scaler,
            window=window,
            validation_fraction=self.validation_fraction,
            rng=rng,
        )
        device = device_of(self.device)
        model = build_latent_ode(
            len(layout.target_cols),
            encoder=ENCODERS[self.encoder],
            field=FIELDS[self.field],
            likelihood=LIKELIHOODS[self.likelihood],
            decoder=MLPDecoder,
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            depth=self.depth,
            encoder_dim=self.encoder_dim or self.hidden_dim,
            time_dependent=self.time_dependent,
            backwards=self.anchor == "start",
            options=self._solve_options(),
            generator=torch_generator(rng),
        ).to(device)
        history = train(
            data,
            Objective(model, data.scaler, self._share(), self.anchor, self.n_samples, device),
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            early_stopping=self.early_stopping,
            patience=self.patience,
            kl_weight=self.kl_weight,
            kl_warmup=self.kl_warmup,
            piece_warmup=self.piece_warmup,
            callbacks=self.callbacks or (),
            verbose=self.verbose,
            rng=rng,
        )
        self.layout_ = layout
        self.time_scale_ = data.time_scale
        self.scaler_ = data.scaler
        self.model_ = model.eval()
        self.history_ = pd.DataFrame(history.as_table())
        self.best_epoch_ = history.best_epoch
        self.feature_names_in_ = np.array([str(name) for name in layout.target_cols], dtype=object)
        self.n_features_in_ = len(layout.target_cols)
        self._span = window if window is not None else float(table.spans.max())
        self._forecaster = Forecaster(model, data.time_scale, data.scaler, self.anchor, window, device)
        self._latent_dim = self.latent_dim  # parameters may be set anew without another fit
        return self

    def _solve_options(self) -> SolveOptions:
        adaptive = SOLVERS[self.solver].error_order is not None
        step_size = self.step_size if adaptive or self.step_size is not None else 0.1
        # fixed steps need as many as reach the farthest forecast
        max_steps = MAX_STEPS if step_size is None else max(MAX_STEPS, int(4 * REACH / step_size))
        return SolveOptions(self.solver, self.rtol, self.atol, step_size, self.gradient, max_steps)


def _in_order_of_ids(table: SeriesTable) -> SeriesTable:
    """Series sorted by id, so that the order of rows does not matter to `fit`."""
    try:
        order = table.ids.argsort()
    except TypeError:  # ids of several types
        order = np.argsort([f"{type(name).__name__} {name!r}" for name in table.ids])
    return table.take(np.asarray(order, dtype=np.int64))


def _observed_series(table: SeriesTable) -> SeriesTable:
    """Only rows and series that observe something, in an order that the caller's rows do not decide."""
    table = ties_by_value(observed_rows(table))
    anything = np.zeros(len(table), dtype=bool)
    anything[table.series[~np.isnan(table.values).all(axis=1)]] = True
    return table.take(np.flatnonzero(anything))
