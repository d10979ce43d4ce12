"""Different likelihoods for different targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from latentode.nn.likelihoods.likelihood import WHO_TAKES_ERRORS, Likelihood

Fact = TypeVar("Fact")


class Part(NamedTuple):
    """One likelihood of some of the targets.

    Parameters
    ----------
    likelihood : Likelihood
    targets : list of int
        The columns of `values` that are its own, in its order.
    """

    likelihood: Likelihood
    targets: list[int]


class MixedLikelihood(Likelihood):
    """Targets with different likelihoods, independent of one another given the state.

    Good for tables that hold measurements beside counts and categories. What it takes and answers has the targets in
    the table's order; decoder outputs and features lie part by part. It has no `scaled`: see `scaled_targets`.

    Errors of measurement are understood where one part understands them; they must be 0 for the observed cells of the
    others.

    Parameters
    ----------
    parts : sequence of Part
        Together they hold each of the targets 0 to D - 1 once.

    Raises
    ------
    ValueError
        When they do not.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        order = [target for part in parts for target in part.targets]
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"parts must hold each of the targets 0 to D - 1 once; got {order}")
        self.n_targets = len(order)
        self.accepts_errors = any(part.likelihood.accepts_errors for part in parts)
        self.likelihoods = nn.ModuleList(part.likelihood for part in parts)
        self.targets = [list(part.targets) for part in parts]
        self.positions = [
            order.index(target) for target in range(len(order))
        ]  # where a target lies, part by part

    @property
    def parts(self) -> list[Part]:
        """The likelihoods in the order of their decoder outputs, each with its targets."""
        return [
            Part(cast(Likelihood, likelihood), at) for likelihood, at in zip(self.likelihoods, self.targets)
        ]

    @property
    def n_out(self) -> int:
        return sum(self._sizes)

    @property
    def n_features(self) -> int:
        return sum(part.likelihood.n_features for part in self.parts)

    @property
    def scaled_targets(self) -> tuple[bool, ...]:
        return self._facts(lambda likelihood: likelihood.scaled_targets)

    @property
    def error_targets(self) -> tuple[bool, ...]:
        return self._facts(lambda likelihood: likelihood.error_targets)

    @property
    def n_classes(self) -> tuple[int, ...]:
        return self._facts(lambda likelihood: likelihood.n_classes)

    def param_mask(self, mask: Tensor) -> Tensor:
        return torch.cat([part.param_mask(mask[..., at]) for part, at in self.parts], dim=-1)

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the parts, beside one another in the order of `parts`."""
        pairs = [part.features(values[..., at], mask[..., at]) for part, at in self.parts]
        features, masks = zip(*pairs)
        return torch.cat(features, dim=-1), torch.cat(masks, dim=-1)

    def log_prob(self, params: Tensor, values: Tensor, mask: Tensor, errors: Tensor | None = None) -> Tensor:
        # A sum of the parts' own, which may be faster than a sum over cells.
        errors = self._observed_errors(mask, errors)
        total = params.new_zeros(params.shape[:2])
        for (part, at), own in zip(self.parts, self._split(params)):
            given = errors[..., at] if errors is not None and part.accepts_errors else None
            total = total + part.log_prob(own, values[..., at], mask[..., at], given)
        return total

    def mean(self, params: Tensor) -> Tensor:
        return self._each(params, lambda part, own: part.likelihood.mean(own))

    def std(self, params: Tensor) -> Tensor:
        return self._each(params, lambda part, own: part.likelihood.std(own))

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._each(params, lambda part, own: part.likelihood.sample(own, generator))

    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        return self._each(params, lambda part, own: part.likelihood.cdf(own, values[..., part.targets]))

    def probabilities(self, params: Tensor, target: int) -> Tensor:
        for (part, at), own in zip(self.parts, self._split(params)):
            if target in at and part.n_classes[at.index(target)]:
                return part.probabilities(own, at.index(target))
            if target in at:
                raise ValueError(f"target {target} has no classes: {type(part).__name__} describes numbers")
        raise ValueError(f"there is no target {target}: they are numbered 0 to {self.n_targets - 1}")

    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        def of_part(part: Part, own: Tensor) -> Tensor:
            given = None if errors is None else errors[..., part.targets]
            return part.likelihood._log_density(own, values[..., part.targets], given)

        return self._each(params, of_part)

    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        return self._each(params, lambda part, own: part.likelihood._quantiles(own, levels))

    @property
    def _sizes(self) -> list[int]:
        return [part.likelihood.n_out for part in self.parts]

    def _split(self, params: Tensor) -> tuple[Tensor, ...]:
        return params.split(self._sizes, dim=-1)

    def _each(self, params: Tensor, answer: Callable[[Part, Tensor], Tensor]) -> Tensor:
        return self._join([answer(part, own) for part, own in zip(self.parts, self._split(params))])

    def _join(self, found: list[Tensor]) -> Tensor:
        """Answers (..., D of the part) of all parts -> (..., D), in the order of the targets."""
        return torch.cat(found, dim=-1)[..., self.positions]

    def _facts(self, of: Callable[[Likelihood], tuple[Fact, ...]]) -> tuple[Fact, ...]:
        found = [fact for part in self.parts for fact in of(part.likelihood)]
        return tuple(found[position] for position in self.positions)

    def _observed_errors(self, mask: Tensor, errors: Tensor | None) -> Tensor | None:
        errors = super()._observed_errors(mask, errors)
        for part, at in self.parts:
            if errors is not None and not part.accepts_errors and bool((errors[..., at] != 0).any()):
                kind = type(part).__name__
                raise ValueError(
                    f"errors of targets {at} must be 0, for {kind} takes none: {WHO_TAKES_ERRORS}"
                )
        return errors
