"""The bound against a linear-Gaussian model, whose log evidence is known.

z ~ N(0, I), x | z ~ N(A z, s² I) with orthogonal columns in A: the evidence is N(0, A Aᵀ + s² I), the
posterior diagonal.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from latentode.models.elbo import active_dims, elbo, free_bits_kl
from latentode.nn.normal import Normal

N, L, D = 5, 2, 4
NOISE = 0.5
EXACT = {"rtol": 1e-10, "atol": 1e-10}  # closed forms in float64
SCALES = torch.tensor([1.5, 0.4], dtype=torch.float64)


@pytest.fixture
def loadings():
    square = torch.randn(D, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(square).Q[:, :L] * SCALES


@pytest.fixture
def x():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def log_lik(z, x, loadings):
    return torch.distributions.Normal(z @ loadings.T, NOISE).log_prob(x).sum(-1)


def exact_posterior(x, loadings):
    precision = 1 + SCALES.square() / NOISE**2
    return Normal((x @ loadings) / NOISE**2 / precision, precision.rsqrt().expand(len(x), L))


def log_evidence(x, loadings):
    cov = loadings @ loadings.T + NOISE**2 * torch.eye(D, dtype=torch.float64)
    return stats.multivariate_normal(np.zeros(D), cov.numpy()).logpdf(x.numpy())


def wrong_posterior(q):
    return Normal(q.mean + 0.4, 1.5 * q.std)


def sigma_points():
    """Samples with mean 0 and covariance I exactly: they integrate the quadratic log likelihood exactly."""
    axes = L**0.5 * torch.eye(L, dtype=torch.float64)
    return torch.cat([axes, -axes])[:, None, :]  # (2 L, 1, L)


def normal_samples(n_samples, n_series=N, seed=2):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n_samples, n_series, L, generator=g, dtype=torch.float64)


def test_at_the_exact_posterior_the_elbo_is_the_evidence(x, loadings):
    q = exact_posterior(x, loadings)
    bound = elbo(log_lik(q.sample(sigma_points()), x, loadings), q.kl())
    np.testing.assert_allclose(-bound.loss, log_evidence(x, loadings).sum(), **EXACT)


def test_elsewhere_the_elbo_misses_the_evidence_by_the_divergence(x, loadings):
    exact = exact_posterior(x, loadings)
    q = wrong_posterior(exact)
    bound = elbo(log_lik(q.sample(sigma_points()), x, loadings), q.kl())
    pairs = [torch.distributions.Normal(*pair) for pair in (q, exact)]
    gap = torch.distributions.kl_divergence(*pairs).sum()
    assert gap > 1
    np.testing.assert_allclose(-bound.loss, log_evidence(x, loadings).sum() - gap, **EXACT)


@pytest.mark.parametrize("n_samples", [1, 2, 7])
def test_at_the_exact_posterior_every_iwae_is_the_evidence(n_samples, x, loadings):
    q = exact_posterior(x, loadings)
    z = q.sample(normal_samples(n_samples))
    bound = elbo(log_lik(z, x, loadings), q.log_ratio(z))
    np.testing.assert_allclose(-bound.loss, log_evidence(x, loadings).sum(), **EXACT)


def test_iwae_closes_the_gap_from_below(x, loadings):
    n_repeats = 4000
    data = x[:1].expand(n_repeats, D)
    q = wrong_posterior(exact_posterior(data, loadings))
    means = []
    for n_samples in (1, 5, 50):
        z = q.sample(normal_samples(n_samples, n_repeats))
        means.append(float(-elbo(log_lik(z, data, loadings), q.log_ratio(z)).loss) / n_repeats)
    evidence = float(log_evidence(x, loadings)[0])
    # standard errors are about 0.02, 0.01 and 0.003; the steps are ten times that
    assert means[0] + 0.1 < means[1]
    assert means[1] + 0.05 < means[2]
    assert means[2] < evidence + 0.02
    assert evidence - means[2] < 0.1


def test_one_sample_makes_both_bounds_the_same():
    lik = torch.tensor([[-3.0, -4.0]])
    kl = torch.tensor([1.0, 2.0])
    assert elbo(lik, kl, 0.5) == elbo(lik, kl[None], 0.5)
    assert float(elbo(lik, kl, 0.5).loss) == 8.5


def test_the_weight_scales_the_kl_only(x, loadings):
    q = wrong_posterior(exact_posterior(x, loadings))
    lik = log_lik(q.sample(normal_samples(3)), x, loadings)
    for weight in (0.0, 0.3, 1.0):
        bound = elbo(lik, q.kl(), weight)
        torch.testing.assert_close(bound.loss, weight * q.kl().sum() - lik.mean(0).sum(), **EXACT)
        torch.testing.assert_close(bound.log_lik, lik.mean(0).sum(), **EXACT)
        torch.testing.assert_close(bound.kl, q.kl().sum(), **EXACT)


def test_the_weight_scales_the_log_ratios(x, loadings):
    q = wrong_posterior(exact_posterior(x, loadings))
    z = q.sample(normal_samples(3))
    lik, ratio = log_lik(z, x, loadings), q.log_ratio(z)
    bound = elbo(lik, ratio, 0.3)
    expected = -np.log(np.exp((lik - 0.3 * ratio).numpy()).mean(0)).sum()
    np.testing.assert_allclose(bound.loss, expected, **EXACT)
    torch.testing.assert_close(bound.kl, ratio.mean(0).sum(), **EXACT)


def test_a_batch_is_the_sum_of_its_series(x, loadings):
    q = exact_posterior(x, loadings)
    z = q.sample(normal_samples(3))
    lik, ratio = log_lik(z, x, loadings), q.log_ratio(z)
    whole, parts = elbo(lik, ratio), [elbo(lik[:, [i]], ratio[:, [i]]) for i in range(N)]
    for name in ("loss", "log_lik", "kl"):
        torch.testing.assert_close(getattr(whole, name), sum(getattr(part, name) for part in parts), **EXACT)


def test_huge_log_likelihoods_keep_their_weights_in_float32():
    lik = torch.tensor([[-1e6], [-1e6 + 1]], requires_grad=True)
    bound = elbo(lik, torch.zeros(2, 1))
    bound.loss.backward()
    assert torch.isfinite(bound.loss)
    torch.testing.assert_close(-lik.grad[:, 0], torch.tensor([0.0, 1.0]).softmax(0))


def test_only_the_loss_carries_gradients():
    lik, kl = torch.zeros(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    bound = elbo(lik, kl, 0.5)
    bound.loss.backward()
    assert not bound.log_lik.requires_grad
    assert not bound.kl.requires_grad
    torch.testing.assert_close(lik.grad, torch.full((2, 3), -0.5))
    torch.testing.assert_close(kl.grad, torch.full((3,), 0.5))


@pytest.mark.parametrize(("lik", "kl"), [((3,), (3,)), ((2, 3), (2,)), ((2, 3), (3, 1)), ((2, 3), ())])
def test_shapes_that_do_not_fit_are_refused(lik, kl):
    with pytest.raises(ValueError, match=r"expected log_lik \(K, N\) and kl \(N,\) or \(K, N\), got log_lik"):
        elbo(torch.zeros(lik), torch.zeros(kl))


KL_PER_DIM = torch.tensor([[0.1, 3.0, 0.5], [0.3, 1.0, 0.0], [0.2, 2.0, 0.1]])  # means 0.2, 2.0, 0.2


def test_free_bits_are_a_floor_under_the_mean_of_every_dimension():
    for free_bits in (0.05, 0.5, 2.5):
        kl = free_bits_kl(KL_PER_DIM, free_bits)
        assert kl.shape == (3,)
        expected = 3 * sum(max(free_bits, mean) for mean in (0.2, 2.0, 0.2))
        assert float(kl.sum()) == pytest.approx(expected, rel=1e-6)  # float32


def test_no_free_bits_change_nothing():
    below_zero = torch.full((2, 1), -1e-9)  # what rounding makes of the KL of the prior itself
    for kl in (KL_PER_DIM, below_zero):
        assert torch.equal(free_bits_kl(kl, 0.0), kl.sum(-1))


def test_nothing_pushes_on_a_dimension_below_the_free_bits():
    kl = KL_PER_DIM.clone().requires_grad_()
    free_bits_kl(kl, 0.5).sum().backward()
    assert torch.equal(kl.grad, torch.tensor([[0.0, 1.0, 0.0]] * 3))


@pytest.mark.parametrize("free_bits", [-0.1, float("inf"), float("nan")])
def test_free_bits_that_make_no_sense_are_refused(free_bits):
    with pytest.raises(ValueError, match="free_bits must be a finite number of nats of at least 0; got"):
        free_bits_kl(KL_PER_DIM, free_bits)


def test_active_dims_are_those_whose_mean_varies_by_more_than_a_hundredth():
    # +-s alternating has variance s^2 exactly: 0.0121, 0.0081, 0, 4; a shared offset is no variation
    spread = torch.tensor([0.11, 0.09, 0.0, 2.0])
    mean = 5 + torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]) * spread
    assert active_dims(mean).dtype == torch.int64
    assert int(active_dims(mean)) == 2
    assert int(active_dims(mean[:1])) == 0
