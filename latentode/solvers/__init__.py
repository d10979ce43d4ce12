"""Solvers by name. They know no networks, and nothing of gradients but that a graph may grow along."""

from __future__ import annotations

from latentode.solvers.adams import ADAMS, Adams
from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.implicit_rk import ImplicitRK
from latentode.solvers.implicit_tableaus import IMPLICIT_TABLEAUS
from latentode.solvers.integrate import integrate
from latentode.solvers.integration import AcceptedSteps, Integration
from latentode.solvers.method import Method
from latentode.solvers.reversible import Reversible, ReversibleHeun
from latentode.solvers.solution import Solution, Status
from latentode.solvers.step_size import CONTROLLERS, FixedStep, PIController
from latentode.solvers.tableaus import TABLEAUS, Tableau

SOLVERS: dict[str, Method] = {name: ExplicitRK(tableau) for name, tableau in TABLEAUS.items()}
SOLVERS |= {name: ImplicitRK(tableau) for name, tableau in IMPLICIT_TABLEAUS.items()}
SOLVERS |= ADAMS
SOLVERS["reversible_heun"] = ReversibleHeun()

__all__ = [
    "ADAMS",
    "CONTROLLERS",
    "IMPLICIT_TABLEAUS",
    "SOLVERS",
    "TABLEAUS",
    "AcceptedSteps",
    "Adams",
    "ExplicitRK",
    "FixedStep",
    "ImplicitRK",
    "Integration",
    "Method",
    "PIController",
    "Reversible",
    "ReversibleHeun",
    "Solution",
    "Status",
    "Tableau",
    "integrate",
]
