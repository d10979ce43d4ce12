"""Methods whose steps can be undone by algebra: the state before a step from the state after it, without solving.

Both carry an auxiliary state z beside y. Where the flow contracts, the distance of y and z grows as the reverse flow
does, which no error estimate of a step sees: contracted by e^5 over the span, a local error grows by e^5 (by less
with a smaller `coupling`). And undoing a step gives back what rounding has left: what the flow contracts on its way
forward, the way back stretches. So they suit fields that neither damp nor spread strongly over the span, and no
stiff ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentode.solvers.explicit_rk import ExplicitRK, weighted_sum
from latentode.solvers.method import Field, StepResult
from latentode.solvers.tableaus import Tableau


@dataclass(frozen=True)
class Reversible:
    """The construction of McCallum and Foster over any explicit Runge-Kutta method, of the same order.

    With Ψ_h(t, y) the increment of the method,

        y₁ = λ y₀ + (1 - λ) z₀ + Ψ_h(t, z₀)
        z₁ = z₀ - Ψ_{-h}(t + h, y₁)

    which two lines, read from below, give (y₀, z₀) back. A step costs about two of the method. Its error estimate and
    dense output are the method's, from z₀.

    Parameters
    ----------
    base : ExplicitRK
    coupling : float, default 0.999
        λ in (0, 1). The distance of y and z shrinks by λ per step, and grows by 1/λ per step on the way back: nearer
        to 1 for more steps (0.999 loses 4 of 16 digits over 10,000 steps), farther for damped fields.

    References
    ----------
    McCallum, Foster (2024), Efficient, Accurate and Stable Gradients for Neural ODEs, arXiv 2410.11648.
    """

    base: ExplicitRK
    coupling: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.coupling < 1:
            raise ValueError(f"coupling must lie between 0 and 1; got {self.coupling}")

    @property
    def order(self) -> int:
        return self.base.order

    @property
    def error_order(self) -> int | None:
        return self.base.error_order

    @property
    def evaluations_per_step(self) -> int:
        return 2 * self.base.tableau.stages - 1

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y) and z = y, side by side: (N, 2 D)."""
        return torch.cat([field(t, y), y], dim=1)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h); `carry` (N, 2 D) holds f(t, z) and z."""
        slope, z = carry.chunk(2, dim=1)
        step = self.base.step(field, t, z, h, slope)
        pull = (1 - self.coupling) * (z - y)
        y1 = y + pull + (step.y - z)
        z1 = z - increment(self.base.tableau, field, t + h, y1, -h)
        dense = torch.cat([(step.dense[0] + pull)[None], step.dense[1:]])
        return StepResult(y1, step.error, dense, torch.cat([field((t + h).to(z.dtype), z1), z1], dim=1))

    def step_back(
        self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """y and carry at t, from those at t + h."""
        z1 = carry.chunk(2, dim=1)[1]
        z = z1 + increment(self.base.tableau, field, t + h, y, -h)
        slope = field(t.to(z.dtype), z)
        rise = self.base.step(field, t, z, h, slope).y - z
        return (y - (1 - self.coupling) * z - rise) / self.coupling, torch.cat([slope, z], dim=1)


@dataclass(frozen=True)
class ReversibleHeun:
    """Reversible Heun: order 2, one evaluation per step, an error estimate of order 1.

    With f₀ = f(t, z₀),

        z₁ = 2 y₀ - z₀ + h f₀,   y₁ = y₀ + h/2 (f₀ + f(t + h, z₁))

    which is its own inverse with -h. For short or loosely solved problems: it is stable for undamped oscillations
    only.

    References
    ----------
    Kidger, Foster, Li, Lyons (2021), Efficient and Accurate Gradients for Neural SDEs, algorithms 1 and 2.
    """

    order = 2
    error_order = 1
    evaluations_per_step = 1

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """f(t, y) and z = y, side by side: (N, 2 D)."""
        return torch.cat([field(t, y), y], dim=1)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h); `carry` (N, 2 D) holds f(t, z) and z."""
        h_column = h.to(y.dtype)[:, None]
        slope, z = carry.chunk(2, dim=1)
        z1 = 2 * y - z + h_column * slope
        slope1 = field((t + h).to(y.dtype), z1)
        bend = 0.5 * h_column * (slope1 - slope)
        dense = torch.stack([h_column * slope, bend])  # order 2: slope at t, and both ends
        return StepResult(y + dense.sum(dim=0), bend, dense, torch.cat([slope1, z1], dim=1))

    def step_back(
        self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """y and carry at t, from those at t + h."""
        h_column = h.to(y.dtype)[:, None]
        slope1, z1 = carry.chunk(2, dim=1)
        z = 2 * y - z1 - h_column * slope1
        slope = field(t.to(y.dtype), z)
        return y - 0.5 * h_column * (slope + slope1), torch.cat([slope, z], dim=1)


def increment(tableau: Tableau, field: Field, t: Tensor, y: Tensor, h: Tensor) -> Tensor:
    """Ψ_h(t, y), (N, D)."""
    h_column = h.to(y.dtype)[:, None]
    stages = [field(t.to(y.dtype), y)]
    for node, weights in zip(tableau.c[1:-1], tableau.a[1:-1]):
        state = torch.addcmul(y, h_column, weighted_sum(weights, stages))
        stages.append(field((t + node * h).to(y.dtype), state))
    return h_column * weighted_sum(tableau.a[-1], stages)
