"""scikit-learn's contract around the models."""

from latentode.estimators.classifier import LatentODEClassifier
from latentode.estimators.flow import ContinuousFlowDensity
from latentode.estimators.latent_ode import LatentODERegressor
from latentode.estimators.ode_net import ODENetClassifier, ODENetRegressor
from latentode.estimators.planar_flow import PlanarFlowDensity

__all__ = [
    "ContinuousFlowDensity",
    "LatentODEClassifier",
    "LatentODERegressor",
    "ODENetClassifier",
    "ODENetRegressor",
    "PlanarFlowDensity",
]
