"""Newton's iteration for the coupled stages of implicit steps, row by row of the batch.

Stages i of a block solve W_i = h Σ_j a_ij f(t_j, base_j + W_j), with W_i the way from `base` to the stage. In W, not
in the slopes, a stiff field's rounding errors stay at those of y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentode.solvers.method import Field, inside_torch_func

Factors = tuple[Tensor, Tensor]  # of LU: (n, bD, bD) and the pivots (n, bD)


def jacobian(field: Field, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """f(t, y) (n, D) and ∂f/∂y (n, D, D), without a graph, by one evaluation and D vector-Jacobian products."""
    if inside_torch_func():
        slope, pull_back = torch.func.vjp(lambda y: field(t, y), y.detach())[:2]
        (found,) = torch.func.vmap(pull_back)(_directions(y))
        return slope.detach(), found.detach().transpose(0, 1)
    with torch.inference_mode(False), torch.enable_grad():
        y = y.detach().clone().requires_grad_()
        slope = field(t.detach().clone(), y)
        return slope.detach(), slopes_jacobian(slope, y)


def slopes_jacobian(slope: Tensor, y: Tensor) -> Tensor:
    """∂slope/∂y (n, D, D), given the graph from y (n, D) to slope: rows do not mix, so one pass serves all."""
    n, size = y.shape
    if not slope.requires_grad:
        return y.new_zeros(n, size, size)
    (found,) = torch.autograd.grad(
        slope, y, _directions(y), is_grads_batched=True, retain_graph=True, allow_unused=True
    )
    return y.new_zeros(n, size, size) if found is None else found.transpose(0, 1)


def _directions(y: Tensor) -> Tensor:
    """The unit vectors (D, n, D), each for all n rows at once: rows do not mix."""
    n, size = y.shape
    return torch.eye(size, dtype=y.dtype, device=y.device)[:, None].expand(size, n, size)


class Stages(NamedTuple):
    """The equations of a block of b stages in n rows.

    t, base : b Tensors (n,) and (n, D)
    weights, inverse : Tensor (b, b), the block of the tableau
    h : Tensor (n, 1), signed
    """

    field: Field
    t: Sequence[Tensor]
    base: Sequence[Tensor]
    weights: Tensor
    inverse: Tensor
    h: Tensor

    def only(self, rows: Tensor) -> Stages:
        def chosen(terms: Sequence[Tensor]) -> list[Tensor]:
            return [term.index_select(0, rows) for term in terms]

        return self._replace(t=chosen(self.t), base=chosen(self.base), h=self.h.index_select(0, rows))

    def slopes(self, way: Tensor) -> Tensor:
        """f at the stages, (n, b, D)."""
        terms = zip(self.t, self.base, way.unbind(1))
        return torch.stack([self.field(t, base + step) for t, base, step in terms], dim=1)

    def slopes_and_jacobians(self, way: Tensor) -> tuple[Tensor, Tensor]:
        """f at the stages and its Jacobians, (n, b, D) and (n, b, D, D), without a graph."""
        terms = zip(self.t, self.base, way.unbind(1))
        found = [jacobian(self.field, t, base + step) for t, base, step in terms]
        return torch.stack([f for f, _ in found], dim=1), torch.stack([j for _, j in found], dim=1)

    def rises(self, way: Tensor) -> Tensor:
        """h f at the stages, (n, b, D), of the solution of their equations."""
        return torch.matmul(self.inverse, way)

    def residual(self, way: Tensor, slopes: Tensor) -> Tensor:
        """h Σ_j a_ij f_j - W_i, (n, b, D)."""
        return torch.matmul(self.weights, slopes) * self.h[:, None] - way

    def factorise(self, jacobians: Tensor) -> Factors:
        """LU of I - h a_ij J_j, for Jacobians (n, b or 1, D, D)."""
        n, _, size, _ = jacobians.shape
        b = len(self.weights)
        blocks = (
            self.weights[:, :, None, None] * jacobians.expand(n, b, size, size)[:, None]
        )  # (n, b, b, D, D)
        matrix = -self.h[:, :, None] * blocks.transpose(2, 3).reshape(n, b * size, b * size)
        matrix.diagonal(dim1=1, dim2=2).add_(1.0)
        factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
        return factors, pivots


def solve_linear(factors: Factors, right: Tensor) -> Tensor:
    """Solve for right (n, b, D)."""
    return torch.linalg.lu_solve(*factors, right.flatten(1)[..., None])[..., 0].unflatten(1, right.shape[1:])


class Found(NamedTuple):
    """way (n, b, D), NaN where none was found; evaluations (n,).

    converged (n,) is False where the iteration failed, and True where the field is not finite to begin with.
    """

    way: Tensor
    converged: Tensor
    evaluations: Tensor


@dataclass(frozen=True)
class Newton:
    """Newton's iteration down to rounding, so that a solution is as exact as its derivative assumes.

    First with the factors given, as long as it converges fast; then, for the rows that are left, from the beginning
    with the Jacobians of every iterate.

    Parameters
    ----------
    max_iterations : int
        Of each of the two.
    slow : float
        Largest ratio of one correction to the one before that the given factors are kept for.
    """

    max_iterations: int = 20
    slow: float = 0.3

    def solve(self, stages: Stages, guess: Tensor, factors: Factors) -> Found:
        way, done, _, evaluations = self._iterate(stages, guess, factors)
        if bool(done.all()):
            return Found(way, done, evaluations)
        rows = torch.nonzero(~done)[:, 0]
        again = torch.zeros_like(guess).index_select(0, rows)  # a guess by a huge slope may lie anywhere
        way_again, done_again, broken, more = self._iterate(stages.only(rows), again, None)
        way_again = torch.where(done_again[:, None, None], way_again, torch.nan)
        return Found(
            way.index_copy(0, rows, way_again),
            done.index_copy(0, rows, done_again | broken),
            evaluations.index_add(0, rows, more),
        )

    def _iterate(
        self, stages: Stages, guess: Tensor, factors: Factors | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The last iterate, and for every row:

        whether it is the solution, whether the field is not finite at the guess, and the evaluations.
        """
        n, b, _ = guess.shape
        eps = torch.finfo(guess.dtype).eps
        result = guess.clone()
        evaluations = torch.zeros(n, dtype=torch.int64, device=guess.device)
        solved, broken = torch.zeros(2, n, dtype=torch.bool, device=guess.device).unbind()
        rows = torch.arange(n, device=guess.device)
        way, before = guess, guess.new_full((n,), torch.inf)
        level = torch.stack(list(stages.base), dim=1).abs().flatten(1).amax(dim=1)
        for iteration in range(self.max_iterations):
            evaluations[rows] += b
            if factors is None:
                slopes, jacobians = stages.slopes_and_jacobians(way)
                used = stages.factorise(jacobians)
            else:
                slopes, used = stages.slopes(way), factors
            correction = solve_linear(used, stages.residual(way, slopes))
            way = way + correction
            size = correction.abs().flatten(1).amax(dim=1)
            unit = eps * torch.maximum(level, way.abs().flatten(1).amax(dim=1))
            ratio = size / before
            done = size <= 4 * unit
            if iteration > 0:  # what is left, by the rate so far
                done |= (ratio < 1) & (size * ratio <= 4 * unit * (1 - ratio))
            done |= (ratio > self.slow) & (size <= 1000 * unit)  # as near as rounding allows
            lost = ~torch.isfinite(size) | ((ratio > 1) & (iteration > 1))
            if factors is not None:
                lost |= (ratio > self.slow) & (iteration > 0)
            lost &= ~done
            if iteration == 0:
                broken = ~torch.isfinite(size)
            result[rows] = way
            solved[rows] = done
            stay = torch.nonzero(~(done | lost))[:, 0]
            if not len(stay):
                break
            if len(stay) < len(rows):
                rows, stages = rows.index_select(0, stay), stages.only(stay)
                way, level, size = (x.index_select(0, stay) for x in (way, level, size))
                if factors is not None:
                    factors = (factors[0].index_select(0, stay), factors[1].index_select(0, stay))
            before = size
        return result, solved, broken, evaluations
