"""Scores that `forecast_scorer` knows by name: what is asked of an estimator, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score

from latentode import metrics
from latentode.exceptions import DataError


@dataclass(frozen=True, eq=False)
class Question:
    """A fitted estimator, what it may know, and what came after.

    Parameters
    ----------
    estimator : object
        With the public answers of `LatentODERegressor`.
    context, times : DataFrame
        The past of some series, and the (id, time) rows that are asked for, with the controls.
    truth : DataFrame
        The rows of `times` with the targets.
    id_col, time_col : column names
    """

    estimator: Any
    context: pd.DataFrame
    times: pd.DataFrame
    truth: pd.DataFrame
    id_col: Hashable
    time_col: Hashable

    @property
    def targets(self) -> list[Hashable]:
        """Columns that are scored."""
        return [name for name in self.truth.columns if name not in (self.id_col, self.time_col)]

    @property
    def columns(self) -> dict[str, Any]:
        """Names of the keys, as the metrics take them."""
        return {"id_col": self.id_col, "time_col": self.time_col}

    def scored(self, answer: pd.DataFrame) -> pd.DataFrame:
        """Keys, labels and scored targets of an answer."""
        labels = [name for name in ("sample", "quantile") if name in answer and name not in self.truth]
        missing = [name for name in self.targets if name not in answer]
        if missing:
            raise DataError(
                f"the estimator has no such answer for target {missing[0]!r}, a category: choose others with "
                "target_cols="
            )
        return answer[[self.id_col, self.time_col, *labels, *self.targets]]

    def mean(self) -> pd.DataFrame:
        """Point forecast."""
        return self.scored(self.estimator.predict(self.context, self.times))


Metric = Callable[..., float]


def rmse(question: Question) -> float:
    return -metrics.rmse(question.truth, question.mean(), **question.columns)


def mse(question: Question) -> float:
    return -metrics.mse(question.truth, question.mean(), **question.columns)


def mae(question: Question) -> float:
    return -metrics.mae(question.truth, question.mean(), **question.columns)


def r2(question: Question) -> float:
    """Mean over the targets that have two observations."""
    answer, found = question.mean(), []
    for name in question.targets:
        truth, forecast = (
            table[name].to_numpy(np.float64, na_value=np.nan) for table in (question.truth, answer)
        )
        seen = ~np.isnan(truth)
        if seen.sum() > 1:
            found.append(r2_score(truth[seen], forecast[seen]))
    if not found:
        raise DataError("nothing to score: no target has two observations after the cuts")
    return float(np.mean(found))


def log_score(question: Question) -> float:
    mean, std = question.estimator.predict(question.context, question.times, return_std=True)
    mean, std = question.scored(mean), question.scored(std)
    return -metrics.gaussian_log_score(question.truth, mean, std, **question.columns)


def crps(question: Question, n_samples: int = 100, random_state: Any = 0) -> float:
    drawn = question.estimator.sample(question.context, question.times, n_samples, random_state=random_state)
    return -metrics.crps_samples(
        question.truth, question.scored(drawn), fair=n_samples > 1, **question.columns
    )


def pinball(question: Question, quantiles: Any = (0.1, 0.5, 0.9)) -> float:
    answer = question.estimator.predict_quantiles(question.context, question.times, quantiles)
    blocks = np.array_split(np.arange(len(answer)), len(quantiles))  # the rows of `times` once per quantile
    losses = [
        metrics.pinball(
            question.truth,
            question.scored(answer.iloc[rows]).drop(columns="quantile"),
            level,
            **question.columns,
        )
        for level, rows in zip(quantiles, blocks)
    ]
    return -float(np.mean(losses))


def coverage(question: Question, coverage: float = 0.9) -> float:
    ends = [(1 - coverage) / 2, (1 + coverage) / 2]
    answer = question.scored(question.estimator.predict_quantiles(question.context, question.times, ends))
    lower, upper = (answer[answer["quantile"] == end].drop(columns="quantile") for end in ends)
    return -abs(metrics.interval_coverage(question.truth, lower, upper, **question.columns) - coverage)


METRICS: dict[str, Metric] = {
    "rmse": rmse,
    "mse": mse,
    "mae": mae,
    "r2": r2,
    "crps": crps,
    "log_score": log_score,
    "pinball": pinball,
    "coverage": coverage,
}
