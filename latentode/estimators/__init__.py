"""scikit-learn's contract around the models."""

from latentode.estimators.classifier import LatentODEClassifier
from latentode.estimators.latent_ode import LatentODERegressor

__all__ = ["LatentODEClassifier", "LatentODERegressor"]
