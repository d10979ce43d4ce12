"""Bernoulli and categorical values: what an encoder reads, extreme logits, and classes by their codes."""

from __future__ import annotations

import math

import pytest
import torch

from latentode.nn.likelihoods import BernoulliLikelihood, CategoricalLikelihood, TargetFacts

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def column(values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).reshape(1, -1, 1)


def seen(values):
    return torch.ones(values.shape, dtype=torch.bool)


def test_bernoulli_features_are_minus_one_and_one():
    values = column([0.0, 1.0, math.nan])
    features, mask = BernoulliLikelihood(1).features(values, ~values.isnan())
    assert features.flatten().tolist() == [-1.0, 1.0, 0.0]
    assert mask.flatten().tolist() == [True, True, False]


@pytest.mark.parametrize("logit", [-100.0, -30.0, 0.0, 30.0, 100.0])
def test_bernoulli_keeps_the_digits_of_rare_values(logit):
    params = torch.full((1, 1, 2, 1), logit)
    values = column([0.0, 1.0], torch.float32)
    found = BernoulliLikelihood(1).log_predictive(params, values, seen(values)).flatten().tolist()
    expected = [-math.log1p(math.exp(logit)), -math.log1p(math.exp(-logit))]
    assert found == pytest.approx(expected, rel=1e-6)  # a rounding, also of 1e-44


def test_bernoulli_quantiles_step_where_the_mixture_does():
    # P(0) is the mean of 0.5 and 0.9
    params = torch.tensor([0.0, math.log(1 / 9)], dtype=torch.float64).reshape(2, 1, 1, 1)
    levels = torch.tensor([0.01, 0.699, 0.701, 0.99], dtype=torch.float64)
    assert BernoulliLikelihood(1).quantile(params, levels).flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_categories_are_read_one_hot():
    likelihood = CategoricalLikelihood.for_targets([TargetFacts(n_categories=3), TargetFacts(n_categories=2)])
    values = torch.tensor([[2.0, 0.0], [0.0, math.nan]]).reshape(1, 2, 2)
    features, mask = likelihood.features(values, ~values.isnan())
    assert features[0].tolist() == [[0.0, 0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]]
    assert mask[0].tolist() == [5 * [True], [True, True, True, False, False]]
    assert (likelihood.n_out, likelihood.n_features, likelihood.n_classes) == (5, 5, (3, 2))


def test_two_categories_are_a_bernoulli():
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64).reshape(1, 1, 9, 1)
    both = torch.cat([torch.zeros_like(logits), logits], dim=-1)
    values = column([0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    categorical, bernoulli = CategoricalLikelihood(1), BernoulliLikelihood(1)
    for method, given in (
        ("log_prob", (values, seen(values))),
        ("cdf", (values,)),
        ("mean", ()),
        ("std", ()),
    ):
        found, expected = (
            getattr(it, method)(p, *given) for it, p in ((categorical, both), (bernoulli, logits))
        )
        torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(
        categorical.probabilities(both, 0), bernoulli.probabilities(logits, 0), **EXACT
    )


def test_the_most_probable_category_is_that_of_the_mixture():
    # two samples are sure of categories 0 and 2, and both think 1 the second best
    p = torch.tensor([[0.58, 0.42, 0.0], [0.0, 0.42, 0.58]], dtype=torch.float64)
    found = CategoricalLikelihood(1, [3]).probabilities(p.clamp(min=1e-30).log()[:, None, None], 0)
    torch.testing.assert_close(found.flatten(), p.mean(0), **EXACT)
    assert int(found.argmax(-1)) == 1


def test_relabelling_the_categories_relabels_the_answers():
    logits = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])  # new code c was order[c]
    values = torch.randint(0, 5, (2, 4, 1), generator=torch.Generator().manual_seed(2)).double()
    renamed = order.argsort()[values.long()].double()
    likelihood = CategoricalLikelihood(1, [5])
    found = likelihood.log_prob(logits[..., order], renamed, seen(values))
    torch.testing.assert_close(found, likelihood.log_prob(logits, values, seen(values)), **EXACT)
    probabilities = likelihood.probabilities(logits[..., order], 0)
    torch.testing.assert_close(probabilities, likelihood.probabilities(logits, 0)[..., order], **EXACT)


def test_the_last_category_is_reached_however_the_sum_rounds():
    logits = torch.zeros(1, 1, 1, 7, dtype=torch.float64)
    top = CategoricalLikelihood(1, [7]).quantile(
        logits, torch.tensor([1 - 1e-16], dtype=torch.float64).clamp(max=1 - 2e-16)
    )
    assert float(top) == 6.0


def test_one_category_is_certain():
    values = torch.zeros(1, 1, 1)
    likelihood = CategoricalLikelihood(1, [1])
    assert float(likelihood.log_prob(torch.randn(1, 1, 1, 1), values, seen(values))) == 0


@pytest.mark.parametrize("wrong", [0, -2])
def test_a_target_without_categories_is_refused(wrong):
    with pytest.raises(ValueError, match=f"a categorical target needs at least 1 category; got {wrong}"):
        CategoricalLikelihood(2, [3, wrong])
