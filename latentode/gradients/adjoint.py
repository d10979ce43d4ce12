"""The continuous adjoint of Chen et al. (2018): memory that does not grow with the number of steps.

With a(t) = dL/dy(t), the adjoint equation da/dt = -aᵀ ∂f/∂y is solved backwards in time beside y itself, and
dL/dθ = ∫ aᵀ ∂f/∂θ dt. At each query time a jumps by the cotangent of that answer, and y is put back to the answer.

Every series has its own clock backwards too: in each round all of them go from one query time of theirs to the one
before, whatever their lengths. The gradient of the parameters is no part of the state, which would cost a copy of
all parameters per series and stage, and would let them steer the step sizes: it is added up over the accepted steps by
Gauss quadrature on the dense output of (y, a), all nodes in one evaluation, at an error of the method's own order. So
the steps are those of the seminorm of Kidger et al. (2021). The adjoint equation is linear in a, so a is solved in
units of its largest cotangent per series: a loss in other units gets the same steps and the same relative error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentode.exceptions import SolverError
from latentode.gradients.held_tensors import HeldTensors
from latentode.gradients.problem import Problem, refuse_second_derivatives
from latentode.solvers.integration import AcceptedSteps, Integration, Pace
from latentode.solvers.method import Field, Method, StepResult
from latentode.solvers.solution import Status
from latentode.solvers.step_size import Controller, PIController


@dataclass(frozen=True)
class Adjoint:
    """Solve, with the continuous adjoint as gradient.

    Good for long solves in little memory: it keeps the answers and nothing of the steps. Its gradient is that of the
    exact solution, up to the tolerances, not of the computed one; and y is solved backwards, which fails where the
    flow contracts strongly (stiff fields): prefer "discrete_adjoint" where memory allows. It costs at least one step
    per query time.

    Parameters
    ----------
    rtol, atol : float, optional
        Tolerances backwards, `atol` in the units of y and of the largest cotangent of a series; default: as forwards.
        Given here, the controller is a `PIController` of these tolerances.
    method : Method, optional
        Method backwards; default: as forwards.
    controller : optional
        Step-size controller backwards; overrides rtol and atol.

    References
    ----------
    Chen, Rubanova, Bettencourt, Duvenaud (2018), Neural Ordinary Differential Equations, algorithm 1 and appendix B.
    Kidger, Chen, Lyons (2021), "Hey, that's not an ODE": Faster ODE Adjoints via Seminorms.
    """

    rtol: float | None = None
    atol: float | None = None
    method: Method | None = None
    controller: Controller | None = None

    def __call__(
        self, problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor
    ) -> tuple[Tensor, Integration]:
        """Solution (N, T, D) and the integration behind it."""
        backwards = self._backwards(problem)
        if not problem.wants_gradient(y0, t0, t_eval):
            with torch.no_grad():
                run = problem.integrate(y0, t0, t_eval, keep_steps=False)
                return run.at(t0, t_eval), run
        box: list[Integration] = []
        y = _ContinuousAdjoint.apply(problem, backwards, box, y0, t0, t_eval, *problem.params)
        return y, box[0]

    def _backwards(self, problem: Problem) -> Problem:
        """The same problem, solved as the way back is to be."""
        method = self.method or problem.method
        return replace(
            problem, method=method, controller=self.controller or self._controller(problem, method), pace=None
        )

    def _controller(self, problem: Problem, method: Method) -> Controller:
        forwards = problem.controller
        rtol, atol = (
            getattr(forwards, name, None) if (own := getattr(self, name)) is None else own
            for name in ("rtol", "atol")
        )
        if self.rtol is None and self.atol is None and (self.method is None or rtol is None):
            return forwards
        if method.error_order is None:
            raise ValueError(
                "rtol and atol of the adjoint need a method with an error estimate: pass method=, or controller="
            )
        if rtol is None or atol is None:
            raise ValueError("the forward solve has no tolerances: the adjoint needs both rtol and atol")
        return PIController(rtol, atol, order=method.error_order + 1)


class _ContinuousAdjoint(torch.autograd.Function):
    """From the inputs to the answers (N, T, D)."""

    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
        backwards: Problem,
        box: list[Integration],
        y0: Tensor,
        t0: Tensor,
        t_eval: Tensor,
        *params: Tensor,
    ) -> Tensor:
        run = problem.integrate(y0, t0, t_eval, keep_steps=False)
        y = run.at(t0, t_eval)
        box.append(replace(run, coefficients=y0.new_empty(0), marks=[]))
        ctx.backwards, ctx.held = backwards, HeldTensors(problem.field)
        ctx.save_for_backward(y, y0, t0, t_eval, *params)  # params: so that torch notices a change in place
        return y

    @staticmethod
    def backward(ctx: Any, of_y: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivatives("the continuous adjoint")
        y, y0, t0, t_eval, *_ = ctx.saved_tensors
        way_back = _WayBack(ctx.backwards, ctx.held, y, t0, t_eval, of_y)
        with ctx.held.put_back():
            for column in reversed(range(t_eval.shape[1])):
                way_back.through(column)
            times = way_back.of_times(y0) if any(ctx.needs_input_grad[4:6]) else (None, None)
        return None, None, None, way_back.a * way_back.scale[:, None], *times, *way_back.of_params


class _WayBack:
    """The adjoint a (N, D) of every series, in units of `scale` (N,), and the gradients that it leaves behind."""

    def __init__(
        self, problem: Problem, held: HeldTensors, y: Tensor, t0: Tensor, t_eval: Tensor, of_y: Tensor
    ) -> None:
        self.problem, self.held, self.y, self.t0, self.t_eval = problem, held, y, t0, t_eval
        self.answered = ~torch.isnan(t_eval) & torch.isfinite(y).all(dim=2)
        self.of_y = of_y.masked_fill(~self.answered[..., None], 0.0)
        self.scale = self.of_y.abs().flatten(1).amax(dim=1) if of_y.numel() else of_y.new_zeros(len(of_y))
        self.a = of_y.new_zeros(len(of_y), of_y.shape[2])
        self.a[~torch.isfinite(self.scale)] = torch.nan
        self.of_params: list[Tensor | None] = [None] * len(problem.params)
        self.pace: Pace | None = None  # of all series: what the next way begins with

    def through(self, column: int) -> None:
        """The jump at one query time of every series, and the way from there to the time before."""
        rows = torch.nonzero(self.answered[:, column] & (self.scale > 0) & torch.isfinite(self.scale))[:, 0]
        here, before = self.t_eval[:, column], self.t_eval[:, column - 1] if column else self.t0
        self.a[rows] += self.of_y[rows, column] / self.scale[rows, None]
        rows = rows[(here != before)[rows] & (self.a[rows] != 0).any(dim=1)]
        if len(rows):
            self.a[rows] = self._solve(rows, self.y[rows, column], here[rows], before[rows])

    def _solve(self, rows: Tensor, y: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """a at `end`, from (y, a) at `begin`."""
        size = y.shape[1]

        def add_up(steps: AcceptedSteps, step: StepResult) -> None:
            self._add_quadrature(steps, step, begin, rows[steps.rows])

        run = replace(self.problem, field=_adjoint_field(self.problem.field, size)).integrate(
            torch.cat([y, self.a[rows]], dim=1),
            begin,
            end[:, None],
            keep_steps=False,
            observe=add_up if self.problem.params else None,
            pace=None if self.pace is None else Pace(*(x.index_select(0, rows) for x in self.pace)),
        )
        self._remember(rows, run.pace)
        self.problem.count(rows, 0, run.n_evals)
        failed = torch.nonzero(run.status)[:, 0]
        if len(failed):
            first = int(failed[0])
            status = Status(int(run.status[first]))
            raise SolverError(
                f"the adjoint could not be solved backwards from t={begin[first].item():.6g} beyond "
                f"t={run.t_reached[first].item():.6g} [{status.name}]: {status.message}; or solve with "
                "gradient='discrete_adjoint', which solves nothing backwards"
            )
        return run.at(begin, end[:, None])[:, 0, size:]

    def _remember(self, rows: Tensor, pace: Pace | None) -> None:
        if pace is None:
            return
        if self.pace is None:
            n = len(self.a)
            h, control = pace
            self.pace = Pace(h.new_full((n,), torch.nan), control.new_zeros(n, *control.shape[1:]))
        for have, found in zip(self.pace, pace):
            have.index_copy_(0, rows, found)

    def _add_quadrature(self, steps: AcceptedSteps, step: StepResult, begin: Tensor, rows: Tensor) -> None:
        """-∫ aᵀ ∂f/∂θ dt over one round of accepted steps of the way back."""
        nodes, weights = _gauss((self.problem.method.order + 1) // 2)
        theta, share = step.y.new_tensor(nodes), step.y.new_tensor(weights)
        powers = theta[:, None] ** torch.arange(1, len(step.dense) + 1, device=theta.device)  # (Q, degree)
        states = steps.y + (powers @ step.dense.flatten(1)).unflatten(1, steps.y.shape)  # (Q, n, 2 D)
        y, a = states.flatten(0, 1).chunk(2, dim=1)
        t = (begin[steps.rows] + steps.offset) + theta.to(begin.dtype)[:, None] * steps.h  # (Q, n)
        scale = self.scale.index_select(0, rows)
        weight = -(share[:, None] * (steps.h.to(scale.dtype) * scale)).flatten()
        self.problem.count(rows, len(nodes))
        with torch.enable_grad():
            slope = self.problem.field(t.flatten(), y)
        found = _pull_back(slope, weight[:, None] * a, self.problem.params)
        self.held.check([slope], self.problem.params, found)
        self._add(found)

    def _add(self, found: Sequence[Tensor | None]) -> None:
        for i, gradient in enumerate(found):
            have = self.of_params[i]
            if gradient is not None:
                self.of_params[i] = gradient if have is None else have + gradient

    def of_times(self, y0: Tensor) -> tuple[Tensor, Tensor]:
        """dL/dt0 = -a(t0)·f(t0, y0), and dL/dt = (cotangent of the answer at t) · f(t, y(t)) at every query time."""
        with torch.no_grad():
            slope = self.problem.field(self.t0, y0)
            everyone = torch.arange(len(self.a), device=self.a.device)
            self.problem.count(everyone, 1, self.answered.sum(dim=1))
            of_t0 = -(self.a * slope).sum(dim=1) * self.scale
            of_t_eval = torch.zeros_like(self.t_eval)
            if bool(self.answered.any()):
                slopes = self.problem.field(self.t_eval[self.answered], self.y[self.answered])
                of_t_eval[self.answered] = (self.of_y[self.answered] * slopes).sum(dim=1).to(of_t_eval.dtype)
        return of_t0.to(self.t0.dtype), of_t_eval


def _adjoint_field(field: Field, size: int) -> Field:
    """d(y, a)/dt = (f, -aᵀ ∂f/∂y), on states (n, 2 D); differentiable itself where Newton's iteration asks for that."""

    def slopes(t: Tensor, state: Tensor) -> Tensor:
        wants_graph = state.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            y, a = (state if wants_graph else state.detach().requires_grad_()).split(size, dim=1)
            dy = field(t, y)
            (of_y,) = _pull_back(dy, a, (y,), create_graph=wants_graph)
            slope = torch.cat([dy, torch.zeros_like(a) if of_y is None else -of_y], dim=1)
        return slope if wants_graph else slope.detach()

    limit = getattr(field, "largest_step", None)
    if limit is not None:
        slopes.largest_step = lambda t, state, direction: limit(t, state[:, :size], direction)  # type: ignore[attr-defined]
    return slopes


def _pull_back(
    output: Tensor, cotangent: Tensor, inputs: Sequence[Tensor], *, create_graph: bool = False
) -> Sequence[Tensor | None]:
    if not (inputs and output.requires_grad):
        return [None] * len(inputs)
    return torch.autograd.grad(output, inputs, cotangent, allow_unused=True, create_graph=create_graph)


@lru_cache(maxsize=16)
def _gauss(n: int) -> tuple[list[float], list[float]]:
    """Nodes and weights on [0, 1], exact for polynomials of degree 2n - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return ((1 + nodes) / 2).tolist(), (weights / 2).tolist()
