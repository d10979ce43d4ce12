"""Step-size control for one clock over the whole state: elementary control of a norm, callbacks, smallest steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentode.drop_in.state import State, StateLayout
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.step_size import StepDecision

CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")


@dataclass
class Callbacks:
    """Functions of (t, y, dt) that the caller's field carries, called in the forward pass only.

    Gradients replay steps; `live` is True while the solution is computed. Rows may hold several `parts` side by side.
    """

    layout: StateLayout
    functions: dict[str, Callable[..., Any]]
    parts: int = 1
    live: bool = False
    last: tuple[Tensor, Tensor, Tensor] | None = None

    @staticmethod
    def of(func: Any, layout: StateLayout, suffix: str = "", parts: int = 1) -> Callbacks:
        found = {name: getattr(func, name + suffix, None) for name in CALLBACKS}
        functions = {name: function for name, function in found.items() if function is not None}
        return Callbacks(layout, functions, parts)

    def step(self, t: Tensor, y: Tensor, h: Tensor) -> None:
        """A step (t (1,), y (1, D), h (1,)) is about to be tried."""
        if self.live and self.functions:
            with torch.no_grad():
                self.last = (t[0].detach(), y[0].detach(), h[0].detach().abs())
            self.call("callback_step")

    def call(self, name: str) -> None:
        if name in self.functions and self.last is not None:
            t, y, dt = self.last
            states = [self.layout.unpack(part) for part in y.chunk(self.parts)]
            self.functions[name](t, states[0] if self.parts == 1 else tuple(states), dt)


@dataclass(frozen=True)
class Announced:
    """A method that announces its steps to the callbacks."""

    method: Method
    callbacks: Callbacks

    @property
    def order(self) -> int:
        return self.method.order

    @property
    def error_order(self) -> int | None:
        return self.method.error_order

    @property
    def evaluations_per_step(self) -> int:
        return self.method.evaluations_per_step

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        return self.method.start(field, t, y)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        self.callbacks.step(t, y, h)
        return self.method.step(field, t, y, h, carry)


@dataclass
class OneClock:
    """Elementary control: h_next = h · clamp(safety · r^(-1/order), dfactor, ifactor), r the norm of error/tolerance.

    The step never shrinks after it was accepted. A step of at most `min_step` is accepted whatever its error.
    `norm` takes as many states as lie side by side in a row: the state, or the state and its adjoint.

    References
    ----------
    Hairer, Nørsett, Wanner: Solving Ordinary Differential Equations I, II.4.
    """

    layout: StateLayout
    norm: Callable[..., Any]
    rtol: float | Tensor
    atol: float | Tensor
    order: int
    callbacks: Callbacks
    first_step_size: float | None = None
    min_step: float = 0.0
    max_step: float = float("inf")
    safety: float = 0.9
    ifactor: float = 10.0
    dfactor: float = 0.2
    parts: int = 1
    adaptive = True

    @property
    def first_step_evaluations(self) -> int:
        return 1 if self.first_step_size is None else 0

    def first_step(
        self, method: Method, field: Field, t: Tensor, y: Tensor, slope: Tensor, span: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first_step_size is not None:
            h = torch.full_like(t, float(self.first_step_size))
        else:
            h = self._starting_step(field, t, y, slope, span.sign())
        return self._within_bounds(h), torch.empty_like(t)

    def _starting_step(self, field: Field, t: Tensor, y: Tensor, slope: Tensor, direction: Tensor) -> Tensor:
        """A first guess from the size of the state, its slope, and the slope's change over a trial step."""
        tolerance = self._tolerance(y, y)
        size, speed = self._measure(y, tolerance).double(), self._measure(slope, tolerance).double()
        tiny = (size < 1e-5) | (speed < 1e-5)
        trial = torch.where(tiny, 1e-6, 0.01 * size / speed)
        ahead = direction * trial
        change = field(t + ahead, y + ahead.to(y.dtype)[:, None] * slope) - slope
        bend = torch.maximum(speed, self._measure(change, tolerance) / trial)
        calm = torch.maximum(torch.full_like(trial, 1e-6), 1e-3 * trial)
        wanted = torch.where(bend <= 1e-15, calm, (0.01 / bend) ** (1 / self.order))
        return torch.minimum(100 * trial, wanted).nan_to_num(nan=1e-6)

    def error_ratio(self, y: Tensor, step: StepResult) -> Tensor:
        if step.error is None:
            raise ValueError("the method has no error estimate")
        return self._measure(step.error, self._tolerance(y, step.y))

    def _elements(self, row: Tensor) -> Tensor:
        """The states that lie in a row side by side, (parts, M), in the caller's dtype."""
        return self.layout.elements(row.reshape(self.parts, row.shape[1] // self.parts))

    def _tolerance(self, y: Tensor, y_next: Tensor) -> Tensor:
        """One per element of the states, (parts, M)."""
        size = self._elements(y).abs()
        if y_next is not y:
            size = torch.maximum(size, self._elements(y_next).abs())
        tolerance = self.atol + self.rtol * size
        # smallest number instead of 0: an error of 0 at a tolerance of 0 is fine, not NaN
        return tolerance.clamp_(min=torch.finfo(tolerance.dtype).tiny)

    def _measure(self, row: Tensor, tolerance: Tensor) -> Tensor:
        """Norm (1,) of a row over the tolerances."""
        parts = (self._elements(row) / tolerance).split(1)
        return torch.as_tensor(self.norm(*map(self._state, parts)), device=row.device).abs().reshape(1)

    def _state(self, elements: Tensor) -> State:
        """Elements (1, M) as a state."""
        layout = self.layout
        return layout.state(elements) if layout.is_plain else layout.shaped(elements[0])

    def next_step(self, h: Tensor, error_ratio: Tensor, state: Tensor) -> StepDecision:
        """Decided in Python's numbers: for one series they cost less than tensors of one entry."""
        ratio = error_ratio.item()
        accept = ratio <= 1 or (self.min_step > 0 and h.item() <= self.min_step)
        following = self._within_bounds(h * self._factor(ratio))
        if self.callbacks.live and self.callbacks.functions:
            self.callbacks.call("callback_accept_step" if accept else "callback_reject_step")
        return StepDecision(torch.full_like(h, accept, dtype=torch.bool), following, state)

    def _factor(self, ratio: float) -> float:
        """h_next / h."""
        if not ratio > 0:  # no error at all, or NaN
            return self.ifactor if ratio == 0 else min(self.dfactor, self.ifactor)
        lowest = 1.0 if ratio < 1 else self.dfactor
        return min(max(self.safety * ratio ** (-1 / self.order), lowest), self.ifactor)

    def _within_bounds(self, h: Tensor) -> Tensor:
        if self.min_step > 0 or self.max_step < float("inf"):
            return h.clamp(self.min_step, self.max_step)
        return h
