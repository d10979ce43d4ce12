"""The diagonal Gaussian posterior against torch's own distributions and a Monte-Carlo estimate."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Independent, kl_divergence
from torch.distributions import Normal as TorchNormal

from latentode.nn.normal import Normal

N, L = 4, 3
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # closed forms in float64


@pytest.fixture
def q():
    g = torch.Generator().manual_seed(1)
    mean = torch.randn(N, L, generator=g, dtype=torch.float64)
    return Normal(mean, 0.1 + torch.rand(N, L, generator=g, dtype=torch.float64))


def oracle(q):
    return Independent(TorchNormal(q.mean, q.std), 1)


def test_log_prob_sums_over_latent_dimensions(q):
    z = torch.linspace(-2, 2, 5 * N * L, dtype=torch.float64).reshape(5, N, L)
    torch.testing.assert_close(q.log_prob(z), oracle(q).log_prob(z), **EXACT)
    assert q.log_prob(z).shape == (5, N)


def test_kl_is_the_closed_form(q):
    prior = Independent(TorchNormal(torch.zeros_like(q.mean), torch.ones_like(q.std)), 1)
    torch.testing.assert_close(q.kl(), kl_divergence(oracle(q), prior), **EXACT)
    each = kl_divergence(oracle(q).base_dist, prior.base_dist)  # (N, L)
    torch.testing.assert_close(q.kl_per_dim(), each, **EXACT)


def test_kl_of_the_prior_itself_is_zero():
    assert torch.equal(Normal(torch.zeros(N, L), torch.ones(N, L)).kl(), torch.zeros(N))


def test_log_ratio_is_posterior_minus_prior(q):
    z = torch.linspace(-2, 2, 5 * N * L, dtype=torch.float64).reshape(5, N, L)
    prior = Independent(TorchNormal(torch.zeros_like(q.mean), torch.ones_like(q.std)), 1)
    torch.testing.assert_close(q.log_ratio(z), oracle(q).log_prob(z) - prior.log_prob(z), **EXACT)


@pytest.mark.parametrize("shape", [(5, N, L), (5, 1, L)])
def test_samples_are_reparametrised(q, shape):
    eps = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean, std = q.mean.requires_grad_(), q.std.requires_grad_()
    z = Normal(mean, std).sample(eps)
    assert z.shape == (5, N, L)
    torch.testing.assert_close((z - mean) / std, eps.expand_as(z), **EXACT)
    z.sum().backward()
    torch.testing.assert_close(mean.grad, torch.full((N, L), 5.0, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(std.grad, eps.expand_as(z).sum(0), **EXACT)
