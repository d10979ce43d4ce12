"""Counts that vary more than those of independent events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor, nn
from torch.nn.functional import softplus

from latentode.nn.likelihoods.counts import count_features, count_quantiles, draw_counts, log_levels, log_rate
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.numpy_draws import draw_with_numpy
from latentode.nn.likelihoods.stirling import deviance, stirling_error
from latentode.nn.likelihoods.target_facts import TargetFacts
from latentode.nn.normal import HALF_LOG_2PI

DISPERSION_FLOOR = 1e-8  # a Poisson distribution, for means up to some 1e6
INITIAL_DISPERSION = 0.5


class NegativeBinomialLikelihood(Likelihood):
    """Counts of variance m + a m^2: the decoder gives log m, 0 for the level of training; a is learned per target.

    Good for counts whose events come in bursts, or depend on things that nobody measured; `poisson` is its limit for
    a -> 0.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`, which are 0, 1, 2, ... in their own unit.
    levels : sequence of D floats, optional
        Mean counts in training; default 1.

    References
    ----------
    Hilbe (2011), "Negative binomial regression", 2nd edition, equation 8.10 (the form called NB2).
    """

    scaled = False
    log_level: Tensor

    def __init__(self, n_targets: int, levels: Sequence[float] | None = None) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.register_buffer("log_level", log_levels([1.0] * n_targets if levels is None else levels))
        start = math.log(math.expm1(INITIAL_DISPERSION - DISPERSION_FLOOR))
        self.raw_dispersion = nn.Parameter(torch.full((n_targets,), start))

    @classmethod
    def for_targets(cls, facts: Sequence[TargetFacts]) -> Self:
        return cls(len(facts), [fact.level for fact in facts])

    @property
    def dispersion(self) -> Tensor:
        """How far the variance of each target passes its mean, in squared means: a, (D,)."""
        return softplus(self.raw_dispersion) + DISPERSION_FLOOR

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return count_features(values, mask, self.log_level)

    def mean(self, params: Tensor) -> Tensor:
        return log_rate(params, self.log_level).exp()

    def std(self, params: Tensor) -> Tensor:
        mean = self.mean(params)
        return mean.sqrt() * (1 + self.dispersion.to(mean.device) * mean).sqrt()

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, shape = self._in_numpy(params)
        draw = draw_with_numpy(lambda rng: draw_counts(rng, rng.gamma(shape, mean / shape)), generator)
        return draw.to(params)

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        x = np.floor(values.detach().cpu().double().numpy())
        return torch.as_tensor(_lower_tail(x, *self._in_numpy(params)).mean(0)).to(params)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        # Three factorials whose logarithms cancel, as Loader (2000) writes the binomial, section 2.
        m, r = self.mean(params), 1 / self.dispersion
        positive = values > 0
        x = torch.where(positive, values, 1.0)
        n = x + r
        shift = _log_ratio(n, m + r, x - m)  # log of expected over given "failures" r
        of_x = stirling_error(n) - stirling_error(r) - stirling_error(x)  # (N, T, D): nothing of the samples
        of_x = of_x + 0.5 * (r / n).log() - 0.5 * x.log() - HALF_LOG_2PI
        log_m = log_rate(params, self.log_level)
        off = deviance(r, shift) + deviance(x, log_m - x.log() + shift)
        return torch.where(positive, of_x - off, -r * (m / r).log1p())

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        mean, shape = self._in_numpy(params)
        m, r = mean.reshape(len(mean), -1), np.broadcast_to(shape, mean.shape[1:]).ravel()
        found = count_quantiles(
            lambda x, cells: _lower_tail(x, m[:, cells], r[cells]),
            lambda x, cells: _upper_tail(x, m[:, cells], r[cells]),
            m,
            np.sqrt(m * (1 + m / r)),
            levels,
        )
        return torch.as_tensor(found.reshape(len(levels), *mean.shape[1:])).to(params)

    def _in_numpy(self, params: Tensor) -> tuple[NDArray, NDArray]:
        """Means (K, N, T, D), and the shapes 1 / a (D,) of the gamma distribution of the rates."""
        mean = log_rate(params.detach(), self.log_level).double().exp().cpu().numpy()
        return mean, 1 / self.dispersion.detach().cpu().double().numpy()


def _log_ratio(above: Tensor, below: Tensor, difference: Tensor) -> Tensor:
    """log(above / below) for `difference` = above - below, exact where that is small."""
    t = difference / below
    near = t.abs() < 0.5
    return torch.where(near, torch.where(near, t, 0.0).log1p(), above.log() - below.log())


def _lower_tail(x: NDArray, m: NDArray, r: NDArray) -> NDArray:
    """P(X <= x) for integers x."""
    return np.where(x < 0, 0.0, _by_the_smaller(special.betaincc, special.betainc, np.maximum(x, 0), m, r))


def _upper_tail(x: NDArray, m: NDArray, r: NDArray) -> NDArray:
    """P(X > x) for integers x of at least 0."""
    return _by_the_smaller(special.betainc, special.betaincc, x, m, r)


def _by_the_smaller(
    in_failure: np.ufunc, in_success: np.ufunc, x: NDArray, m: NDArray, r: NDArray
) -> NDArray:
    """A tail as a function of m / (r + m) or of r / (r + m), the one that does not round to 1."""
    x, m, r = np.broadcast_arrays(x, m, r)
    few = m < r
    out = np.empty(m.shape)
    k, mean, shape = x[few] + 1, m[few], r[few]
    out[few] = in_failure(k, shape, mean / (shape + mean))
    k, mean, shape = x[~few] + 1, m[~few], r[~few]
    out[~few] = in_success(shape, k, shape / (shape + mean))
    return out
