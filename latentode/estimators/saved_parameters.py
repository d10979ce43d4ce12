"""Constructor parameters as a file holds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from latentode.checks import Constraint, check_parameters
from latentode.series.plain_values import as_plain, from_plain


def plain_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON; None for what no file holds: callbacks, folders, own modules, generators of numbers.

    Raises
    ------
    ValueError
        For a value of a type that has no form there.
    """
    return {name: _plain(name, value) for name, value in parameters.items()}


def read_parameters(
    plain: Any,
    known: Mapping[str, Any],
    constraints: Mapping[str, tuple[Constraint, ...]],
    own: Collection[str],
) -> dict[str, Any]:
    """Parameters of a file, within their ranges; those that came later than the file at their defaults.

    Parameters
    ----------
    plain : mapping
        What `plain_parameters` gave.
    known : mapping
        The parameters of the class with their defaults.
    constraints : mapping
        What each of them allows.
    own : collection of str
        Those that are None for a user's own modules.

    Raises
    ------
    ValueError
    """
    unknown = [name for name in plain if name not in known]
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0][:100]!r}")
    parameters = {**known, **{name: from_plain(value) for name, value in plain.items()}}
    given = {name: value for name, value in parameters.items() if not (name in own and value is None)}
    check_parameters("parameters", given, constraints)
    return parameters


def _plain(name: str, value: Any) -> Any:
    if name in ("callbacks", "checkpoint_dir") or isinstance(value, nn.Module):
        return None
    if name == "random_state" and not isinstance(value, (int, np.integer)):
        return None
    if name == "window" and not isinstance(value, str) and value is not None and not np.isscalar(value):
        value = pd.Timedelta(value)
    try:
        return as_plain(value)
    except ValueError as error:
        raise ValueError(f"the parameter {name} cannot be saved: {error}") from error
