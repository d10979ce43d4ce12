"""The caller's states, fields and events, seen as one row of numbers per series."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = Any  # Tensor (N, *state), or a tuple of such tensors


@dataclass(frozen=True)
class StateLayout:
    """Which columns of a flat state (N, D) belong to which part of the caller's.

    Parameters
    ----------
    shapes : sequence of torch.Size
        Of the parts, without the axis of the series.
    is_tuple : bool
        Whether the caller's state is a tuple; otherwise it has one part.
    """

    shapes: Sequence[torch.Size]
    is_tuple: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, y0: State) -> StateLayout:
        """The layout of an initial state.

        Raises
        ------
        TypeError, ValueError
            If it is neither a floating-point tensor with the series first, nor a tuple of such tensors of one length,
            dtype and device.
        """
        if isinstance(y0, Tensor):
            _check_part(y0, "y0")
            return cls([y0.shape[1:]], False, y0.dtype)
        is_tuple = isinstance(y0, tuple)
        parts = y0 if is_tuple else (y0,)
        if not parts:
            raise ValueError("y0 must have at least one part; got an empty tuple")
        for i, part in enumerate(parts):
            _check_part(part, f"y0[{i}]" if is_tuple else "y0")
        for i, part in enumerate(parts):
            for what, first, other in (
                ("length", len(parts[0]), len(part)),
                ("dtype", parts[0].dtype, part.dtype),
                ("device", parts[0].device, part.device),
            ):
                if first != other:
                    raise ValueError(
                        f"the parts of y0 must have one {what}; got {first} in y0[0] and {other} in y0[{i}]"
                    )
        return cls([part.shape[1:] for part in parts], is_tuple, parts[0].dtype)

    @property
    def is_flat(self) -> bool:
        """Whether the caller's state is (N, D) already."""
        return not self.is_tuple and len(self.shapes[0]) == 1

    def flatten(self, y: State) -> Tensor:
        """(N, D)."""
        if self.is_flat:
            return y
        if not self.is_tuple:
            return y.reshape(len(y), math.prod(y.shape[1:]))  # -1 would be ambiguous for N = 0
        return torch.cat([part.reshape(len(part), math.prod(part.shape[1:])) for part in y], dim=1)

    def shaped(self, flat: Tensor) -> State:
        """The caller's state from (..., D): parts (..., *state)."""
        if self.is_flat:
            return flat
        if not self.is_tuple:
            return flat.reshape(*flat.shape[:-1], *self.shapes[0])
        parts = flat.split([math.prod(shape) for shape in self.shapes], dim=-1)
        return tuple(part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, self.shapes))


def _check_part(y0: Any, name: str) -> None:
    if not isinstance(y0, Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor (N, *state){'' if '[' in name else ' or a tuple of such tensors'}; got "
            f"{type(y0).__name__}: use torch.as_tensor({name})"
        )
    if not y0.is_floating_point():
        raise ValueError(
            f"{name} must be floating point; got {y0.dtype}: use {name}.float() or {name}.double()"
        )
    if y0.ndim == 0:
        raise ValueError(
            f"{name} must have shape (N, *state) with the series first; got a scalar: use {name}.reshape(1, 1)"
        )


@dataclass(frozen=True)
class FlatField:
    """The caller's field on a flat state, with time in the dtype of the state."""

    field: Callable[[Tensor, State], State]
    layout: StateLayout

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        t = t.to(self.layout.dtype)
        if self.layout.is_flat:
            return self.field(t, y)
        return self.layout.flatten(self.field(t, self.layout.shaped(y)))

    @property
    def largest_step(self) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        """The caller's own limit of the steps, where the field has one."""
        own = getattr(self.field, "largest_step", None)
        return None if own is None else lambda t, y, direction: own(t, self.layout.shaped(y), direction)

    def check(self, t: Tensor, y: Tensor) -> Tensor:
        """The slope at (t, y), flat, if the field answers as it should.

        Raises
        ------
        ValueError
        """
        state = self.layout.shaped(y)
        slope = self.field(t.to(self.layout.dtype), state)
        if not self.layout.is_tuple:
            _check_slope(slope, state, "y")
            return self.layout.flatten(slope)
        if not isinstance(slope, (tuple, list)) or len(slope) != len(state):
            got = f"{len(slope)} of them" if isinstance(slope, (tuple, list)) else type(slope).__name__
            raise ValueError(
                f"field(t, y) must return dy/dt like y, a tuple of {len(state)} tensors; it returned {got}"
            )
        for i, (slope_part, part) in enumerate(zip(slope, state)):
            _check_slope(slope_part, part, f"y[{i}]")
        return self.layout.flatten(slope)


def _check_slope(slope: Any, y: Tensor, name: str) -> None:
    if not isinstance(slope, Tensor) or slope.shape != y.shape or slope.dtype != y.dtype:
        got = f"{tuple(slope.shape)} {slope.dtype}" if isinstance(slope, Tensor) else type(slope).__name__
        raise ValueError(
            f"field(t, y) must return dy/dt like y; for {name} of shape {tuple(y.shape)} {y.dtype} it returned {got}"
        )
    if slope.device != y.device:
        raise ValueError(f"y0 is on {y.device} but the field answers on {slope.device}: move one of them")


@dataclass(frozen=True)
class FlatEvent:
    """The caller's event function on a flat state, with time in the dtype of the state."""

    event: Callable[[Tensor, State], Tensor]
    layout: StateLayout

    def __call__(self, t: Tensor, y: Tensor) -> Tensor:
        value = self.event(t.to(self.layout.dtype), self.layout.shaped(y))
        if not isinstance(value, Tensor) or value.shape != t.shape or not value.is_floating_point():
            got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"event(t, y) must return one floating-point number per series, {tuple(t.shape)}; it returned {got}"
            )
        return value
