"""What every likelihood of observations answers, whatever its distribution."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from latentode.nn.likelihoods.target_facts import TargetFacts

WHO_TAKES_ERRORS = "only the gaussian likelihoods add them to their noise"


class Likelihood(nn.Module, ABC):
    """Distribution of the observations, given what the decoder says at their times.

    Letters in shapes: K posterior samples, N series, T times, D targets of this likelihood. Gradients are promised of
    `log_prob` and `log_predictive`; `cdf` and `quantile` may have none. In `sample`, `params` may lie on the CPU,
    where generators draw, while the module is elsewhere.

    A subclass sets `scaled` and `n_targets`, and gives `_log_density`, `mean`, `std`, `sample`, `cdf` and
    `_quantiles`. Of what remains it overrides what differs: most have one decoder output per target, read their
    values as they are, take no measurement errors and have no classes.

    Attributes
    ----------
    n_targets : int
        D.
    n_params : int
        Decoder outputs per target, where all targets have the same number; `params` then holds the first output of
        every target, the second of every target, and so on.
    scaled : bool
        True where targets are standardised, False where they keep their own units (codes, counts).
    accepts_errors : bool
        Whether `errors` are understood.
    """

    n_targets: int
    n_params: int = 1
    scaled: bool
    accepts_errors: bool = False

    @classmethod
    def for_targets(cls, facts: Sequence[TargetFacts]) -> Self:
        """A new likelihood of the targets with these facts, in their order."""
        return cls(len(facts))

    @property
    def n_out(self) -> int:
        """Decoder outputs per time."""
        return self.n_params * self.n_targets

    @property
    def n_features(self) -> int:
        """F, the columns of `features`."""
        return self.n_targets

    @property
    def scaled_targets(self) -> tuple[bool, ...]:
        """Of each target, whether it is standardised."""
        return (self.scaled,) * self.n_targets

    @property
    def error_targets(self) -> tuple[bool, ...]:
        """Of each target, whether errors of its measurement are understood."""
        return (self.accepts_errors,) * self.n_targets

    @property
    def n_classes(self) -> tuple[int, ...]:
        """Of each target, how many classes `probabilities` tells apart; 0 for numbers."""
        return (0,) * self.n_targets

    def param_mask(self, mask: Tensor) -> Tensor:
        """Which decoder outputs belong to observed cells, (N, T, D) -> (N, T, n_out)."""
        return mask if self.n_params == 1 else mask.repeat(1, 1, self.n_params)

    def features(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What an encoder should read of the values, and where; 0 in unobserved cells.

        Parameters
        ----------
        values, mask : Tensor (N, T, D)

        Returns
        -------
        (Tensor (N, T, F), Tensor (N, T, F) of bool)
        """
        return torch.where(mask, values, 0.0), mask

    def log_prob(self, params: Tensor, values: Tensor, mask: Tensor, errors: Tensor | None = None) -> Tensor:
        """Log likelihood of each series under each sample, summed over its observed cells.

        Parameters
        ----------
        params : Tensor (K, N, T, n_out)
        values : Tensor (N, T, D)
            What stands in unobserved cells, even NaN, reaches neither result nor gradient.
        mask : Tensor (N, T, D), bool
            True where a value was observed.
        errors : Tensor (N, T, D), optional
            Standard deviations of the errors of measurement, in the scale of `values`, at least 0; their variance adds
            to that of the learned noise. Unobserved cells count as little as in `values`.

        Returns
        -------
        Tensor (K, N)

        Raises
        ------
        ValueError
            For errors where the likelihood does not understand them.
        """
        return self._observed_log_density(params, values, mask, errors).sum((-2, -1))

    def log_predictive(
        self, params: Tensor, values: Tensor, mask: Tensor, errors: Tensor | None = None
    ) -> Tensor:
        """Log density of each observed cell under the mixture over samples, 0 where unobserved: (N, T, D)."""
        log_density = self._observed_log_density(params, values, mask, errors)
        return torch.where(mask, log_density.logsumexp(0) - math.log(len(params)), 0.0)

    @abstractmethod
    def mean(self, params: Tensor) -> Tensor:
        """Mean of an observation under each sample, (K, N, T, D)."""

    @abstractmethod
    def std(self, params: Tensor) -> Tensor:
        """Standard deviation of an observation under each sample, (K, N, T, D)."""

    @abstractmethod
    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One noisy observation per sample, series, time and target, (K, N, T, D)."""

    @abstractmethod
    def cdf(self, params: Tensor, values: Tensor) -> Tensor:
        """P(X <= x) of the mixture over samples at `values` (N, T, D): (N, T, D)."""

    @torch.no_grad()
    def quantile(self, params: Tensor, q: Tensor) -> Tensor:
        """Quantiles of the mixture over samples, not differentiable.

        Exact up to rounding for continuous targets; the smallest value x with P(X <= x) >= q for discrete ones.

        Parameters
        ----------
        params : Tensor (K, N, T, n_out)
        q : Tensor (Q,)
            Levels between 0 and 1.

        Returns
        -------
        Tensor (Q, N, T, D)

        Raises
        ------
        ValueError
            For a level outside (0, 1).
        """
        levels = torch.as_tensor(q, dtype=torch.float64).flatten().tolist()
        wrong = [level for level in levels if not 0 < level < 1]
        if wrong:
            raise ValueError(f"quantile levels must lie strictly between 0 and 1; got {wrong[0]}")
        return self._quantiles(params, levels)

    def probabilities(self, params: Tensor, target: int) -> Tensor:
        """Probabilities of the classes of one target under the mixture over samples.

        Parameters
        ----------
        params : Tensor (K, N, T, n_out)
        target : int
            Position among the D targets; `n_classes` tells which have classes.

        Returns
        -------
        Tensor (N, T, C), in the order of the codes

        Raises
        ------
        ValueError
            For a target that has no classes.
        """
        raise ValueError(f"target {target} has no classes: {type(self).__name__} describes numbers")

    @abstractmethod
    def _log_density(self, params: Tensor, values: Tensor, errors: Tensor | None) -> Tensor:
        """Log density of each cell, (K, N, T, D); all numbers are finite, those of unobserved cells are 0."""

    @abstractmethod
    def _quantiles(self, params: Tensor, levels: list[float]) -> Tensor:
        """Quantiles (Q, N, T, D) at checked levels."""

    def _observed_log_density(
        self, params: Tensor, values: Tensor, mask: Tensor, errors: Tensor | None
    ) -> Tensor:
        # Zeros go in and come out: 0 * NaN would let an unobserved cell into the gradient.
        params = torch.where(self.param_mask(mask), params, 0.0)
        values, errors = torch.where(mask, values, 0.0), self._observed_errors(mask, errors)
        log_density = self._log_density(params, values, errors)
        return torch.where(mask, log_density, 0.0)

    def _observed_errors(self, mask: Tensor, errors: Tensor | None) -> Tensor | None:
        """Errors of observed cells, 0 in others; refused where not understood."""
        if errors is None:
            return None
        if not self.accepts_errors:
            raise ValueError(f"{type(self).__name__} takes no errors of measurement: {WHO_TAKES_ERRORS}")
        return torch.where(mask, errors, 0.0)
