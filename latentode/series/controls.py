"""Controls: inputs whose values are known at all times, also in the future, given at knots."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

INTERPOLATIONS = ("linear", "step")
APART = 1.0  # model time between the knots of one series and those of the next on their common axis


@dataclass(frozen=True, eq=False)
class ControlPaths:
    """Control paths of N series; `ControlPaths.of` makes them.

    Between knots a path is interpolated; before the first and after the last knot it keeps their value.

    Parameters
    ----------
    knots : Tensor (R,), float64
        Times of the knots of all series, in model time, end to end, increasing within a series.
    values : Tensor (R, C)
        Controls at the knots.
    axis : Tensor (R,), float64
        The same knots with the series one after another, so that one search serves all.
    shift : Tensor (N,), float64
        From the time of a series to `axis`.
    starts, stops : Tensor (N,), int64
        Series i has the knots `starts[i]:stops[i]`, at least one. Several series may share a path.
    interpolation : {"linear", "step"}
        "step" keeps the value of a knot until the next one.
    """

    knots: Tensor
    values: Tensor
    axis: Tensor
    shift: Tensor
    starts: Tensor
    stops: Tensor
    interpolation: str

    @classmethod
    def of(
        cls, knots: Tensor, values: Tensor, offsets: Tensor, interpolation: str = "linear"
    ) -> ControlPaths:
        """Paths of N series.

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
        starts, stops = offsets[:-1], offsets[1:]
        if bool((stops <= starts).any()):
            raise ValueError("every series needs at least one knot of its controls")
        length = knots[stops - 1] - knots[starts] + APART
        shift = length.cumsum(0) - length - knots[starts]
        axis = knots + shift.repeat_interleave(stops - starts)
        return cls(knots, values, axis, shift, starts, stops, interpolation)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_controls(self) -> int:
        """C."""
        return self.values.shape[1]

    def at(self, series: Tensor, times: Tensor) -> Tensor:
        """Controls (n, C) of the series at these positions (n,), at one time (n,) of each, in model time."""
        knot, last, times = self._knot(series, times)
        here = self.values[knot]
        if self.interpolation == "step":
            return here
        after = (knot + 1).minimum(last)
        gap = self.knots[after] - self.knots[knot]
        share = torch.where(gap > 0, (times - self.knots[knot]) / gap, 0.0)
        return torch.lerp(here, self.values[after], share.to(here.dtype)[:, None])

    def between(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """What each path needs from `begin` (N,) to `end` (N,): knots (N, M) and values (N, M, C).

        From the last knot before `begin` to the first one after `end`, where there are such; a series with fewer than M
        repeats its last one.
        """
        everything = torch.arange(len(self), device=self.starts.device)
        first, _, _ = self._knot(everything, begin)
        last, stop, _ = self._knot(everything, end)
        lengths = (last + 1).minimum(stop) - first + 1
        position = torch.arange(int(lengths.max()) if len(self) else 0, device=lengths.device)
        row = first[:, None] + position.minimum(lengths[:, None] - 1)
        return self.knots[row], self.values[row]

    def take(self, series: Tensor) -> ControlPaths:
        """The paths at these positions, in that order; nothing is copied but their positions."""
        return replace(self, shift=self.shift[series], starts=self.starts[series], stops=self.stops[series])

    def to(self, device: torch.device | str) -> ControlPaths:
        """The same paths on another device."""
        names = ("knots", "values", "axis", "shift", "starts", "stops")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def _knot(self, series: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last knot (n,) at or before each time, the last one of its series, and the times held inside the path."""
        first, last = self.starts[series], self.stops[series] - 1
        times = times.double().maximum(self.knots[first]).minimum(self.knots[last])
        knot = torch.searchsorted(self.axis, times + self.shift[series], right=True) - 1
        return knot.maximum(first).minimum(last), last, times
