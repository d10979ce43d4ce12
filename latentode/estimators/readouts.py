"""What is read off a prediction: its mean, its spread, its quantiles; and the draws that they mix over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.estimators.forecaster import Prediction, Readout
from latentode.models.latent_ode import LatentODE
from latentode.nn.mixture import mixture_mean, mixture_std

POSTERIOR_SAMPLES = 32  # quasi-random draws that means and quantiles mix over


def mean(categorical: Sequence[int] = ()) -> Readout:
    """Read-out of the mean of an observation, mixed over the draws, (n, Q, D).

    Of the targets at the positions `categorical`, the most probable code.
    """

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        means = mixture_mean(model.likelihood.mean(prediction.params))
        return prediction.affine.invert(_with_modes(means, model, prediction.params, categorical))

    return read


def std(categorical: Sequence[int] = ()) -> Readout:
    """Read-out of the standard deviation of an observation, by the law of total variance, (n, Q, D).

    NaN of the targets at the positions `categorical`.
    """

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        likelihood, params = model.likelihood, prediction.params
        # squares of counts in the unit of the table may be too large for float32
        stds = mixture_std(likelihood.mean(params).double(), likelihood.std(params).double())
        stds = stds * prediction.affine.scale[:, None]
        stds[..., list(categorical)] = torch.nan
        return stds

    return read


def probabilities(target: int) -> Readout:
    """Read-out of the probability of each class of one target, (n, Q, C)."""
    return lambda model, prediction: model.likelihood.probabilities(prediction.params, target)


def intensities(model: LatentODE, prediction: Prediction) -> Tensor:
    """Mean rates of the event processes, per unit of model time, (n, Q, E)."""
    assert model.intensity is not None
    return model.intensity(prediction.z).exp().mean(0)


def states(model: LatentODE, prediction: Prediction) -> Tensor:
    """Mean latent states, (n, Q, L)."""
    return prediction.z.mean(0)


def log_densities(values: Tensor, errors: Tensor | None, factors: Tensor | None = None) -> Readout:
    """Read-out of the log density of observations under the mixture over the draws, (n, Q, D); 0 where NaN.

    Parameters
    ----------
    values : Tensor (R, D)
        In the order of the answer, globally scaled.
    errors : Tensor (R, D) or None
        Standard deviations of their measurement errors, in the same scale.
    factors : Tensor (R, D), optional
        By which the distributions are stretched about their medians.
    """

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        affine, likelihood = prediction.affine, model.likelihood
        device, dtype = prediction.params.device, prediction.params.dtype
        truth = values[prediction.rows].to(device, dtype)
        mask = ~torch.isnan(truth)
        own = (truth - affine.loc[:, None]) / affine.scale[:, None]
        own_errors = None
        if errors is not None:
            own_errors = errors[prediction.rows].to(device, dtype) / affine.scale[:, None]
        log_scale = affine.scale.log()[:, None]
        if factors is not None:
            # m + k (x - m) has the density of x there, divided by k
            factor = factors[prediction.rows].to(device, dtype)
            half = torch.tensor([0.5], dtype=torch.float64)
            centre = likelihood.quantile(prediction.params, half)[0].to(device, dtype)
            own = torch.where(factor == 1, own, centre + (own - centre) / factor)
            own_errors = None if own_errors is None else own_errors / factor
            log_scale = log_scale + factor.log()
        density = likelihood.log_predictive(prediction.params, own, mask, own_errors)
        return torch.where(mask, density - log_scale, 0.0)

    return read


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

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        return prediction.affine.invert(model.likelihood.quantile(prediction.params, q))

    return read


def median(model: LatentODE, prediction: Prediction) -> Tensor:
    """Medians of an observation, (n, Q, D)."""
    return quantiles([0.5])(model, prediction)[0].to(prediction.params.dtype)


def draws(noise: bool, generator: torch.Generator, categorical: Sequence[int] = ()) -> Readout:
    """Read-out of one observation per draw, (K, n, Q, D); without `noise` its mean, of a category its mode."""

    def read(model: LatentODE, prediction: Prediction) -> Tensor:
        params = prediction.params
        if noise:
            drawn = model.likelihood.sample(params.cpu(), generator)  # generators draw on the CPU
            return prediction.affine.invert(drawn.to(params.device))
        means = model.likelihood.mean(params)
        each = [_with_modes(mean, model, one[None], categorical) for mean, one in zip(means, params)]
        return prediction.affine.invert(torch.stack(each))

    return read


def _with_modes(means: Tensor, model: LatentODE, params: Tensor, categorical: Sequence[int]) -> Tensor:
    """Means (n, Q, D) with the most probable code of categories in their place."""
    if not categorical:
        return means
    columns = list(means.unbind(-1))
    for target in categorical:
        columns[target] = model.likelihood.probabilities(params, target).argmax(-1).to(means.dtype)
    return torch.stack(columns, dim=-1)
