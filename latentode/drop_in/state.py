"""States of any shape, tuples of them, and complex ones, as one real row (1, D): one clock for the whole state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentode.drop_in.errors import ArgumentError

State = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class StateLayout:
    """How the caller's state lies in the row.

    shapes : of the parts; one part where the state is a tensor
    is_tuple : bool
    dtype : of the caller's state, maybe complex
    """

    shapes: tuple[torch.Size, ...]
    is_tuple: bool
    dtype: torch.dtype

    @staticmethod
    def of(y0: Any) -> StateLayout:
        """The layout of a state.

        Raises
        ------
        ArgumentError, TypeError
            If it is no tensor or tuple of tensors, or neither floating point nor complex.
        """
        is_tuple = isinstance(y0, tuple)
        parts = y0 if is_tuple else (y0,)
        if not parts or not all(isinstance(part, Tensor) for part in parts):
            raise ArgumentError(
                f"y0 must be a torch.Tensor or a tuple of tensors; got {type(y0).__name__}: "
                "use torch.as_tensor(y0) or tuple(y0)"
            )
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        if not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(
                f"y0 must be floating point or complex; got {dtype}: use y0.float() or y0.double()"
            )
        return StateLayout(tuple(part.shape for part in parts), is_tuple, dtype)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the state is one real tensor: then it is the row in another shape."""
        return not (self.is_tuple or self.dtype.is_complex)

    @cached_property
    def real_dtype(self) -> torch.dtype:
        """Dtype of the row, and of the time that the caller's functions see."""
        return self.dtype.to_real() if self.dtype.is_complex else self.dtype

    @cached_property
    def sizes(self) -> list[int]:
        return [shape.numel() for shape in self.shapes]

    def parts(self, y: Any, name: str) -> Sequence[Tensor]:
        """The parts of a state, each in its shape and in the state's dtype.

        Raises
        ------
        ArgumentError
            If it is not like y0; `name` says in the message whose answer it is.
        """
        given = tuple(y) if self.is_tuple and isinstance(y, (tuple, list)) else (y,)
        if len(given) != len(self.shapes) or not all(isinstance(part, Tensor) for part in given):
            raise ArgumentError(f"{name} must be {self}; got {_describe(y)}")
        return [self._part(part, shape, name) for part, shape in zip(given, self.shapes)]

    def _part(self, part: Tensor, shape: torch.Size, name: str) -> Tensor:
        try:
            expanded = part if part.shape == shape else part.expand(shape)
        except RuntimeError:
            raise ArgumentError(f"{name} must be {self}; got a part of shape {tuple(part.shape)}") from None
        if part.dtype.is_complex and not self.dtype.is_complex:
            raise ArgumentError(f"{name} must be {self}; got {part.dtype}: start from a complex y0")
        return expanded.to(self.dtype)

    def pack(self, y: Any, name: str = "the state") -> Tensor:
        """A state like y0 as a real row (1, D)."""
        if self.is_plain and isinstance(y, Tensor) and y.dtype == self.dtype and y.shape == self.shapes[0]:
            return y.reshape(1, self.sizes[0])
        flat = [part.reshape(-1) for part in self.parts(y, name)]
        whole = flat[0] if len(flat) == 1 else torch.cat(flat)
        return (torch.view_as_real(whole).reshape(-1) if self.dtype.is_complex else whole)[None]

    def state(self, row: Tensor) -> State:
        """A row (1, D) as a state like y0."""
        return row.reshape(self.shapes[0]) if self.is_plain else self.unpack(row[0])

    def elements(self, rows: Tensor) -> Tensor:
        """Rows (..., D) as vectors (..., M) in the state's own dtype."""
        if not self.dtype.is_complex:
            return rows
        return torch.view_as_complex(rows.reshape(*rows.shape[:-1], -1, 2).contiguous())

    def shaped(self, elements: Tensor) -> State:
        """Vectors (..., M) as states with the same axes in front."""
        lead = elements.shape[:-1]
        split = elements.split(self.sizes, dim=-1) if self.is_tuple else (elements,)
        parts = tuple(part.reshape((*lead, *shape)) for part, shape in zip(split, self.shapes))
        return parts if self.is_tuple else parts[0]

    def unpack(self, rows: Tensor) -> State:
        """Rows (..., D) as states with the same axes in front."""
        return self.shaped(self.elements(rows))

    def tolerance(self, name: str, value: Any, device: torch.device) -> float | Tensor:
        """A tolerance as a number, or as a vector with one entry per element of the state.

        A tensor counts per element; for a tuple state any sequence counts per part.
        """
        if isinstance(value, Tensor) and value.requires_grad:
            raise ArgumentError(f"{name} cannot require gradient: pass {name}.detach()")
        per_part = isinstance(value, (tuple, list)) or (isinstance(value, Tensor) and value.ndim > 0)
        if self.is_tuple and per_part:
            if len(value) != len(self.shapes):
                raise ArgumentError(
                    f"a tupled {name} must have the same length as the tuple y0: "
                    f"expected {len(self.shapes)} entries, got {len(value)}"
                )
            parts = [torch.as_tensor(v).expand(shape).reshape(-1) for v, shape in zip(value, self.shapes)]
            return torch.cat(parts).to(device)
        if per_part:
            return torch.as_tensor(value, device=device).expand(self.shapes[0]).reshape(-1)
        return float(value)

    def __str__(self) -> str:
        shapes = ", ".join(str(tuple(shape)) for shape in self.shapes)
        if self.is_tuple:
            return f"a tuple of {len(self.shapes)} tensors of shapes {shapes} like y0"
        return f"a tensor of shape {shapes} like y0"


def root_mean_square(y: State) -> Tensor:
    """The default error norm: root mean square; over a tuple, the largest of its parts'."""
    parts = y if isinstance(y, tuple) else (y,)
    norms = [torch.linalg.vector_norm(part) * part.numel() ** -0.5 for part in parts if part.numel()]
    if len(norms) == 1:
        return norms[0]
    return torch.stack(norms).max() if norms else torch.zeros(())


def _describe(y: Any) -> str:
    if isinstance(y, Tensor):
        return f"a tensor of shape {tuple(y.shape)}"
    if isinstance(y, (tuple, list)):
        return f"a {type(y).__name__} of length {len(y)}"
    return type(y).__name__
