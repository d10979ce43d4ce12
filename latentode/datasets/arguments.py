"""What the generators allow their arguments to be."""

from __future__ import annotations

import math
from typing import Any

from latentode.checks import Constraint, Number, That, Whole

COUNT: tuple[Constraint, ...] = (Whole(1),)
POSITIVE: tuple[Constraint, ...] = (Number(0, open_low=True),)
AT_LEAST_0: tuple[Constraint, ...] = (Number(0),)
SHARE: tuple[Constraint, ...] = (Number(0, 1),)


def _is_range(value: Any, low: float) -> bool:
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(Number().allows, value)):
        return False
    return low < value[0] <= value[1]


RANGE: tuple[Constraint, ...] = (
    That(lambda value: _is_range(value, -math.inf), "two numbers (smallest, largest), smallest <= largest"),
)
POSITIVE_RANGE: tuple[Constraint, ...] = (
    That(lambda value: _is_range(value, 0.0), "two numbers (smallest, largest), 0 < smallest <= largest"),
)
