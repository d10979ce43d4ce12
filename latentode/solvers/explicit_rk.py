"""One step of an explicit Runge-Kutta method, for a batch of series that each have their own clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from latentode.solvers.method import Field, StepResult
from latentode.solvers.tableaus import Tableau


@dataclass(frozen=True)
class ExplicitRK:
    """Explicit Runge-Kutta method given by a tableau; knows nothing of acceptance."""

    tableau: Tableau

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def error_order(self) -> int | None:
        """Order of the embedded solution; None without one."""
        return None if self.tableau.b_error is None else self.tableau.error_order

    @property
    def evaluations_per_step(self) -> int:
        return self.tableau.stages - 1

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """The carry of the first step: f(t, y), (N, D)."""
        return field(t, y)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h).

        Parameters
        ----------
        field : callable
            (t (N,), y (N, D)) -> dy/dt (N, D).
        t, h : Tensor (N,)
            Time and signed step size of every series.
        y, carry : Tensor (N, D)
            State at t, and f(t, y).
        """
        tableau = self.tableau
        times = torch.addcmul(t, _nodes(tableau, t.dtype, t.device), h).to(y.dtype)  # (S, N)
        h_column = h.to(y.dtype)[:, None]
        stages = [carry]
        state = y
        for time, weights in zip(times[1:], tableau.a[1:]):
            state = torch.addcmul(y, h_column, weighted_sum(weights, stages))
            stages.append(field(time, state))
        outputs = _output_weights(tableau, y.dtype, y.device) @ torch.stack(stages).flatten(1)
        dense = outputs.unflatten(1, y.shape) * h_column  # (degree, N, D), and the error
        if tableau.b_error is None:
            return StepResult(state, None, dense, stages[-1])
        return StepResult(state, dense[-1], dense[:-1], stages[-1])


def weighted_sum(weights: Sequence[float], terms: Sequence[Tensor]) -> Tensor:
    """Σ w_i x_i over the non-zero weights."""
    used = [(weight, term) for weight, term in zip(weights, terms) if weight != 0.0]
    total = used[0][1] * used[0][0]
    for weight, term in used[1:]:
        total = torch.add(total, term, alpha=weight)
    return total


@lru_cache(maxsize=64)
def _nodes(tableau: Tableau, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept for other solves, perhaps with gradients
        return torch.tensor(tableau.c, dtype=dtype, device=device)[:, None]


@lru_cache(maxsize=64)
def _output_weights(tableau: Tableau, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights of the stages in the dense output and, in the last row, in the error: one product gives both."""
    rows = list(tableau.interpolant_matrix.T)
    if tableau.b_error is not None:
        rows.append(np.array(tableau.b_error))
    with torch.inference_mode(False):
        return torch.as_tensor(np.stack(rows), dtype=dtype, device=device)
