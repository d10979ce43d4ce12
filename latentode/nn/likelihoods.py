"""Likelihoods of the observations, given what the decoder says at their times.

`params` is (K, N, T, n_out): K posterior samples, N series, T times. All values are scaled ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latentode.nn.mixture import mixture_quantile
from latentode.nn.normal import HALF_LOG_2PI

NOISE_FLOOR = (
    1e-3  # in standard deviations of a target: below what a model fits, above what float32 squares badly
)
INITIAL_NOISE = 0.3  # in the same unit
INV_SQRT_2 = math.sqrt(0.5)


class GaussianLikelihood(nn.Module):
    """Gaussian noise of constant size, learned per target; the decoder gives the mean.

    Good for continuous targets; a few gross outliers inflate its noise.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    """

    n_params = 1

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.log_noise = nn.Parameter(torch.full((n_targets,), math.log(INITIAL_NOISE - NOISE_FLOOR)))

    @property
    def n_out(self) -> int:
        """Decoder outputs per time: `n_params` for each target."""
        return self.n_params * self.n_targets

    @property
    def noise_std(self) -> Tensor:
        """Standard deviation of the noise of each target, (D,)."""
        return self.log_noise.exp() + NOISE_FLOOR

    def log_prob(self, params: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Log likelihood of each series under each sample, summed over its observed cells.

        Parameters
        ----------
        params : Tensor (K, N, T, D)
        values : Tensor (N, T, D)
            What stands in unobserved cells, even NaN, reaches neither result nor gradient.
        mask : Tensor (N, T, D), bool
            True where a value was observed.

        Returns
        -------
        Tensor (K, N)
        """
        # Summed over time before the noise comes in: fewer passes over the K N T D cells, backwards too.
        squares = _residual(params, values, mask).square().sum(-2)  # (K, N, D)
        counts = mask.sum(-2).to(squares.dtype)  # (N, D)
        noise = self.noise_std
        return (-0.5 * squares / noise.square() - counts * (noise.log() + HALF_LOG_2PI)).sum(-1)

    def log_predictive(self, params: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Log density of each observed cell under the mixture over samples, 0 where unobserved: (N, T, D)."""
        standardised = _residual(params, values, mask) / self.noise_std
        log_density = -0.5 * standardised.square() - self.noise_std.log() - HALF_LOG_2PI
        return torch.where(mask, log_density.logsumexp(0) - math.log(len(params)), 0.0)

    def mean(self, params: Tensor) -> Tensor:
        """Mean of an observation under each sample, (K, N, T, D)."""
        return params

    def std(self, params: Tensor) -> Tensor:
        """Standard deviation of an observation under each sample, (K, N, T, D)."""
        return self.noise_std.expand_as(params)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One noisy observation per sample, series, time and target, (K, N, T, D)."""
        eps = torch.empty_like(params).normal_(generator=generator)
        return params + self.noise_std * eps

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        """Distribution function of the mixture over samples at `values` (N, T, D): (N, T, D)."""
        return _normal_cdf((values - params) / self.noise_std).mean(0)

    @torch.no_grad()
    def quantile(self, params: Tensor, q: Tensor) -> Tensor:
        """Quantiles of the mixture over samples, exact up to rounding; not differentiable.

        Parameters
        ----------
        params : Tensor (K, N, T, D)
        q : Tensor (Q,)
            Levels between 0 and 1.

        Returns
        -------
        Tensor (Q, N, T, D)

        Raises
        ------
        ValueError
            For a level outside (0, 1).
        """
        levels = torch.as_tensor(q, dtype=torch.float64).flatten().tolist()
        wrong = [level for level in levels if not 0 < level < 1]
        if wrong:
            raise ValueError(f"quantile levels must lie strictly between 0 and 1; got {wrong[0]}")
        # In units of sqrt(2) noise the distribution function is a mean of erfc / 2, and all cells are alike.
        unit = self.noise_std / INV_SQRT_2
        centres = (params / unit).flatten(1)  # (K, N T D)
        columns = [_unit_quantiles(block, levels) for block in centres.split(_block_size(centres), dim=1)]
        return unit * torch.cat(columns, dim=1).reshape(len(levels), *params.shape[1:])


def _residual(params: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    # Chosen before anything nonlinear: 0 * NaN would let an unobserved cell into the gradient.
    return torch.where(mask, values - params, 0.0)


def _block_size(centres: Tensor) -> int:
    """Cells to solve at once: few enough for the cache, since a solve passes over them dozens of times."""
    return max(1, 2**17 // max(1, len(centres)))


def _unit_quantiles(centres: Tensor, levels: list[float]) -> Tensor:
    """Quantiles of equal mixtures of Gaussians with variance 1/2 around `centres` (K, C): (Q, C)."""
    return torch.stack([_unit_quantile(centres, level) for level in levels])


def _unit_quantile(centres: Tensor, level: float) -> Tensor:
    if level > 0.5:  # on the mirrored axis, where the tail does not round to 1
        return -_unit_quantile(-centres, 1.0 - level)

    def excess(x: Tensor) -> tuple[Tensor, Tensor]:
        u = centres - x
        slope = (-u.square()).exp().mean(0) / math.sqrt(math.pi)
        return 0.5 * torch.erfc(u).mean(0) - level, slope

    standard = INV_SQRT_2 * float(torch.special.ndtri(torch.tensor(level, dtype=torch.float64)))
    return mixture_quantile(centres + standard, excess, torch.ones_like(centres[0]))


def _normal_cdf(u: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-INV_SQRT_2 * u)  # erfc keeps the digits of the lower tail; 1 + erf loses them


LIKELIHOODS = {"gaussian": GaussianLikelihood}
