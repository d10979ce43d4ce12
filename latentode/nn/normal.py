"""The diagonal Gaussian posterior over latent states."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Normal(NamedTuple):
    """Independent Gaussians over the L latent dimensions of N series, with the prior N(0, 1) in mind.

    Parameters
    ----------
    mean : Tensor (N, L)
    std : Tensor (N, L)
        Positive.
    """

    mean: Tensor
    std: Tensor

    def sample(self, eps: Tensor) -> Tensor:
        """Reparametrised draws, so that gradients reach `mean` and `std`.

        Parameters
        ----------
        eps : Tensor (K, N, L) or (K, 1, L)
            Standard normal numbers; (K, 1, L) shares them over the series.

        Returns
        -------
        Tensor (K, N, L)
        """
        return self.mean + self.std * eps

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of `z` (..., N, L), summed over L: (..., N)."""
        return _log_density((z - self.mean) / self.std, self.mean.shape[-1]) - self.std.log().sum(-1)

    def log_ratio(self, z: Tensor) -> Tensor:
        """log q(z) - log p(z) for `z` (K, N, L), p the standard normal prior: (K, N), for the IWAE bound."""
        return self.log_prob(z) - _log_density(z, z.shape[-1])

    def kl_per_dim(self) -> Tensor:
        """KL(q || N(0, 1)) of each dimension in closed form, (N, L) (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + self.std.square() - 1 - 2 * self.std.log())

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) in closed form, the sum of `kl_per_dim` over L: (N,)."""
        return self.kl_per_dim().sum(-1)


def _log_density(standardised: Tensor, n_dims: int) -> Tensor:
    return -0.5 * standardised.square().sum(-1) - n_dims * HALF_LOG_2PI
