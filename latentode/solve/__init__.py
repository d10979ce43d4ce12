"""Initial value problems, batch first, a clock per series, differentiable."""

from __future__ import annotations

from latentode.solve.ivp import solve_ivp

__all__ = ["solve_ivp"]
