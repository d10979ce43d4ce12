"""What is read off a prediction: its mean, its spread, its quantiles; and the draws that they mix over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.estimators.forecaster import Prediction, Readout
from latentode.nn.likelihoods import GaussianLikelihood
from latentode.nn.mixture import mixture_mean, mixture_std

POSTERIOR_SAMPLES = 32  # quasi-random draws that means and quantiles mix over


def mean(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
    """Mean of an observation, mixed over the draws, (n, Q, D)."""
    return prediction.affine.invert(mixture_mean(likelihood.mean(prediction.params)))


def std(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
    """Standard deviation of an observation, by the law of total variance, (n, Q, D)."""
    params = prediction.params
    return mixture_std(likelihood.mean(params), likelihood.std(params)) * prediction.affine.scale[:, None]


def shared_noise(n_samples: int, latent_dim: int) -> Callable[[NDArray], Tensor]:
    """The same quasi-random normal draws (K, 1, L) for every series: no prediction depends on its company."""
    uniform = torch.quasirandom.SobolEngine(latent_dim, scramble=True, seed=0).draw(
        n_samples, dtype=torch.float64
    )
    eps = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).float()[:, None]
    return lambda series: eps


def noise_of(ids: Iterable[object], n_samples: int, latent_dim: int, seed: int) -> Tensor:
    """Independent normal draws (K, N, L), those of a series decided by the seed and its id alone."""
    draws = [
        np.random.default_rng([seed, crc32(repr(name).encode())]).standard_normal((n_samples, latent_dim))
        for name in ids
    ]
    return torch.from_numpy(np.stack(draws, axis=1)).float()


def quantiles(levels: Sequence[float]) -> Readout:
    """Read-out of the quantiles of an observation at these levels, (len(levels), n, Q, D)."""
    q = torch.tensor(levels, dtype=torch.float64)

    def read(likelihood: GaussianLikelihood, prediction: Prediction) -> Tensor:
        return prediction.affine.invert(likelihood.quantile(prediction.params, q))

    return read
