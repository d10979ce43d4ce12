"""Controls: inputs whose values are known at all times, also in the future, given at knots."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

INTERPOLATIONS = ("linear", "step")


@dataclass(frozen=True, eq=False)
class ControlPaths:
    """Control paths of N series; `ControlPaths.of` makes them.

    Between knots a path is interpolated; before the first and after the last knot it keeps their value.

    Parameters
    ----------
    knots : Tensor (R,), float64
        Times of the knots of all paths, end to end, increasing within a path.
    values : Tensor (R, C)
        Controls at the knots.
    offsets : Tensor (P + 1,), int64
        Path p has the knots `offsets[p]:offsets[p + 1]`, at least one.
    axis : Tensor (R,), float64
        The same knots with the paths one after another, so that one search serves all.
    shift : Tensor (P,), float64
        From the time of a path to `axis`.
    index : Tensor (N,), int64
        The path of each series; several may share one.
    interpolation : {"linear", "step"}
        "step" keeps the value of a knot until the next one.
    """

    knots: Tensor
    values: Tensor
    offsets: Tensor
    axis: Tensor
    shift: Tensor
    index: Tensor
    interpolation: str

    @classmethod
    def of(
        cls, knots: Tensor, values: Tensor, offsets: Tensor, interpolation: str = "linear"
    ) -> ControlPaths:
        """One path per series.

        Parameters
        ----------
        knots : Tensor (R,), float64
            Increasing within a series.
        values : Tensor (R, C)
        offsets : Tensor (N + 1,), int64
            Series i has the knots `offsets[i]:offsets[i + 1]`, at least one.
        interpolation : {"linear", "step"}, default "linear"

        Raises
        ------
        ValueError
            For an unknown interpolation and for a series without a knot.
        """
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {INTERPOLATIONS}; got {interpolation!r}")
        lengths = offsets.diff()
        if bool((lengths < 1).any()):
            raise ValueError("every series needs at least one knot of its controls")
        spans = knots[offsets[1:] - 1] - knots[offsets[:-1]]
        apart = float(spans.max()) or 1.0  # in proportion to the spans: rounding must not mix two paths
        begins = (spans + apart).cumsum(0) - (spans + apart)
        shift = begins - knots[offsets[:-1]]
        axis = knots + shift.repeat_interleave(lengths)
        return cls(knots, values, offsets, axis, shift, torch.arange(len(lengths)), interpolation)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_controls(self) -> int:
        """C."""
        return self.values.shape[1]

    def at(self, series: Tensor, times: Tensor) -> Tensor:
        """Controls (n, C) of the series at these positions (n,), at one time (n,) of each."""
        knot, times = self._knot(series, times)
        here = self.values[knot]
        if self.interpolation == "step":
            return here
        after = (knot + 1).minimum(self.offsets[self.index[series] + 1] - 1)
        gap = self.knots[after] - self.knots[knot]
        share = torch.where(gap > 0, (times - self.knots[knot]) / gap, 0.0)
        return torch.lerp(here, self.values[after], share.to(here.dtype)[:, None])

    def between(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """What each path needs from `begin` (N,) to `end` (N,): knots (N, M) and values (N, M, C).

        From the last knot before `begin` to the first one after `end`, where there are such; a series with fewer than M
        repeats its last one.
        """
        everything = torch.arange(len(self), device=self.index.device)
        first, _ = self._knot(everything, begin)
        last, _ = self._knot(everything, end)
        lengths = (last + 1).minimum(self.offsets[self.index + 1] - 1) - first + 1
        position = torch.arange(int(lengths.max()) if len(self) else 0, device=lengths.device)
        row = first[:, None] + position.minimum(lengths[:, None] - 1)
        return self.knots[row], self.values[row]

    def take(self, series: Tensor) -> ControlPaths:
        """The paths of the series at these positions, in that order; no path is copied."""
        return replace(self, index=self.index[series])

    def rescaled(self, knots: Tensor, values: Tensor) -> ControlPaths:
        """The same paths with other times and values of all knots, in the same order."""
        return replace(self.of(knots, values, self.offsets, self.interpolation), index=self.index)

    def with_dtype(self, dtype: torch.dtype) -> ControlPaths:
        """The same paths with values of this dtype; times stay float64."""
        return replace(self, values=self.values.to(dtype))

    def to(self, device: torch.device | str) -> ControlPaths:
        """The same paths on another device."""
        names = ("knots", "values", "offsets", "axis", "shift", "index")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def _knot(self, series: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The last knot (n,) at or before each time, and the times held inside the path."""
        path = self.index[series]
        first, last = self.offsets[path], self.offsets[path + 1] - 1
        times = times.double().maximum(self.knots[first]).minimum(self.knots[last])
        knot = torch.searchsorted(self.axis, times + self.shift[path], right=True) - 1
        return knot.maximum(first).minimum(last), times
