"""`LatentODERegressor`: one table of irregular series in, forecasts with uncertainty at any time out."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from latentode.estimators.arrays import OneSeries, is_array, refuse_roles
from latentode.estimators.base import SeriesEstimator, in_order_of_ids, last_times, observed_series
from latentode.estimators.features import FeaturesMixin
from latentode.estimators.parameters import suggests_names
from latentode.estimators.pictures import PicturesMixin
from latentode.estimators.scores import ScoresMixin
from latentode.estimators.target_likelihoods import categorical_columns
from latentode.seeding import RandomState
from latentode.series import TableLayout
from latentode.training import Callback


class LatentODERegressor(FeaturesMixin, PicturesMixin, ScoresMixin, RegressorMixin, SeriesEstimator):
    """Forecast and interpolate irregular time series with one continuous-time model of all of them.

    A recognition network reads the observations of a series, at whatever times they were made and with whatever
    gaps, and gives a Gaussian over a latent state; an ordinary differential equation carries the state to any time;
    a decoder gives the distribution of the observations there. All parts are learned together from a table of
    series by maximising the evidence lower bound.

    Good for many series of the same kind, each sampled irregularly or incompletely, or one long series (with
    `window`); known inputs come in as `static_cols` and `control_cols`. Not for series whose future depends on inputs
    that are not in the table.

    Parameters
    ----------
    id_col, time_col : str, default "id" and "time"
        Columns, or levels of the index, with the name of the series and the time: numbers, datetimes with or without
        time zone, periods (read at their start) or timedeltas. `id_col=None` says that the table is one series.
    target_cols : list of str, optional
        Columns to learn; default: all numeric columns that have no other role, of tables with Nixtla's names
        (unique_id, ds, y) y alone. NaN means not observed.
    static_cols : list of str, default ()
        Numeric columns that are constant within a series, such as age or mass; encoder and field see them. A series
        without one (all NaN) is read with a flag, if the training had such series.
    control_cols : list of str, default ()
        Numeric columns that drive the series and are known in the future, too, such as a dose or a set point; all rows
        count, also those without a target, and those of `times` in predictions. Before the first and after the last
        row they keep their value. Of systems that are driven and settle, `anchor="start"` learns more.
    control_interpolation : {"linear", "step"}, default "linear"
        Between the rows; "step" keeps a value until the next row.
    error_cols : mapping from target to column, optional
        Standard deviations of the measurement errors, known cell by cell; they add to the learned noise in training and
        in `log_likelihood`. Predictions are of a measurement without such an error, and do not read these columns.
    latent_dim : int, default 8
        Size of the latent state.
    hidden_dim : int, default 64
        Width of the hidden layers of field and decoder.
    depth : int, default 2
        Hidden layers of the field ("linear" has none).
    activation : {"tanh", "softplus", "elu", "silu", "relu"}, default "tanh"
        Of the hidden layers of field and decoder; the solver needs more steps with "relu".
    encoder_dim : int, optional
        Size of the encoder's state; default: `hidden_dim`.
    encoder : {"gru", "odernn"} or nn.Module, default "gru"
        Recognition network. "gru" reads the gaps between rows as inputs; the state of "odernn" flows by its own
        differential equation in them (Rubanova et al.), which costs several times as much. A module of your own is
        called with times (N, T), float64, in model units since the anchor; values (N, T, F), float32, 0 where unknown;
        mask (N, T, F), True where known; lengths (N,). F counts the features of the targets (one each, of a category
        one per label), then static columns (a missing one has a flag, too), then controls. It returns
        `latentode.nn.normal.Normal(mean, std)`, float32, (N, latent_dim). `fit` trains a copy of it.
    field : {"mlp", "gated", "linear"} or nn.Module, default "mlp"
        Right-hand side of the differential equation. The speed of "gated" is bounded: for forecasts far beyond
        training. "linear" is solved in closed form (not with `event_times`): fast, and hard to beat where the series
        oscillate and decay; a good first try for periodic series.
        A module of your own is called with t (n,) and z (n, latent_dim), and with static columns or controls also
        with their values (n, S + C); `fit` trains a copy of it.
    likelihood : str or mapping from target to str, default "gaussian"
        Distribution of an observation: "gaussian" (noise learned per target), "gaussian_heteroscedastic" (noise that
        depends on the state; harder to train, compare with "gaussian"), "student_t" (outliers), "bernoulli" (0 or 1),
        "categorical" (labels of any kind), "poisson" and "negative_binomial" (counts). Targets that a mapping leaves
        out are Gaussian.
    event_times : {"poisson", "poisson_per_target"}, optional
        Learn when observations occur, too: rows (those at one time are one event), or the observed cells of each
        target, as a Poisson process whose rate depends on the latent state; for series where that tells something. A
        series counts as watched from its first to its last row. See `predict_intensity`.
    time_dependent : bool, default False
        Whether the dynamics may depend on absolute time, not only on the state.
    solver : str, default "dopri5"
        A name of `latentode.solvers.SOLVERS`: "dopri5", "tsit5" and others choose their own steps; "rk4", "euler" and
        others take steps of `step_size`.
    rtol, atol : float, default 1e-3 and 1e-4
        Tolerances of an adaptive solver, for latent states of order 1.
    step_size : float, optional
        Fixed steps of this size, in model time (`time_scale_.unit` is one unit of it in your time; a typical series
        lasts 5 to 80 units). Default: the solver's own steps, or 0.1 for solvers that have none.
    gradient : {"discrete_adjoint", "backprop", "reversible", "adjoint"}, default "discrete_adjoint"
        How the solve is differentiated; the first three are exact for the computed solution, "backprop" needs most
        memory, "adjoint" is the continuous adjoint of Chen et al. (see `latentode.solve_ivp`).
    engine : {"auto", "torch", "native"}, default "auto"
        What solves and encodes. "native": compiled kernels, several times faster, for the fields "mlp" and "gated" on
        the CPU (not with control columns, `event_times`, other gradients, or solvers that are not explicit Runge-Kutta
        methods; it refuses those solves). "torch": everything. "auto" takes the kernels where they were built with the
        installation (`latentode.show_versions()` tells) and know what is asked for. Answers of one model are the same
        up to rounding, which a training magnifies; gradients also depend in their last digits on the number of threads.
    context : "random", "all" or float in (0, 1), default "random"
        What the encoder reads of a training series. "random": a random piece, and the likelihood scores everything
        from its first row on, so that one model learns to fill gaps and to forecast. "all": everything, as a
        variational autoencoder (Chen et al.); fills gaps, forecasts poorly. A number: the rows in this first part
        of the time (Rubanova et al.).
    context_gaps : float, default 0.1
        Share of the training series that are read with gaps: up to half of their cells are hidden at random, so that
        incomplete rows can be read even if the training table has none. 0 hides nothing, for tables whose rows will
        always be complete. Tables of one target have no incomplete rows.
    anchor : {"start", "end"}, default "end"
        Whether the latent state belongs to the first row of the context, as in the papers, or to the last one; it is
        solved in both directions from there. "end" often forecasts better, as the way to the future is shorter; "start"
        suits what settles or decays or is driven by controls, which grows when it is followed backwards.
    window : float, timedelta or str, optional
        Train on random windows of this length (in the unit of the time column; a Timedelta such as "3650D" for
        datetimes, periods and timedeltas), for one or few long series. Answers are then read from parts of half a
        window, counted from the end: a forecast from the last one; a time inside the record from the part it lies in
        or, in a gap, from the one before, so that the curve may jump between parts.
    n_samples : int, default 1
        Posterior samples per training series; more than one gives the tighter importance-weighted bound.
    kl_weight : float, default 1.0
        Final weight of the KL term; 1 is the evidence lower bound.
    kl_schedule : {"linear", "constant", "cyclic"}, default "linear"
        How that weight is reached: over the first `kl_warmup` of the planned epochs, at once, or in several cycles over
        the whole training (Fu et al. 2019).
    kl_warmup : float, default 0.1
        Share of the planned epochs (with "cyclic" of each cycle) over which the weight grows from 0, linearly.
    free_bits : float, default 0.0
        Nats that each latent dimension may tell about a series for free, against a posterior that collapses
        (`active_dims` in `history_` counts the dimensions in use); only with `n_samples=1`.
    kinetic, jacobian : float, default 0.0
        Weights of penalties on the dynamics, the mean over time of |dz/dt|² and of the squared norm of ∂f/∂z (Finlay
        et al. 2020), for a field that takes the solver fewer evaluations (`n_evals` in `history_`).
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
        Epochs; default: half of the planned ones, at least 10; the learning rate falls only in the later ones.
    scaler : {"standard", "robust", "minmax", "series"}, default "standard"
        How values are scaled, by training rows only. "series" takes level and spread of each series from its own
        context, for series that drift out of the training range.
    calibrate : bool, default False
        Whether to stretch or shrink the predictive spread of each target, by the time since the last observation, such
        that 90 % intervals hold 90 % of what the validation series observe (conformal calibration). The more of these
        the better: `validation_fraction=0.2`. Counts and classes stay as they are.
    callbacks : list, optional
        `latentode.training.Callback` objects, or functions of an epoch's record (True stops the training).
    checkpoint_dir : path, optional
        Folder in which the training is saved after every epoch, made where it is missing. A fit that was killed or
        interrupted by Ctrl-C continues there when the same fit, of the same table with the same parameters, is done
        again, and ends with the same weights as without the interruption; a fit that was finished returns them at once.
        Each fit has a file of its own: many may share a folder, and another table or parameter begins anew (`verbose`,
        `device` and `callbacks` may change; callbacks of your own begin anew, too). Without `random_state` the
        saved fit is repeated as well. To begin again, delete the file or the folder.
    device : str, default "auto"
        "auto" takes a GPU where there is one; otherwise a name that torch knows.
    random_state : int, Generator, RandomState or None, default None
        An int makes `fit` and `sample` repeatable.
    verbose : int, default 1
        0 hides the progress bar.

    Attributes
    ----------
    history_ : DataFrame
        One row per epoch: losses per observed cell, their parts, learning rate, gradient norm, seconds. `retried`
        counts the series that the solver could not solve at once, `restarts` how often the epoch was begun again with
        half the learning rate.
    model_ : latentode.models.latent_ode.LatentODE
        The trained torch module.
    layout_, time_scale_, scaler_, covariates_
        Column roles and the scales, learned from training rows.
    likelihoods_ : dict
        The likelihood of every target.
    best_epoch_ : int or None
        Epoch whose weights are kept; None without validation (the last one).
    stop_reason_ : str or None
        Why the training ended before `max_epochs`, such as early stopping or Ctrl-C; None where it did not.
    feature_names_in_ : array of str
        Target columns.
    seen_until_ : Series
        Last training time of every training series, by id.

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

    _kind = "LatentODERegressor"

    @suggests_names
    def __init__(
        self,
        *,
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
        context: str | float = "random",
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
        calibrate: bool = False,
        callbacks: Iterable[Callback | Callable[[dict[str, Any]], bool | None]] | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        device: str = "auto",
        random_state: RandomState = None,
        verbose: int = 1,
    ) -> None:
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
        self.calibrate = calibrate
        self.callbacks = callbacks
        self.checkpoint_dir = checkpoint_dir
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, df: Any, y: Any = None) -> LatentODERegressor:
        """Learn from a table of series.

        Ctrl-C after the first epoch ends the training with a warning and leaves a fitted model, with the weights of the
        best epoch so far; before that it is a KeyboardInterrupt. A loss that is not finite takes the training back to
        the last good epoch with half the learning rate, at most three times.

        Parameters
        ----------
        df : DataFrame
            Long table: one row per series and time, in any order, with the columns of the constructor. Series may
            differ in length and times, times may repeat, NaN in a target means not observed. A table of pandas, with
            id and time as columns or in the index, or of polars, pyarrow and others that narwhals reads; of one series
            without an id column, if times increase from row to row or with `id_col=None`. Later calls take tables of
            these columns in any of these forms, and answer in the form that they get.
            An array of numbers in place of a table is one series in scikit-learn's form: column 0 of (R, 1 + C) holds
            the times, further columns controls. Then `predict`, `transform` and `score` take such arrays, too, and
            answer at their times with arrays, given the series of `fit`.
        y : None, or array (R,) or (R, D)
            Targets of an array; of a table it must stay None, as the targets are columns of `df`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            When the table cannot be used; the message names column, series or row.
        ValueError
            When a parameter is out of range.
        NonFiniteLossError
            When a loss is not finite after three restarts, too; with the series of the batch.
        SolverError
            When the dynamics of a series can be solved neither by `solver` nor by those that are tried after it, also
            after three restarts.
        """
        self._check_parameters()
        if is_array(df):
            return self._fit_arrays(df, y)
        if y is not None:
            raise ValueError(
                "y must be None: the targets are columns of the table; name them with target_cols="
            )
        _, frame, layout = self._open(df)
        table = observed_series(in_order_of_ids(layout.read(frame, require_observed=True)))
        self._fit_table(layout, table, calibrated=self.calibrate)
        self.seen_until_ = last_times(frame, layout)
        return self

    def _fit_arrays(self, X: Any, y: Any) -> LatentODERegressor:
        """Learn one series whose times are column 0 of X."""
        if y is None:
            raise ValueError(
                "LatentODERegressor requires y to be passed, but the target y is None: of arrays, X holds the times in "
                "column 0 and y the targets; or fit a table with id and time columns"
            )
        refuse_roles(self.get_params(deep=False))
        X, y = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        series = OneSeries.of(X, y)
        frame = series.table()
        layout = TableLayout.infer(
            frame,
            target_cols=series.target_cols,
            control_cols=series.control_cols,
            control_interpolation=self.control_interpolation,
            categorical=categorical_columns(self.likelihood, series.target_cols),
        )
        table = observed_series(in_order_of_ids(layout.read(frame, require_observed=True)))
        self._fit_table(layout, table, calibrated=self.calibrate, arrays=series)
        self.seen_until_ = last_times(frame, layout)
        return self

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # of arrays it is a model over time: what other columns tell at their own row only it cannot learn
        tags.regressor_tags.poor_score = True
        return tags

    def update(
        self, df: Any, *, max_epochs: int | None = None, lr: float | None = None
    ) -> LatentODERegressor:
        """Go on training with new rows or new series, from the weights and with the scales that `fit` learned.

        Give the old rows, too, where they are to be remembered: a model forgets slowly what it is no longer shown.
        Series that were held out for validation stay held out (as far as they are known: not after `load`); of new
        ones `validation_fraction` is.

        The model stays what it was made in `fit`, whatever was set anew since (its sizes, parts, columns, scales,
        likelihoods, solver, `context`, `anchor`, `window`). The training goes by the current `batch_size`, `n_samples`,
        `context_gaps`, `free_bits`, `kinetic`, `jacobian`, `kl_weight`, `kl_schedule`, `early_stopping`, `patience`,
        `callbacks`, `random_state` and `verbose`; nothing is warmed up again, and there is no checkpoint.

        Parameters
        ----------
        df : DataFrame
            Long table with the columns of `fit`.
        max_epochs : int, optional
            Passes over these series; default: as many as make about 500 steps of the optimiser, and not more than the
            parameter `max_epochs`.
        lr : float, optional
            Largest learning rate; default: 0.3 of the parameter `lr`.

        Returns
        -------
        self
            With the new epochs at the end of `history_`; calibrated anew if `fit` was, as far as there are validation
            series. An update that fails leaves the estimator as it was.

        Raises
        ------
        NotFittedError, DataError, ValueError
        """
        check_is_fitted(self, "model_")
        self._needs_table("update")
        self._check_parameters()
        frame = self.layout_.open(df).frame
        table = observed_series(in_order_of_ids(self.layout_.read(frame)))
        self._update_table(table, max_epochs, lr)
        seen, later = getattr(self, "seen_until_", None), last_times(frame, self.layout_)
        if seen is not None:
            later = pd.concat([seen, later.astype(seen.dtype)]).groupby(level=0, sort=False).max()
        self.seen_until_ = later
        return self
