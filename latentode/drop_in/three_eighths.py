"""Kutta's 3/8 rule: torchdiffeq's "rk4", where the engine's is the classical method."""

from __future__ import annotations

from latentode.solvers import ExplicitRK, Tableau

# The last stage closes the step.
RK4_38 = ExplicitRK(
    Tableau(
        name="rk4",
        order=4,
        c=(0.0, 1 / 3, 2 / 3, 1.0, 1.0),
        a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
        b=(1 / 8, 3 / 8, 3 / 8, 1 / 8, 0.0),
        b_error=None,
        interpolant=(  # cubic Hermite: weights of θ, θ², θ³
            (1.0, -13 / 8, 3 / 4),
            (0.0, 9 / 8, -3 / 4),
            (0.0, 9 / 8, -3 / 4),
            (0.0, 3 / 8, -1 / 4),
            (0.0, -1.0, 1.0),
        ),
    )
)
