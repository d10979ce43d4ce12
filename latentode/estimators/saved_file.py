"""Of which class a file is, and what goes wrong with its content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from latentode.exceptions import ModelFileError
from latentode.version import __version__

KINDS = (
    "ContinuousFlowDensity",
    "LatentODEClassifier",
    "LatentODERegressor",
    "ODENetClassifier",
    "ODENetRegressor",
    "PlanarFlowDensity",
)
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


class WrongPartError(ValueError):
    """A user's own module that does not fit the file."""


def check_kind(header: Mapping[str, Any], wanted: str) -> None:
    """Refuse a file of another class, whose name is said where it is one of ours.

    Raises
    ------
    ValueError
    """
    kind = header.get("kind")
    if kind == wanted:
        return
    if kind in KINDS:
        article = "an" if kind[0] in "AEIO" else "a"
        raise ValueError(f"it holds {article} {kind}: load it with {kind}.load")
    raise ValueError(f"it holds no {wanted}, but {str(kind)[:100]!r}")


@contextmanager
def malformed(path: str | os.PathLike[str], header: Mapping[str, Any]) -> Iterator[None]:
    """Whatever goes wrong with the content of a file, as `ModelFileError`."""
    try:
        yield
    except (ModelFileError, WrongPartError):
        raise
    except _MALFORMED as error:
        versions = header.get("versions")
        writer = versions.get("latentode") if isinstance(versions, dict) else None
        found = f"{type(error).__name__}: " if not isinstance(error, ValueError) else ""
        raise ModelFileError(
            f"{os.fspath(path)!r} cannot be loaded: {found}{str(error)[:500]} (written by latentode "
            f"{str(writer)[:20]}, read by {__version__}); give a file that `save` of this class has written"
        ) from error
