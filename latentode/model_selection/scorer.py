"""`forecast_scorer`: how good forecasts of what an estimator has not seen are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from latentode.checks import Constraint, That, Whole, check_parameters, did_you_mean
from latentode.exceptions import DataError
from latentode.model_selection.context_ends import last_of_context
from latentode.model_selection.cutoffs import SHARE
from latentode.model_selection.forecast_metrics import METRICS, Question
from latentode.model_selection.instants import comparable
from latentode.model_selection.long_table import LongTable
from latentode.seeding import RandomState, numpy_generator

Loss = Callable[[pd.DataFrame, pd.DataFrame], float]


def forecast_scorer(
    metric: str | Loss = "rmse",
    *,
    cuts: pd.DataFrame | pd.Series | None = None,
    share: float | None = None,
    target_cols: Sequence[Hashable] | None = None,
    quantiles: Sequence[float] | None = None,
    coverage: float | None = None,
    n_samples: int | None = None,
    random_state: RandomState = None,
) -> ForecastScorer:
    """Scorer, for `scoring=` of scikit-learn, of forecasts of the rows that come after what an estimator has seen.

    Each series of the table is cut: what lies up to the cut is the context from which the estimator forecasts, what
    comes later is the truth. A series that the estimator was trained on is cut at its last training time
    (`seen_until_`), which is right for `TimeCutSplit`. One that it was not trained on is cut

    - by default at the latest training time of all series, for series that share a clock: nothing that the model
      learned is later than what it is asked;
    - at `cuts`, exactly where a splitter cut: for `SeriesTimeCutSplit`;
    - at `share` of the span of its rows in the table: for `SeriesKFold`, where training tells nothing of a time.

    Series without rows on both sides of their cut are left out. Tables may have any form that the estimator's `fit`
    takes.

    Parameters
    ----------
    metric : str or function, default "rmse"
        Errors count negative, so that greater is better: "rmse", "mse", "mae" of the mean; "crps" of samples (fair);
        "log_score" of a Gaussian with the predicted mean and standard deviation; "pinball", mean over `quantiles`;
        "coverage", the distance of the observed from the nominal one, best at 0; and "r2", which is best at 1. A
        function of two tables, truth and mean, is an error. Over several targets all but "r2" mean over all cells, in
        their units: name one with `target_cols`, or give a function (of `latentode.metrics.standardised_mse`) where
        these differ.
    cuts : DataFrame or Series, optional
        Times by series id, of the same kind as those of the table: what the method `cuts` of a splitter returns, or one
        column of it. Of several columns, the first that lies nowhere before the training rows is that of the split.
    share : float in (0, 1), optional
    target_cols : list, optional
        Targets that are scored; default: all that the estimator predicts.
    quantiles : sequence of float, default (0.1, 0.5, 0.9)
        Only for "pinball".
    coverage : float in (0, 1), default 0.9
        Only for "coverage".
    n_samples : int, default 100
        Only for "crps".
    random_state : int, default 0
        Only for "crps": every candidate is scored by samples from the same random numbers.

    Returns
    -------
    callable
        `scorer(estimator, X, y=None) -> float`, for estimators of this package and for searches over them.

    Raises
    ------
    ValueError
        For an unknown metric, or an argument of another one.

    Examples
    --------
    >>> from latentode import LatentODERegressor
    >>> from latentode.datasets import make_spirals
    >>> from latentode.model_selection import TimeCutSplit, forecast_scorer
    >>> from sklearn.model_selection import cross_val_score
    >>> df = make_spirals(n_series=10, n_obs=20, random_state=0)
    >>> model = LatentODERegressor(max_epochs=1, random_state=0, verbose=0)
    >>> cross_val_score(model, df, cv=TimeCutSplit(2), scoring=forecast_scorer("mae")).shape
    (2,)
    """
    given = {
        "quantiles": quantiles,
        "coverage": coverage,
        "n_samples": n_samples,
        "random_state": random_state,
    }
    options = {name: value for name, value in given.items() if value is not None}
    _check_metric(metric, options)
    if cuts is not None and share is not None:
        raise ValueError("cuts and share both say where series are cut: give one of them")
    if cuts is not None and not isinstance(cuts, (pd.DataFrame, pd.Series)):
        raise ValueError(f"cuts must be what a splitter's method cuts(df) returns, got {type(cuts).__name__}")
    if share is not None and not SHARE.allows(share):
        raise ValueError(f"share must be {SHARE}, of the span of a series; got {share!r}")
    if isinstance(target_cols, str):
        raise ValueError(f"target_cols must be a list of names, got {target_cols!r}: write [{target_cols!r}]")
    if isinstance(cuts, pd.Series):
        cuts = cuts.to_frame()
    return ForecastScorer(metric, cuts, share, None if target_cols is None else tuple(target_cols), options)


@dataclass(frozen=True, eq=False)
class ForecastScorer:
    """What `forecast_scorer` makes; its fields are the arguments there."""

    metric: str | Loss
    cuts: pd.DataFrame | None
    share: float | None
    target_cols: tuple[Hashable, ...] | None
    options: Mapping[str, Any]

    def __call__(self, estimator: Any, X: pd.DataFrame, y: None = None) -> float:
        """Score of a fitted estimator on a table; greater is better."""
        if y is not None:
            raise ValueError("y must be None: the targets are columns of the table")
        question = self._question(getattr(estimator, "best_estimator_", estimator), X)
        if isinstance(self.metric, str):
            return float(METRICS[self.metric](question, **self.options))
        return -float(self.metric(question.truth, question.mean()))

    def __repr__(self) -> str:
        arguments = {"share": self.share, "target_cols": self.target_cols, **self.options}
        shown = [repr(self.metric) if isinstance(self.metric, str) else self.metric.__name__]
        shown += ["cuts=..."] if self.cuts is not None else []
        shown += [f"{name}={value!r}" for name, value in arguments.items() if value is not None]
        return f"forecast_scorer({', '.join(shown)})"

    def _question(self, estimator: Any, X: pd.DataFrame) -> Question:
        if not hasattr(estimator, "seen_until_"):
            raise ValueError(
                f"{type(estimator).__name__} has no seen_until_, the last training times by series id: fit it first; a "
                "forecast_scorer needs an estimator of series, such as LatentODERegressor"
            )
        table = LongTable.of(estimator.layout_.open(X))
        keys, times, id_col, time_col = table.keys, table.times, table.id_col, table.time_col
        seen = comparable(estimator.seen_until_, table.told, "the last training times")
        cuts = None if self.cuts is None else self.cuts.apply(comparable, args=(table.told, "cuts"))
        last = last_of_context(keys, times, seen, cuts, self.share)
        past = (times <= last.take(keys.codes).reset_index(drop=True)).to_numpy(dtype=bool)
        asked = (keys.present(past) & keys.present(~past))[keys.codes]
        if not asked.any():
            raise DataError(
                "nothing to score: no series has rows both up to its cut and after it; the training went to "
                f"{estimator.seen_until_.max()}, the table goes to {table.told.max()}. Say where series are cut "
                "that were not trained on, with cuts= or share="
            )
        future = table.frame[asked & ~past]
        targets = self._targets(estimator)
        return Question(
            estimator,
            context=table.frame[asked & past],
            times=future[[id_col, time_col, *getattr(estimator, "control_cols", ())]],
            truth=future[[id_col, time_col, *targets]],
            id_col=id_col,
            time_col=time_col,
        )

    def _targets(self, estimator: Any) -> list[Hashable]:
        known, categories = list(estimator.layout_.target_cols), estimator.layout_.categories
        for name in known if self.target_cols is None else self.target_cols:
            if name in categories and isinstance(self.metric, str):
                raise ValueError(
                    f"target {name!r} is a category, which metric {self.metric!r} does not score: name others with "
                    "target_cols=, or give a function"
                )
        if self.target_cols is None:
            return known
        for name in self.target_cols:
            if name not in known:
                raise ValueError(
                    f"target_cols names {name!r}, but the estimator predicts {known}"
                    + did_you_mean(name, map(str, known))
                )
        return list(self.target_cols)


def _check_metric(metric: Any, options: Mapping[str, Any]) -> None:
    if isinstance(metric, str):
        if metric not in METRICS:
            raise ValueError(
                f"metric must be one of {', '.join(METRICS)}; got {metric!r}{did_you_mean(metric, METRICS)}"
            )
        takes = set(inspect.signature(METRICS[metric]).parameters) - {"question"}
    elif callable(metric):
        takes = set()
    else:
        raise ValueError(f"metric must be a name or a function of truth and forecast, got {metric!r}")
    for name in options:
        if name not in takes:
            raise ValueError(f"{name} has no effect on metric {metric!r}: leave it out")
    allowed: dict[str, tuple[Constraint, ...]] = {
        "coverage": (SHARE,),
        "n_samples": (Whole(1),),
        "quantiles": (That(_are_levels, "a sequence of numbers strictly between 0 and 1"),),
    }
    check_parameters("forecast_scorer", {name: options[name] for name in allowed if name in options}, allowed)
    numpy_generator(options.get("random_state"))


def _are_levels(quantiles: Any) -> bool:
    return hasattr(quantiles, "__len__") and len(quantiles) > 0 and all(map(SHARE.allows, quantiles))
