"""The Gaussian likelihood against SciPy, and quantiles of mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats

from latentode.nn import symmetric_mixture
from latentode.nn.likelihoods import INITIAL_NOISE, NOISE_FLOOR, GaussianLikelihood
from latentode.nn.mixture import mixture_mean, mixture_quantile, mixture_std

K, N, T, D = 4, 3, 5, 2
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # closed forms in float64
SINGLE = {"rtol": 2e-6, "atol": 2e-6}  # a few roundings in float32

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def gaussian(dtype=torch.float64, noise=(0.2, 0.7)):
    likelihood = GaussianLikelihood(D).to(dtype)
    with torch.no_grad():
        likelihood.log_noise.copy_(torch.tensor(noise, dtype=torch.float64).sub(NOISE_FLOOR).log())
    return likelihood


def cells(dtype=torch.float64, n_samples=K):
    g = torch.Generator().manual_seed(1)
    params = torch.randn(n_samples, N, T, D, generator=g, dtype=torch.float64).to(dtype)
    values = torch.randn(N, T, D, generator=g, dtype=torch.float64).to(dtype)
    mask = torch.rand(N, T, D, generator=g) < 0.6
    mask[1] = False  # a series with nothing to score
    return params, values, mask


def noise_of(likelihood):
    return likelihood.noise_std.detach().double().numpy()


def test_noise_starts_where_it_should():
    torch.testing.assert_close(GaussianLikelihood(3).noise_std, torch.full((3,), INITIAL_NOISE))


def test_gaussian_log_prob_is_a_sum_over_observed_cells():
    likelihood, (params, values, mask) = gaussian(), cells()
    density = stats.norm.logpdf(values.numpy(), params.numpy(), noise_of(likelihood))
    expected = np.where(mask.numpy(), density, 0).sum((2, 3))
    log_prob = likelihood.log_prob(params, values, mask).detach()
    np.testing.assert_allclose(log_prob, expected, **EXACT)
    assert torch.equal(log_prob[:, 1], torch.zeros(K, dtype=torch.float64))


def test_gaussian_log_predictive_is_the_mixture_density():
    likelihood, (params, values, mask) = gaussian(), cells()
    density = stats.norm.logpdf(values.numpy(), params.numpy(), noise_of(likelihood))
    expected = np.where(mask.numpy(), special.logsumexp(density, axis=0) - np.log(K), 0)
    np.testing.assert_allclose(likelihood.log_predictive(params, values, mask).detach(), expected, **EXACT)


def test_log_predictive_survives_a_far_observation_in_float32():
    likelihood, (params, values, mask) = gaussian(torch.float32, noise=(0.01, 0.01)), cells(torch.float32)
    far = likelihood.log_predictive(params, values + 100, torch.ones_like(mask))
    assert torch.isfinite(far).all()
    assert (far < -1e6).all()


def test_gaussian_cdf_is_that_of_the_mixture():
    likelihood, (params, values, _) = gaussian(), cells()
    expected = stats.norm.cdf(values.numpy(), params.numpy(), noise_of(likelihood)).mean(0)
    np.testing.assert_allclose(likelihood.cdf(params, values).detach(), expected, **EXACT)


def test_noise_cannot_fall_below_its_floor():
    likelihood, (params, _, mask) = GaussianLikelihood(D), cells(torch.float32)
    with torch.no_grad():
        likelihood.log_noise.fill_(-200.0)
    assert torch.equal(likelihood.noise_std, torch.full((D,), NOISE_FLOOR))
    log_prob = likelihood.log_prob(params, params[0] + 10, mask)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(likelihood.log_noise.grad).all()


def test_the_best_noise_is_the_residual_spread():
    values = torch.randn(1, 50, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    params, mask = torch.zeros(1, 1, 50, D).double(), torch.ones(1, 50, D, dtype=torch.bool)
    spread = values.square().mean((0, 1)).sqrt()  # the maximum-likelihood answer
    likelihood = gaussian(noise=spread.tolist())
    (gradient,) = torch.autograd.grad(likelihood.log_prob(params, values, mask).sum(), likelihood.log_noise)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-10)


def test_gaussian_mean_and_std_have_the_shape_of_params():
    likelihood, (params, _, _) = gaussian(), cells()
    assert torch.equal(likelihood.mean(params), params)
    assert likelihood.std(params).shape == params.shape
    np.testing.assert_allclose(likelihood.std(params)[1, 2, 3].detach(), [0.2, 0.7], **EXACT)


def test_samples_follow_the_noise_and_the_generator():
    likelihood = gaussian()
    params = torch.full((20000, 1, 1, D), 5.0, dtype=torch.float64)
    before = torch.get_rng_state()
    draw = likelihood.sample(params, torch.Generator().manual_seed(3)).detach()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(draw, likelihood.sample(params, torch.Generator().manual_seed(3)))
    for d, noise in enumerate((0.2, 0.7)):
        # a right sampler fails this at one seed in a thousand
        assert stats.kstest(draw[:, 0, 0, d].numpy(), stats.norm(5.0, noise).cdf).pvalue > 1e-3


LEVELS = torch.tensor([1e-6, 0.05, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)


@each_dtype
def test_one_component_has_the_closed_form(dtype):
    likelihood, (params, _, _) = gaussian(dtype), cells(dtype, n_samples=1)
    expected = stats.norm.ppf(LEVELS[:, None, None, None], params[0].numpy(), noise_of(likelihood))
    tolerance = EXACT if dtype == torch.float64 else SINGLE
    np.testing.assert_allclose(likelihood.quantile(params, LEVELS), expected, **tolerance)


@each_dtype
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 300.0])
def test_quantiles_against_a_root_finder(dtype, spread):
    likelihood, (params, _, _) = gaussian(dtype), cells(dtype)
    params = params * spread  # 300: components hundreds of widths apart, with nothing between them
    quantiles = likelihood.quantile(params, LEVELS)
    assert quantiles.dtype == dtype
    assert quantiles.shape == (len(LEVELS), N, T, D)
    eps = torch.finfo(dtype).eps
    for index in np.ndindex(N, 2, D):
        means, noise = params[(slice(None), *index)].double().numpy(), noise_of(likelihood)[index[-1]]
        for level, found in zip(LEVELS.tolist(), quantiles[(slice(None), *index)].tolist()):
            if spread == 300.0 and level == 0.5:  # any point of the gap is a median: ask for the level
                assert stats.norm.cdf(found, means, noise).mean() == pytest.approx(level, abs=1e-6)
                continue
            root = quantile_by_brentq(level, means, noise)
            density = stats.norm.pdf(root, means, noise).mean()
            # roundings of x and of the width, and of the level where the distribution function is flat
            rounding = 8 * eps * (noise + abs(root)) + 2 * eps * min(level, 1 - level) / density
            assert found == pytest.approx(root, abs=rounding + 1e-12)


def quantile_by_brentq(level, means, noise):
    sides = stats.norm.ppf(level, means, noise)
    low, high = sides.min() - 1e-9, sides.max() + 1e-9
    return optimize.brentq(lambda x: stats.norm.cdf(x, means, noise).mean() - level, low, high, xtol=1e-14)


@each_dtype
def test_quantiles_invert_the_cdf_for_many_samples(dtype):
    likelihood, (params, _, _) = gaussian(dtype, noise=(0.01, 0.5)), cells(dtype, n_samples=200)
    levels = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99])
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    for level, x in zip(levels.tolist(), likelihood.quantile(params, levels)):
        assert (likelihood.cdf(params, x) - level).abs().max() < tolerance


def test_quantiles_do_not_depend_on_how_many_cells_are_solved_at_once(monkeypatch):
    monkeypatch.setattr(symmetric_mixture, "_block_size", lambda centres: 65)  # of 120 cells
    likelihood = gaussian()
    g = torch.Generator().manual_seed(6)
    params = torch.randn(100, N, 20, D, generator=g, dtype=torch.float64)
    whole = likelihood.quantile(params, LEVELS)
    parts = [likelihood.quantile(params[:, :, [t]], LEVELS) for t in range(20)]
    torch.testing.assert_close(
        whole, torch.cat(parts, dim=2), rtol=1e-9, atol=1e-9
    )  # other cells, other stops


def test_quantiles_mirror():
    likelihood, (params, _, _) = gaussian(), cells()
    upper = likelihood.quantile(params, torch.tensor([0.9999], dtype=torch.float64))
    lower = likelihood.quantile(-params, torch.tensor([1 - 0.9999], dtype=torch.float64))
    torch.testing.assert_close(upper, -lower, **EXACT)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_impossible_levels_are_refused(level):
    params, _, _ = cells()
    with pytest.raises(ValueError, match="quantile levels must lie strictly between 0 and 1; got"):
        gaussian().quantile(params, torch.tensor([0.5, level]))


def test_a_cell_without_numbers_does_not_hold_up_the_others():
    likelihood, (params, _, _) = gaussian(), cells()
    expected = likelihood.quantile(params, LEVELS)
    params[:, 0, 0, 0] = math.nan
    found = likelihood.quantile(params, LEVELS)
    assert found[:, 0, 0, 0].isnan().all()
    assert torch.equal(found[:, 1:], expected[:, 1:])


def test_root_finding_is_quadratic():
    calls = []
    params = torch.randn(50, 100, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def excess(x):
        calls.append(1)
        u = x - params
        return torch.special.ndtr(u).mean(0) - 0.2, (-0.5 * u.square()).exp().mean(0) / math.sqrt(2 * math.pi)

    mixture_quantile(params + special.ndtri(0.2), excess, torch.ones(()))
    assert len(calls) < 12  # bisection alone needs about 50


def test_root_finding_does_not_cycle():
    def excess(x):  # Newton's method sends x to -x, for ever
        return x.sign() * x.abs().sqrt(), 0.5 / x.abs().sqrt()

    root = mixture_quantile(torch.tensor([-1.0, 2.0], dtype=torch.float64), excess, torch.ones(()))
    assert abs(float(root)) < 1e-12


def test_root_finding_stays_between_the_components():
    seen = []

    def excess(x):  # so flat at first that a Newton step jumps over everything
        seen.append(float(x))
        growth = (10 * (x - 1)).exp()
        return growth - 0.5, 10 * growth

    components = torch.tensor([-10.0] + 23 * [1.0], dtype=torch.float64)
    root = mixture_quantile(components, excess, torch.ones(()))
    assert float(root) == pytest.approx(1 + math.log(0.5) / 10, abs=1e-12)
    assert -10 <= min(seen) <= max(seen) <= 1


def test_mixture_moments_are_those_of_a_large_sample_space():
    g = torch.Generator().manual_seed(5)
    means, stds = torch.randn(3, 4, generator=g, dtype=torch.float64), torch.rand(3, 4, generator=g).double()
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)  # exact for polynomials: integrates both moments
    weights = weights / weights.sum()
    points = means[..., None].numpy() + stds[..., None].numpy() * nodes
    mean = (points @ weights).mean(0)
    variance = (((points - mean[:, None]) ** 2) @ weights).mean(0)
    np.testing.assert_allclose(mixture_mean(means), mean, **EXACT)
    np.testing.assert_allclose(mixture_std(means, stds), np.sqrt(variance), **EXACT)


def test_the_mixture_of_one_is_itself():
    params, _, _ = cells(n_samples=1)
    assert torch.equal(mixture_mean(params), params[0])
    torch.testing.assert_close(
        mixture_std(params, torch.full_like(params, 0.3)), torch.full_like(params[0], 0.3)
    )
