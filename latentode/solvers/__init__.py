"""Solvers by name. They know no networks, and nothing of gradients but that a graph may grow along."""

from __future__ import annotations

from typing import Any

from latentode.solvers.explicit_rk import ExplicitRK
from latentode.solvers.integrate import AcceptedSteps, Integration, integrate
from latentode.solvers.reversible import Reversible, ReversibleHeun
from latentode.solvers.solution import Solution, Status
from latentode.solvers.step_size import CONTROLLERS, FixedStep, PIController
from latentode.solvers.tableaus import TABLEAUS, Tableau

SOLVERS: dict[str, Any] = {name: ExplicitRK(tableau) for name, tableau in TABLEAUS.items()}
SOLVERS["reversible_heun"] = ReversibleHeun()

__all__ = [
    "CONTROLLERS",
    "SOLVERS",
    "TABLEAUS",
    "AcceptedSteps",
    "ExplicitRK",
    "FixedStep",
    "Integration",
    "PIController",
    "Reversible",
    "ReversibleHeun",
    "Solution",
    "Status",
    "Tableau",
    "integrate",
]
