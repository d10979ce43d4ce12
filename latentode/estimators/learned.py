"""What a training leaves besides weights: roles, scales, and the parameters that predictions depend on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from latentode.estimators.blueprint import Blueprint
from latentode.estimators.calibration import Calibration
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

    @property
    def likelihoods(self) -> dict[Hashable, str]:
        """The likelihood of every target."""
        return dict(zip(self.layout.target_cols, self.blueprint.likelihoods))

    @property
    def latent_dim(self) -> int:
        return self.blueprint.latent_dim

    def state(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        return {
            **{name: getattr(self, name).state() for name in _PARTS},
            **{name: getattr(self, name) for name in _PLAIN},
            "calibration": None if self.calibration is None else self.calibration.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Learned:
        """What `state()` came from."""
        parts = {name: kind.from_state(state[name]) for name, kind in _PARTS.items()}
        factors = state["calibration"]
        calibration = None if factors is None else Calibration.from_state(factors)
        return cls(**parts, **{name: state[name] for name in _PLAIN}, calibration=calibration)


_PARTS: dict[str, Any] = {
    "blueprint": Blueprint,
    "layout": TableLayout,
    "time_scale": TimeScale,
    "scaler": ValueScaler,
    "covariates": CovariateScaler,
}
_PLAIN = ("anchor", "context", "window", "span", "event_times")
