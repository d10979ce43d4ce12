"""Diagonal linear equations dp/dt = -(damping + i frequency) p + forcing(t), solved exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from latentode.nn.fields.phi import Phi, phi_functions


class Forcing(NamedTuple):
    """A forcing of P complex modes of N series that is linear in time between its breaks.

    Parameters
    ----------
    breaks : Tensor (N, M), float64
        Where each of the M pieces begins, non-decreasing; the last one goes on for ever, the first one began for ever.
    value, slope : Tensor (N or 1, M, P), complex
        value + slope · (t - break) from a break to the next.
    """

    breaks: Tensor
    value: Tensor
    slope: Tensor

    def response(self, damping: Tensor, frequency: Tensor, times: Tensor) -> Tensor:
        """The solution that is 0 at the first break.

        Parameters
        ----------
        damping, frequency : Tensor (N or 1, P)
            Of dp/dt = -(damping + i frequency) p + forcing.
        times : Tensor (N, T), float64
            In any order. Far before the first break decaying modes grow without bound: let it lie before all times.

        Returns
        -------
        Tensor (N, T, P), complex
        """
        piece = (torch.searchsorted(self.breaks, times.detach().contiguous(), right=True) - 1).clamp(min=0)
        elapsed = times - self.breaks.gather(1, piece)
        value, slope = _pick(self.value, piece), _pick(self.slope, piece)
        phi, gain = _advance(damping, frequency, elapsed, value, slope)
        if self.breaks.shape[1] == 1:
            return gain
        return gain + phi.zero * _pick(self._at_breaks(damping, frequency), piece)

    def _at_breaks(self, damping: Tensor, frequency: Tensor) -> Tensor:
        """The solution at the breaks, (N, M, P)."""
        phi, gain = _advance(
            damping, frequency, self.breaks.diff(dim=1), self.value[:, :-1], self.slope[:, :-1]
        )
        return functional.pad(_scan(phi.zero, gain), (0, 0, 1, 0))


def _scan(decay: Tensor, gain: Tensor) -> Tensor:
    """States (N, M, P) of state <- decay · state + gain, from 0 on.

    In blocks of sqrt(M) side by side, then from block to block: 2 sqrt(M) small steps instead of M.
    """
    n_series, n_steps, n_modes = gain.shape
    size = max(math.isqrt(n_steps), 1)
    filler = (0, 0, 0, -n_steps % size)
    blocks = (n_series, -1, size, n_modes)
    local, total = [torch.zeros_like(gain[:, :1])], [torch.ones_like(gain[:, :1])]
    for d, g in zip(*(functional.pad(x, filler).reshape(blocks).unbind(2) for x in (decay, gain))):
        local.append(torch.addcmul(g, d, local[-1]))  # (N, B, P)
        total.append(d * total[-1])
    begun = [torch.zeros_like(gain[:, 0])]
    for d, g in zip(total[-1].unbind(1), local[-1].unbind(1)):
        begun.append(torch.addcmul(g, d, begun[-1]))
    start = torch.stack(begun[:-1], dim=1)[:, :, None]
    states = torch.stack(local[1:], dim=2) + torch.stack(total[1:], dim=2) * start
    return states.flatten(1, 2)[:, :n_steps]


def _advance(
    damping: Tensor, frequency: Tensor, elapsed: Tensor, value: Tensor, slope: Tensor
) -> tuple[Phi, Tensor]:
    """Phi functions (N, T, P) of a time `elapsed` (N, T), and what the forcing alone has added by then."""
    elapsed = elapsed[..., None]
    phi = phi_functions(-damping[:, None] * elapsed, -frequency[:, None] * elapsed)
    return phi, elapsed * (phi.one * value + elapsed * phi.two * slope)


def _pick(pieces: Tensor, index: Tensor) -> Tensor:
    """(N or 1, M, P) at the pieces `index` (N, T): (N, T, P), or as they are where there is one piece."""
    if pieces.shape[1] == 1:
        return pieces
    return pieces.expand(len(index), -1, -1).gather(1, index[..., None].expand(-1, -1, pieces.shape[-1]))
