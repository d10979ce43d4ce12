"""Poisson and negative binomial counts: their limits, their sizes, and quantiles that must not take for ever."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from likelihood_cases import numpy
from scipy import special, stats

from latentode.nn.likelihoods import (
    LIKELIHOODS,
    NegativeBinomialLikelihood,
    PoissonLikelihood,
    TargetFacts,
    counts,
)
from latentode.nn.likelihoods import negative_binomial as negative_binomial_module
from latentode.nn.likelihoods import poisson as poisson_module
from latentode.nn.likelihoods.counts import STRAIGHT, log_rate
from latentode.nn.likelihoods.negative_binomial import DISPERSION_FLOOR
from latentode.nn.likelihoods.stirling import deviance, stirling_error

ROUNDING = 1e-12  # some dozen operations in float64, on numbers of order 1
RELATIVE_TAIL = 1e-6  # SciPy's tails and ours, of parameters rounded once more, far out
SINGLE_LOG = 5e-3  # 18 in float32 is known to 1e-6, a hundredth of the relative spread of counts of 1e8

each_count = pytest.mark.parametrize("name", ["poisson", "negative_binomial"])


def poisson(rates, dtype=torch.float64):
    """Likelihood of one target, and the outputs that mean these rates."""
    raw = torch.tensor(rates, dtype=torch.float64).log().to(dtype)
    return PoissonLikelihood(1).to(dtype), raw.reshape(-1, 1, 1, 1)


def negative_binomial(dispersion, dtype=torch.float64):
    likelihood = NegativeBinomialLikelihood(1).double()
    with torch.no_grad():
        likelihood.raw_dispersion.fill_(math.log(math.expm1(dispersion - DISPERSION_FLOOR)))
    return likelihood.to(dtype)


def cell(x, dtype=torch.float64):
    return torch.full((1, 1, 1), float(x), dtype=dtype)


OBSERVED = torch.ones(1, 1, 1, dtype=torch.bool)


@each_count
def test_an_output_of_zero_is_the_mean_of_training(name):
    likelihood = LIKELIHOODS[name].for_targets([TargetFacts(level=12.5), TargetFacts(level=3e6)])
    mean = likelihood.mean(torch.zeros(1, 1, 1, 2))[0, 0, 0]
    torch.testing.assert_close(mean, torch.tensor([12.5, 3e6]), rtol=2e-6, atol=0)  # exp(log) in float32


@each_count
def test_features_are_logs_about_the_level(name):
    likelihood = LIKELIHOODS[name].for_targets([TargetFacts(level=12.5)]).double()
    values = torch.tensor([0.0, 12.5, 1e8], dtype=torch.float64).reshape(1, 3, 1)
    features, _ = likelihood.features(values, torch.ones(1, 3, 1, dtype=torch.bool))
    expected = np.log1p([0.0, 12.5, 1e8]) - np.log1p(12.5)
    np.testing.assert_allclose(features.flatten(), expected, rtol=1e-6, atol=1e-6)  # the level is a float32


@each_count
def test_a_target_that_was_always_zero_has_a_rate(name):
    likelihood = LIKELIHOODS[name].for_targets([TargetFacts(level=0.0)])
    rate = float(likelihood.mean(torch.zeros(1, 1, 1, 1)))
    assert rate == pytest.approx(counts.LEVEL_FLOOR, rel=1e-5)


@each_count
@pytest.mark.parametrize("level", [-1.0, math.nan, math.inf])
def test_impossible_levels_of_training_are_refused(name, level):
    with pytest.raises(
        ValueError, match=r"level of a count target must be a finite number of at least 0; got"
    ):
        LIKELIHOODS[name].for_targets([TargetFacts(level=level)])


def test_rates_bend_smoothly_where_exp_would_overflow():
    raw = torch.tensor(
        [-1e6, -STRAIGHT - 1e-9, -STRAIGHT + 1e-9, -3.0, 0.0, 3.0, STRAIGHT - 1e-9, STRAIGHT + 1e-9, 1e6],
        dtype=torch.float64,
        requires_grad=True,
    )
    bent = log_rate(raw, torch.zeros((), dtype=torch.float64))
    (slope,) = torch.autograd.grad(bent.sum(), raw)
    bent, raw = bent.detach(), raw.detach()
    assert (slope > 0).all()
    torch.testing.assert_close(bent[1:-1], raw[1:-1], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(slope[1:-1], torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-8)
    assert float(bent[-1]) == pytest.approx(STRAIGHT + math.log1p(1e6 - STRAIGHT), rel=ROUNDING)
    assert torch.equal(bent[0], -bent[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stirling_error_against_lgamma(dtype):
    x = np.r_[1e-4, 0.3, 1, 2, 5.5, 15.9, 16, 16.1, 30, 100, 1e4]
    found = numpy(stirling_error(torch.tensor(x, dtype=dtype)))
    expected = special.loggamma(x + 1) - (x + 0.5) * np.log(x) + x - 0.5 * math.log(2 * math.pi)
    # SciPy's own difference of numbers up to 1e5 in float64; ours of numbers up to 40
    tolerance = 40 * torch.finfo(dtype).eps + 1e-11
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    branches = stirling_error(torch.tensor([16 - 1e-12, 16.0], dtype=torch.float64))
    assert float(branches.diff().abs()) < 1e-13


def test_stirling_error_has_its_derivative_on_both_sides():
    x = torch.tensor([0.01, 0.5, 3.0, 15.0, 17.0, 1e3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(stirling_error, (x,))


def test_deviance_is_exact_near_its_minimum():
    small = torch.tensor([1e-3, 1e-2, -1e-2], dtype=torch.float32)
    expected = 0.5 * small.double() ** 2 * (1 + small.double() / 3 + small.double() ** 2 / 12)
    found = deviance(torch.ones(3), small).double()
    # eps times the argument is left of a result of half its square
    assert ((found - expected).abs() < 2 * torch.finfo(torch.float32).eps * small.abs()).all()


@pytest.mark.parametrize("rate", [1e-8, 1.0, 30.0, 1e4, 1e8])
@pytest.mark.parametrize("sigmas", [-3.0, 0.0, 4.0])
def test_poisson_log_density_of_every_size_in_float32(rate, sigmas):
    x = max(0.0, float(np.float32(np.floor(rate + sigmas * math.sqrt(rate)))))
    likelihood, raw = poisson([rate], torch.float32)
    found = float(likelihood.log_prob(raw, cell(x, torch.float32), OBSERVED).detach())
    assert found == pytest.approx(stats.poisson.logpmf(x, rate), rel=SINGLE_LOG, abs=SINGLE_LOG)


@pytest.mark.parametrize("rate", [1e-8, 1.0, 30.0, 1e4, 1e8])
@pytest.mark.parametrize("dispersion", [2e-8, 1e-3, 0.5, 20.0])
@pytest.mark.parametrize("sigmas", [-1.0, 0.0, 4.0])
def test_negative_binomial_log_density_of_every_size(rate, dispersion, sigmas):
    std = math.sqrt(rate + dispersion * rate**2)
    x = max(0.0, float(np.float32(np.floor(rate + sigmas * std))))
    likelihood = negative_binomial(dispersion)
    r = 1 / float(likelihood.dispersion.detach())
    expected = log_density_by_hand(x, r, rate)
    raw = torch.full((1, 1, 1, 1), math.log(rate), dtype=torch.float64)
    found = float(likelihood.log_prob(raw, cell(x), OBSERVED).detach())
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    single = negative_binomial(dispersion, torch.float32)
    found = float(single.log_prob(raw.float(), cell(x, torch.float32), OBSERVED).detach())
    assert found == pytest.approx(expected, rel=SINGLE_LOG, abs=SINGLE_LOG)


def log_density_by_hand(x, r, m):
    """With 50 digits, of which the differences of log factorials leave enough."""
    with mpmath.workdps(50):
        x, r, m = mpmath.mpf(x), mpmath.mpf(r), mpmath.mpf(m)
        choices = mpmath.loggamma(x + r) - mpmath.loggamma(r) - mpmath.loggamma(x + 1)
        return float(choices + r * mpmath.log(r / (r + m)) + x * mpmath.log(m / (r + m)))


def test_poisson_is_the_limit_of_negative_binomial():
    raw = torch.linspace(-5, 4, 40, dtype=torch.float64).reshape(1, 1, 40, 1)
    values = torch.arange(40, dtype=torch.float64).reshape(1, 40, 1)
    mask = torch.ones(1, 40, 1, dtype=torch.bool)
    limit = negative_binomial(2 * DISPERSION_FLOOR)
    poisson = PoissonLikelihood(1).double()
    # the next term of the expansion: half of a ((x - m)^2 - x), at most 1600 here
    difference = limit.log_predictive(raw, values, mask) - poisson.log_predictive(raw, values, mask)
    m = poisson.mean(raw)[0]
    leading = DISPERSION_FLOOR * ((values - m).square() - values)
    torch.testing.assert_close(difference, leading, rtol=1e-3, atol=1e-11)
    torch.testing.assert_close(limit.std(raw), poisson.std(raw), rtol=1e-6, atol=0)
    levels = torch.tensor([0.01, 0.5, 0.99])
    assert torch.equal(limit.quantile(raw, levels), poisson.quantile(raw, levels))


@pytest.mark.parametrize("rate", [1e-8, 0.1, 1.0, 17.0, 1e4, 1e8])
@pytest.mark.parametrize("dispersion", [0.0, 1e-3, 0.5, 20.0])
def test_quantiles_of_counts_of_every_size(rate, dispersion):
    levels = [1e-12, 0.01, 0.5, 0.99, 1 - 1e-12]
    raw = torch.full((1, 1, 1, 1), math.log(rate), dtype=torch.float64)
    likelihood = negative_binomial(dispersion) if dispersion else PoissonLikelihood(1).double()
    mean = float(likelihood.mean(raw).detach())
    r = 1 / float(likelihood.dispersion.detach()) if dispersion else math.inf
    one = stats.nbinom(r, r / (r + mean)) if dispersion else stats.poisson(mean)
    found = likelihood.quantile(raw, torch.tensor(levels, dtype=torch.float64)).flatten().tolist()
    for level, x in zip(levels, found):
        if level <= 0.5:
            assert one.cdf(x) >= level * (1 - RELATIVE_TAIL)
            assert x == 0 or one.cdf(x - 1) < level * (1 + RELATIVE_TAIL)
        else:
            assert one.sf(x) <= (1 - level) * (1 + RELATIVE_TAIL)
            assert x == 0 or one.sf(x - 1) > (1 - level) * (1 - RELATIVE_TAIL)


@each_count
def test_quantiles_of_a_mixture_of_very_different_rates(name):
    likelihood = LIKELIHOODS[name](1).double()
    rates = torch.tensor([1e-6, 1.0, 1e3, 1e8], dtype=torch.float64)
    raw = rates.log().reshape(-1, 1, 1, 1)
    for level in (0.1, 0.3, 0.6, 0.9):
        x = likelihood.quantile(raw, torch.tensor([level], dtype=torch.float64))[0]
        assert likelihood.cdf(raw, x) >= level
        assert x == 0 or likelihood.cdf(raw, x - 1) < level


@each_count
def test_quantiles_halve_their_bracket_and_stop(name, monkeypatch):
    calls = []

    def counted(lower, upper, *rest):
        def tail(x, cells):
            calls.append(len(x))
            return lower(x, cells)

        return count_quantiles(tail, upper, *rest)

    module = {"poisson": poisson_module, "negative_binomial": negative_binomial_module}[name]
    count_quantiles = counts.count_quantiles
    monkeypatch.setattr(module, "count_quantiles", counted)
    raw = torch.tensor([math.log(1e8), 0.0], dtype=torch.float64).reshape(1, 1, 2, 1)
    likelihood = LIKELIHOODS[name](1).double()
    likelihood.quantile(raw, torch.tensor([0.5]))
    assert len(calls) <= 30  # a bracket as wide as the mean, at most
    assert calls[-1] == 1  # the cell of the small rate was done long before


@each_count
def test_counts_beyond_what_float64_can_number_do_not_hang(name):
    likelihood = LIKELIHOODS[name](1).double()
    raw = torch.full((2, 1, 1, 1), 1e12, dtype=torch.float64)  # a rate of 5e20
    rate = float(likelihood.mean(raw)[0].detach())
    low, high = likelihood.quantile(raw, torch.tensor([0.1, 0.9])).flatten().tolist()
    std = float(likelihood.std(raw)[0].detach())
    assert rate - 4 * std <= low <= high <= rate + 4 * std
    assert torch.isfinite(likelihood.sample(raw)).all()


@each_count
def test_a_cell_without_numbers_does_not_hold_up_the_others(name):
    likelihood = LIKELIHOODS[name](1).double()
    raw = torch.randn(3, 2, 4, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = torch.tensor([0.2, 0.8])
    expected = likelihood.quantile(raw, levels)
    raw[:, 0, 0] = math.nan
    found = likelihood.quantile(raw, levels)
    assert found[:, 0, 0].isnan().all()
    assert torch.equal(found[:, 1:], expected[:, 1:])


@each_count
def test_quantiles_do_not_depend_on_how_many_cells_are_solved_at_once(name, monkeypatch):
    likelihood = LIKELIHOODS[name](2, [5.0, 900.0]).double()
    raw = torch.randn(10, 3, 7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    levels = torch.tensor([0.2, 0.8])
    whole = likelihood.quantile(raw, levels)
    monkeypatch.setattr(counts, "CELLS_AT_ONCE", 50)  # 5 of 42 cells
    assert torch.equal(likelihood.quantile(raw, levels), whole)


def test_both_tails_of_the_negative_binomial_keep_their_digits():
    x, r = np.array([0.0, 3.0, 40.0]), np.full(3, 1e8)
    m = np.full(3, 1e-6)  # so rare that the probability of a failure rounds to 1 within a few digits
    upper = negative_binomial_module._upper_tail(x, m, r)
    expected = special.gammainc(x + 1, m)  # a Poisson distribution up to 1e-8
    np.testing.assert_allclose(upper[:2], expected[:2], rtol=1e-6)
    few = negative_binomial_module._lower_tail(np.zeros(1), np.array([1e12]), np.array([0.5]))
    np.testing.assert_allclose(few, (0.5 / (0.5 + 1e12)) ** 0.5, rtol=1e-12)
    assert negative_binomial_module._lower_tail(np.array([-1.0]), m[:1], r[:1]) == 0
