"""Forecasts, with honest uncertainty, for irregular time series."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentode.version import __version__ as __version__

if TYPE_CHECKING:
    from latentode.drop_in import odeint, odeint_adjoint, odeint_event
    from latentode.estimators import (
        ContinuousFlowDensity,
        LatentODEClassifier,
        LatentODERegressor,
        ODENetClassifier,
        ODENetRegressor,
        PlanarFlowDensity,
    )
    from latentode.nn.ode_block import ODEBlock
    from latentode.solve import solve_ivp
    from latentode.versions import show_versions

__all__ = [
    "ContinuousFlowDensity",
    "LatentODEClassifier",
    "LatentODERegressor",
    "ODEBlock",
    "ODENetClassifier",
    "ODENetRegressor",
    "PlanarFlowDensity",
    "odeint",
    "odeint_adjoint",
    "odeint_event",
    "show_versions",
    "solve_ivp",
]

_HOMES = {
    "ContinuousFlowDensity": "latentode.estimators",
    "LatentODEClassifier": "latentode.estimators",
    "LatentODERegressor": "latentode.estimators",
    "ODEBlock": "latentode.nn.ode_block",
    "ODENetClassifier": "latentode.estimators",
    "ODENetRegressor": "latentode.estimators",
    "PlanarFlowDensity": "latentode.estimators",
    "odeint": "latentode.drop_in",
    "odeint_adjoint": "latentode.drop_in",
    "odeint_event": "latentode.drop_in",
    "show_versions": "latentode.versions",
    "solve_ivp": "latentode.solve",
}


def __getattr__(name: str) -> Any:
    # torch, pandas and scikit-learn take seconds to import: the command line answers before that
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
