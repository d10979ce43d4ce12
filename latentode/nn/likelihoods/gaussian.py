"""Gaussian noise of constant size."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.normal import HALF_LOG_2PI
from latentode.nn.symmetric_mixture import Symmetric, symmetric_mixture_quantiles

NOISE_FLOOR = (
    1e-3  # in standard deviations of a target: below what a model fits, above what float32 squares badly
)
INITIAL_NOISE = 0.3  # in the same unit
INV_SQRT_2 = math.sqrt(0.5)

# In units of sqrt(2) standard deviations the distribution function is erfc / 2, one pass over the cells.
NORMAL_IN_SQRT_2 = Symmetric(
    upper_tail=lambda u: 0.5 * torch.erfc(u),
    relative_density=lambda u: (-u.square()).exp(),
    peak=1 / math.sqrt(math.pi),
    quantile=lambda level: INV_SQRT_2 * float(torch.special.ndtri(torch.tensor(level, dtype=torch.float64))),
)


class GaussianLikelihood(Likelihood):
    """Gaussian noise of constant size, learned per target; the decoder gives the mean.

    Good for continuous targets; a few gross outliers inflate its noise.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    """

    scaled = True
    accepts_errors = True

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.log_noise = nn.Parameter(torch.full((n_targets,), math.log(INITIAL_NOISE - NOISE_FLOOR)))

    @property
    def noise_std(self) -> Tensor:
        """Standard deviation of the noise of each target, (D,)."""
        return self.log_noise.exp() + NOISE_FLOOR

    def log_prob(self, params: Tensor, values: Tensor, mask: Tensor, errors: Tensor | None = None) -> Tensor:
        if errors is not None:
            return super().log_prob(params, values, mask, errors)
        # Summed over time before the noise comes in: fewer passes over the K N T D cells, backwards too.
        squares = torch.where(mask, values - params, 0.0).square().sum(-2)  # (K, N, D)
        counts = mask.sum(-2).to(squares.dtype)  # (N, D)
        noise = self.noise_std
        return (-0.5 * squares / noise.square() - counts * (noise.log() + HALF_LOG_2PI)).sum(-1)

    def mean(self, params: Tensor) -> Tensor:
        return params

    def std(self, params: Tensor) -> Tensor:
        return self.noise_std.expand_as(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        eps = torch.empty_like(params).normal_(generator=generator)
        return params + self.noise_std.to(params.device) * eps

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        return normal_cdf((values - params) / self.noise_std).mean(0)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        return normal_log_density(values - params, self.noise_std, errors)

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        unit = self.noise_std / INV_SQRT_2  # (D,): all cells are alike in it
        found = symmetric_mixture_quantiles(NORMAL_IN_SQRT_2, (params / unit).flatten(1), levels)
        return unit * found.reshape(len(levels), *params.shape[1:])


def normal_log_density(residual: Tensor, noise: Tensor, errors: Tensor | None) -> Tensor:
    """Log density of N(0, noise^2 + errors^2) at `residual`."""
    spread = noise if errors is None else torch.hypot(noise, errors)  # no square that overflows
    return -0.5 * (residual / spread).square() - spread.log() - HALF_LOG_2PI


def normal_cdf(u: Tensor) -> Tensor:
    """Distribution function of N(0, 1)."""
    return 0.5 * torch.erfc(-INV_SQRT_2 * u)  # erfc keeps the digits of the lower tail; 1 + erf loses them
