"""Points that a flow has carried from data to base or back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Transported(NamedTuple):
    """points (N, D) where they arrived, log_det (N,) log|det| of the map's Jacobian there."""

    points: Tensor
    log_det: Tensor
