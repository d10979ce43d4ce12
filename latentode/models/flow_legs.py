"""Which block of a flow carries points how far, on a way through the flow's time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

DIGITS = 12  # of a block's time: 2/3 of a flow of three blocks is the end of the second one


class Leg(NamedTuple):
    """A piece of the way within one block.

    block : int
    times : list of float
        In the block's own time: where the leg begins, what is asked for, and where it ends.
    asked : list of int
        Places of what is asked for among the times.
    """

    block: int
    times: list[float]
    asked: list[int]


def legs(times: Sequence[float], end_time: float, n_blocks: int) -> list[Leg]:
    """The way from the first of monotone times through all others, in a flow of equal blocks.

    Blocks share the flow's time [0, end_time], and each lives through [0, end_time] of its own meanwhile: the first and
    the last one also beyond. All of `times` are asked for, once each.
    """
    forwards = times[-1] >= times[0]
    own = [[_own_time(t, end_time, n_blocks, block) for t in times] for block in range(n_blocks)]
    ends = [
        _ends(times, end_time, last=block == n_blocks - 1, first=block == 0)
        for block, times in enumerate(own)
    ]
    order = range(n_blocks) if forwards else range(n_blocks)[::-1]
    passed = [block for block in order if ends[block][0] != ends[block][1]]
    if not passed:  # a way of no length, within the block that has it
        passed = [next(block for block in order if ends[block][0] == own[block][0])]
    return [_leg(block, own[block], *ends[block], first=block == passed[0]) for block in passed]


def _ends(own: list[float], end_time: float, *, first: bool, last: bool) -> tuple[float, float]:
    """Where a way through a block begins and ends."""
    low, high = -math.inf if first else 0.0, math.inf if last else end_time
    return min(max(own[0], low), high), min(max(own[-1], low), high)


def _leg(block: int, own: list[float], begin: float, stop: float, *, first: bool) -> Leg:
    """What lies after the beginning up to the end; at the beginning only where there was no leg before."""
    low, high = min(begin, stop), max(begin, stop)
    inside = [t for t in own if low <= t <= high and (first or t != begin)]
    times = inside if first else [begin, *inside]
    asked = list(range(len(times) - len(inside), len(times)))
    return Leg(block, times if times[-1] == stop else [*times, stop], asked)


def _own_time(t: float, end_time: float, n_blocks: int, block: int) -> float:
    return t if n_blocks == 1 else end_time * round(n_blocks * t / end_time - block, DIGITS)
