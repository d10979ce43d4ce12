"""What a picture of a flow shows: its density on a grid, and rows carried along, at several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentode.estimators.whitening import Whitening
from latentode.models.continuous_flow import ContinuousFlow, standard_normal_log_density

GRID = 120  # points along each side
MARGIN = 0.15  # of the rows' range, around them
BASE = 3.0  # the box holds the base, too: three standard deviations
LOOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}  # a picture needs no more


@dataclass(frozen=True, eq=False)
class FlowFrames:
    """A flow of two dimensions at some times of [0, end_time], given as shares of it, in units of the data."""

    flow: ContinuousFlow
    whitening: Whitening
    moments: list[float]

    def densities(self, box: NDArray[np.float64], device: torch.device) -> NDArray[np.float64]:
        """Density (T, G, G) on the grid of a box [[x0, y0], [x1, y1]], rows along y."""
        x, y = (np.linspace(low, high, GRID) for low, high in box.T)
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        white = torch.as_tensor(self.whitening.apply(grid), device=device)
        logs = [
            self._log_density(white, t * self.flow.end_time) - self.whitening.log_scale for t in self.moments
        ]
        return np.stack([log.exp().reshape(GRID, GRID).cpu().numpy() for log in logs])

    def carried(self, X: NDArray[np.float64], device: torch.device) -> list[NDArray[np.float64]]:
        """Data (N, 2) where the flow has them at the times, T arrays (N, 2)."""
        rows = torch.as_tensor(self.whitening.apply(X), device=device)
        order = np.argsort(self.moments)[::-1]
        end = self.flow.end_time
        times = [end, *(self.moments[i] * end for i in order)]
        path = self.flow.travel(rows, times, trace="exact", **LOOSE)
        points = path.points.cpu().numpy()
        at = {int(i): self.whitening.undo(points[:, 1 + place]) for place, i in enumerate(order)}
        return [at[i] for i in range(len(order))]

    def _log_density(self, points: Tensor, t: float) -> Tensor:
        if t == 0:
            return standard_normal_log_density(points)
        path = self.flow.travel(points, (t, 0.0), trace="exact", **LOOSE)
        return standard_normal_log_density(path.points[:, -1]) + path.log_det[:, -1]


def frame_box(rows: NDArray[np.float64], whitening: Whitening) -> NDArray[np.float64]:
    """Lower and upper corner (2, 2) of a box around rows (N, 2) and the base."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    margin, base = MARGIN * (high - low), BASE * whitening.scale
    lower, upper = whitening.mean - base, whitening.mean + base
    return np.stack([np.minimum(low - margin, lower), np.maximum(high + margin, upper)])
