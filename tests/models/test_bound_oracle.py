"""The bound of a latent ODE against a Kalman filter.

z0 ~ N(0, I), dz/dt = A z, x_j | z ~ N(C z(t_j), R) with R diagonal is a latent ODE with a linear field and a linear
decoder, and at the same time a linear-Gaussian state space model: the filter gives log p(x) of each series, at its own
irregular times and with cells missing. The package's solver, decoder, likelihood, posterior and bound must agree.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import expm

from latentode import solve_ivp
from latentode.models.elbo import elbo, free_bits_kl
from latentode.nn.decoders import MLPDecoder
from latentode.nn.likelihoods import NOISE_FLOOR, GaussianLikelihood
from latentode.nn.normal import Normal

ROUNDING = 1e-9  # closed forms in float64, log densities of order 10
SOLVED = 1e-6  # a solve at rtol = atol = 1e-10, its error in the means divided by noise squared
STANDARD_ERRORS = 5.0  # of a Monte-Carlo mean: once in two million


# ---- the truth, in NumPy ----------------------------------------------------------------------------------------


def random_model(seed, n_latent, n_targets, n_series=3, n_times=7):
    rng = np.random.default_rng(seed)
    spiral = rng.standard_normal((n_latent, n_latent))
    model = SimpleNamespace(
        A=1.5 * (spiral - spiral.T) - np.diag(rng.uniform(0.05, 0.4, n_latent)),  # turns and decays
        C=rng.standard_normal((n_targets, n_latent)),
        noise=rng.uniform(0.3, 0.6, n_targets),
        times=np.sort(rng.uniform(0.0, 3.0, (n_series, n_times)), axis=1),
        mask=rng.random((n_series, n_times, n_targets)) < 0.7,
    )
    z0 = rng.standard_normal((n_series, n_latent))
    states = np.einsum("ntij,nj->nti", expm(model.A * model.times[..., None, None]), z0)
    model.x = states @ model.C.T + model.noise * rng.standard_normal(model.mask.shape)
    return model


def kalman_log_evidence(model, n):
    """log p(x_n) by one step of prediction and one of correction per time."""
    mean, cov = np.zeros(len(model.A)), np.eye(len(model.A))
    now, log_evidence = 0.0, 0.0
    for time, x, seen in zip(model.times[n], model.x[n], model.mask[n]):
        flow = expm(model.A * (time - now))
        mean, cov, now = flow @ mean, flow @ cov @ flow.T, time
        C, R = model.C[seen], np.diag(model.noise[seen] ** 2)
        innovation, S = x[seen] - C @ mean, C @ cov @ C.T + R
        gain = cov @ C.T @ np.linalg.inv(S)
        mean, cov = mean + gain @ innovation, cov - gain @ S @ gain.T
        quadratic = innovation @ np.linalg.solve(S, innovation)
        log_evidence -= 0.5 * (quadratic + np.linalg.slogdet(2 * np.pi * S)[1])
    return log_evidence


def stacked(model, n):
    """The observed cells of series n as one Gaussian vector: x, its loadings on z0, its noise variances."""
    flows = expm(model.A * model.times[n][:, None, None])
    seen = model.mask[n]
    return model.x[n][seen], (model.C @ flows)[seen], np.broadcast_to(model.noise**2, seen.shape)[seen]


def exact_posterior(model, n):
    """Mean and covariance of z0 given series n."""
    x, H, R = stacked(model, n)
    cov = np.linalg.inv(np.eye(H.shape[1]) + H.T @ (H / R[:, None]))
    return cov @ H.T @ (x / R), cov


def divergence(q_mean, q_var, mean, cov):
    """KL of N(q_mean, diag(q_var)) from N(mean, cov)."""
    precision, shift = np.linalg.inv(cov), mean - q_mean
    trace = (np.diag(precision) * q_var).sum()
    logdets = np.linalg.slogdet(cov)[1] - np.log(q_var).sum()
    return 0.5 * (trace + shift @ precision @ shift - len(mean) + logdets)


def relative_variance(q_mean, q_var, mean, cov):
    """Variance under q of the importance weight p(z | x) / q(z), whose mean is 1: a Gaussian integral."""
    p, q = np.linalg.inv(cov), np.diag(1 / q_var)
    both, h = 2 * p - q, 2 * p @ mean - q @ q_mean
    assert np.linalg.eigvalsh(both).min() > 0, "the variance is infinite: q is too narrow"
    exponent = 0.5 * (h @ np.linalg.solve(both, h) - 2 * mean @ p @ mean + q_mean @ q @ q_mean)
    logdets = 0.5 * np.log(q_var).sum() - np.linalg.slogdet(cov)[1] - 0.5 * np.linalg.slogdet(both)[1]
    return np.exp(logdets + exponent) - 1


# ---- the same model out of the package's parts ------------------------------------------------------------------


def log_lik(model, z0):
    """log p(x_n | z0) for states z0 (K, N, L), by the package: (K, N)."""
    n_samples, n_series, n_latent = z0.shape
    A, C = torch.tensor(model.A), torch.tensor(model.C)
    decoder = MLPDecoder(n_latent, 1, len(C), depth=0).double()
    likelihood = GaussianLikelihood(len(C)).double()
    with torch.no_grad():
        decoder.mlp.layers[0].weight.copy_(C)
        decoder.mlp.layers[0].bias.zero_()
        likelihood.log_noise.copy_(torch.tensor(model.noise - NOISE_FLOOR).log())
        times = torch.tensor(model.times)
        solution = solve_ivp(
            lambda t, z: z @ A.T,
            z0.reshape(-1, n_latent),
            times.repeat(n_samples, 1),
            t0=torch.zeros(len(z0.reshape(-1, n_latent)), dtype=torch.float64),
            rtol=1e-10,
            atol=1e-10,
        )
        states = solution.y.reshape(n_samples, n_series, times.shape[1], n_latent)
        unseen = np.where(model.mask, model.x, np.nan)  # so that a cell that leaks is noticed
        return likelihood.log_prob(decoder(states), torch.tensor(unseen), torch.tensor(model.mask))


def sigma_points(n_latent):
    """Samples with mean 0 and covariance I exactly: they integrate the quadratic log likelihood exactly."""
    axes = n_latent**0.5 * torch.eye(n_latent, dtype=torch.float64)
    return torch.cat([axes, -axes])[:, None, :]  # (2 L, 1, L)


def posteriors(model):
    """Several q for all series, by name: Normal (N, L)."""
    exact = [exact_posterior(model, n) for n in range(len(model.x))]
    mean = torch.tensor(np.stack([m for m, _ in exact]))
    mean_field = torch.tensor(np.stack([1 / np.sqrt(np.diag(np.linalg.inv(c))) for _, c in exact]))
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return {
        "prior": prior,
        "best diagonal": Normal(mean, mean_field),
        "shifted": Normal(mean - 0.3, mean_field),
        "wide": Normal(mean, 3 * mean_field),
        "narrow": Normal(mean, 0.2 * mean_field),
    }


SHAPES = {"scalar": (1, 1), "plane": (2, 3), "space": (3, 2)}  # latent dimensions, targets
QS = ("prior", "best diagonal", "shifted", "wide", "narrow")


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request):
    return random_model(11, *request.param)


def test_the_filter_is_the_density_of_the_stacked_observations(model):
    for n in range(len(model.x)):
        x, H, R = stacked(model, n)
        dense = stats.multivariate_normal(np.zeros(len(x)), H @ H.T + np.diag(R)).logpdf(x)
        assert kalman_log_evidence(model, n) == pytest.approx(dense, abs=ROUNDING)


@pytest.mark.parametrize("name", QS)
def test_the_elbo_misses_the_evidence_by_the_divergence_from_the_exact_posterior(model, name):
    q = posteriors(model)[name]
    lik = log_lik(model, q.sample(sigma_points(q.mean.shape[1])))  # (2 L, N)
    for n in range(len(model.x)):
        truth = kalman_log_evidence(model, n)
        bound = -float(elbo(lik[:, [n]], q.kl()[[n]]).loss)
        gap = divergence(q.mean[n].numpy(), q.std[n].square().numpy(), *exact_posterior(model, n))
        assert bound <= truth + SOLVED
        assert bound == pytest.approx(truth - gap, abs=SOLVED * (1 + abs(truth)))


def test_at_the_exact_posterior_the_elbo_is_the_evidence():
    model = random_model(12, 1, 2)
    q = posteriors(model)["best diagonal"]  # in one dimension the posterior itself
    bound = elbo(log_lik(model, q.sample(sigma_points(1))), q.kl())
    truth = sum(kalman_log_evidence(model, n) for n in range(len(model.x)))
    assert -float(bound.loss) == pytest.approx(truth, abs=SOLVED)


def test_free_bits_only_lower_the_bound():
    model = random_model(13, 2, 3)
    q = posteriors(model)["best diagonal"]
    lik = log_lik(model, q.sample(sigma_points(2)))
    bounds = [-float(elbo(lik, free_bits_kl(q.kl_per_dim(), bits)).loss) for bits in (0.0, 1.0, 3.0)]
    truth = sum(kalman_log_evidence(model, n) for n in range(len(model.x)))
    assert bounds[2] < bounds[1] <= bounds[0] <= truth + SOLVED


def test_iwae_closes_the_gap_from_below_at_the_rate_of_its_weights():
    model = random_model(14, 2, 2, n_series=1)
    mean, cov = exact_posterior(model, 0)
    q_mean, q_var = mean + 0.6 * np.sqrt(np.diag(cov)), 1.5 / np.diag(np.linalg.inv(cov))
    q = Normal(torch.tensor(q_mean)[None], torch.tensor(q_var)[None].sqrt())
    g = torch.Generator().manual_seed(0)
    z0 = q.sample(torch.randn(100_000, 1, 2, generator=g, dtype=torch.float64))
    lik, ratio = log_lik(model, z0)[:, 0], q.log_ratio(z0)[:, 0]
    truth = kalman_log_evidence(model, 0)
    variance = relative_variance(q_mean, q_var, mean, cov)
    posterior = stats.multivariate_normal(mean, cov).logpdf(z0[:, 0].numpy())
    weights = np.exp(posterior - stats.norm(q_mean, np.sqrt(q_var)).logpdf(z0[:, 0].numpy()).sum(-1))

    gaps, errors = {}, {}
    for k in (1, 10, 100, 1000):  # the same draws, as up to 1,000 estimates from K of them
        pairs = [x[: k * 1000].reshape(k, -1) for x in (lik, ratio)]
        bound = [-float(elbo(pairs[0][:, [i]], pairs[1][:, [i]]).loss) for i in range(pairs[0].shape[1])]
        # the mean weight is 1 in expectation: what it misses takes most of the noise off the gap
        each = truth - np.array(bound) + weights[: k * 1000].reshape(k, -1).mean(0) - 1
        gaps[k], errors[k] = each.mean(), each.std() / len(each) ** 0.5

    for k in (1, 10, 100, 1000):
        assert gaps[k] > STANDARD_ERRORS * errors[k], f"not below the evidence at K = {k}"
    assert gaps[1] > gaps[10] > gaps[100] > gaps[1000]
    assert gaps[1] == pytest.approx(divergence(q_mean, q_var, mean, cov), abs=STANDARD_ERRORS * errors[1])
    for k in (
        100,
        1000,
    ):  # log of a mean of K weights, to first order in 1/K; the next one is some (variance / K)^2
        next_order = 4 * (1 + variance) ** 2 / k**2
        assert gaps[k] == pytest.approx(variance / (2 * k), abs=STANDARD_ERRORS * errors[k] + next_order)
