"""`LatentODERegressor`: one table of irregular series in, forecasts with uncertainty at any time out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from latentode import plotting
from latentode.checks import Constraint, Number, OneOf, That, Whole, check_parameters
from latentode.estimators.fitting import Objective, prepare, train
from latentode.estimators.forecaster import Forecaster, Prediction, Readout, observed_rows, ties_by_value
from latentode.exceptions import DataError, LatentODEWarning
from latentode.gradients import GRADIENTS
from latentode.models.latent_ode import SolveOptions, build_latent_ode
from latentode.nn.decoders import MLPDecoder
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS, GaussianLikelihood
from latentode.nn.mixture import mixture_mean, mixture_std
from latentode.seeding import RandomState, numpy_generator, torch_generator
from latentode.series import SCALERS, SeriesTable, TableLayout
from latentode.solvers import SOLVERS
from latentode.training import Callback

POSTERIOR_SAMPLES = 32  # quasi-random draws that means and quantiles mix over
FAR = 10.0  # training spans beyond the context from which a forecast is called far, with a warning
FARTHEST = 100.0  # training spans beyond which a forecast stays where it is,
FARTHEST_UNITS = (
    1000.0  # or model time, if that is less (but not less than FAR): some thousand steps of a solver
)


class LatentODERegressor(RegressorMixin, BaseEstimator):
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
        datetimes), for one or few long series. A forecast then reads the last half of a window.
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
        check_parameters(type(self).__name__, self.get_params(deep=False), _CONSTRAINTS)
        if y is not None:
            raise ValueError(
                "y must be None: the targets are columns of the table; name them with target_cols="
            )
        layout = TableLayout.infer(
            df, id_col=self.id_col, time_col=self.time_col, target_cols=self.target_cols
        )
        table = _in_order_of_ids(layout.read(df, require_observed=True))
        table = _observed_series(table)
        window = _window_length(self.window, layout, table)
        rng = numpy_generator(self.random_state)
        data = prepare(
            table,
            scaler=self.scaler,
            window=window,
            validation_fraction=self.validation_fraction,
            rng=rng,
        )
        device = _device(self.device)
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

    def predict(self, df: pd.DataFrame, times: Any = None, *, return_std: bool = False) -> Any:
        """Mean of the observations of each series at any time, given its rows in `df`.

        Parameters
        ----------
        df : DataFrame
            What is known of each series, as in `fit`; the series need not have been trained on.
        times : sequence, scalar or DataFrame, optional
            One sequence of times for all series, or a table with the id and the time column; before, inside or
            beyond the observations. Default: the rows of `df`.
        return_std : bool, default False
            Whether to return standard deviations too: of an observation, noise included.

        Returns
        -------
        DataFrame or (DataFrame, DataFrame)
            Id, time and target columns as in `df`. By default one row per row of `df`, with its index; for a
            sequence, all times for each series in order of first appearance; for a table, its rows.

        Raises
        ------
        NotFittedError, DataError, TypeError
        """
        keys, table, queries = self._read(df, times)
        mean = self._scaled(table, queries, _mean)
        answer = self._write(keys, self.scaler_.from_model(mean))
        if not return_std:
            return answer
        std = self._scaled(table, queries, _std)
        return answer, self._write(keys, self.scaler_.std_from_model(std))

    def predict_quantiles(
        self, df: pd.DataFrame, times: Any = None, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> pd.DataFrame:
        """Quantiles of the observations, noise included.

        Parameters
        ----------
        df, times
            As in `predict`.
        quantiles : sequence of float in (0, 1)

        Returns
        -------
        DataFrame
            Id, time, `quantile`, and the target columns: the rows of `predict` once per quantile, in the order
            given.
        """
        levels = _levels(quantiles)
        keys, table, queries = self._read(df, times)
        found = self._quantiles(table, queries, levels)
        return self._stack(keys, "quantile", levels, found)

    def predict_interval(self, df: pd.DataFrame, times: Any = None, coverage: float = 0.9) -> pd.DataFrame:
        """Central interval that an observation falls into with probability `coverage`.

        Parameters
        ----------
        df, times
            As in `predict`.
        coverage : float in (0, 1), default 0.9

        Returns
        -------
        DataFrame
            The rows of `predict`, with columns `<target>_lower` and `<target>_upper` for each target.
        """
        if not Number(0, 1, open_low=True, open_high=True).allows(coverage):
            raise ValueError(f"coverage must be a number strictly between 0 and 1; got {coverage!r}")
        keys, table, queries = self._read(df, times)
        low, high = self._quantiles(table, queries, [(1 - coverage) / 2, (1 + coverage) / 2])
        columns: dict[Hashable, NDArray] = {}
        for d, name in enumerate(self.layout_.target_cols):
            columns[f"{name}_lower"], columns[f"{name}_upper"] = low[:, d], high[:, d]
        return self.layout_.write(keys, columns)

    def sample(
        self,
        df: pd.DataFrame,
        times: Any = None,
        n_samples: int = 100,
        *,
        noise: bool = True,
        random_state: RandomState = None,
    ) -> pd.DataFrame:
        """Draw whole trajectories: the values of one sample at different times belong together.

        Parameters
        ----------
        df, times
            As in `predict`.
        n_samples : int, default 100
            Trajectories per series.
        noise : bool, default True
            Whether to add observation noise; False gives the smooth curves behind the observations.
        random_state : int, Generator, RandomState or None
            Source of the draws; default: the estimator's `random_state`.

        Returns
        -------
        DataFrame
            Id, time, `sample` (0, 1, ...), and the target columns: the rows of `predict` once per sample.
        """
        if not Whole(1).allows(n_samples):
            raise ValueError(f"n_samples must be an int of at least 1; got {n_samples!r}")
        keys, table, queries = self._read(df, times)
        rng = numpy_generator(self.random_state if random_state is None else random_state)
        generator = torch_generator(rng)
        eps = torch.randn(n_samples, len(table), self._latent_dim, generator=generator)

        def readout(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
            if not noise:
                return prediction.affine.invert(likelihood.mean(prediction.params))
            drawn = likelihood.sample(prediction.params.cpu(), generator)
            return prediction.affine.invert(drawn.to(prediction.affine.loc.device))

        found = self._scaled(table, queries, readout, n_samples, lambda series: eps[:, series])
        return self._stack(keys, "sample", range(n_samples), self.scaler_.from_model(found))

    def score(self, df: pd.DataFrame, y: None = None, sample_weight: None = None) -> float:
        """R² of forecasts of the rest of each series from its first part.

        The first part is the first half of a series' time, or the share `context` where that is a number.

        Parameters
        ----------
        df : DataFrame
        y, sample_weight : None
            For scikit-learn's sake; must stay None.

        Returns
        -------
        float
            Mean over targets of 1 − (squared error) / (squared deviation from the mean), at most 1.

        Raises
        ------
        DataError
            When no series has an observation after its first part.
        """
        check_is_fitted(self, "model_")
        if y is not None or sample_weight is not None:
            raise ValueError("y and sample_weight must be None: the targets are columns of the table")
        known, rest, queries = self._halves(df)
        mean = self.scaler_.from_model(self._scaled(known, queries, _mean))
        scores = []
        for truth, forecast in zip(rest.values.T, mean.T):
            seen = ~np.isnan(truth)
            if seen.sum() > 1:
                scores.append(r2_score(truth[seen], forecast[seen]))
        if not scores:
            raise DataError("nothing to score: no target has two observations after the first parts")
        return float(np.mean(scores))

    def plot_forecast(
        self,
        df: pd.DataFrame,
        times: Any = None,
        *,
        coverage: float = 0.9,
        series: Sequence[Any] | None = None,
        truth: pd.DataFrame | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw observations, forecast and interval against time.

        Parameters
        ----------
        df, times
            As in `predict`; by default 200 times from the first observation of each series to half its span
            beyond the last.
        coverage : float in (0, 1), default 0.9
            Of the band.
        series : sequence of ids, optional
            Series to draw; default: the first four.
        truth : DataFrame, optional
            What really happened, drawn beside the forecast.
        ax : Axes or array of Axes, optional
            Where to draw; default: a new figure.

        Returns
        -------
        Axes, or array of Axes (targets, series)
        """
        check_is_fitted(self, "model_")
        names = self._series_to_draw(df, series)
        shown = df[df[self.layout_.id_col].isin(names)]
        if times is None:
            times = self._times_to_draw(shown)
        elif isinstance(times, pd.DataFrame):
            times = self._queries_to_draw(df, times, names)
        interval = self.predict_interval(shown, times, coverage)
        lower, upper = ends_of(interval, self.layout_)
        return plotting.plot_forecast_panels(
            shown,
            self.predict(shown, times),
            lower,
            upper,
            truth=truth,
            series=names,
            target_cols=list(self.layout_.target_cols)[:4],
            coverage=coverage,
            id_col=self.layout_.id_col,  # type: ignore[arg-type]
            time_col=self.layout_.time_col,  # type: ignore[arg-type]
            ax=ax,
        )

    def plot_history(self, *, ax: Any = None) -> Any:
        """Draw the losses of training per epoch, with the epoch whose weights were kept; returns the Axes."""
        check_is_fitted(self, "model_")
        return plotting.plot_history(self.history_, ax=ax)

    def _share(self) -> str | float:
        """`context`, a number of any kind as a float."""
        return self.context if isinstance(self.context, str) else float(self.context)

    def _solve_options(self) -> SolveOptions:
        adaptive = SOLVERS[self.solver].error_order is not None
        step_size = self.step_size if adaptive or self.step_size is not None else 0.1
        return SolveOptions(self.solver, self.rtol, self.atol, step_size, self.gradient)

    def _read(self, df: pd.DataFrame, times: Any) -> tuple[pd.DataFrame, SeriesTable, SeriesTable]:
        """The keys of the answer, the contexts, and the queries."""
        check_is_fitted(self, "model_")
        table = self.layout_.read(df)
        if times is None:
            keys, queries = self.layout_.keys(df), _as_queries(table)
        else:
            keys, queries = self.layout_.query_keys(times, table), self.layout_.read_queries(times, table)
        return keys, table, self._within_reach(table, queries)

    def _halves(self, df: pd.DataFrame) -> tuple[SeriesTable, SeriesTable, SeriesTable]:
        """First part of each series, its rest, and the rest as queries in its own order."""
        table = observed_rows(self.layout_.read(df))
        share = self._share()
        begin, share = table.times[table.offsets[:-1]], 0.5 if isinstance(share, str) else share
        first = table.times <= (begin + share * table.spans)[table.series]
        known, rest = table.take_rows(first), table.take_rows(~first)
        if rest.n_rows == 0:
            raise DataError("nothing to score: no series has an observation after its first part")
        queries = replace(_as_queries(rest), rows=np.arange(rest.n_rows))
        return known, rest, self._within_reach(known, queries)

    def _scaled(
        self,
        table: SeriesTable,
        queries: SeriesTable,
        readout: Readout,
        n_samples: int = POSTERIOR_SAMPLES,
        noise: Callable[[NDArray], Tensor] | None = None,
    ) -> NDArray:
        """Read-outs (..., R, D) at the queries, in globally scaled values."""
        noise = noise or _shared_noise(n_samples, self._latent_dim)
        return self._forecaster.predict(table, queries, noise, readout)

    def _within_reach(self, table: SeriesTable, queries: SeriesTable) -> SeriesTable:
        """Warn of far queries, and hold the forecast where it is beyond the farthest distance worth a solve."""
        seen = observed_rows(table)  # rows that only ask for a forecast reach nowhere
        first, last = seen.times[seen.offsets[:-1]], seen.times[seen.offsets[1:] - 1]
        first, last = first[queries.series], last[queries.series]
        beyond = np.maximum(queries.times - last, first - queries.times) / self._span
        if not (beyond > FAR).any():
            return queries
        reach = np.clip(FARTHEST_UNITS * self.time_scale_.unit, FAR * self._span, FARTHEST * self._span)
        unit = "in the unit of the time column" if self.layout_.time_kind == "numeric" else "seconds"
        warnings.warn(
            f"times reach {beyond.max():.3g} training spans beyond the observations (one span is {self._span:g} "
            f"{unit}): the model has never seen such distances; beyond {reach / self._span:.3g} spans the forecast "
            "keeps its last value",
            LatentODEWarning,
            stacklevel=4,
        )
        return replace(queries, times=np.clip(queries.times, first - reach, last + reach))

    def _quantiles(self, table: SeriesTable, queries: SeriesTable, levels: Sequence[float]) -> NDArray:
        """Quantiles (Q, R, D) in the caller's units."""
        q = torch.tensor(levels, dtype=torch.float64)

        def readout(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
            return prediction.affine.invert(likelihood.quantile(prediction.params, q))

        return self.scaler_.from_model(self._scaled(table, queries, readout))

    def _write(self, keys: pd.DataFrame, values: NDArray) -> pd.DataFrame:
        return self.layout_.write(keys, dict(zip(self.layout_.target_cols, values.T)))

    def _stack(self, keys: pd.DataFrame, name: str, labels: Iterable[Any], found: NDArray) -> pd.DataFrame:
        """One block of rows per label, with the label as a column after the time."""
        if name in keys.columns or name in self.layout_.target_cols:
            raise DataError(
                f"the answer needs the name {name!r} for its own column: rename that of the table"
            )
        blocks = []
        for label, values in zip(labels, found):
            block = self._write(keys, values)
            block.insert(2, name, label)
            blocks.append(block)
        return pd.concat(blocks, ignore_index=True)

    def _series_to_draw(self, df: pd.DataFrame, series: Sequence[Any] | None) -> list[Any]:
        """The ids asked for, which must be in the table, or the first four."""
        ids = self.layout_.read(df).ids
        if series is None:
            return list(ids[:4])
        if isinstance(series, str) or not isinstance(series, Iterable):
            raise TypeError(f"series must be a sequence of ids, got {series!r}: write [{series!r}]")
        names = list(series)
        unknown = [name for name in names if name not in ids]
        if unknown or not names:
            raise DataError(
                f"series must name series of the table, got {names!r}; its first ones are {list(ids[:5])!r}"
            )
        return names

    def _queries_to_draw(self, df: pd.DataFrame, times: pd.DataFrame, names: list[Any]) -> pd.DataFrame:
        """The rows of a table of times that ask about the series drawn."""
        table = self.layout_.read(df)
        self.layout_.read_queries(times, table)  # refuses bad times of series that are not drawn, too
        keys = self.layout_.query_keys(times, table)
        return keys[keys[self.layout_.id_col].isin(names)]

    def _times_to_draw(self, df: pd.DataFrame) -> pd.DataFrame:
        """200 times per series, from its first observation to half its span beyond the last."""
        id_col, time_col = self.layout_.id_col, self.layout_.time_col
        parts = []
        for name, rows in df.groupby(df[id_col], sort=False, observed=True):
            first, last = rows[time_col].min(), rows[time_col].max()
            beyond = (last - first) / 2
            if not beyond:
                beyond = (
                    self._span / 2
                    if self.layout_.time_kind == "numeric"
                    else pd.Timedelta(self._span / 2, "s")
                )
            if self.layout_.time_kind == "numeric":
                grid: Any = np.linspace(float(first), float(last + beyond), 200)
            else:
                grid = pd.date_range(first, last + beyond, periods=200)
            parts.append(pd.DataFrame({id_col: name, time_col: grid}))
        return pd.concat(parts, ignore_index=True)


def ends_of(interval: pd.DataFrame, layout: TableLayout) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lower and upper ends of `predict_interval` as tables with the names of the targets."""
    ends = []
    for end in ("lower", "upper"):
        columns = {name: interval[f"{name}_{end}"].to_numpy() for name in layout.target_cols}
        ends.append(layout.write(layout.keys(interval), columns))
    return ends[0], ends[1]


def _mean(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
    return prediction.affine.invert(mixture_mean(likelihood.mean(prediction.params)))


def _std(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
    params = prediction.params
    return mixture_std(likelihood.mean(params), likelihood.std(params)) * prediction.affine.scale[:, None]


def _shared_noise(n_samples: int, latent_dim: int) -> Callable[[NDArray], Tensor]:
    """The same quasi-random normal draws (K, 1, L) for every series: no prediction depends on its company."""
    uniform = torch.quasirandom.SobolEngine(latent_dim, scramble=True, seed=0).draw(
        n_samples, dtype=torch.float64
    )
    eps = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).float()[:, None]
    return lambda series: eps


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


def _window_length(window: Any, layout: TableLayout, table: SeriesTable) -> float | None:
    """`window` in the unit of encoded times: that of the column, or seconds."""
    if window is None:
        return None
    if layout.time_kind == "datetime":
        length = _seconds(window, layout)
    elif Number(0, open_low=True).allows(window):
        length = float(window)
    else:
        raise ValueError(
            f"window must be a positive number, in the unit of the time column {layout.time_col!r}; got {window!r}"
        )
    gaps = np.diff(table.times)[np.diff(table.series) == 0]
    if not (gaps[gaps > 0] <= length).any():
        raise ValueError(
            f"window={window!r} is shorter than every gap between two observations: no window would hold two of "
            "them; take one that holds dozens"
        )
    return length


def _seconds(window: Any, layout: TableLayout) -> float:
    is_number = isinstance(window, Real) and not isinstance(window, np.timedelta64)  # NumPy counts it as one
    if is_number or (isinstance(window, str) and window.strip().isdecimal()):
        raise ValueError(
            f"window must be a timedelta such as '3650D', since the time column {layout.time_col!r} holds "
            f"datetimes; got {window!r}"
        )
    try:
        seconds = pd.Timedelta(window).total_seconds()
    except ValueError as error:
        raise ValueError(f"window must be a timedelta such as '3650D'; got {window!r}") from error
    if not seconds > 0:
        raise ValueError(f"window must be positive; got {window!r}")
    return seconds


def _as_queries(table: SeriesTable) -> SeriesTable:
    return replace(table, values=np.empty((table.n_rows, 0)))


def _levels(quantiles: Sequence[float]) -> list[float]:
    inside = Number(0, 1, open_low=True, open_high=True)
    levels = list(quantiles) if isinstance(quantiles, Iterable) else [quantiles]
    wrong = [level for level in levels if not inside.allows(level)]
    if wrong or not levels:
        raise ValueError(f"quantiles must be numbers strictly between 0 and 1; got {quantiles!r}")
    return [float(level) for level in levels]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown to torch; known, but not on this machine
        raise ValueError(
            f"device must be 'auto' or one that torch has on this machine, such as 'cpu'; got {name!r}"
        ) from error


_ANY = That(lambda value: True, "anything")
_NONE = OneOf([None])
_STRING = That(lambda value: isinstance(value, str), "a str")
_COLUMN = That(lambda value: isinstance(value, Hashable) and value is not None, "a column name")
_NAMES = That(lambda value: isinstance(value, (list, tuple, pd.Index, np.ndarray)), "a list of column names")
_POSITIVE = Number(0, open_low=True)
_OPEN_UNIT = Number(0, 1, open_low=True, open_high=True)
_CALLBACKS = That(
    lambda value: isinstance(value, Iterable) and not isinstance(value, str), "a list of callbacks"
)

_CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "id_col": (_COLUMN,),
    "time_col": (_COLUMN,),
    "target_cols": (_NAMES, _NONE),
    "latent_dim": (Whole(1),),
    "hidden_dim": (Whole(1),),
    "depth": (Whole(1),),
    "encoder_dim": (Whole(1), _NONE),
    "encoder": (OneOf(ENCODERS),),
    "field": (OneOf(FIELDS),),
    "likelihood": (OneOf(LIKELIHOODS),),
    "time_dependent": (OneOf([True, False]),),
    "solver": (OneOf(SOLVERS),),
    "rtol": (_POSITIVE,),
    "atol": (_POSITIVE,),
    "step_size": (_POSITIVE, _NONE),
    "gradient": (OneOf(GRADIENTS),),
    "context": (OneOf(["random", "all"]), _OPEN_UNIT),
    "anchor": (OneOf(["start", "end"]),),
    "window": (_ANY,),  # its unit depends on the table: `_window_length`
    "n_samples": (Whole(1),),
    "kl_weight": (Number(0),),
    "kl_warmup": (Number(0, 1),),
    "piece_warmup": (Number(0, 1),),
    "max_epochs": (Whole(1), _NONE),
    "batch_size": (Whole(1),),
    "lr": (_POSITIVE,),
    "early_stopping": (OneOf([True, False]),),
    "validation_fraction": (Number(0, 1, open_high=True),),
    "patience": (Whole(1), _NONE),
    "scaler": (OneOf(SCALERS),),
    "callbacks": (_CALLBACKS, _NONE),
    "device": (_STRING,),
    "random_state": (_ANY,),  # `numpy_generator` refuses what is none
    "verbose": (Whole(0), OneOf([True, False])),
}
