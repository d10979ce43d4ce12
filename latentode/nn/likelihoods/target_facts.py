"""What the training data say about a target."""

from __future__ import annotations

from typing import NamedTuple


class TargetFacts(NamedTuple):
    """What a likelihood must know of one target before training; each likelihood takes what concerns it.

    Parameters
    ----------
    level : float, default 1.0
        Mean of a count target in training: a decoder output of 0 then means this rate.
    n_categories : int, default 2
        C of a categorical target, whose values are the codes 0 to C - 1.
    """

    level: float = 1.0
    n_categories: int = 2
