"""Forecasts as a picture."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from narwhals.typing import IntoDataFrameT
from sklearn.utils.validation import check_is_fitted

from latentode import plotting
from latentode.estimators.drawing import (
    ends_of,
    queries_to_draw,
    rows_since,
    series_to_draw,
    targets_to_draw,
    times_to_draw,
)
from latentode.estimators.forecasts import ForecastsMixin
from latentode.estimators.question import asked_of


class PicturesMixin(ForecastsMixin):
    """Pictures of what an estimator forecasts."""

    def plot_forecast(
        self,
        df: IntoDataFrameT,
        times: Any = None,
        *,
        coverage: float = 0.9,
        series: Sequence[Any] | None = None,
        truth: Any = None,
        target_cols: Sequence[Hashable] | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw observations, forecast and interval against time.

        Parameters
        ----------
        df, times
            As in `predict`; by default 200 times from the first row of each series to half its span beyond the last
            (with `window`: from a window before the last row to half a window after it).
        coverage : float in (0, 1), default 0.9
            Of the band.
        series : sequence of ids, optional
            Series to draw; default: the first four.
        truth : DataFrame, optional
            What really happened, drawn beside the forecast.
        target_cols : sequence of names, optional
            Targets to draw, one row each; default: the first four. Categories are not drawn: see `predict_proba`.
        ax : Axes or array of Axes, optional
            Where to draw; default: a new figure.

        Returns
        -------
        Axes, or array of Axes (targets, series)
        """
        check_is_fitted(self, "model_")
        self._needs_table("plot_forecast")
        layout, (form, frame) = self.layout_, self.layout_.open(df)
        names = series_to_draw(layout, frame, series)
        observed = shown = frame[frame[layout.id_col].isin(names)].reset_index(drop=True)
        if times is None:
            windowed = self._forecaster.window is not None
            default = times_to_draw(layout, shown, self._learned.span, windowed)
            observed = rows_since(layout, shown, default) if windowed else shown
            asked: pd.DataFrame | pd.Series = default
        else:
            asked = queries_to_draw(layout, frame, asked_of(layout, form, frame, times), names)
        drawn = targets_to_draw(layout, target_cols)
        lower, upper = ends_of(self.predict_interval(shown, asked, coverage), layout, drawn)
        return plotting.plot_forecast_panels(
            observed,
            self.predict(shown, asked),
            lower,
            upper,
            truth=None if truth is None else layout.open(truth, single=form.single).frame,
            series=None if form.single else names,
            target_cols=drawn,
            coverage=coverage,
            id_col=None if form.single else layout.id_col,  # type: ignore[arg-type]
            time_col=layout.time_col,  # type: ignore[arg-type]
            ax=ax,
        )
