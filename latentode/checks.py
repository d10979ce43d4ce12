"""Constraints of parameters, as data: what is allowed, and the message when something else comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Protocol


class Constraint(Protocol):
    """A set of allowed values that can say what it allows."""

    def allows(self, value: Any) -> bool: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Whole:
    """Integers (no booleans) of at least `low`."""

    low: int

    def allows(self, value: Any) -> bool:
        return isinstance(value, Integral) and not _is_bool(value) and int(value) >= self.low

    def __str__(self) -> str:
        return f"an int of at least {self.low}"


@dataclass(frozen=True)
class Number:
    """Finite numbers (no booleans) between two bounds; an open bound is not itself allowed."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def allows(self, value: Any) -> bool:
        if not isinstance(value, Real) or _is_bool(value) or not math.isfinite(value):
            return False
        value = float(value)
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.low == -math.inf and self.high == math.inf:
            return "a finite number"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        if self.high == math.inf:
            return f"a number {'greater than' if self.open_low else 'of at least'} {self.low:g}"
        return f"a number in {left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class OneOf:
    """One of a few values; names are compared by `==`, so numbers do not pass for booleans."""

    options: tuple[Any, ...]

    def __init__(self, options: Iterable[Any]) -> None:
        object.__setattr__(self, "options", tuple(options))

    def allows(self, value: Any) -> bool:
        return any(type(value) is type(option) and value == option for option in self.options)

    def __str__(self) -> str:
        if len(self.options) == 1:
            return repr(self.options[0])
        return f"one of {', '.join(map(repr, self.options))}"


@dataclass(frozen=True)
class That:
    """Values for which a predicate holds, with a description."""

    predicate: Callable[[Any], bool]
    description: str

    def allows(self, value: Any) -> bool:
        return self.predicate(value)

    def __str__(self) -> str:
        return self.description


def check_parameters(
    owner: str, parameters: Mapping[str, Any], constraints: Mapping[str, tuple[Constraint, ...]]
) -> None:
    """Refuse a parameter that none of its constraints allows.

    Parameters
    ----------
    owner : str
        Whose parameters these are, for the message.
    parameters : mapping of str to value
    constraints : mapping of str to tuple of constraints
        Every parameter needs an entry; one of its constraints must allow the value.

    Raises
    ------
    ValueError
        With the parameter's name, what was expected, what came, and a near name for a misspelt one.
    """
    for name, value in parameters.items():
        allowed = constraints[name]
        if any(constraint.allows(value) for constraint in allowed):
            continue
        expected = ", or ".join(map(str, allowed))
        raise ValueError(
            f"{owner}: {name} must be {expected}; got {value!r}{did_you_mean(value, _names(allowed))}"
        )


def did_you_mean(given: Any, names: Iterable[str]) -> str:
    """A hint at the name that was probably meant, or nothing."""
    if not isinstance(given, str):
        return ""
    known = list(names)
    close = [name for name in known if name.lower() == given.lower()] or get_close_matches(given, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _is_bool(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")


def _names(constraints: tuple[Constraint, ...]) -> list[str]:
    options = [option for c in constraints if isinstance(c, OneOf) for option in c.options]
    return [option for option in options if isinstance(option, str)]
