"""Groups of solvers that tests are run over."""

from __future__ import annotations

from collections.abc import Iterable

from latentode.gradients import GRADIENTS
from latentode.solvers import SOLVERS, TABLEAUS

ADAPTIVE = [name for name, method in SOLVERS.items() if method.error_order is not None]
EXPLICIT_ADAPTIVE = [name for name in ADAPTIVE if name in TABLEAUS]
STABLE = [name for name in ADAPTIVE if name != "reversible_heun"]  # which bears no damping
PRECISE = [
    name for name in ADAPTIVE if SOLVERS[name].order >= 5
]  # tight tolerances; the others would take ages
REVERSIBLE = [*TABLEAUS, "reversible_heun"]  # what gradient="reversible" takes


def with_gradients(solvers: Iterable[str], gradients: Iterable[str] = GRADIENTS) -> list[tuple[str, str]]:
    """Every solver with every gradient that it has."""
    gradients = list(gradients)
    return [
        (solver, gradient)
        for solver in solvers
        for gradient in gradients
        if gradient != "reversible" or solver in REVERSIBLE
    ]


def steps_for(solver: str, step_size: float) -> dict[str, float]:
    """Options of `solve_ivp`: fixed steps where the solver cannot choose its own."""
    return {} if solver in ADAPTIVE else {"step_size": step_size}
