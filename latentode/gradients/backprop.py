"""Gradients by backpropagation through the accepted steps: exact, and with second derivatives."""

from __future__ import annotations

from torch import Tensor

from latentode.gradients.problem import Problem
from latentode.solvers.integration import Integration


def backprop(problem: Problem, y0: Tensor, t0: Tensor, t_eval: Tensor) -> tuple[Tensor, Integration]:
    """Solve, and let the graph of the accepted steps grow along.

    Memory grows with steps × the activations of the field. The graph is an ordinary one: every derivative that
    torch can take of the field can be taken of the solution.

    Returns
    -------
    Tensor (N, T, D), Integration
    """
    run = problem.integrate(y0, t0, t_eval, keep_steps=False)
    return run.at(t0, t_eval), run
