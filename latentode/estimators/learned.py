"""What a training leaves besides weights: roles, scales, and the parameters that predictions depend on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from latentode.estimators.arrays import OneSeries, SeriesPerRow, arrays_from_state
from latentode.estimators.blueprint import Blueprint
from latentode.estimators.calibration import Calibration
from latentode.estimators.forecaster import Forecaster
from latentode.models.latent_ode import LatentODE
from latentode.series import CovariateScaler, TableLayout, TimeScale, ValueScaler


@dataclass(frozen=True)
class Learned:
    """Everything that predictions need of a training, but the weights; parameters may be set anew after `fit`.

    Parameters
    ----------
    blueprint : Blueprint
    layout : TableLayout
    time_scale : TimeScale
    scaler : ValueScaler
    covariates : CovariateScaler
    anchor : {"start", "end"}
    context : str or float
    window : float or None
        In the unit of encoded times.
    span : float
        A training span in that unit: the longest series, or the window.
    event_times : {"poisson", "poisson_per_target"} or None
    calibration : Calibration or None
    arrays : OneSeries, SeriesPerRow or None
        What `fit` was given in place of a table.
    """

    blueprint: Blueprint
    layout: TableLayout
    time_scale: TimeScale
    scaler: ValueScaler
    covariates: CovariateScaler
    anchor: str
    context: str | float
    window: float | None
    span: float
    event_times: str | None
    calibration: Calibration | None = None
    arrays: OneSeries | SeriesPerRow | None = None

    @property
    def likelihoods(self) -> dict[Hashable, str]:
        """The likelihood of every target."""
        return dict(zip(self.layout.target_cols, self.blueprint.likelihoods))

    @property
    def latent_dim(self) -> int:
        return self.blueprint.latent_dim

    def forecaster(self, model: LatentODE) -> Forecaster:
        """A model of this blueprint at work, on the device where it is."""
        return Forecaster(
            model,
            self.time_scale,
            self.scaler,
            self.covariates,
            self.anchor,
            self.window,
            next(model.parameters()).device,
        )

    def state(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return {
            **{name: getattr(self, name).state() for name in _PARTS},
            **{name: getattr(self, name) for name in _PLAIN},
            **{name: _state_of(getattr(self, name)) for name in _OPTIONAL},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Learned:
        """What `state()` came from."""
        parts = {name: kind.from_state(state[name]) for name, kind in _PARTS.items()}
        for name, from_state in _OPTIONAL.items():
            parts[name] = None if state[name] is None else from_state(state[name])
        return cls(**parts, **{name: state[name] for name in _PLAIN})


def _state_of(part: Any) -> Any:
    return None if part is None else part.state()


_PARTS: dict[str, Any] = {
    "blueprint": Blueprint,
    "layout": TableLayout,
    "time_scale": TimeScale,
    "scaler": ValueScaler,
    "covariates": CovariateScaler,
}
_OPTIONAL: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "calibration": Calibration.from_state,
    "arrays": arrays_from_state,
}
_PLAIN = ("anchor", "context", "window", "span", "event_times")
