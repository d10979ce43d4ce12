"""Yes or no."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from latentode.nn.likelihoods.likelihood import Likelihood


class BernoulliLikelihood(Likelihood):
    """Values 0 or 1; the decoder gives the logit of 1.

    Good for states that are on or off, and for events that happened or did not.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    """

    scaled = False

    def __init__(self, n_targets: int) -> None:
        super().__init__()
        self.n_targets = n_targets

    @property
    def n_classes(self) -> tuple[int, ...]:
        return (2,) * self.n_targets

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """-1 and 1 for the values 0 and 1: as far from one another, and from 0, as standardised values."""
        return torch.where(mask, 2 * torch.where(mask, values, 0.0) - 1, 0.0), mask

    def mean(self, params: Tensor) -> Tensor:
        return params.sigmoid()

    def std(self, params: Tensor) -> Tensor:
        return (0.5 * (logsigmoid(params) + logsigmoid(-params))).exp()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.empty_like(params).uniform_(generator=generator)
        return (uniform < params.sigmoid()).to(params.dtype)

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        below = torch.where(values < 0, 0.0, params.neg().sigmoid().mean(0))
        return torch.where(values >= 1, 1.0, below)

    def probabilities(self, params: Tensor, target: int) -> Tensor:
        logit = params[..., target]
        return torch.stack([logit.neg().sigmoid().mean(0), logit.sigmoid().mean(0)], dim=-1)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        return logsigmoid((2 * values - 1) * params)

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        none = params.double().neg().sigmoid().mean(0)  # P(X <= 0)
        return torch.stack([(none < level).to(params.dtype) for level in levels])
