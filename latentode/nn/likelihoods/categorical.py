"""One of several categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from latentode.nn.likelihoods.likelihood import Likelihood
from latentode.nn.likelihoods.target_facts import TargetFacts


class CategoricalLikelihood(Likelihood):
    """Values are the codes 0 to C - 1; the decoder gives one logit per category.

    Good for a few categories without an order. `mean`, `std`, `cdf` and `quantile` speak of the code as a number, so
    that they mean something only where the order of the codes does: the most probable category is where
    `probabilities` are highest.

    Parameters
    ----------
    n_targets : int
        D, the columns of `values`.
    n_categories : sequence of D ints, optional
        C of each target, at least 1; default 2. `params` holds the logits of the first target, then of the second.
    """

    scaled = False

    def __init__(self, n_targets: int, n_categories: Sequence[int] | None = None) -> None:
        super().__init__()
        self.n_targets = n_targets
        self.n_categories = (2,) * n_targets if n_categories is None else tuple(n_categories)
        if min(self.n_categories, default=1) < 1:
            raise ValueError(f"a categorical target needs at least 1 category; got {min(self.n_categories)}")

    @classmethod
    def for_targets(cls, facts: Sequence[TargetFacts]) -> Self:
        return cls(len(facts), [fact.n_categories for fact in facts])

    @property
    def n_out(self) -> int:
        return sum(self.n_categories)

    @property
    def n_features(self) -> int:
        return sum(self.n_categories)

    @property
    def n_classes(self) -> tuple[int, ...]:
        return self.n_categories

    def param_mask(self, mask: Tensor) -> Tensor:
        return torch.cat([mask[..., [d]].expand(-1, -1, c) for d, c in enumerate(self.n_categories)], dim=-1)

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """One column per category of every target: 1 for the one observed, 0 for the others."""
        columns = [
            values[..., [d]] == torch.arange(c, device=values.device) for d, c in enumerate(self.n_categories)
        ]
        mask = self.param_mask(mask)
        return (torch.cat(columns, dim=-1) & mask).to(values.dtype), mask

    def mean(self, params: Tensor) -> Tensor:
        """Mean of the code under each sample, (K, N, T, D)."""
        return torch.stack([(p * _codes(p)).sum(-1) for p in self._shares(params)], dim=-1)

    def std(self, params: Tensor) -> Tensor:
        """Standard deviation of the code under each sample, (K, N, T, D)."""
        means = self.mean(params).unbind(-1)
        parts = [
            (p * (_codes(p) - mean[..., None]).square()).sum(-1).sqrt()
            for p, mean in zip(self._shares(params), means)
        ]
        return torch.stack(parts, dim=-1)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # The first of C exponential clocks to ring, at rates proportional to the probabilities.
        log_times = torch.empty_like(params).exponential_(generator=generator).log()
        parts = (params - log_times).split(self.n_categories, dim=-1)
        return torch.stack([part.argmax(-1) for part in parts], dim=-1).to(params.dtype)

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        parts = [
            (p.mean(0) * (_codes(p) <= values[..., [d]])).sum(-1) for d, p in enumerate(self._shares(params))
        ]
        return torch.stack(parts, dim=-1)

    def probabilities(self, params: Tensor, target: int) -> Tensor:
        return self._shares(params)[target].mean(0)

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        codes = values.long().expand(len(params), *values.shape)
        parts = [
            logits.log_softmax(-1).gather(-1, codes[..., [d]])
            for d, logits in enumerate(params.split(self.n_categories, dim=-1))
        ]
        return torch.cat(parts, dim=-1)

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        below = [p.mean(0).cumsum(-1)[..., :-1] for p in self._shares(params.double())]  # the last is 1
        parts = [torch.stack([(b < level).sum(-1) for b in below], dim=-1) for level in levels]
        return torch.stack(parts).to(params.dtype)

    def _shares(self, params: Tensor) -> list[Tensor]:
        """Probabilities of the categories of each target under each sample, D times (K, N, T, C)."""
        return [logits.softmax(-1) for logits in params.split(self.n_categories, dim=-1)]


def _codes(probabilities: Tensor) -> Tensor:
    return torch.arange(probabilities.shape[-1], device=probabilities.device)
