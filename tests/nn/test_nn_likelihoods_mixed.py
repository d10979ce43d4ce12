"""Targets with different likelihoods: the sum of the parts, whatever their order."""

from __future__ import annotations

import math

import pytest
import torch
from likelihood_cases import K, N, T

from latentode.nn.likelihoods import (
    LIKELIHOODS,
    GaussianLikelihood,
    MixedLikelihood,
    Part,
    PoissonLikelihood,
    TargetFacts,
    likelihood_for,
)

NAMES = ["poisson", "gaussian", "categorical", "bernoulli", "gaussian", "student_t", "negative_binomial"]
FACTS = [TargetFacts(level=1.0 + d, n_categories=3) for d in range(len(NAMES))]
D = len(NAMES)
EXACT = {"rtol": 1e-12, "atol": 1e-12}  # sums in another order
LEVELS = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


def build(order):
    """The targets of NAMES in another order, and parameters (K, N, T, n_out) that are their own in any."""
    likelihood = likelihood_for([NAMES[d] for d in order], [FACTS[d] for d in order]).double()
    with torch.no_grad():
        for part, at in likelihood.parts:
            for parameter in part.parameters():
                parameter += 0.1 * torch.tensor([order[column] for column in at])
    own = []
    for part, at in likelihood.parts:
        outputs = [draw(order[column], part.n_out // len(at)) for column in at]
        own.append(torch.cat(outputs, dim=-1))
    return likelihood, torch.cat(own, dim=-1)


def draw(seed, n_out):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(K, N, T, n_out, generator=g, dtype=torch.float64)


def draw_values(likelihood, params):
    g = torch.Generator().manual_seed(11)
    values = likelihood.sample(params, g)[0].detach()
    return values, torch.rand(values.shape, generator=g) < 0.7


IDENTITY = list(range(D))
SHUFFLED = [4, 2, 6, 0, 5, 1, 3]


def test_it_is_the_sum_of_its_parts():
    likelihood, params = build(IDENTITY)
    values, mask = draw_values(likelihood, params)
    sizes = [part.likelihood.n_out for part in likelihood.parts]
    assert sum(sizes) == likelihood.n_out == params.shape[-1]
    total = 0
    for (part, at), own in zip(likelihood.parts, params.split(sizes, dim=-1)):
        assert type(part) is LIKELIHOODS[NAMES[at[0]]]
        total = total + part.log_prob(own, values[..., at], mask[..., at])
        for method in ("mean", "std"):
            together = getattr(likelihood, method)(params)[..., at]
            torch.testing.assert_close(together, getattr(part, method)(own), rtol=0, atol=0)
        for together, alone in (
            (likelihood.cdf(params, values), part.cdf(own, values[..., at])),
            (likelihood.quantile(params, LEVELS), part.quantile(own, LEVELS)),
            (
                likelihood.log_predictive(params, values, mask),
                part.log_predictive(own, values[..., at], mask[..., at]),
            ),
        ):
            torch.testing.assert_close(together[..., at], alone, rtol=0, atol=0)
        for d, n_classes in zip(at, part.n_classes):
            assert likelihood.n_classes[d] == n_classes
            if n_classes:
                alone = part.probabilities(own, at.index(d))
                assert torch.equal(likelihood.probabilities(params, d), alone)
    torch.testing.assert_close(likelihood.log_prob(params, values, mask), total, **EXACT)


def test_another_order_of_targets_orders_the_answers():
    first, params = build(IDENTITY)
    other, other_params = build(SHUFFLED)
    values, mask = draw_values(first, params)
    v, m = values[..., SHUFFLED], mask[..., SHUFFLED]
    found = other.log_prob(other_params, v, m)
    torch.testing.assert_close(found, first.log_prob(params, values, mask), **EXACT)
    for found, expected in (
        (other.mean(other_params), first.mean(params)),
        (other.std(other_params), first.std(params)),
        (other.cdf(other_params, v), first.cdf(params, values)),
        (other.quantile(other_params, LEVELS), first.quantile(params, LEVELS)),
        (other.log_predictive(other_params, v, m), first.log_predictive(params, values, mask)),
    ):
        torch.testing.assert_close(found, expected[..., SHUFFLED], rtol=1e-9, atol=1e-12)
    for facts in ("scaled_targets", "error_targets", "n_classes"):
        there, here = getattr(other, facts), getattr(first, facts)
        assert list(there) == [here[d] for d in SHUFFLED]
    for position, d in enumerate(SHUFFLED):
        if first.n_classes[d]:
            found = other.probabilities(other_params, position)
            assert torch.equal(found, first.probabilities(params, d))


def test_facts_are_those_of_each_target():
    likelihood, _ = build(IDENTITY)
    assert likelihood.scaled_targets == (False, True, False, False, True, True, False)
    assert likelihood.error_targets == (False, True, False, False, True, False, False)
    assert likelihood.n_classes == (0, 0, 3, 2, 0, 0, 0)
    assert not hasattr(likelihood, "scaled")
    assert [at for _, at in likelihood.parts] == [[0], [1, 4], [2], [3], [5], [6]]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_targets_that_agree_need_no_mixture(name):
    likelihood = likelihood_for([name] * 3, FACTS[:3])
    assert type(likelihood) is LIKELIHOODS[name]
    assert likelihood.n_targets == 3


def test_facts_reach_their_targets():
    likelihood = likelihood_for(["poisson", "categorical", "poisson"], FACTS[:3])
    torch.testing.assert_close(likelihood.parts[0].likelihood.log_level.exp(), torch.tensor([1.0, 3.0]))
    assert likelihood.n_classes == (0, 3, 0)


def test_errors_count_where_they_are_understood():
    likelihood = likelihood_for(["poisson", "gaussian"], FACTS[:2]).double()
    params, values = draw(1, 2), torch.tensor([3.0, 0.4], dtype=torch.float64).expand(N, T, 2)
    mask = torch.ones(N, T, 2, dtype=torch.bool)
    mask[0, 0, 0] = False
    errors = torch.tensor([0.0, 0.5], dtype=torch.float64).repeat(N, T, 1)
    errors[0, 0, 0] = math.nan  # of a cell that was not observed
    counts, gaussian = (part.likelihood for part in likelihood.parts)
    for method in ("log_prob", "log_predictive"):
        found = getattr(likelihood, method)(params, values, mask, errors)
        alone = [
            getattr(counts, method)(params[..., :1], values[..., :1], mask[..., :1]),
            getattr(gaussian, method)(params[..., 1:], values[..., 1:], mask[..., 1:], errors[..., 1:]),
        ]
        expected = sum(alone) if method == "log_prob" else torch.cat(alone, dim=-1)
        torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("method", ["log_prob", "log_predictive"])
def test_errors_are_refused_where_they_are_not(method):
    likelihood = likelihood_for(["poisson", "gaussian"], FACTS[:2])
    values, mask = torch.ones(N, T, 2), torch.ones(N, T, 2, dtype=torch.bool)
    errors = torch.full((N, T, 2), 0.5)
    match = r"errors of targets \[0\] must be 0, for PoissonLikelihood takes none: only the gaussian"
    with pytest.raises(ValueError, match=match):
        getattr(likelihood, method)(torch.zeros(K, N, T, 2), values, mask, errors)
    nobody = likelihood_for(["poisson", "bernoulli"], FACTS[:2])
    with pytest.raises(ValueError, match="MixedLikelihood takes no errors of measurement"):
        getattr(nobody, method)(torch.zeros(K, N, T, 2), values, mask, errors)


def test_probabilities_of_numbers_and_of_no_target_are_refused():
    likelihood, params = build(IDENTITY)
    with pytest.raises(ValueError, match="target 4 has no classes: GaussianLikelihood describes numbers"):
        likelihood.probabilities(params, 4)
    with pytest.raises(ValueError, match="there is no target 7: they are numbered 0 to 6"):
        likelihood.probabilities(params, 7)


def test_names_that_are_none_are_refused():
    hint = r"likelihoods are 'gaussian', .*; got 'gausian' \(did you mean 'gaussian'\?\)"
    with pytest.raises(ValueError, match=hint):
        likelihood_for(["gaussian", "gausian"], FACTS[:2])
    with pytest.raises(ValueError, match="each target needs a name and its facts; got 1 names, 2 facts"):
        likelihood_for(["gaussian"], FACTS[:2])
    with pytest.raises(ValueError, match="got 0 names, 0 facts"):
        likelihood_for([], [])


@pytest.mark.parametrize("columns", [([0], [0]), ([0], [2]), ([], [1])])
def test_parts_must_share_the_targets_out(columns):
    parts = [Part(GaussianLikelihood(1), columns[0]), Part(PoissonLikelihood(1), columns[1])]
    with pytest.raises(ValueError, match="parts must hold each of the targets 0 to D - 1 once; got"):
        MixedLikelihood(parts)
