"""What every likelihood promises: agreement with SciPy, gradients, and deafness to what was not observed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from likelihood_cases import (
    CONTINUOUS,
    EVERY,
    FACTS,
    MIXED,
    ORACLES,
    D,
    K,
    N,
    T,
    build,
    draw_cells,
    draw_params,
    log_density,
    numpy,
    oracle,
)
from scipy import optimize, special, stats

from latentode.nn.likelihoods import LIKELIHOODS, GaussianLikelihood, Likelihood

EXACT = {"rtol": 1e-11, "atol": 1e-11}  # closed forms in float64; SciPy's own Student and Beta lose a digit
TAILS = {"rtol": 1e-9, "atol": 1e-12}  # incomplete Beta and Gamma functions of other parameters than SciPy's
FOUR_SIGMA = 4.0  # a right sampler passes it at all but one seed in 16000
LEVELS = [1e-9, 0.05, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9]
LOW_ODDS = 1e-3  # a right sampler fails a test of fit at one seed in a thousand

every = pytest.mark.parametrize("name", EVERY)
discrete = pytest.mark.parametrize("name", [name for name in EVERY if name not in CONTINUOUS])
continuous = pytest.mark.parametrize("name", CONTINUOUS)
takes_errors = ["gaussian", "gaussian_heteroscedastic"]


def per_target(distributions, answer):
    """(K, N, T, D) of what each frozen distribution answers."""
    return np.stack([answer(d, one) for d, one in enumerate(distributions)], axis=-1)


def test_every_likelihood_has_an_oracle():
    assert set(LIKELIHOODS) <= set(ORACLES)


@every
def test_log_prob_is_a_sum_over_observed_cells(name):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    density = per_target(oracle(name, likelihood, params), lambda d, one: log_density(one, values[..., d]))
    found = likelihood.log_prob(params, values, mask).detach()
    np.testing.assert_allclose(found, np.where(mask, density, 0).sum((2, 3)), **EXACT)
    assert torch.equal(found[:, 1], torch.zeros(K, dtype=torch.float64))


@every
def test_log_predictive_is_the_density_of_the_mixture(name):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    density = per_target(oracle(name, likelihood, params), lambda d, one: log_density(one, values[..., d]))
    expected = np.where(mask, special.logsumexp(density, axis=0) - math.log(K), 0)
    found = likelihood.log_predictive(params, values, mask).detach()
    np.testing.assert_allclose(found, expected, **EXACT)
    assert torch.equal(found[1], torch.zeros_like(found[1]))


@every
def test_mean_and_std(name):
    likelihood = build(name)
    params = draw_params(likelihood)
    distributions = oracle(name, likelihood, params)
    mean, std = likelihood.mean(params).detach(), likelihood.std(params).detach()
    np.testing.assert_allclose(mean, per_target(distributions, lambda d, one: one.mean()), **EXACT)
    np.testing.assert_allclose(std, per_target(distributions, lambda d, one: one.std()), **EXACT)


@every
@pytest.mark.parametrize("shift", [0.0, 0.4, -1.0])
def test_cdf_is_that_of_the_mixture(name, shift):
    likelihood = build(name)
    params, values, _ = draw_cells(likelihood)
    values = values + shift  # between the integers, and below 0
    found = likelihood.cdf(params, values).detach()
    expected = per_target(oracle(name, likelihood, params), lambda d, one: one.cdf(values[..., d]))
    np.testing.assert_allclose(found, expected.mean(0), **TAILS)


@continuous
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_continuous_quantiles_against_a_root_finder(name, spread):
    likelihood = build(name)
    params = spread * draw_params(likelihood)
    found = likelihood.quantile(params, torch.tensor(LEVELS, dtype=torch.float64))
    assert found.shape == (len(LEVELS), N, T, D)
    for n, d in np.ndindex(N, D):
        one = oracle(name, likelihood, params[:, [n], :1])[d]
        for level, x in zip(LEVELS, found[:, n, 0, d].tolist()):
            if spread == 30.0 and level == 0.5:  # any point of a gap between components is a median
                assert one.cdf(x).mean() == pytest.approx(level, abs=1e-12)
                continue
            root = root_of_mixture(one, level)
            slack = 1e-13 / np.exp(log_density(one, root)).mean() if level > 0.5 else 0  # 1 - 1e-9 is rounded
            assert x == pytest.approx(root, rel=1e-9, abs=1e-11 + slack)


def root_of_mixture(one, level):
    """By SciPy's root finder on the tail that is small."""
    if level > 0.5:
        sides, off = one.isf(1 - level), lambda x: 1 - level - one.sf(x).mean()
    else:
        sides, off = one.ppf(level), lambda x: one.cdf(x).mean() - level
    margin = 1e-9 * (1 + np.abs(sides).max())
    return optimize.brentq(off, sides.min() - margin, sides.max() + margin, xtol=1e-14, rtol=1e-14)


@discrete
@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_discrete_quantiles_against_a_search(name, spread):
    likelihood = build(name)
    params = spread * draw_params(likelihood)
    levels = [1e-9, 0.05, 0.3, 0.5, 0.9, 0.999]
    found = likelihood.quantile(params, torch.tensor(levels, dtype=torch.float64))
    distributions = oracle(name, likelihood, params[:, :, :2])
    x = np.arange(20000.0)[:, None, None, None]  # beyond every value that follows
    for d, one in enumerate(distributions):
        if one is distributions[1] and name == MIXED:  # the Gaussian among them
            continue
        cdf = one.cdf(x[:10] if name in ("bernoulli", "categorical") else x).mean(1)  # (x, N, T)
        for level, answer in zip(levels, found[:, :, :2, d]):
            np.testing.assert_array_equal(answer, (cdf < level).sum(0))


@every
def test_quantiles_keep_their_order_and_dtype(name):
    likelihood = build(name, torch.float32)
    params = draw_params(likelihood, n_samples=7, dtype=torch.float32)
    found = likelihood.quantile(params, torch.linspace(0.01, 0.99, 30))
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert (found.diff(dim=0) >= 0).all()


@every
@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_impossible_levels_are_refused(name, level):
    likelihood = build(name)
    with pytest.raises(ValueError, match="quantile levels must lie strictly between 0 and 1; got"):
        likelihood.quantile(draw_params(likelihood), torch.tensor([0.5, level]))


@every
@pytest.mark.parametrize("method", ["log_prob", "log_predictive"])
def test_gradients(name, method):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    names, theta = zip(*likelihood.named_parameters()) if list(likelihood.parameters()) else ((), ())

    def answer(p, *theta):
        return torch.func.functional_call(likelihood, dict(zip(names, theta)), (p, values, mask))

    likelihood.forward = getattr(likelihood, method)
    theta = [parameter.detach().clone().requires_grad_() for parameter in theta]
    params = params[:2, :, :3].requires_grad_()
    values, mask = values[:, :3], mask[:, :3]
    assert torch.autograd.gradcheck(answer, (params, *theta))


@every
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("method", ["log_prob", "log_predictive"])
def test_unobserved_cells_cannot_matter(name, poison, method):
    likelihood = build(name, torch.float32)
    params, values, mask = draw_cells(likelihood, torch.float32)
    errors = torch.full_like(values, 0.2) if name in takes_errors else None
    results = []
    for dirty in (False, True):
        p = params.masked_fill(~likelihood.param_mask(mask), poison) if dirty else params.clone()
        v = values.masked_fill(~mask, poison) if dirty else values.clone()
        e = errors if errors is None or not dirty else errors.masked_fill(~mask, poison)
        inputs = [p.requires_grad_(), v.requires_grad_(), *likelihood.parameters()]
        out = getattr(likelihood, method)(p, v, mask, e)
        results.append([out, *torch.autograd.grad(out.sum(), inputs, allow_unused=True)])
    for clean, dirty in zip(*results):
        assert (clean is None and dirty is None) or torch.equal(clean, dirty)


@every
@pytest.mark.parametrize("poison", [math.nan, math.inf, -1.0, 1e30])
def test_features_are_finite_and_deaf_to_what_was_not_observed(name, poison):
    likelihood = build(name, torch.float32)
    _, values, mask = draw_cells(likelihood, torch.float32)
    features, feature_mask = likelihood.features(values, mask)
    dirty, dirty_mask = likelihood.features(values.masked_fill(~mask, poison), mask)
    assert features.shape == feature_mask.shape == (N, T, likelihood.n_features)
    assert features.dtype == torch.float32
    assert feature_mask.dtype == torch.bool
    assert torch.equal(features, dirty)
    assert torch.equal(feature_mask, dirty_mask)
    assert not features[~feature_mask].any()
    assert torch.isfinite(features).all()


@every
def test_numbers_of_outputs_and_targets_agree(name):
    likelihood = build(name)
    params, _, mask = draw_cells(likelihood)
    n_targets = likelihood.n_targets
    assert isinstance(likelihood, Likelihood)
    assert likelihood.param_mask(mask).shape == (N, T, likelihood.n_out)
    for facts in (likelihood.scaled_targets, likelihood.error_targets, likelihood.n_classes):
        assert len(facts) == n_targets
    for answer in (likelihood.mean(params), likelihood.std(params), likelihood.sample(params)):
        assert answer.shape == (K, N, T, n_targets)
    if name != MIXED:
        assert likelihood.scaled_targets == (name in CONTINUOUS,) * D
        assert likelihood.scaled == (name in CONTINUOUS)
        assert likelihood.error_targets == (name in takes_errors,) * D


@every
def test_param_mask_marks_what_a_target_is_read_from(name):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    for d in range(likelihood.n_targets):
        only = torch.zeros_like(mask)
        only[..., d] = True
        p = params.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(likelihood.log_prob(p, values, only).sum(), p)
        assert torch.equal(likelihood.param_mask(only), (gradient != 0).any(0))


@every
def test_samples_follow_the_generator_and_nothing_else(name):
    likelihood = build(name)
    params = draw_params(likelihood)
    before = torch.get_rng_state()
    first = likelihood.sample(params, torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, likelihood.sample(params, torch.Generator().manual_seed(3)))
    assert not torch.equal(first, likelihood.sample(params, torch.Generator().manual_seed(4)))
    likelihood.sample(params)  # without one, from torch's own
    assert not torch.equal(torch.get_rng_state(), before)


@every
def test_samples_have_the_right_distribution(name):
    likelihood = build(name)
    params = draw_params(likelihood, 1, (1, 1), seed=5).expand(20000, 1, 1, -1)
    draws = numpy(likelihood.sample(params, torch.Generator().manual_seed(6)))[:, 0, 0]
    for d, one in enumerate(oracle(name, likelihood, params[:1])):
        mean, std, x = float(one.mean().item()), float(one.std().item()), draws[:, d]
        assert abs(x.mean() - mean) < FOUR_SIGMA * std / math.sqrt(len(x))
        if name in CONTINUOUS or (name == MIXED and d == 1):
            assert stats.kstest(x, lambda x, one=one: one.cdf(x).ravel()).pvalue > LOW_ODDS
        else:
            assert fit_of_counts(x, lambda x, one=one: one.cdf(x).ravel()) > LOW_ODDS


def fit_of_counts(x, cdf):
    """p-value of the chi-square test over bins of integers that expect at least 5 draws each."""
    edges = np.arange(-1, x.max() + 1)
    expected = np.diff(np.append(cdf(edges), 1.0)) * len(x)  # the last bin is open
    observed = np.bincount(x.astype(int), minlength=len(expected))
    bins = np.cumsum(expected) // 10
    pooled = [np.bincount(bins.astype(int), weights=w) for w in (observed, expected)]
    full = pooled[1] >= 5
    pooled = [np.append(p[full], p[~full].sum()) for p in pooled]
    keep = pooled[1] > 0
    if keep.sum() < 2:
        return 1.0
    return stats.chisquare(pooled[0][keep], pooled[1][keep]).pvalue


@every
@pytest.mark.parametrize("size", [100.0, -100.0, 1e4, -1e4])
def test_extreme_outputs_stay_finite_in_float32(name, size):
    likelihood = build(name, torch.float32)
    _, values, mask = draw_cells(likelihood, torch.float32)
    params = torch.full((K, N, T, likelihood.n_out), size)
    params[..., 0] *= -1  # logits of one target apart, too
    params.requires_grad_()
    for answer in (
        likelihood.log_prob(params, values, mask),
        likelihood.log_predictive(params, values, mask),
        likelihood.mean(params),
        likelihood.std(params),
    ):
        assert torch.isfinite(answer).all()
    for method in (likelihood.log_prob, likelihood.log_predictive):
        out = method(params, values, mask)
        for gradient in torch.autograd.grad(out.sum(), [params, *likelihood.parameters()]):
            assert torch.isfinite(gradient).all()
    for answer in (
        likelihood.sample(params, torch.Generator().manual_seed(0)),
        likelihood.cdf(params, values),
        likelihood.quantile(params, torch.tensor([0.001, 0.5, 0.999])),
    ):
        assert torch.isfinite(answer).all()


@every
@pytest.mark.parametrize("raw", [80.0, -80.0])
def test_extreme_learned_parameters_stay_finite_in_float32(name, raw):
    likelihood = build(name, torch.float32)
    params, values, mask = draw_cells(likelihood, torch.float32)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(raw / 2 if "gaussian" in name or name == "student_t" else raw)
    params.requires_grad_()
    log_prob = likelihood.log_prob(params, values, mask)
    assert torch.isfinite(log_prob).all()
    for gradient in torch.autograd.grad(log_prob.sum(), [params, *likelihood.parameters()]):
        assert torch.isfinite(gradient).all()


@every
def test_float32_agrees_with_float64(name):
    single, double = build(name, torch.float32), build(name)
    params, values, mask = draw_cells(double)
    found = single.log_predictive(params.float(), values.float(), mask)
    expected = double.log_predictive(params, values, mask)
    # some dozen roundings of numbers up to 100, the largest log densities and log factorials here
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=5e-5)


@continuous
@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_quantiles_in_float32_have_their_level_in_float64(name, spread):
    single, double = build(name, torch.float32), build(name)
    params = spread * draw_params(double, n_samples=9)
    levels = torch.tensor([0.001, 0.3, 0.5, 0.999], dtype=torch.float64)
    found = single.quantile(params.float(), levels).double()
    # some roundings of numbers up to 15, times densities up to some 10
    for level, x in zip(levels, found):
        torch.testing.assert_close(double.cdf(params, x), level.expand(N, T, D), rtol=0, atol=3e-5)


@pytest.mark.parametrize("name", takes_errors)
@pytest.mark.parametrize("method", ["log_prob", "log_predictive"])
def test_errors_add_in_variance(name, method):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    errors = torch.rand(values.shape, generator=torch.Generator().manual_seed(7)).double() * 3
    errors[0, 0] = 0
    sizes = np.sqrt(numpy(likelihood.std(params)) ** 2 + errors.numpy() ** 2)
    density = stats.norm.logpdf(values.numpy(), numpy(likelihood.mean(params)), sizes)
    density = np.where(mask, density, 0)
    expected = density.sum((2, 3))
    if method == "log_predictive":
        expected = np.where(mask, special.logsumexp(density, axis=0) - math.log(K), 0)
    found = getattr(likelihood, method)(params, values, mask, errors).detach()
    np.testing.assert_allclose(found, expected, **EXACT)


@pytest.mark.parametrize("name", takes_errors)
def test_errors_of_zero_change_nothing_and_huge_ones_are_finite(name):
    likelihood = build(name, torch.float32)
    params, values, mask = draw_cells(likelihood, torch.float32)
    without, zero = (likelihood.log_prob(params, values, mask, e) for e in (None, torch.zeros_like(values)))
    torch.testing.assert_close(zero, without, rtol=1e-5, atol=1e-5)  # sums in another order
    params.requires_grad_()
    huge = likelihood.log_prob(params, values, mask, torch.full_like(values, 1e30))
    assert torch.isfinite(huge).all()
    for gradient in torch.autograd.grad(huge.sum(), [params, *likelihood.parameters()]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in takes_errors])
@pytest.mark.parametrize("method", ["log_prob", "log_predictive"])
def test_errors_are_refused_where_they_mean_nothing(name, method):
    likelihood = build(name)
    params, values, mask = draw_cells(likelihood)
    with pytest.raises(ValueError, match=r"Likelihood takes no errors of measurement: only the gaussian"):
        getattr(likelihood, method)(params, values, mask, torch.zeros_like(values))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_number_of_targets_is_enough(name):
    likelihood = LIKELIHOODS[name](3)
    assert likelihood.n_targets == 3
    assert likelihood.n_out >= 3


@every
def test_what_was_learned_comes_back(name):
    learned, fresh = build(name), build(name)
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter += 1
    fresh.load_state_dict(learned.state_dict())
    params, values, mask = draw_cells(learned)
    assert torch.equal(learned.log_prob(params, values, mask), fresh.log_prob(params, values, mask))


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in ("bernoulli", "categorical")])
def test_numbers_have_no_classes(name):
    likelihood = build(name)
    assert likelihood.n_classes == (0,) * D
    with pytest.raises(ValueError, match=r"target 1 has no classes: .*Likelihood describes numbers"):
        likelihood.probabilities(draw_params(likelihood), 1)


@pytest.mark.parametrize("name", ["bernoulli", "categorical"])
def test_probabilities_are_those_of_the_mixture(name):
    likelihood = build(name)
    params = draw_params(likelihood)
    assert likelihood.n_classes == tuple(2 if name == "bernoulli" else fact.n_categories for fact in FACTS)
    for d, one in enumerate(oracle(name, likelihood, params)):
        found = likelihood.probabilities(params, d)
        codes = np.arange(likelihood.n_classes[d])
        expected = np.stack([np.exp(log_density(one, np.full((K, N, T), c))).mean(0) for c in codes], axis=-1)
        np.testing.assert_allclose(found, expected, **EXACT)


def test_the_fast_path_of_gaussian_is_the_sum_over_cells():
    likelihood = build("gaussian")
    params, values, mask = draw_cells(likelihood)
    slow = Likelihood.log_prob(likelihood, params, values, mask)
    torch.testing.assert_close(likelihood.log_prob(params, values, mask), slow, **EXACT)
    assert isinstance(likelihood, GaussianLikelihood)
