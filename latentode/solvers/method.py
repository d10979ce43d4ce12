"""What a method is: it starts, takes steps, and knows nothing of their acceptance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Field = Callable[[Tensor, Tensor], Tensor]


def inside_torch_func() -> bool:
    """Whether a transform of torch.func is at work, which bears neither `requires_grad_` nor functions of our own."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_batched(x: Tensor) -> bool:
    """Whether a tensor stands for many, as cotangents do in `torch.autograd.grad(..., is_grads_batched=True)`."""
    kinds = torch._C._functorch
    return inside_torch_func() or kinds.is_batchedtensor(x) or kinds.is_legacy_batchedtensor(x)


class StepResult(NamedTuple):
    """What a step of N series with a flat state of size D yields.

    y : Tensor (N, D)
        Solution at t + h; NaN where the equations of an implicit method could not be solved.
    error : Tensor (N, D) or None
        Estimate of the local error; None where the method has none.
    dense : Tensor (degree, N, D)
        Coefficients of θ¹..θ^degree in y(t + θh) - y(t).
    carry : Tensor (N, C)
        What the next step can use again, first of all a slope: f(t + h, y(t + h)) in the first D columns.
    evaluations : Tensor (N,) int64 or None
        Evaluations of the field in this step, beyond the method's `evaluations_per_step`; None where there are none.
    converged : Tensor (N,) bool or None
        False where Newton's iteration failed though the field is finite; None where nothing is iterated.
    """

    y: Tensor
    error: Tensor | None
    dense: Tensor
    carry: Tensor
    evaluations: Tensor | None = None
    converged: Tensor | None = None


class Method(Protocol):
    """A way to step from y(t) to y(t + h), for N series that each have their own t and h."""

    @property
    def order(self) -> int:
        """Order of the solution."""

    @property
    def error_order(self) -> int | None:
        """Order of the embedded solution that the error is estimated with; None without one."""

    @property
    def evaluations_per_step(self) -> int:
        """Evaluations of the field in every step; what varies is in `StepResult.evaluations`."""

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """The carry (N, C) of the first step, by one evaluation of the field; it begins with f(t, y), (N, D)."""

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) (N, D) to y(t + h); t and h are (N,), `field` takes t (N,) and y (N, D)."""
