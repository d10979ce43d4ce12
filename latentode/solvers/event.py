"""Where a function of time and state changes its sign along a solution: once per series."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Event = Callable[[Tensor, Tensor], Tensor]  # (t (n,), y (n, D)) -> (n,)

HALVINGS = 60  # of a step: its time is then known to rounding


class _Crossing(NamedTuple):
    """Steps of n series from t by h with a change of sign, and their polynomials (1 + degree, n, D)."""

    rows: Tensor
    t: Tensor
    h: Tensor
    polynomial: Tensor


class EventWatch:
    """Notices in which step of each of N series its event changes the sign that it had at the beginning.

    Two changes within one step cancel and are not seen.
    """

    def __init__(self, event: Event, n_series: int) -> None:
        self.event = event
        self.sign = torch.zeros(n_series)
        self.crossings: list[_Crossing] = []

    def begin(self, rows: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Remember the signs at the beginning; True (n,) where the event is there already."""
        sign = self._sign(t, y)
        self.sign = sign.new_zeros(len(self.sign)).index_copy(0, rows, sign)
        return sign == 0

    def after(
        self, rows: Tensor, t: Tensor, h: Tensor, t_end: Tensor, y_end: Tensor, polynomial: Tensor
    ) -> Tensor:
        """Whether the signs of n series changed in their step from t by h, (n,)."""
        sign = self._sign(t_end, y_end)
        crossed = (sign == 0) | (sign * self.sign[rows] < 0)
        some = torch.nonzero(crossed)[:, 0]
        if len(some):
            self.crossings.append(_Crossing(rows[some], t[some], h[some], polynomial.index_select(1, some)))
        return crossed

    def _sign(self, t: Tensor, y: Tensor) -> Tensor:
        value = self.event(t, y)
        broken = torch.isnan(value)
        if bool(broken.any()):
            first = int(torch.nonzero(broken)[0])
            raise ValueError(
                f"the event function returned NaN at t={t[first].item():.6g}, y={y[first].tolist()[:4]}: it "
                "must have a sign wherever the solution goes"
            )
        return value.sign()

    def times(self) -> tuple[Tensor, Tensor]:
        """Positions (n,) of the series whose event was passed, and its time (n,): bisection of the dense output."""
        rows, t, h = (torch.cat([getattr(c, name) for c in self.crossings]) for name in ("rows", "t", "h"))
        polynomial = torch.cat([crossing.polynomial for crossing in self.crossings], dim=1)
        low, high = torch.zeros_like(t), torch.ones_like(t)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            before = self.event(t + middle * h, _at(polynomial, middle)).sign() == self.sign[rows]
            low, high = torch.where(before, middle, low), torch.where(before, high, middle)
        return rows, t + high * h


def _at(polynomial: Tensor, theta: Tensor) -> Tensor:
    """Values (n, D) of polynomials (1 + degree, n, D) at theta (n,)."""
    theta = theta.to(polynomial.dtype)[:, None]
    *lower, value = polynomial.unbind()
    for coefficient in reversed(lower):
        value = torch.addcmul(coefficient, value, theta)
    return value
