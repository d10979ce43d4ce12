"""scikit-learn's contract around the models."""

from latentode.estimators.classifier import LatentODEClassifier
from latentode.estimators.latent_ode import LatentODERegressor
from latentode.estimators.ode_net import ODENetClassifier, ODENetRegressor

__all__ = ["LatentODEClassifier", "LatentODERegressor", "ODENetClassifier", "ODENetRegressor"]
