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
    turn: float = 0.1,
    clock: Callable[[Callable[[], Any]], float] = clocked,
) -> dict[str, Timing]:
    """Time every side once per round, one after the other, so that a busy moment of the machine meets all of them.

    A turn is as many calls as fit into `turn` seconds, as in a loop of training, but two at least; the median of its
    later half counts, so that no side pays for what its predecessor left in the caches, or for its threads that still
    spin. With turn=0 it is a single call. `clock` makes the call and tells its seconds.
    """
    first = {name: clock(call) for name, call in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            taken[name].append(_turn(call, turn, clock))
    return {
        name: Timing(*np.quantile(values, (0.25, 0.5, 0.75)).tolist(), first[name])
        for name, values in taken.items()
    }


def _turn(call: Callable[[], Any], seconds: float, clock: Callable[[Callable[[], Any]], float]) -> float:
    taken = [clock(call)]
    while seconds and (len(taken) < 2 or sum(taken) < seconds):
        taken.append(clock(call))
    return float(np.median(taken[len(taken) // 2 :]))


def milliseconds(timing: Timing) -> str:
    """Median and quartiles."""
    return f"{1e3 * timing.median:.3g} ({1e3 * timing.low:.3g} to {1e3 * timing.high:.3g})"


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left."""
    marks = ["---", *["---:"] * (len(heading) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, marks, *rows))
