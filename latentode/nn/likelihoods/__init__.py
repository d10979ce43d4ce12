"""Likelihoods of the observations, given what the decoder says at their times, by name.

`params` is (K, N, T, n_out): K posterior samples, N series, T times. Values are standardised ones where a likelihood
is `scaled`, and in their own unit (codes, counts) where it is not.
"""

from __future__ import annotations

from latentode.nn.likelihoods.bernoulli import BernoulliLikelihood
from latentode.nn.likelihoods.categorical import CategoricalLikelihood
from latentode.nn.likelihoods.choice import LIKELIHOODS, likelihood_for
from latentode.nn.likelihoods.gaussian import INITIAL_NOISE, NOISE_FLOOR, GaussianLikelihood
from latentode.nn.likelihoods.gaussian_heteroscedastic import HeteroscedasticGaussianLikelihood
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.mixed import MixedLikelihood, Part
from latentode.nn.likelihoods.negative_binomial import NegativeBinomialLikelihood
from latentode.nn.likelihoods.poisson import PoissonLikelihood
from latentode.nn.likelihoods.student_t import StudentTLikelihood
from latentode.nn.likelihoods.target_facts import TargetFacts

__all__ = [
    "INITIAL_NOISE",
    "LIKELIHOODS",
    "NOISE_FLOOR",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "HeteroscedasticGaussianLikelihood",
    "Likelihood",
    "MixedLikelihood",
    "NegativeBinomialLikelihood",
    "Part",
    "PoissonLikelihood",
    "StudentTLikelihood",
    "TargetFacts",
    "likelihood_for",
]
