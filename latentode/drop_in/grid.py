"""Fixed steps on a grid of times: differentiable with respect to the grid itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from latentode.drop_in.control import Callbacks
from latentode.drop_in.errors import ArgumentError
from latentode.solvers.method import Field, Method


class Knot(NamedTuple):
    """State y (1, D) and method's carry at a grid time t (1,)."""

    t: Tensor
    y: Tensor
    carry: Tensor


class GridStep(NamedTuple):
    """A step from one knot to the next; `slopes` (2, D) are those at its ends, seen from within."""

    start: Knot
    end: Knot
    slopes: Tensor

    def at(self, t: Tensor, interp: str) -> Tensor:
        """State (n, D) at times t (n,) within the step, on a line or on the cubic polynomial of Hermite."""
        h = self.end.t - self.start.t
        theta = ((t - self.start.t) / h).to(self.slopes.dtype)[:, None]
        rise = self.end.y - self.start.y
        between = self.start.y + theta * rise
        if interp == "cubic":
            first, last = self.slopes * h.to(self.slopes.dtype) - rise  # (D,) each: by how much the ends bend
            between = between + theta * (1 - theta) * ((1 - theta) * first - theta * last)
        # at a knot the state itself: its derivative is the step's, not the interpolant's
        return torch.where((t == self.end.t)[:, None], self.end.y, between)


class GridWalk:
    """Fixed steps of a method, one after the other.

    Parameters
    ----------
    recompute : bool
        Keep only the states of the knots, and compute each step once more in the backward pass.
    perturb : bool
        Whether the field is asked just inside of the steps, not at their ends, so that it may jump there.
    """

    def __init__(
        self, method: Method, field: Field, callbacks: Callbacks, *, recompute: bool, perturb: bool
    ) -> None:
        self.method, self.field, self.callbacks = method, field, callbacks
        self.recompute, self.perturb = recompute, perturb

    def begin(self, t: Tensor, y: Tensor, towards: Tensor) -> Knot:
        return Knot(t, y, self.method.start(self._inside(t, towards, y.dtype), t, y))

    def step(self, start: Knot, t: Tensor) -> GridStep:
        """From a knot to time t (1,)."""
        self.callbacks.step(start.t, start.y, t - start.t)
        if self.recompute and torch.is_grad_enabled():
            y, carry, slopes = checkpoint(self._numbers, *start, t, use_reentrant=False)
        else:
            y, carry, slopes = self._numbers(*start, t)
        return GridStep(start, Knot(t, y, carry), slopes)

    def _numbers(self, t0: Tensor, y: Tensor, carry: Tensor, t1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        field, size = self._inside(t0, t1, y.dtype), y.shape[1]
        if self.perturb:  # the last step's closing slope is of its own side
            carry = torch.cat([field(t0, y), carry[:, size:]], dim=1)
        step = self.method.step(field, t0, y, t1 - t0, carry)
        return step.y, step.carry, torch.cat([carry[:, :size], step.carry[:, :size]])

    def _inside(self, t0: Tensor, t1: Tensor, dtype: torch.dtype) -> Field:
        return inside(self.field, t0, t1, dtype) if self.perturb else self.field


def inside(field: Field, t0: Tensor, t1: Tensor, dtype: torch.dtype) -> Field:
    """The field, asked at times strictly between t0 and t1, as far as `dtype` can tell."""
    first, last = t0.detach().to(dtype), t1.detach().to(dtype)
    ends = torch.cat([torch.nextafter(first, last), torch.nextafter(last, first)])
    low, high = ends.min(), ends.max()

    def nudged(t: Tensor, y: Tensor) -> Tensor:
        t = t.to(dtype)
        return field(t + (t.clamp(low, high) - t).detach(), y)

    return nudged


def walk_grid(walk: GridWalk, y0: Tensor, grid: Tensor, t: Tensor, interp: str) -> Tensor:
    """State (T, D) at times t (T,), after fixed steps over the grid (K,) that spans them."""
    direction = -1 if len(grid) > 1 and bool(grid[0] > grid[-1]) else 1
    arrival = torch.searchsorted(grid.detach() * direction, t.detach() * direction)  # first knot not before t
    asked = t.split(torch.bincount(arrival, minlength=len(grid)).tolist())
    answers = [y0.expand(len(asked[0]), -1)]
    if len(grid) == 1:
        return answers[0]
    knot = walk.begin(grid[:1], y0, grid[1:2])
    for time, queries in zip(grid[1:].split(1), asked[1:]):
        step = walk.step(knot, time)
        if len(queries):
            answers.append(step.at(queries, interp))
        knot = step.end
    return torch.cat(answers)


def grid_of(options: dict[str, Any], func: Callable[..., Any], y0: Any, t: Tensor) -> Tensor:
    """Grid times (K,) from the options `step_size` or `grid_constructor`; default: t itself."""
    step_size, constructor = options.get("step_size"), options.get("grid_constructor")
    if step_size is not None and constructor is not None:
        raise ArgumentError("step_size and grid_constructor are mutually exclusive options: pass one of them")
    if step_size is not None:
        return _even_grid(t, float(step_size))
    if constructor is None:
        return t
    grid = constructor(func, y0, t)
    if not isinstance(grid, Tensor) or grid.ndim != 1 or bool(grid[0] != t[0]) or bool(grid[-1] != t[-1]):
        raise ArgumentError(
            "grid_constructor(func, y0, t) must return a 1-D tensor of times from t[0] to t[-1]: "
            "let its first and last entries be those of t"
        )
    return grid


def _even_grid(t: Tensor, step_size: float) -> Tensor:
    if not step_size > 0:
        raise ArgumentError(f"step_size must be positive; got {step_size}")
    way = t[-1] - t[0]
    n = math.ceil((way.abs() / step_size + 1).item())
    steps = torch.arange(n - 1, dtype=t.dtype, device=t.device) * step_size * way.sign().detach()
    return torch.cat([t[0] + steps, t[-1:]])
