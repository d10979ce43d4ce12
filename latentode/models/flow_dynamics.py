"""What a continuous flow integrates: points with the log determinant of their map, and the energies on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentode.nn.divergence import Divergence, exact_divergence, hutchinson_divergence
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.step_size import StepDecision

HIDDEN = 2.0**100  # a power of two: positions up to 16 million stay exact in float32


@dataclass(frozen=True, eq=False)
class FlowDynamics:
    """d(z, log det, kinetic energy, Jacobian norm, position)/dt, on states (n, D + 1), (n, D + 3) or one wider.

    The position of a row never changes; from it the probes of the row are found, whichever rows are still being solved.
    It is written so small that no choice of a step can depend on it.

    Parameters
    ----------
    field : nn.Module
        f(t (n,), z (n, D)) -> (n, D).
    n_dims : int
        D.
    probes : Tensor (K, N, D), optional
        Of Hutchinson's estimator, for every row; None for the exact trace.
    kinetic, jacobian : bool
        Whether ∫|f|² dt and ∫|∂f/∂z|² dt are integrated too.
    """

    field: nn.Module
    n_dims: int
    probes: Tensor | None
    kinetic: bool
    jacobian: bool

    def __call__(self, t: Tensor, state: Tensor) -> Tensor:
        found = self._divergence(t, state)
        parts = [found.slope, found.trace[:, None]]
        if self.kinetic:
            parts.append(found.slope.square().sum(1, keepdim=True))
        if found.squared_norm is not None:
            parts.append(found.squared_norm[:, None])
        if self.probes is not None:
            parts.append(torch.zeros_like(state[:, :1]))
        return torch.cat(parts, dim=1)

    def _divergence(self, t: Tensor, state: Tensor) -> Divergence:
        z = state[:, : self.n_dims]
        if self.probes is None:
            return exact_divergence(self.field, t, z, norm=self.jacobian)
        position = (state[:, -1].detach() * HIDDEN).round().long()  # of a state that blew up it is any number
        probes = self.probes.index_select(1, position.clamp(0, self.probes.shape[1] - 1))
        return hutchinson_divergence(self.field, t, z, probes, norm=self.jacobian)

    @property
    def n_watched(self) -> int:
        """Columns of the state whose errors choose the steps: the points and the log determinant."""
        return self.n_dims + 1

    def first_state(self, points: Tensor) -> Tensor:
        """The state at points (N, D) where nothing has been integrated yet."""
        parts = [points, points.new_zeros(len(points), 1 + self.kinetic + self.jacobian)]
        if self.probes is not None:
            position = torch.arange(len(points), dtype=points.dtype, device=points.device)
            parts.append(position[:, None] / HIDDEN)
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class WatchedColumns:
    """A controller that looks at the errors of the first `n` columns of the state only.

    What is integrated for a penalty need not be exact, so it must not cost steps.
    """

    controller: Any
    n: int

    @property
    def adaptive(self) -> bool:
        return self.controller.adaptive

    @property
    def first_step_evaluations(self) -> int:
        return self.controller.first_step_evaluations

    def first_step(
        self, method: Method, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        rest = y[:, self.n :]  # where it stands has no say in how the watched columns change

        def watched(t: Tensor, seen: Tensor) -> Tensor:
            return field(t, torch.cat([seen, rest], dim=1))[:, : self.n]

        return self.controller.first_step(method, watched, t, y[:, : self.n], slope[:, : self.n], span)

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        assert step.error is not None
        seen = step._replace(y=step.y[:, : self.n], error=step.error[:, : self.n])
        return self.controller.error_ratio(y[:, : self.n], seen)

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        return self.controller.next_step(h, error_ratio, state)
