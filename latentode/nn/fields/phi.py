"""The phi functions of exponential integrators."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

NEAR = 0.1  # inside, the quotients would lose more than a digit; outside, at most 2 / NEAR roundings
N_TERMS = 10  # the first term left out, NEAR^10 / 12!, is below the rounding of float64


class Phi(NamedTuple):
    """e^x, (e^x - 1) / x and (e^x - 1 - x) / x², complex."""

    zero: Tensor
    one: Tensor
    two: Tensor


def phi_functions(real: Tensor, imag: Tensor) -> Phi:
    """The phi functions of x = real + i imag; values and derivatives are right near 0 too.

    With them the solution of dy/dt = a y + f + g t, y(0) = y0, is e^{a t} y0 + t phi1(a t) f + t² phi2(a t) g.

    References
    ----------
    Hochbruck & Ostermann (2010), "Exponential integrators", section 2.1.
    """
    # Real elementary functions: on a CPU a complex exponential or quotient takes ten times as long as these.
    zero = exponential(real, imag)
    square = real.square() + imag.square()
    near = square.detach() < NEAR**2
    square = square.masked_fill(near, 1.0)  # no 0 / 0, backwards neither
    inverse = torch.complex(real / square, -imag / square)
    one = (zero - 1) * inverse
    two = (one - 1) * inverse
    inside = near.nonzero(as_tuple=True)
    x = torch.complex(real[inside], imag[inside])
    series = _series(x)
    return Phi(zero, one.index_put(inside, 1 + x * series), two.index_put(inside, series))


def exponential(real: Tensor, imag: Tensor) -> Tensor:
    """e^(real + i imag)."""
    size = real.exp()
    return torch.complex(size * imag.cos(), size * imag.sin())


def _series(x: Tensor) -> Tensor:
    """sum of x^k / (k + 2)!, by Horner."""
    total = torch.full_like(x, 1 / math.factorial(N_TERMS + 1))
    for k in range(N_TERMS, 1, -1):
        total = total * x + 1 / math.factorial(k)
    return total
