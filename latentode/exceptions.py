"""The errors of the package, all of them also one of Python's own kinds."""

from __future__ import annotations

import sys
import warnings


class DataError(ValueError):
    """A table that cannot be used: the message names the column, series or row and how to repair it."""


class SolverError(RuntimeError):
    """A differential equation that could not be solved: the message names series, time and status."""


class LatentODEWarning(UserWarning):
    """Something the caller should know; the results are still finite and well defined."""


def warn_user(message: str) -> None:
    """A `LatentODEWarning` at the line that called into the package, however deep inside it is found out."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "latentode":
        level, frame = level + 1, frame.f_back
    warnings.warn(message, LatentODEWarning, stacklevel=level)
