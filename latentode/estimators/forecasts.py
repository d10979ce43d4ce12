"""Everything that a fitted estimator answers: means, quantiles, intervals, samples, pictures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from narwhals.typing import IntoDataFrameT
from numpy.typing import NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from latentode.checks import Number, Whole
from latentode.estimators import readouts
from latentode.estimators.arrays import OneSeries
from latentode.estimators.calibration import horizons_of, multiplied, stretched
from latentode.estimators.forecaster import Forecaster, Readout, observed_rows
from latentode.estimators.learned import Learned
from latentode.estimators.parameters import quantile_levels
from latentode.estimators.question import Question
from latentode.exceptions import DataError, LatentODEWarning
from latentode.models.latent_ode import LatentODE
from latentode.seeding import RandomState, numpy_generator, torch_generator
from latentode.series import SeriesTable, TableLayout, TimeScale, ValueScaler

FAR = 10.0  # training spans beyond the context from which a forecast is called far, with a warning
SECONDS_PER_DAY = 86_400.0
UNTOLD = 0.01  # of a training span beyond the last known control: more is worth a warning
REACH = 500.0  # model time, some thousand steps of a solver, beyond which a forecast stays where it is


def with_classes(likelihoods: Mapping[Hashable, str]) -> list[Hashable]:
    """Targets whose likelihood has classes."""
    return [target for target, name in likelihoods.items() if name in ("bernoulli", "categorical")]


def _says_classes(estimator: Any) -> bool:
    """Whether some target has classes, or of an estimator that is not fitted may have."""
    given = getattr(estimator, "likelihoods_", estimator.likelihood)
    if bool(with_classes(given if isinstance(given, Mapping) else {None: given})):
        return True
    raise AttributeError(
        f"no target has classes; the likelihood is {given!r}: name those that have with "
        'likelihood={"<target>": "categorical"}'
    )


class ForecastsMixin:
    """Answers of an estimator of series; it needs what `fit` learns, and keeps nothing of its own."""

    layout_: TableLayout
    time_scale_: TimeScale
    scaler_: ValueScaler
    random_state: RandomState
    model_: LatentODE
    engine: str
    likelihoods_: dict[Hashable, str]
    _forecaster: Forecaster
    _learned: Learned

    def predict(self, df: IntoDataFrameT, times: Any = None, *, return_std: bool = False) -> Any:
        """Mean of the observations of each series at any time, given its rows in `df`.

        Parameters
        ----------
        df : DataFrame
            What is known of each series, in any form that `fit` takes; the series need not have been trained on.
        times : sequence, scalar or DataFrame, optional
            One sequence of times for all series, or a table with the id and the time column, of any form; before,
            inside or beyond the observations. ISO texts will do for datetimes. Default: the rows of `df`.
            A table with the control columns, too, says how these go on: a forecast follows the controls it is given.
        return_std : bool, default False
            Whether to return standard deviations too: of an observation, noise included (NaN for categories).

        Returns
        -------
        DataFrame or (DataFrame, DataFrame)
            Id, time and target columns as in `df`. By default one row per row of `df`, with its index; for a
            sequence, all times for each series in order of first appearance; for a table, its rows in their order.
            With `times` the index is fresh (0, 1, ...). Of a category, its most probable label. Like all answers a
            table of the same form as `df`: of the same library, with keys in the index where they are in that of `df`,
            without an id for one series without.

        Raises
        ------
        NotFittedError, DataError, TypeError
        """
        question = self._ask(df, times)
        answer = question.answer(self._columns(self._mean(question.table, question.queries)))
        if not return_std:
            return answer
        readout = self._calibrated(
            multiplied, readouts.std(self._categorical), question.table, question.queries
        )
        std = self._scaled(question.table, question.queries, readout)
        return answer, question.answer(self._columns(self.scaler_.std_from_model(std), labels=False))

    @available_if(_says_classes)
    def predict_proba(self, df: IntoDataFrameT, times: Any = None) -> IntoDataFrameT:
        """Probability of every class of the targets that have classes.

        Parameters
        ----------
        df, times
            As in `predict`.

        Returns
        -------
        DataFrame
            The rows of `predict`, with a column `<target>_<class>` per class of each target whose likelihood is
            "bernoulli" (classes 0 and 1) or "categorical".

        Raises
        ------
        AttributeError
            When no target has classes.
        """
        question = self._ask(df, times)
        names = with_classes(self.likelihoods_)
        columns: dict[Hashable, NDArray] = {}
        for name in names:
            target = self.layout_.target_cols.index(name)
            labels = self.layout_.categories[name].labels if name in self.layout_.categories else (0, 1)
            found = self._scaled(question.table, question.queries, readouts.probabilities(target))
            columns |= {f"{name}_{label}": found[:, code] for code, label in enumerate(labels)}
            if len({str(label) for label in labels}) < len(labels):
                raise DataError(f"the classes {list(labels)} of {name!r} are written alike: rename them")
        return question.answer(columns)

    def predict_intensity(self, df: IntoDataFrameT, times: Any = None) -> IntoDataFrameT:
        """Rate at which observations occur, of a model with `event_times`.

        Parameters
        ----------
        df, times
            As in `predict`.

        Returns
        -------
        DataFrame
            The rows of `predict`, with a column `intensity` (`event_times="poisson"`) or `<target>_intensity` for each
            target (`"poisson_per_target"`): expected events per unit of the time column, which for times
            that are no numbers is a day.

        Raises
        ------
        AttributeError
            For a model without `event_times`.
        """
        question = self._ask(df, times)
        if self.model_.intensity is None:
            raise AttributeError('the model has no intensity: fit it with event_times="poisson"')
        per_unit = (
            self._scaled(question.table, question.queries, readouts.intensities) / self.time_scale_.unit
        )
        if self.layout_.clock.in_seconds:
            per_unit = per_unit * SECONDS_PER_DAY
        names = ["intensity"]
        if self._learned.event_times == "poisson_per_target":
            names = [f"{name}_intensity" for name in self.layout_.target_cols]
        return question.answer(dict(zip(names, per_unit.T)))

    def predict_quantiles(
        self, df: IntoDataFrameT, times: Any = None, quantiles: Sequence[float] = (0.1, 0.5, 0.9)
    ) -> IntoDataFrameT:
        """Quantiles of the observations, noise included.

        Of counts, the smallest number that is reached with at least this probability; categories without an order have
        no quantiles, and no columns here: see `predict_proba`.

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
        levels = quantile_levels(quantiles)
        question = self._ask(df, times)
        found = self._quantiles(question, levels)
        return question.stacked("quantile", levels, (self._columns(at, ordered=True) for at in found))

    def predict_interval(
        self, df: IntoDataFrameT, times: Any = None, coverage: float = 0.9
    ) -> IntoDataFrameT:
        """Central interval that an observation falls into with probability `coverage`.

        Parameters
        ----------
        df, times
            As in `predict`.
        coverage : float in (0, 1), default 0.9

        Returns
        -------
        DataFrame
            The rows of `predict`, with columns `<target>_lower` and `<target>_upper` for each target but categories
            without an order.
        """
        if not Number(0, 1, open_low=True, open_high=True).allows(coverage):
            raise ValueError(f"coverage must be a number strictly between 0 and 1; got {coverage!r}")
        question = self._ask(df, times)
        low, high = self._quantiles(question, [(1 - coverage) / 2, (1 + coverage) / 2])
        columns: dict[Hashable, NDArray] = {}
        lower, upper = self._columns(low, ordered=True), self._columns(high, ordered=True)
        for name in lower:
            columns[f"{name}_lower"], columns[f"{name}_upper"] = lower[name], upper[name]
        return question.answer(columns)

    def sample(
        self,
        df: IntoDataFrameT,
        times: Any = None,
        n_samples: int = 100,
        *,
        noise: bool = True,
        random_state: RandomState = None,
    ) -> IntoDataFrameT:
        """Draw whole trajectories: the values of one sample at different times belong together.

        Parameters
        ----------
        df, times
            As in `predict`.
        n_samples : int, default 100
            Trajectories per series.
        noise : bool, default True
            Whether to add observation noise; False gives the smooth curves behind the observations. The curves of a
            series depend on its id and on `random_state`, not on the other series of the table.
        random_state : int, Generator, RandomState or None
            Source of the draws; default: the estimator's `random_state`.

        Returns
        -------
        DataFrame
            Id, time, `sample` (0, 1, ...), and the target columns: the rows of `predict` once per sample.
        """
        if not Whole(1).allows(n_samples):
            raise ValueError(f"n_samples must be an int of at least 1; got {n_samples!r}")
        question = self._ask(df, times)
        rng = numpy_generator(self.random_state if random_state is None else random_state)
        generator = torch_generator(rng)
        order = question.table.order_of_ids()  # the order of the caller's rows must not matter
        table, queries = question.table.take(order), question.queries.take(order)
        eps = readouts.noise_of(table.ids, n_samples, self._learned.latent_dim, int(rng.integers(2**32)))

        readout = readouts.draws(noise, generator, self._categorical)
        found = self._scaled(table, queries, readout, n_samples, lambda series: eps[:, series])
        factors = self._factors(table, queries)
        if noise and factors is not None:
            centre, factor = self._scaled(table, queries, readouts.median), factors.numpy()
            found = np.where(factor == 1, found, centre + factor * (found - centre))
        drawn = self.scaler_.from_model(found)
        return question.stacked("sample", range(n_samples), (self._columns(values) for values in drawn))

    def _ask(self, df: Any, times: Any = None) -> Question:
        """The question of a caller, about a table of any form at any times, and warnings about it."""
        check_is_fitted(self, "model_")
        self.model_.run_on(self.engine)
        arrays = self._learned.arrays
        if isinstance(arrays, OneSeries):
            question = Question.of_arrays(self.layout_, arrays, self._features(df, times))
        else:
            question = Question.read(self.layout_, df, times)
        if not question.at_rows:
            self._warn_of_unknown_controls(question.table, question.queries)
        return question.at(self._within_reach(question.table, question.queries))

    def _features(self, X: Any, times: Any) -> NDArray[np.float64]:
        """Times and controls (R, 1 + C) that are asked of a model that was fitted on arrays."""
        if times is not None:
            raise ValueError(
                "times must be None: this model was fitted on arrays, X holds the times in column 0"
            )
        return validate_data(self, X, reset=False, dtype=np.float64)

    def _needs_table(self, what: str) -> None:
        """Refuse what a model of arrays has no meaning for."""
        if self._learned.arrays is not None:
            raise ValueError(
                f"{what} needs a model that was fitted on a table, and this one was fitted on arrays: fit it on a long "
                "table with an id and a time column"
            )

    @property
    def _categorical(self) -> list[int]:
        """Positions of the targets that are categories."""
        return [d for d, name in enumerate(self.layout_.target_cols) if name in self.layout_.categories]

    def _scaled(
        self,
        table: SeriesTable,
        queries: SeriesTable,
        readout: Readout,
        n_samples: int = readouts.POSTERIOR_SAMPLES,
        noise: Callable[[NDArray], Tensor] | None = None,
    ) -> NDArray:
        """Read-outs (..., R, D) at the queries; values are globally scaled ones."""
        noise = noise or readouts.shared_noise(n_samples, self._learned.latent_dim)
        return self._forecaster.predict(table, queries, noise, readout)

    def _mean(self, table: SeriesTable, queries: SeriesTable) -> NDArray:
        """Means (R, D) in the caller's units, of categories the most probable code."""
        readout = self._calibrated(stretched, readouts.mean(self._categorical), table, queries)
        return self.scaler_.from_model(self._scaled(table, queries, readout))

    def _calibrated(
        self,
        how: Callable[[Readout, Tensor], Readout],
        readout: Readout,
        table: SeriesTable,
        queries: SeriesTable,
    ) -> Readout:
        """The read-out with the spread that calibration found, if there was one."""
        factors = self._factors(table, queries)
        return readout if factors is None else how(readout, factors)

    def _factors(self, table: SeriesTable, queries: SeriesTable) -> Tensor | None:
        """Factors (R, D) of the spread, in the order of the answer."""
        if self._learned.calibration is None:
            return None
        factors = self._learned.calibration.at(horizons_of(table, queries))
        return torch.as_tensor(queries.in_row_order(factors))

    def _within_reach(self, table: SeriesTable, queries: SeriesTable) -> SeriesTable:
        """Warn of far queries, and hold the forecast where it is beyond the farthest distance worth a solve."""
        seen = observed_rows(table)  # rows that only ask for a forecast reach nowhere
        first, last = seen.times[seen.offsets[:-1]], seen.times[seen.offsets[1:] - 1]
        first, last = first[queries.series], last[queries.series]
        beyond = np.maximum(queries.times - last, first - queries.times) / self._learned.span
        reach = max(REACH * self.time_scale_.unit / self._learned.span, 1.0)
        if not (beyond > min(FAR, reach)).any():
            return queries
        unit = "seconds" if self.layout_.clock.in_seconds else "in the unit of the time column"
        warnings.warn(
            f"times reach {beyond.max():.3g} training spans beyond the observations (one span is "
            f"{self._learned.span:g} {unit}): the model has never seen such distances; beyond {reach:.3g} spans the "
            "forecast keeps its last value",
            LatentODEWarning,
            stacklevel=4,
        )
        return replace(
            queries,
            times=np.clip(
                queries.times, first - reach * self._learned.span, last + reach * self._learned.span
            ),
        )

    def _warn_of_unknown_controls(self, table: SeriesTable, queries: SeriesTable) -> None:
        """Say where a forecast goes on with the last value of a control because nobody told it more."""
        if table.paths is None or queries.n_rows == 0:
            return
        last_knot = table.paths.bounds[:, 1].numpy()  # a path each, in the order of the series
        beyond = queries.times - last_knot[queries.series]
        if not (beyond > UNTOLD * self._learned.span).any():
            return
        names = {str(name) for name in queries.ids[queries.series[beyond > UNTOLD * self._learned.span]]}
        warnings.warn(
            f"times go beyond the last row that tells the controls {list(self.layout_.control_cols)} of {len(names)} "
            f"series (such as {min(names)!r}): there the controls keep their last value. Give times as a table with "
            "these columns to say how they go on",
            LatentODEWarning,
            stacklevel=4,
        )

    def _quantiles(self, question: Question, levels: Sequence[float]) -> NDArray:
        """Quantiles (Q, R, D) in the caller's units."""
        readout = self._calibrated(stretched, readouts.quantiles(levels), question.table, question.queries)
        return self.scaler_.from_model(self._scaled(question.table, question.queries, readout))

    def _columns(self, values: NDArray, *, labels: bool = True, ordered: bool = False) -> dict[Hashable, Any]:
        """Values (R, D) by target, codes as `labels`; where only `ordered` values make sense, no other categories."""
        columns: dict[Hashable, Any] = {}
        for name, column in zip(self.layout_.target_cols, values.T):
            categories = self.layout_.categories.get(name)
            if categories is None or not labels:
                columns[name] = column
            elif categories.ordered or not ordered:
                columns[name] = categories.decode(column)
        return columns
