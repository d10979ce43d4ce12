"""Groups of solvers that tests are run over."""

from __future__ import annotations

from collections.abc import Iterable

from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS, TABLEAUS

ADAPTIVE = [name for name, method in SOLVERS.items() if method.error_order is not None]
EXPLICIT_ADAPTIVE = [name for name in ADAPTIVE if name in TABLEAUS]
STABLE = [name for name in ADAPTIVE if name != "reversible_heun"]  # which bears no damping
PRECISE = [name for name in EXPLICIT_ADAPTIVE if SOLVERS[name].order >= 5]  # the others would take ages
PRECISE_AND_STIFF = [*PRECISE, "kvaerno5"]
REVERSIBLE = [*TABLEAUS, "reversible_heun"]  # what gradient="reversible" takes
OTHERS = [name for name in GRADIENTS if name != "discrete_adjoint"]


def with_gradients(solvers: Iterable[str], gradients: Iterable[str] = GRADIENTS) -> list[tuple[str, str]]:
    """Every solver with every gradient that it has."""
    gradients = list(gradients)
    return [
        (solver, gradient)
        for solver in solvers
        for gradient in gradients
        if gradient != "reversible" or solver in REVERSIBLE
    ]


def each_solver_and_each_gradient(solvers: Iterable[str]) -> list[tuple[str, str]]:
    """Every solver with the default gradient, and the other gradients with dopri5.

    For what happens on the way forward, where the other pairs take the same steps.
    """
    return [*((solver, "discrete_adjoint") for solver in solvers), *with_gradients(["dopri5"], OTHERS)]


def steps_for(solver: str, step_size: float) -> dict[str, float]:
    """Options of `solve_ivp`: fixed steps where the solver cannot choose its own."""
    return {} if solver in ADAPTIVE else {"step_size": step_size}
