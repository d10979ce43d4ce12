"""Log densities of counts and of Student's t without differences of large logarithms of factorials."""

from __future__ import annotations

import torch
from torch import Tensor

from latentode.nn.normal import HALF_LOG_2PI

FROM = 16.0  # where the first term left out, 691 / 360360 / x^11, falls below the rounding of float64


def stirling_error(x: Tensor) -> Tensor:
    """log Gamma(x + 1) minus Stirling's formula (x + 1/2) log x - x + log(2 pi) / 2, for x > 0.

    References
    ----------
    Loader (2000), "Fast and accurate computation of binomial probabilities", section 3.
    """
    far = x >= FROM
    near = torch.where(far, 1.0, x)  # each branch only sees what it can differentiate
    small = torch.lgamma(near + 1) - (near + 0.5) * near.log() + near - HALF_LOG_2PI
    r = 1 / torch.where(far, x, FROM)
    s = r.square()
    series = r * (1 / 12 - s * (1 / 360 - s * (1 / 1260 - s * (1 / 1680 - s * (1 / 1188)))))
    return torch.where(far, series, small)


def deviance(x: Tensor, log_ratio: Tensor) -> Tensor:
    """x log(x / m) + m - x, which is >= 0, for `log_ratio` = log(m / x): exact where m is near x."""
    return x * (log_ratio.expm1() - log_ratio)
