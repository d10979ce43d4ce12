"""Drop-in replacements for torchdiffeq's functions of the same names."""

from __future__ import annotations

from latentode.drop_in.odeint import odeint, odeint_adjoint, odeint_event

__all__ = ["odeint", "odeint_adjoint", "odeint_event"]
