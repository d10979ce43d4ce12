"""One step of an implicit Runge-Kutta method, diagonally implicit or with coupled stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from latentode.solvers.explicit_rk import weighted_sum
from latentode.solvers.method import Field, StepResult, inside_torch_func
from latentode.solvers.newton import (
    Factors,
    Newton,
    Stages,
    jacobian,
    slopes_jacobian,
    solve_linear,
)
from latentode.solvers.tableaus import Tableau

Block = tuple[int, ...]
NEWTON = Newton()
SolveBlock = Callable[[Block, Stages], Tensor]


@dataclass(frozen=True)
class ImplicitRK:
    """Implicit Runge-Kutta method given by a tableau; for stiff problems, or long ones with a symplectic method.

    The stages are found without a graph. Where gradients are enabled, two steps of Newton's iteration with constant
    matrices follow, from the solution to itself: by the implicit function theorem they have its first and second
    derivatives, at the cost of two evaluations per stage.

    Parameters
    ----------
    tableau : Tableau
        With the stages f(t, y) and f(t + h, y(t + h)) as first and last one.
    newton : Newton
    """

    tableau: Tableau
    newton: Newton = NEWTON

    @property
    def evaluations_per_step(self) -> int:
        """Those of explicit stages; each step counts its own iterations."""
        return sum(_is_explicit(self.tableau, block) for block in _blocks(self.tableau))

    @property
    def order(self) -> int:
        return self.tableau.order

    @property
    def error_order(self) -> int | None:
        """Order of the embedded solution; None without one."""
        return None if self.tableau.b_error is None else self.tableau.error_order

    def start(self, field: Field, t: Tensor, y: Tensor) -> Tensor:
        """The carry of the first step: f(t, y), (N, D)."""
        return field(t, y)

    def step(self, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> StepResult:
        """From y(t) to y(t + h); `carry` is f(t, y). See `Method.step`."""
        with torch.no_grad():
            numbers = [x.detach() for x in (t, y, h, carry)]  # of tangents too
            search = _Search(self.newton, field, *numbers)
            rises = self._rises(search.rises, field, *numbers)
        with_graph = torch.is_grad_enabled()
        if with_graph:
            found = rises
            rises = self._rises(
                lambda block, stages: _with_graph(stages, [found[i] for i in block]), field, t, y, h, carry
            )
        outputs = _output_weights(self.tableau, y.dtype, y.device) @ torch.stack(rises).flatten(1)
        outputs = outputs.unflatten(1, y.shape)  # (degree, N, D), the whole rise, and the error
        degree = self.tableau.interpolant_matrix.shape[1]
        return StepResult(
            y=y + outputs[degree],
            error=outputs[-1] if self.tableau.b_error is not None else None,
            dense=outputs[:degree],
            carry=rises[-1] / h.to(y.dtype)[:, None],
            evaluations=search.evaluations + (2 * _unknown_stages(self.tableau) if with_graph else 0),
            converged=search.converged,
        )

    def _rises(
        self, solve: SolveBlock, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor
    ) -> list[Tensor]:
        """h f at every stage, (N, D) each; `solve` finds those of a block of stages that need each other."""
        times = [(t + node * h).to(y.dtype) for node in self.tableau.c]
        h_column = h.to(y.dtype)[:, None]
        rises = [h_column * carry]
        for block in _blocks(self.tableau):
            base = [_moved(y, self.tableau.a[i][: block[0]], rises) for i in block]
            block_times = [times[i] for i in block]
            if _is_explicit(self.tableau, block):
                rises.append(h_column * field(block_times[0], base[0]))
                continue
            weights, inverse = _block_weights(self.tableau, block, y.dtype, y.device)
            rises += solve(block, Stages(field, block_times, base, weights, inverse, h_column)).unbind(1)
        return rises


class _Search:
    """Solves the blocks of one step by Newton's iteration, with the Jacobian at its beginning; counts per row."""

    def __init__(self, newton: Newton, field: Field, t: Tensor, y: Tensor, h: Tensor, carry: Tensor) -> None:
        self.newton, self.last = newton, (h.to(y.dtype)[:, None] * carry)[:, None]
        self.jacobian = jacobian(field, t.to(y.dtype), y)[1]
        self.evaluations = torch.ones_like(t, dtype=torch.int64)
        self.converged = torch.ones_like(t, dtype=torch.bool)
        self.factors: dict[tuple[float, ...], Factors] = {}

    def rises(self, block: Block, stages: Stages) -> Tensor:
        """h f at the stages of a block, (N, b, D); the first guess is that of the stage before."""
        key = tuple(stages.weights.flatten().tolist())
        if key not in self.factors:
            self.factors[key] = stages.factorise(self.jacobian[:, None])
        guess = stages.weights.sum(dim=1)[:, None] * self.last
        found = self.newton.solve(stages, guess, self.factors[key])
        self.evaluations += found.evaluations
        self.converged &= found.converged
        rises = stages.rises(found.way)
        self.last = rises[:, -1:]
        return rises


def _with_graph(stages: Stages, found: Sequence[Tensor]) -> Tensor:
    """The solution `found` (b times (N, D), as h f), as a function of what the stages depend on."""
    way = torch.matmul(stages.weights, torch.stack(list(found), dim=1))
    points = [base + step for base, step in zip(stages.base, way.unbind(1))]
    by_graph = not inside_torch_func()
    if by_graph:
        points = [point if point.requires_grad else point.requires_grad_() for point in points]
    slopes = [stages.field(t, point) for t, point in zip(stages.t, points)]
    with torch.no_grad():
        if by_graph:
            jacobians = [slopes_jacobian(slope, point) for slope, point in zip(slopes, points)]
        else:
            jacobians = [jacobian(stages.field, t, point)[1] for t, point in zip(stages.t, points)]
        factors = stages.factorise(torch.stack(jacobians, dim=1))
    way = way + solve_linear(factors, stages.residual(way, torch.stack(slopes, dim=1)))
    way = way + solve_linear(factors, stages.residual(way, stages.slopes(way)))
    return stages.rises(way)


def _moved(y: Tensor, weights: Sequence[float], rises: Sequence[Tensor]) -> Tensor:
    return y + weighted_sum(weights, rises) if any(weights) else y


@lru_cache(maxsize=64)
def _blocks(tableau: Tableau) -> tuple[Block, ...]:
    """The stages after the first, in the smallest groups that only need themselves and those before."""
    found: list[Block] = []
    begin = 1
    while begin < tableau.stages:
        end, known = begin, -1
        while known < end:
            known = end
            used = [np.flatnonzero(tableau.a[i]) for i in range(begin, end + 1)]
            end = max(end, *(int(columns.max(initial=begin)) for columns in used))
        found.append(tuple(range(begin, end + 1)))
        begin = end + 1
    return tuple(found)


def _unknown_stages(tableau: Tableau) -> int:
    return sum(len(block) for block in _blocks(tableau) if not _is_explicit(tableau, block))


def _is_explicit(tableau: Tableau, block: Block) -> bool:
    return len(block) == 1 and tableau.a[block[0]][block[0]] == 0.0


@lru_cache(maxsize=256)
def _block_weights(
    tableau: Tableau, block: Block, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The block of the tableau and its inverse, (b, b)."""
    weights = np.array(tableau.a)[np.ix_(block, block)]
    with torch.inference_mode(False):  # kept for other solves, perhaps with gradients
        return (
            torch.as_tensor(weights, dtype=dtype, device=device),
            torch.as_tensor(np.linalg.inv(weights), dtype=dtype, device=device),
        )


@lru_cache(maxsize=64)
def _output_weights(tableau: Tableau, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weights of the stages in the dense output, in the whole step and, in the last row, in the error."""
    rows = [*tableau.interpolant_matrix.T, np.array(tableau.b)]
    if tableau.b_error is not None:
        rows.append(np.array(tableau.b_error))
    with torch.inference_mode(False):
        return torch.as_tensor(np.stack(rows), dtype=dtype, device=device)
