"""Dense output: the solution between the ends of accepted steps."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(y: Tensor, h: Tensor, dense: Tensor, theta: Tensor, position: Tensor) -> Tensor:
    """Solution at fractions of a step.

    Parameters
    ----------
    y : Tensor (N, D)
        State at the beginning of the steps.
    h : Tensor (N,)
        Signed step sizes.
    dense : Tensor (N, degree, D)
        Polynomial coefficients, as `StepResult.dense`.
    theta : Tensor (Q,)
        Fractions of the steps, between 0 and 1.
    position : Tensor (Q,), int64
        Which of the N steps each fraction belongs to.

    Returns
    -------
    Tensor (Q, D)
        y + h Σ_j dense_j θ^j.
    """
    theta = theta.to(y.dtype)
    powers = torch.stack([theta**power for power in range(1, dense.shape[1] + 1)], dim=1)  # (Q, degree)
    increment = torch.bmm(powers[:, None], dense[position])[:, 0]  # (Q, D)
    return torch.addcmul(y[position], h.to(y.dtype)[position, None], increment)
