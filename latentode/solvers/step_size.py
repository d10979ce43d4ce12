"""Step-size control: every series has its own step size and its own decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from latentode.solvers.method import Field, Method, StepResult


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
        self, method: Method, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        """First step sizes (N,) and the first state of the controller (N, ...).

        `slope` (N, D) is f(t, y), `span` (N,) the signed way to go.
        """

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
        self, method: Method, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.full_like(t, self.step_size), torch.empty_like(t)

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        """0 where the new state and its slope are finite, NaN elsewhere."""
        sound = torch.isfinite(step.y).all(dim=1) & torch.isfinite(step.carry).all(dim=1)
        return torch.where(sound, 0.0, torch.nan)

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        return StepDecision(torch.isfinite(error_ratio), torch.full_like(h, self.step_size), state)

    masked_next_step = next_step  # it asks nothing of the device


@dataclass(frozen=True)
class PIController:
    """Proportional-integral control of the local error; with other coefficients I or PID: see `CONTROLLERS`.

    h_next = h · safety · r_n^(-α) · r_{n-1}^β · r_{n-2}^(-γ) with r the error ratios of this and the last accepted
    steps; after a rejection only r_n counts, and h never grows.

    Parameters
    ----------
    rtol, atol : float
        Tolerance of a step: atol + rtol · max(|y(t)|, |y(t + h)|), elementwise; the ratio is a root mean square
        over the state.
    order : int
        k, the order of the error estimate plus one.
    beta : float
        Weight of the previous error; 0 gives the elementary (I) controller.
    safety, min_factor, max_factor : float
        Safety factor and bounds of h_next / h.
    initial_step : float or None
        First step size in the unit of time; None lets a heuristic find it.
    max_step : float
        Largest step size, in the unit of time.
    min_step : float
        Smallest step size, in the unit of time: a step of it is accepted whatever its error, as torchdiffeq does,
        unless the new state is not finite.
    alpha : float or None
        Weight of the error of this step; None: 1/k - 0.75 β.
    gamma : float
        Weight of the error before the previous one; 0: no derivative part.

    References
    ----------
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, II.4 (step control, first step);
    Gustafsson, Lundh, Söderlind (1988); Söderlind (2003), Digital filters in adaptive time-stepping.
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
    min_step: float = 0.0
    alpha: float | None = None
    gamma: float = 0.0
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
        if not 0 <= self.min_step <= self.max_step:
            raise ValueError(f"min_step must lie between 0 and max_step={self.max_step}; got {self.min_step}")

    @property
    def first_step_evaluations(self) -> int:
        return 1 if self.initial_step is None else 0

    def first_step(
        self, method: Method, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.initial_step is not None:
            h = torch.full_like(t, self.initial_step)
        else:
            h = self._starting_step(field, t, y, slope, span)
        past = (
            (t.shape[0], 2) if self.gamma else t.shape
        )  # ratios of the last accepted steps, the newest first
        return h.clamp(self.min_step, self.max_step), torch.ones(past, dtype=t.dtype, device=t.device)

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
        accept = self._accepts(h, error_ratio)
        if not bool(accept.all()):
            return self._decide(accept, h, error_ratio, state)
        ratio = self._bounded(error_ratio, h)
        factor = self._factor(ratio) * self._from_the_past(state)
        h = h * factor.clamp(self.min_factor, self.max_factor)
        return StepDecision(accept, self._within_bounds(h, error_ratio), _remember(ratio, state))

    def masked_next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        """As `next_step`, without waiting for the device to say whether all steps are accepted."""
        return self._decide(self._accepts(h, error_ratio), h, error_ratio, state)

    def _accepts(self, h: Tensor, error_ratio: Tensor) -> Tensor:
        accept = error_ratio <= 1  # False for NaN
        if self.min_step:  # a hundredth more, by which the loop may stretch a last step
            accept |= (h <= 1.01 * self.min_step) & torch.isfinite(error_ratio)
        return accept

    def _decide(self, accept: Tensor, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        ratio = self._bounded(error_ratio, h)
        factor = self._factor(ratio) * torch.where(accept, self._from_the_past(state), 1.0)
        largest = torch.ones_like(h).masked_fill_(accept, self.max_factor)
        factor = factor.nan_to_num(nan=self.min_factor).clamp(min=self.min_factor).clamp(max=largest)
        state = torch.where(accept.reshape(-1, *[1] * (state.ndim - 1)), _remember(ratio, state), state)
        return StepDecision(accept, self._within_bounds(h * factor, error_ratio), state)

    def _bounded(self, error_ratio: Tensor, h: Tensor) -> Tensor:
        return error_ratio.to(h.dtype).clamp(min=1e-10)

    def _factor(self, ratio: Tensor) -> Tensor:
        """The factor (N,) that the errors of this step ask for."""
        alpha = 1 / self.order - 0.75 * self.beta if self.alpha is None else self.alpha
        return self.safety * ratio**-alpha

    def _from_the_past(self, state: Tensor) -> Tensor:
        """The factor (N,) that the errors of the last accepted steps contribute."""
        if not self.gamma:
            return state**self.beta
        return state[:, 0] ** self.beta * state[:, 1] ** -self.gamma

    def _within_bounds(self, h: Tensor, error_ratio: Tensor) -> Tensor:
        """Where the last try was not finite, h may fall below the smallest step: no such step is ever accepted."""
        if self.max_step < float("inf"):
            h = h.clamp(max=self.max_step)
        return torch.where(torch.isfinite(error_ratio), h.clamp(min=self.min_step), h) if self.min_step else h


def _remember(ratio: Tensor, state: Tensor) -> Tensor:
    """The past ratios with a new one in front; a lucky one does not make the next step shrink for long."""
    ratio = ratio.clamp(min=1e-4)
    return ratio if state.ndim == 1 else torch.stack([ratio, state[:, 0]], dim=1)


def pid_controller(rtol: float, atol: float, order: int, **options: Any) -> PIController:
    """PID control with the coefficients of SUNDIALS' ARKODE: smooth sequences of steps for stiff-ish problems."""
    weights = {"alpha": 0.58 / order, "beta": 0.21 / order, "gamma": 0.1 / order}
    return PIController(rtol, atol, order, **weights, **options)


CONTROLLERS: dict[str, Callable[..., PIController]] = {
    "i": partial(PIController, beta=0.0),
    "pi": PIController,
    "pid": pid_controller,
}


def root_mean_square(x: Tensor) -> Tensor:
    """Root of the mean square over the state, (N, D) -> (N,)."""
    return torch.linalg.vector_norm(x, dim=1) / max(x.shape[1], 1) ** 0.5
