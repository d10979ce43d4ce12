"""The errors of the package, all of them also one of Python's own kinds."""

from __future__ import annotations

import sys
import warnings


class DataError(ValueError):
    """A table that cannot be used: the message names the column, series or row and how to repair it."""


class ModelFileError(ValueError):
    """A file that holds no usable model: the message names the file, what is wrong with it and what to do."""

    found: str = ""  # what is wrong with the file, without its name and the repair


class SolverError(RuntimeError):
    """A differential equation that could not be solved: the message names series, time and status."""


class LatentODEWarning(UserWarning):
    """Something the caller should know; the results are still finite and well defined."""


def warn_user(message: str) -> None:
    """A `LatentODEWarning` at the line that called into the package, however deep inside it is found out."""
    frames = [sys._getframe()]
    while (caller := frames[-1].f_back) is not None:
        frames.append(caller)
    inside = [frame.f_globals.get("__name__", "").split(".")[0] == "latentode" for frame in frames]
    level = len(frames) - inside[::-1].index(True)  # of the outermost: torch's decorators may lie between
    warnings.warn(message, LatentODEWarning, stacklevel=level + 1)
