"""How good forecasts are: the rest of each series, from its first part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from latentode.estimators import readouts
from latentode.estimators.forecaster import observed_rows
from latentode.estimators.forecasts import ForecastsMixin
from latentode.estimators.question import as_queries
from latentode.exceptions import DataError
from latentode.series import SeriesTable
from latentode.series.split import ROUNDING


class ScoresMixin(ForecastsMixin):
    """Scores of an estimator that forecasts."""

    def score(self, df: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R² of forecasts of the rest of each series from its first part.

        The first part is the first half of a series' time, or the share `context` where that is a number. Of one long
        series that is a forecast over half of its record, far beyond what a `window` teaches: score such a model on
        parts of the record that are about as long as a window.

        Parameters
        ----------
        df : DataFrame
        y, sample_weight : None
            For a model that was fitted on arrays, targets and weights of the rows of `df`, as in scikit-learn;
            otherwise they must stay None, as the targets are columns.

        Returns
        -------
        float
            Mean over targets of 1 − (squared error) / (squared deviation from the mean), at most 1; for a category 1 −
            (wrong labels) / (those that the most frequent label would get wrong).

        Raises
        ------
        DataError
            When no series has an observation after its first part.
        """
        check_is_fitted(self, "model_")
        if self._learned.arrays is not None:
            if y is None:
                raise ValueError(
                    "a model that was fitted on arrays is scored with y, the targets of the rows of X"
                )
            return float(r2_score(y, self.predict(df), sample_weight=sample_weight))
        if y is not None or sample_weight is not None:
            raise ValueError("y and sample_weight must be None: the targets are columns of the table")
        known, rest, queries = self._halves(df, read_errors=False)
        mean = self._mean(known, queries)
        scores = []
        for name, truth, forecast in zip(self.layout_.target_cols, rest.values.T, mean.T):
            seen = ~np.isnan(truth)
            if seen.sum() > 1:
                measure = _share_of_errors_avoided if name in self.layout_.categories else r2_score
                scores.append(measure(truth[seen], forecast[seen]))
        if not scores:
            raise DataError("nothing to score: no target has two observations after the first parts")
        return float(np.mean(scores))

    def log_likelihood(self, df: Any) -> float:
        """Log score: mean log density that forecasts give to what was observed of the rest of each series.

        A proper score of the whole distribution, noise included; the higher, the better. Parts are those of `score`.

        Parameters
        ----------
        df : DataFrame

        Returns
        -------
        float
            Nats per observed cell, of densities in the units of the table (of probabilities, for counts and classes).

        Raises
        ------
        DataError
            When no series has an observation after its first part.
        """
        check_is_fitted(self, "model_")
        self._needs_table("log_likelihood")
        known, rest, queries = self._halves(df, read_errors=True)
        values = self.scaler_.to_model(rest.values)
        errors = None if rest.errors is None else torch.as_tensor(rest.errors / self.scaler_.scale)
        found = self._scaled(
            known,
            queries,
            readouts.log_densities(torch.as_tensor(values), errors, self._factors(known, queries)),
        )
        observed = ~np.isnan(values)
        density = found - np.log(self.scaler_.scale)
        return float(density[observed].mean())

    def _halves(self, df: Any, *, read_errors: bool) -> tuple[SeriesTable, SeriesTable, SeriesTable]:
        """First part of each series, its rest, and the rest as queries in its own order."""
        table = observed_rows(self.layout_.read(self.layout_.open(df).frame, read_errors=read_errors))
        share = self._learned.context
        begin, share = table.times[table.offsets[:-1]], 0.5 if isinstance(share, str) else share
        first = table.times <= (begin + (share + ROUNDING) * table.spans)[table.series]
        known, rest = table.take_rows(first), table.take_rows(~first)
        if rest.n_rows == 0:
            raise DataError("nothing to score: no series has an observation after its first part")
        queries = replace(as_queries(rest), rows=np.arange(rest.n_rows))
        return known, rest, self._within_reach(known, queries)


def _share_of_errors_avoided(truth: NDArray, forecast: NDArray) -> float:
    """1 − wrong labels / those that the most frequent one would get wrong; 1 or 0 where that gets none wrong."""
    wrong = int((truth != forecast).sum())
    modal = len(truth) - int(np.unique(truth, return_counts=True)[1].max())
    return 1 - wrong / modal if modal else float(wrong == 0)
