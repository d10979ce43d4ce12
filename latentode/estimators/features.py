"""What a fitted estimator makes of a table besides forecasts: features of its series, and the table without gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from narwhals.typing import IntoDataFrameT
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from latentode.estimators import readouts
from latentode.estimators.arrays import is_array
from latentode.estimators.forecasts import ForecastsMixin


class FeaturesMixin(ForecastsMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin):
    """Latent states as features for any other model, and gaps filled."""

    def transform(self, df: Any) -> Any:
        """Latent state of each series: the mean of its posterior, given all its rows.

        Features of series of any length for scikit-learn's models, as the last transformer of a pipeline. It is the
        state at the last observation (with `anchor="start"` at the first; with `window`, of the last half window).

        Parameters
        ----------
        df : DataFrame
            Series as in `fit`, trained on or new.

        Returns
        -------
        DataFrame (N, latent_dim)
            One row per series, indexed by id, in order of first appearance; for a table of another library than pandas
            one of that library, without ids, since they are no features.
        """
        check_is_fitted(self, "model_")
        if self._learned.arrays is not None:
            return self._states_at_rows(df)
        form, frame = self.layout_.open(df)
        table = self.layout_.read(frame, read_errors=False)
        states = self._forecaster.posterior(table).mean.double().numpy()
        names = self.get_feature_names_out()
        return form.write_features(pd.DataFrame(states, columns=names), table.ids)

    def fit_transform(self, df: Any, y: Any = None) -> Any:
        """`fit(df)`, then `transform(df)`; `y`, which a pipeline hands to all its steps, counts for arrays only."""
        labels = y if is_array(df) else None
        return self.fit(df, labels).transform(df)

    def impute(self, df: IntoDataFrameT) -> IntoDataFrameT:
        """The table with every gap (NaN) of the targets filled by the mean given all rows of its series.

        Parameters
        ----------
        df : DataFrame
            Series as in `fit`, trained on or new; a row without any observation is a time to fill in.

        Returns
        -------
        DataFrame
            A copy: observed cells, other columns, order and index of the rows are as they were. Of categories, the most
            probable label. Columns that cannot hold the filled values, such as whole numbers, become floats.
        """
        check_is_fitted(self, "model_")
        self._needs_table("impute")
        question = self._ask(df)
        form, frame = self.layout_.open(df)
        filled = self._columns(self._mean(question.table, question.queries))
        gaps = {name: frame[name].isna().to_numpy(dtype=bool) for name in filled}
        columns = {
            name: _filled(frame[name], gaps[name], np.asarray(filled[name]))
            for name in filled
            if gaps[name].any()
        }
        return form.write(_assigned(frame, columns), at_rows=True)

    def _states_at_rows(self, X: Any) -> NDArray[np.float64]:
        """Of a model that was fitted on arrays, the mean states (R, latent_dim) at the times of X."""
        question = self._ask(X)
        return self._scaled(question.table, question.queries, readouts.states)

    @property
    def _n_features_out(self) -> int:
        return self._learned.latent_dim


def _filled(column: pd.Series, gaps: NDArray[np.bool_], values: NDArray) -> pd.Series:
    """The column with values where there are gaps, in its own dtype if that can hold them."""
    if pd.api.types.is_integer_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        column = column.astype("Float64")  # only nullable ones have gaps
    filled, found = column.copy(), pd.Series(values[gaps])
    if pd.api.types.is_float_dtype(column.dtype):
        found = found.astype(column.dtype)
    filled.iloc[np.flatnonzero(gaps)] = found.array
    return filled


def _assigned(df: pd.DataFrame, columns: dict[Any, pd.Series]) -> pd.DataFrame:
    copy = df.copy()
    for name, column in columns.items():
        copy[name] = column
    return copy
