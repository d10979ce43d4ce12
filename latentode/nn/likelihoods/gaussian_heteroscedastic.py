"""Gaussian noise whose size changes with the state."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from latentode.nn.likelihoods.gaussian import (
    INITIAL_NOISE,
    INV_SQRT_2,
    NOISE_FLOOR,
    NORMAL_IN_SQRT_2,
    normal_cdf,
    normal_log_density,
)
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.symmetric_mixture import symmetric_mixture_quantiles

SHIFT = math.log(
    math.expm1(INITIAL_NOISE - NOISE_FLOOR)
)  # softplus(SHIFT) is the initial noise above its floor


class HeteroscedasticGaussianLikelihood(Likelihood):
    """Gaussian noise of a size that the decoder gives, beside the mean: it may differ between series and times.

    Good for targets that are steadier in some states than in others. Where all noise is alike, `gaussian` needs fewer
    data; a mean that fits badly can hide behind noise that grows, so look at the fit before trusting it.

    Parameters
    ----------
    n_targets : int
        D. Of the decoder's 2 D outputs the first D are means, the others give the noise.

    References
    ----------
    Nix & Weigend (1994), "Estimating the mean and variance of the target probability distribution", equation 2.
    """

    n_params = 2
    scaled = True
    accepts_errors = True

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets

    def mean(self, params: Tensor) -> Tensor:
        return params[..., : self.n_targets]

    def std(self, params: Tensor) -> Tensor:
        # softplus: straight for large outputs, where exp would overflow
        return softplus(params[..., self.n_targets :] + SHIFT) + NOISE_FLOOR

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean = self.mean(params)
        eps = torch.empty_like(mean, memory_format=torch.contiguous_format).normal_(generator=generator)
        return mean + self.std(params) * eps

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        return normal_cdf((values - self.mean(params)) / self.std(params)).mean(0)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        return normal_log_density(values - self.mean(params), self.std(params), errors)

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        mean, unit = self.mean(params), self.std(params) / INV_SQRT_2
        found = symmetric_mixture_quantiles(NORMAL_IN_SQRT_2, mean.flatten(1), levels, unit.flatten(1))
        return found.reshape(len(levels), *mean.shape[1:])
