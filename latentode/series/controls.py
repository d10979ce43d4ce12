"""Controls: inputs whose values are known at all times, also in the future, given at knots."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

INTERPOLATIONS = ("linear", "step")
TURN = (
    1e-3  # of the range of a control: a change, or a bend over the gap, below that is rounding and no pulse
)
CLOSE = 1e-6  # in proportion to the time: above what float32 can tell apart, below what a jump of the controls moves


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
    turns : Tensor (R',), float64
        The knots on `axis` at which a control jumps or bends.
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
    turns: Tensor
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
        turns = axis[_turns(knots, values, slopes, offsets)]
        bounds = torch.stack([first, last, shift], dim=1)
        return cls(
            knots, values, slopes, axis, offsets, turns, bounds, torch.arange(len(lengths)), interpolation
        )

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

    def to_next_turn(self, series: Tensor, times: Tensor, direction: Tensor) -> Tensor:
        """Time (n,) from `times` (n,) in `direction` (n,), 1 or -1, to where a solver's step should end.

        Steps that end at the knots where a control turns cannot pass over a pulse, however short. A path of steps jumps
        at its knots: one step ends just before the jump and the next one just after it.
        """
        if not len(self.turns):  # controls that never change
            return torch.full_like(times, torch.inf, dtype=torch.float64)
        first, last, shift = self.bounds[series].unbind(1)
        times = times.double()
        inside = times.maximum(first).minimum(last)
        at = inside + shift
        close = CLOSE * (1 + times.abs())
        forwards = direction > 0
        outside = torch.where(forwards, inside - times, times - inside).clamp(
            min=0.0
        )  # of the path, on the way to it
        past = torch.where(outside > close, -close, close)  # from outside, its first knot may be the turn
        beyond = torch.searchsorted(self.turns, torch.where(forwards, at + past, at - past), right=True)
        none_left = beyond >= len(self.turns)
        after = self.turns[beyond.clamp(max=len(self.turns) - 1)].masked_fill(none_left, torch.inf)
        before = self.turns[(beyond - 1).clamp(min=0)].masked_fill(beyond == 0, -torch.inf)
        distance = outside + torch.where(forwards, after - at, at - before)
        if self.interpolation == "linear":
            return distance
        return torch.where(distance > 3 * close, distance - 2 * close, distance + 2 * close)

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
        names = ("knots", "values", "slopes", "axis", "offsets", "turns", "bounds", "index")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def _knot(self, bounds: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The last knot (n,) at or before each time, and the times held inside the path."""
        first, last, shift = bounds.unbind(1)
        times = times.double().maximum(first).minimum(last)
        return torch.searchsorted(self.axis, times + shift, right=True) - 1, times


def _turns(knots: Tensor, values: Tensor, slopes: Tensor, offsets: Tensor) -> Tensor:
    """Where (R,) a control differs from the line, or the value, that comes before the knot."""
    arriving = values.clone()  # what the path would be at a knot, did it go on as before
    gaps = knots.diff()[:, None].to(values.dtype)
    arriving[1:] = values[:-1] + slopes[:-1] * gaps
    bend = torch.zeros_like(values)
    bend[1:] = (slopes[1:] - slopes[:-1]).abs() * gaps
    change = torch.maximum((values - arriving).abs(), bend)
    span = values.amax(0) - values.amin(0) if len(values) else values.new_zeros(values.shape[1])
    turns = (change > TURN * span).any(dim=1)
    turns[offsets[:-1]] = False  # before its first knot a path is constant: nothing jumps there
    if bool((slopes != 0).any()):
        turns[offsets[:-1]] = (slopes[offsets[:-1]] != 0).any(dim=1)
    return turns
