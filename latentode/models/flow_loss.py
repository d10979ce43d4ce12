"""What flows are trained on: the negative log density of rows, and the energies of continuous ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from latentode.models.continuous_flow import ContinuousFlow, standard_normal_log_density
from latentode.models.row_loss import MeanLater, RowLoss
from latentode.models.transported import Transported


class Flow(Protocol):
    """Whatever carries data to a standard normal base."""

    def to_base(self, x: Tensor) -> Transported: ...


def flow_loss(flow: Flow, x: Tensor, weight: Tensor, log_scale: float) -> RowLoss:
    """Mean of -log p over rows x (N, D) with weights (N,), in nats per row.

    `log_scale` is log|det| of the map from x to the units that the density is counted in.
    """
    z, log_det = flow.to_base(x)
    total = _mean(log_scale - standard_normal_log_density(z) - log_det, weight)
    return RowLoss(total, {}, weight.sum())


@dataclass(frozen=True)
class ContinuousFlowLoss:
    """-log p, and in training the penalties of Finlay et al. (2020) on how the points travel.

    Parameters
    ----------
    kinetic, jacobian : float
        Weights of ∫|f|² dt and ∫|∂f/∂z|²_F dt, means over the rows.
    log_scale : float
        As `flow_loss`.
    """

    kinetic: float
    jacobian: float
    log_scale: float

    def __call__(
        self, flow: ContinuousFlow, x: Tensor, weight: Tensor, generator: torch.Generator
    ) -> RowLoss:
        """The loss of rows x (N, D) with weights (N,); `generator` draws the probes."""
        path = flow.travel(
            x,
            (flow.end_time, 0.0),
            kinetic=flow.training and self.kinetic > 0,
            jacobian=flow.training and self.jacobian > 0,
            generator=generator,
        )
        log_density = standard_normal_log_density(path.points[:, -1]) + path.log_det[:, -1]
        nats = _mean(self.log_scale - log_density, weight)
        total, parts = nats, dict[str, Any](nats=nats) if flow.training else {}
        for name, energy, factor in (
            ("kinetic", path.kinetic, self.kinetic),
            ("jacobian", path.jacobian, self.jacobian),
        ):
            if energy is not None:
                parts[name] = _mean(energy, weight)
                total = total + factor * parts[name]
        parts["n_evals"] = MeanLater([path.n_evals])
        if flow.training:
            parts["n_evals_backward"] = MeanLater(path.n_evals_backward)
        return RowLoss(total, parts, weight.sum())


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (weight * values).sum() / weight.sum()
