"""Ways to differentiate a solve, by name: `(problem, y0, t0, t_eval) -> (y, Integration)`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from latentode.gradients.adjoint import Adjoint
from latentode.gradients.backprop import backprop
from latentode.gradients.discrete_adjoint import discrete_adjoint
from latentode.gradients.problem import Problem
from latentode.gradients.reversible import reversible
from latentode.solvers.integration import Integration

Gradient = Callable[[Problem, Tensor, Tensor, Tensor], tuple[Tensor, Integration]]

GRADIENTS: dict[str, Gradient] = {
    "backprop": backprop,
    "discrete_adjoint": discrete_adjoint,
    "adjoint": Adjoint(),
    "reversible": reversible,
}

__all__ = ["GRADIENTS", "Adjoint", "Gradient", "Problem", "backprop", "discrete_adjoint", "reversible"]
