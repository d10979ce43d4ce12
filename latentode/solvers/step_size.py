"""Step-size control: every series has its own step size and its own decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from latentode.solvers.explicit_rk import ExplicitRK, Field, StepResult


class StepDecision(NamedTuple):
    """accept (N,) bool, h (N,) next step size (positive), state (N, ...) of the controller."""

    accept: Tensor
    h: Tensor
    state: Tensor


class Controller(Protocol):
    """Chooses step sizes; all of them positive, the integration knows the direction of time."""

    @property
    def adaptive(self) -> bool: ...

    @property
    def first_step_evaluations(self) -> int: ...

    def first_step(
        self, method: ExplicitRK, field: Field, t: Tensor, y: Tensor, carry: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        """First step sizes (N,) and the first state of the controller (N, ...); `span` is the signed way to go."""

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        """Estimated error of the step from y over tolerance (N,): at most 1 is acceptable."""

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision: ...


@dataclass(frozen=True)
class FixedStep:
    """Steps of one size, all accepted; the last one is cut at the last query time.

    Parameters
    ----------
    step_size : float
        Positive, in the unit of time.
    """

    step_size: float
    adaptive = False
    first_step_evaluations = 0

    def __post_init__(self) -> None:
        if not self.step_size > 0:
            raise ValueError(f"step_size must be positive; got {self.step_size}")

    def first_step(
        self, method: ExplicitRK, field: Field, t: Tensor, y: Tensor, carry: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, self.step_size), torch.empty_like(t)

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        """0 where the new state and its slope are finite, NaN elsewhere."""
        sound = torch.isfinite(step.y).all(dim=1) & torch.isfinite(step.carry).all(dim=1)
        return torch.where(sound, 0.0, torch.nan)

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        return StepDecision(torch.isfinite(error_ratio), torch.full_like(h, self.step_size), state)


@dataclass(frozen=True)
class PIController:
    """Proportional-integral control of the local error.

    h_next = h · safety · r_n^(-α) · r_{n-1}^β with r the error ratio, α = 1/k - 0.75 β, k the order of the error
    estimate plus one; after a rejection h never grows.

    Parameters
    ----------
    rtol, atol : float
        Tolerance of a step: atol + rtol · max(|y(t)|, |y(t + h)|), elementwise; the ratio is a root mean square
        over the state.
    order : int
        k above.
    beta : float
        Weight of the previous error; 0 gives the elementary (I) controller.
    safety, min_factor, max_factor : float
        Safety factor and bounds of h_next / h.
    initial_step : float or None
        First step size in the unit of time; None lets a heuristic find it.
    max_step : float
        Largest step size, in the unit of time.

    References
    ----------
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, II.4 (step control, first step);
    Gustafsson, Lundh, Söderlind (1988).
    """

    rtol: float
    atol: float
    order: int
    beta: float = 0.04
    safety: float = 0.9
    min_factor: float = 0.2
    max_factor: float = 10.0
    initial_step: float | None = None
    max_step: float = float("inf")
    adaptive = True

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be non-negative; got {getattr(self, name)}")
        if self.rtol + self.atol == 0:
            raise ValueError("rtol and atol are both 0: one of them must be positive")
        for name in ("initial_step", "max_step"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value}")

    @property
    def first_step_evaluations(self) -> int:
        return 1 if self.initial_step is None else 0

    def first_step(
        self, method: ExplicitRK, field: Field, t: Tensor, y: Tensor, carry: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.initial_step is not None:
            h = torch.full_like(t, self.initial_step)
        else:
            h = self._starting_step(field, t, y, carry, span)
        return h.clamp(max=self.max_step), torch.ones_like(t)

    def _starting_step(self, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor) -> Tensor:
        """A step in which neither slope nor bend makes much of a difference, after Hairer et al., II.4.

        Theirs depends on the unit of time. Here time is measured in `unit`, in which the solution moves by its own
        size (or by a hundred tolerances), at most the whole way. An error of one tolerance instead of their
        hundredth is aimed at: the error constants of the methods are small, and too long a step is repeated.
        """
        scale = (self.atol + self.rtol * y.abs()).clamp(min=torch.finfo(y.dtype).tiny)
        size, speed = root_mean_square(y / scale), root_mean_square(slope / scale)
        unit = torch.minimum(size.clamp(min=100.0) / speed, span.abs())  # (N,), float64 as time is
        trial = 0.01 * unit * span.sign()
        y_trial = y + trial.to(y.dtype)[:, None] * slope
        bend = root_mean_square((field(t + trial, y_trial) - slope) / scale) / 0.01
        fastest = unit * torch.maximum(speed, bend)
        fraction = torch.where(fastest <= 1e-15, 0.01, fastest ** (-1 / self.order))
        return (unit * fraction.clamp(max=1.0)).nan_to_num(nan=1e-6)

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        if step.error is None:
            raise ValueError("the method has no error estimate: use FixedStep, or an adaptive method")
        scale = torch.maximum(y.abs(), step.y.abs()).mul_(self.rtol).add_(self.atol)
        if self.atol == 0:
            scale.clamp_(min=torch.finfo(y.dtype).tiny)
        return root_mean_square(step.error / scale)

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        accept = error_ratio <= 1  # False for NaN
        alpha = 1 / self.order - 0.75 * self.beta
        ratio = error_ratio.to(h.dtype).clamp(min=1e-10)
        factor = self.safety * ratio**-alpha
        if bool(accept.all()):
            largest: float | Tensor = self.max_factor
            factor, state = factor * state**self.beta, ratio.clamp(min=1e-4)
        else:
            factor = (factor * torch.where(accept, state**self.beta, 1.0)).nan_to_num(nan=self.min_factor)
            largest = torch.where(accept, self.max_factor, 1.0)
            state = torch.where(accept, ratio.clamp(min=1e-4), state)
        factor = factor.clamp(min=self.min_factor).clamp(max=largest)
        return StepDecision(accept, (h * factor).clamp(max=self.max_step), state)


def root_mean_square(x: Tensor) -> Tensor:
    """Root of the mean square over the state, (N, D) -> (N,)."""
    return torch.linalg.vector_norm(x, dim=1) / max(x.shape[1], 1) ** 0.5
