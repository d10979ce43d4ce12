"""Likelihoods by name, one for all targets or one for each."""

from __future__ import annotations

from collections.abc import Sequence

from latentode.checks import did_you_mean
from latentode.nn.likelihoods.bernoulli import BernoulliLikelihood
from latentode.nn.likelihoods.categorical import CategoricalLikelihood
from latentode.nn.likelihoods.gaussian import GaussianLikelihood
from latentode.nn.likelihoods.gaussian_heteroscedastic import HeteroscedasticGaussianLikelihood
from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.mixed import MixedLikelihood, Part
from latentode.nn.likelihoods.negative_binomial import NegativeBinomialLikelihood
from latentode.nn.likelihoods.poisson import PoissonLikelihood
from latentode.nn.likelihoods.student_t import StudentTLikelihood
from latentode.nn.likelihoods.target_facts import TargetFacts

LIKELIHOODS: dict[str, type[Likelihood]] = {
    "gaussian": GaussianLikelihood,
    "gaussian_heteroscedastic": HeteroscedasticGaussianLikelihood,
    "student_t": StudentTLikelihood,
    "bernoulli": BernoulliLikelihood,
    "categorical": CategoricalLikelihood,
    "poisson": PoissonLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
}


def likelihood_for(names: Sequence[str], facts: Sequence[TargetFacts]) -> Likelihood:
    """The likelihood of targets that each name theirs.

    Parameters
    ----------
    names : sequence of D str
        Keys of `LIKELIHOODS`, one per target.
    facts : sequence of D TargetFacts
        What the training data say of each target.

    Returns
    -------
    Likelihood
        That of the name where all are equal; else a `MixedLikelihood` with one part per name, in order of their first
        appearance.

    Raises
    ------
    ValueError
        For a name that is none, and for names and facts of different number.
    """
    if len(names) != len(facts) or not names:
        raise ValueError(
            f"each target needs a name and its facts; got {len(names)} names, {len(facts)} facts"
        )
    unknown = [name for name in names if name not in LIKELIHOODS]
    if unknown:
        hint = did_you_mean(unknown[0], LIKELIHOODS)
        raise ValueError(f"likelihoods are {', '.join(map(repr, LIKELIHOODS))}; got {unknown[0]!r}{hint}")
    groups = {name: [d for d, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    parts = [Part(LIKELIHOODS[name].for_targets([facts[d] for d in at]), at) for name, at in groups.items()]
    return parts[0].likelihood if len(parts) == 1 else MixedLikelihood(parts)
