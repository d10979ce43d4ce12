"""Sides that take turns, A B A B ..., and tables of what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Timing(NamedTuple):
    """Seconds: quartiles over the rounds, and the first call, which compiles where something has to be compiled."""

    low: float
    median: float
    high: float
    first: float


def clocked(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def take_turns(
    sides: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warm: bool = True,
    clock: Callable[[Callable[[], Any]], float] = clocked,
) -> dict[str, Timing]:
    """Time every side once per round, one after the other, so that a busy moment of the machine meets all of them.

    With `warm`, a turn is two calls of which the second counts: no side pays for what its predecessor left in the
    caches, or for its threads that still spin. `clock` makes the call and tells its seconds.
    """
    first = {name: clock(call) for name, call in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            if warm:
                call()
            taken[name].append(clock(call))
    return {
        name: Timing(*np.quantile(values, (0.25, 0.5, 0.75)).tolist(), first[name])
        for name, values in taken.items()
    }


def milliseconds(timing: Timing) -> str:
    """Median and quartiles."""
    return f"{1e3 * timing.median:.3g} ({1e3 * timing.low:.3g} to {1e3 * timing.high:.3g})"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left."""
    marks = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, marks, *rows))
