"""How a latent differential equation is solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_STEPS = 10_000
FARTHEST = 2_000.0  # model time from the origin, beyond which a state stays as it is: no solve is longer


@dataclass(frozen=True)
class SolveOptions:
    """How the latent differential equation is solved; `solve_ivp`'s arguments of the same names.

    `step_size` is in model time; None for adaptive solvers.
    """

    solver: str = "dopri5"
    rtol: float = 1e-3
    atol: float = 1e-4
    step_size: float | None = None
    gradient: str = "discrete_adjoint"
    max_steps: int = MAX_STEPS
    engine: str = "auto"

    def arguments(self) -> dict[str, Any]:
        return dict(vars(self))
