"""What drives the dynamics of a series beside its state: static covariates, and controls known at all times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentode.series.controls import ControlPaths


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs of N series.

    Parameters
    ----------
    static : Tensor (N, S)
        Scaled covariates; S may be 0.
    paths : ControlPaths or None
        Scaled controls, in model time; None for no controls.
    origin : Tensor (N,), float64
        Model time at which the clock of each series shows 0.
    """

    static: Tensor
    paths: ControlPaths | None
    origin: Tensor

    def __len__(self) -> int:
        return len(self.static)

    @property
    def n_controls(self) -> int:
        """C."""
        return 0 if self.paths is None else self.paths.n_controls

    @property
    def n_inputs(self) -> int:
        """Width of `at`: S + C."""
        return self.static.shape[1] + self.n_controls

    def at(self, series: Tensor, t: Tensor) -> Tensor:
        """Covariates, then controls, (n, S + C), of the series at these positions (n,), at one time t (n,) of each."""
        static = self.static[series]
        if self.paths is None:
            return static
        controls = self.paths.at(series, t.double() + self.origin[series])
        return torch.cat([static, controls.to(static.dtype)], dim=-1)

    def to_next_turn(self, series: Tensor, t: Tensor, direction: Tensor) -> Tensor:
        """Time (n,) from t (n,) to the end of a solver's step; as `ControlPaths.to_next_turn`, with controls only."""
        assert self.paths is not None
        return self.paths.to_next_turn(series, t.double() + self.origin[series], direction)

    def controls_between(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Knots (N, M) on the series' own clocks, and controls (N, M, C), from `begin` (N,) to `end` (N,).

        As `ControlPaths.between`; only where there are controls.
        """
        assert self.paths is not None
        knots, values = self.paths.between(begin + self.origin, end + self.origin)
        return knots - self.origin[:, None], values
