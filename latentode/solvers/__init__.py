"""Solvers by name. They know no networks, and nothing of gradients but that a graph may grow along."""

from __future__ import annotations

from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.integrate import AcceptedSteps, Integration, integrate
from latentode.solvers.solution import Solution, Status
from latentode.solvers.step_size import CONTROLLERS, FixedStep, PIController
from latentode.solvers.tableaus import TABLEAUS, Tableau

SOLVERS = {name: ExplicitRK(tableau) for name, tableau in TABLEAUS.items()}

__all__ = [
    "CONTROLLERS",
    "SOLVERS",
    "TABLEAUS",
    "AcceptedSteps",
    "ExplicitRK",
    "FixedStep",
    "Integration",
    "PIController",
    "Solution",
    "Status",
    "Tableau",
    "integrate",
]
