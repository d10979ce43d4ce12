"""Counts of events that know nothing of each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from latentode.nn.likelihoods.counts import count_features, count_quantiles, draw_counts, log_levels, log_rate
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.numpy_draws import draw_with_numpy
from latentode.nn.likelihoods.stirling import deviance, stirling_error
from latentode.nn.likelihoods.target_facts import TargetFacts
from latentode.nn.normal import HALF_LOG_2PI


class PoissonLikelihood(Likelihood):
    """Counts with a variance equal to their mean; the decoder gives the log rate, 0 for the level of training.

    Good for counts of independent events in intervals of equal length. Counts in practice often vary more than that:
    `negative_binomial` learns how much.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`, which are 0, 1, 2, ... in their own unit.
    levels : sequence of D floats, optional
        Mean counts in training; default 1.
    """

    scaled = False
    log_level: Tensor

    def __init__(self, n_targets: int, levels: Sequence[float] | None = None) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.register_buffer("log_level", log_levels([1.0] * n_targets if levels is None else levels))

    @classmethod
    def for_targets(cls, facts: Sequence[TargetFacts]) -> Self:
        return cls(len(facts), [fact.level for fact in facts])

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return count_features(values, mask, self.log_level)

    def mean(self, params: Tensor) -> Tensor:
        return log_rate(params, self.log_level).exp()

    def std(self, params: Tensor) -> Tensor:
        return (0.5 * log_rate(params, self.log_level)).exp()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rate = self._rate(params)
        return draw_with_numpy(lambda rng: draw_counts(rng, rate), generator).to(params)

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        x = np.floor(values.detach().cpu().double().numpy())
        return torch.as_tensor(_lower_tail(x, self._rate(params)).mean(0)).to(params)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        # x log m - m - log x!, whose terms of size x log x cancel, as Loader (2000) writes it, section 2.
        log_m = log_rate(params, self.log_level)
        positive = values > 0
        x = torch.where(positive, values, 1.0)
        of_x = -stirling_error(x) - 0.5 * x.log() - HALF_LOG_2PI  # (N, T, D): nothing of the samples
        return torch.where(positive, of_x - deviance(x, log_m - x.log()), -log_m.exp())

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        rate = self._rate(params)
        flat = rate.reshape(len(rate), -1)
        found = count_quantiles(
            lambda x, cells: _lower_tail(x, flat[:, cells]),
            lambda x, cells: special.gammainc(x + 1, flat[:, cells]),
            flat,
            np.sqrt(flat),
            levels,
        )
        return torch.as_tensor(found.reshape(len(levels), *rate.shape[1:])).to(params)

    def _rate(self, params: Tensor) -> NDArray:
        return log_rate(params.detach(), self.log_level).double().exp().cpu().numpy()


def _lower_tail(x: NDArray, rate: NDArray) -> NDArray:
    """P(X <= x) for integers x."""
    return np.where(x < 0, 0.0, special.gammaincc(np.maximum(x, 0) + 1, rate))
