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
        Times of the knots of all paths, in model time, end to end, increasing within a path.
    values : Tensor (R, C)
        Controls at the knots.
    slopes : Tensor (R, C)
        Change of the controls per unit of time, from each knot to the next; 0 after the last one and for steps.
    axis : Tensor (R,), float64
        The same knots with the paths one after another, so that one search serves all.
    offsets : Tensor (P + 1,), int64
        Path p has the knots `offsets[p]:offsets[p + 1]`, at least one.
    bounds : Tensor (N, 3), float64
        First and last time of the path of each series, and the way from its times to `axis`.
    index : Tensor (N,), int64
        The path of each series; several may share one.
    interpolation : {"linear", "step"}
        "step" keeps the value of a knot until the next one.
    """

    knots: Tensor
    values: Tensor
    slopes: Tensor
    axis: Tensor
    offsets: Tensor
    bounds: Tensor
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
        first, last = knots[offsets[:-1]], knots[offsets[1:] - 1]
        apart = (
            float((last - first).max()) or 1.0
        )  # in proportion to the spans: rounding must not mix two paths
        begins = (last - first + apart).cumsum(0) - (last - first + apart)
        shift = begins - first
        axis = knots + shift.repeat_interleave(lengths)
        slopes = torch.zeros_like(values)
        if interpolation == "linear":
            within = torch.ones(len(knots), dtype=torch.bool)
            within[offsets[1:] - 1] = False
            change = values.diff(dim=0) / knots.diff()[:, None]
            slopes[within] = change[within[:-1]].to(values.dtype)
        bounds = torch.stack([first, last, shift], dim=1)
        return cls(knots, values, slopes, axis, offsets, bounds, torch.arange(len(lengths)), interpolation)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_controls(self) -> int:
        """C."""
        return self.values.shape[1]

    def at(self, series: Tensor, times: Tensor) -> Tensor:
        """Controls (n, C) of the series at these positions (n,), at one time (n,) of each."""
        knot, times = self._knot(self.bounds[series], times)
        since = (times - self.knots[knot]).to(self.values.dtype)
        return torch.addcmul(self.values[knot], self.slopes[knot], since[:, None])

    def between(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """What each path needs from `begin` (N,) to `end` (N,): knots (N, M) and values (N, M, C).

        From the last knot before `begin` to the first one after `end`, where there are such; a series with fewer than M
        repeats its last one.
        """
        first, _ = self._knot(self.bounds, begin)
        last, _ = self._knot(self.bounds, end)
        lengths = (last + 1).minimum(self.offsets[self.index + 1] - 1) - first + 1
        position = torch.arange(int(lengths.max()) if len(self) else 0, device=lengths.device)
        row = first[:, None] + position.minimum(lengths[:, None] - 1)
        return self.knots[row], self.values[row]

    def take(self, series: Tensor) -> ControlPaths:
        """The paths of the series at these positions, in that order; no path is copied."""
        return replace(self, bounds=self.bounds[series], index=self.index[series])

    def rescaled(self, knots: Tensor, values: Tensor) -> ControlPaths:
        """The same paths with other times and values of all knots, in the same order."""
        return self.of(knots, values, self.offsets, self.interpolation).take(self.index)

    def with_dtype(self, dtype: torch.dtype) -> ControlPaths:
        """The same paths with values of this dtype; times stay float64."""
        return replace(self, values=self.values.to(dtype), slopes=self.slopes.to(dtype))

    def to(self, device: torch.device | str) -> ControlPaths:
        """The same paths on another device."""
        names = ("knots", "values", "slopes", "axis", "offsets", "bounds", "index")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def _knot(self, bounds: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The last knot (n,) at or before each time, and the times held inside the path."""
        first, last, shift = bounds.unbind(1)
        times = times.double().maximum(first).minimum(last)
        return torch.searchsorted(self.axis, times + shift, right=True) - 1, times
