"""Errors that are both of the package's kind and of the kind that torchdiffeq raises in the same place."""

from __future__ import annotations

from latentode.exceptions import SolverError


class ArgumentError(ValueError, AssertionError):
    """An argument that cannot be used; also an AssertionError, which torchdiffeq raises."""


class IntegrationError(SolverError, AssertionError):
    """A solve that failed (step underflow, too many steps, infinite values); also an AssertionError, as above."""
