"""Stand-ins for fields, methods and controllers, whose counts can be checked by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from latentode.solvers.method import StepResult
from latentode.solvers.step_size import StepDecision


class CountingField:
    """A field that remembers how many rows it saw in each call."""

    def __init__(self, field) -> None:
        self.field = field
        self.rows: list[int] = []

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        self.rows.append(len(y))
        return self.field(t, y)


@dataclass(frozen=True)
class Ramp:
    """A method for dy/dt = 1 that evaluates the field once per step and reports y itself as the error."""

    evaluations_per_step: int = 1

    def start(self, field, t, y):
        return field(t, y)

    def step(self, field, t, y, h, carry) -> StepResult:
        slope = field(t + h, y)
        rise = h[:, None] * slope
        return StepResult(y + rise, y, rise[None], slope)


@dataclass
class Script:
    """A controller that accepts and sizes steps by a script, the same for every series."""

    accept: list[bool]
    h: list[float]
    adaptive: bool = True
    first_step_evaluations: int = 0
    seen: list[Tensor] = field(default_factory=list)  # step sizes that were tried, as (n,)

    def first_step(self, method, field, t, y, carry, direction):
        return torch.full_like(t, self.h[0]), torch.zeros_like(t)

    def error_ratio(self, y, step):
        return torch.zeros(len(y), dtype=torch.float64)

    def next_step(self, h, error_ratio, state) -> StepDecision:
        turn = len(self.seen)
        self.seen.append(h)
        following = self.h[min(turn + 1, len(self.h) - 1)]
        accepted = self.accept[min(turn, len(self.accept) - 1)]
        return StepDecision(torch.full(h.shape, accepted), torch.full_like(h, following), state)


class Swirl(nn.Module):
    """A smooth, nonlinear, time-dependent field on states of any shape, with two parameters."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.pull = nn.Parameter(torch.tensor(0.7, dtype=dtype))
        self.turn = nn.Parameter(torch.tensor([0.4, -0.3], dtype=dtype))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        t = t.reshape(len(t), *[1] * (y.ndim - 1))
        return torch.sin(self.turn[0] * t + y.roll(1, dims=-1)) - self.pull * y + self.turn[1] * y.tanh() ** 2
