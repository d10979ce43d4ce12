"""Likelihoods with something learned, and SciPy's distributions that they must agree with."""

from __future__ import annotations

import numpy as np
import torch
from scipy import special, stats

from latentode.nn.likelihoods import INITIAL_NOISE, LIKELIHOODS, NOISE_FLOOR, TargetFacts, likelihood_for

K, N, T, D = 4, 3, 5, 2
FACTS = [TargetFacts(level=3.0, n_categories=3), TargetFacts(level=40.0, n_categories=4)]
MIXED = "mixed"
MIXED_NAMES = ["poisson", "gaussian", "categorical", "poisson"]
MIXED_FACTS = [TargetFacts(2.0), TargetFacts(), TargetFacts(n_categories=3), TargetFacts(30.0)]
EVERY = [*LIKELIHOODS, MIXED]
CONTINUOUS = ["gaussian", "gaussian_heteroscedastic", "student_t"]


def build(name, dtype=torch.float64):
    """The likelihood of a name, its learned parameters moved from where they start, differently per target."""
    mixed = name == MIXED
    likelihood = likelihood_for(MIXED_NAMES if mixed else [name] * D, MIXED_FACTS if mixed else FACTS)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter += torch.linspace(-0.7, 0.4, len(parameter))
    return likelihood.to(dtype)


def draw_params(likelihood, n_samples=K, shape=(N, T), seed=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n_samples, *shape, likelihood.n_out, generator=g, dtype=torch.float64).to(dtype)


def draw_cells(likelihood, dtype=torch.float64):
    """Parameters, values that the likelihood allows, and a mask; the second series is not observed at all."""
    params = draw_params(likelihood)
    g = torch.Generator().manual_seed(2)
    values = likelihood.sample(params, g)[0].detach()
    mask = torch.rand(values.shape, generator=g) < 0.6
    mask[1] = False
    return params.to(dtype), values.to(dtype), mask


class Codes:
    """The categorical distribution, which SciPy does not have for arrays."""

    def __init__(self, logits):
        self.p = special.softmax(logits, axis=-1)  # (..., C)
        self.codes = np.arange(logits.shape[-1])

    def logpmf(self, x):
        return np.log(np.where(self.codes == np.asarray(x)[..., None], self.p, 0).sum(-1))

    def cdf(self, x):
        return np.where(self.codes <= np.asarray(x)[..., None], self.p, 0).sum(-1)

    def mean(self):
        return self.p @ self.codes

    def std(self):
        return np.sqrt(self.p @ self.codes**2 - self.mean() ** 2)


def heteroscedastic(likelihood, params):
    noise = np.logaddexp(0, params[..., D:] + np.log(np.expm1(INITIAL_NOISE - NOISE_FLOOR))) + NOISE_FLOOR
    return [stats.norm(params[..., d], noise[..., d]) for d in range(D)]


def negative_binomial(likelihood, params):
    r = 1 / numpy(likelihood.dispersion)
    m = np.exp(params + numpy(likelihood.log_level))
    return [stats.nbinom(r[d], r[d] / (r[d] + m[..., d])) for d in range(D)]


def mixed(likelihood, params):
    """Decoder outputs lie part by part: both counts, then the mean, then three logits."""
    levels = numpy(likelihood.parts[0].likelihood.log_level)
    return [
        stats.poisson(np.exp(params[..., 0] + levels[0])),
        stats.norm(params[..., 2], numpy(likelihood.parts[1].likelihood.noise_std)[0]),
        Codes(params[..., 3:]),
        stats.poisson(np.exp(params[..., 1] + levels[1])),
    ]


def numpy(tensor):
    return tensor.detach().double().numpy()


ORACLES = {
    "gaussian": lambda it, p: [stats.norm(p[..., d], numpy(it.noise_std)[d]) for d in range(D)],
    "gaussian_heteroscedastic": heteroscedastic,
    "student_t": lambda it, p: [stats.t(numpy(it.df)[d], p[..., d], numpy(it.scale)[d]) for d in range(D)],
    "bernoulli": lambda it, p: [stats.bernoulli(special.expit(p[..., d])) for d in range(D)],
    "categorical": lambda it, p: [Codes(p[..., :3]), Codes(p[..., 3:])],
    "poisson": lambda it, p: [stats.poisson(np.exp(p[..., d] + numpy(it.log_level)[d])) for d in range(D)],
    "negative_binomial": negative_binomial,
    MIXED: mixed,
}


def oracle(name, likelihood, params):
    """One frozen distribution per target, each of K x N x T of them."""
    return ORACLES[name](likelihood, numpy(params))


def log_density(distribution, x):
    """Of a frozen distribution, continuous or not."""
    discrete = isinstance(distribution, Codes) or hasattr(distribution.dist, "pmf")
    return distribution.logpmf(x) if discrete else distribution.logpdf(x)
