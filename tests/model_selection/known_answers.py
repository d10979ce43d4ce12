"""An estimator whose answers are known, and which remembers what it was shown."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator

from latentode.series import open_table


class LastValue(BaseEstimator):
    """Forecasts N(last value of the context + shift, std²), with the public answers of `LatentODERegressor`."""

    shown: list[tuple[pd.DataFrame, pd.DataFrame]] = []  # noqa: RUF012 (shared by all clones on purpose)
    trained: list[pd.DataFrame] = []  # noqa: RUF012

    def __init__(
        self, shift: float = 0.0, std: float = 1.0, id_col: str = "id", time_col: str = "time"
    ) -> None:
        self.shift = shift
        self.std = std
        self.id_col = id_col
        self.time_col = time_col

    control_cols = ()

    def fit(self, df: pd.DataFrame, y: None = None) -> LastValue:
        self.trained.append(df)
        targets = [name for name in df.columns if name not in (self.id_col, self.time_col)]
        self.layout_ = SimpleNamespace(
            target_cols=tuple(targets),
            categories={},
            open=partial(open_table, id_col=self.id_col, time_col=self.time_col),
        )
        self.seen_until_ = df.groupby(self.id_col, observed=True)[self.time_col].max()
        return self

    def predict(self, df: pd.DataFrame, times: pd.DataFrame, *, return_std: bool = False) -> Any:
        self.shown.append((df, times))
        last = df.sort_values(self.time_col, kind="stable").groupby(self.id_col, observed=True).last()
        answer = times[[self.id_col, self.time_col]].reset_index(drop=True)
        for name in self.layout_.target_cols:
            answer[name] = last[name].loc[answer[self.id_col]].to_numpy() + self.shift
        return (answer, self._plus(answer, 0.0, self.std)) if return_std else answer

    def predict_quantiles(self, df: pd.DataFrame, times: pd.DataFrame, quantiles: Any) -> pd.DataFrame:
        mean = self.predict(df, times)
        return self._stacked(
            "quantile", {q: self._plus(mean, 1.0, stats.norm.ppf(q) * self.std) for q in quantiles}
        )

    def predict_interval(self, df: pd.DataFrame, times: pd.DataFrame, coverage: float) -> pd.DataFrame:
        mean = self.predict(df, times)
        low, high = stats.norm.interval(coverage, 0, self.std)
        ends = {}
        for name in self.layout_.target_cols:
            ends |= {f"{name}_lower": mean[name] + low, f"{name}_upper": mean[name] + high}
        return mean[[self.id_col, self.time_col]].assign(**ends)

    def sample(
        self, df: pd.DataFrame, times: pd.DataFrame, n_samples: int, *, random_state: Any
    ) -> pd.DataFrame:
        mean, rng = self.predict(df, times), np.random.default_rng(random_state)
        return self._stacked(
            "sample", {s: self._plus(mean, 1.0, rng.normal(0, self.std)) for s in range(n_samples)}
        )

    def _plus(self, mean: pd.DataFrame, share: float, change: float) -> pd.DataFrame:
        return mean.assign(**{name: share * mean[name] + change for name in self.layout_.target_cols})

    def _stacked(self, name: str, blocks: dict[Any, pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(
            [block.assign(**{name: label}) for label, block in blocks.items()], ignore_index=True
        )
