"""The errors of the package, all of them also one of Python's own kinds."""

from __future__ import annotations


class DataError(ValueError):
    """A table that cannot be used: the message names the column, series or row and how to repair it."""


class ModelFileError(ValueError):
    """A file that holds no usable model: the message names the file, what is wrong with it and what to do."""


class SolverError(RuntimeError):
    """A differential equation that could not be solved: the message names series, time and status."""


class LatentODEWarning(UserWarning):
    """Something the caller should know; the results are still finite and well defined."""
