"""The last part of every encoder: from its summary of a series to the posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from latentode.nn.mlp import MLP
from latentode.nn.normal import Normal

STD_FLOOR = 1e-4  # keeps log(std) and 1/std harmless in float32
INITIAL_STD = 0.3  # well inside the prior, so that the first samples already tell the series apart
SHIFT = math.log(math.expm1(INITIAL_STD))  # softplus(SHIFT) = INITIAL_STD


class PosteriorHead(nn.Module):
    """One hidden layer, then mean and standard deviation of z.

    The hidden tanh layer bounds both: a summary the network has never seen cannot make the spread explode.

    Parameters
    ----------
    n_in : int
        Size of the encoder's summary of a series.
    latent_dim : int
        L, the size of the latent state.
    generator : torch.Generator
        Source of the first weights.
    """

    def __init__(self, n_in: int, latent_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mlp = MLP(n_in, n_in, 2 * latent_dim, generator=generator)

    def forward(self, summary: Tensor) -> Normal:
        """Posterior (N, L) from the summary (N, n_in)."""
        mean, raw = self.mlp(summary).chunk(2, dim=-1)
        return Normal(mean, functional.softplus(raw + SHIFT) + STD_FLOOR)
