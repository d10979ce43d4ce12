"""Losses and gradients that are no numbers any more: the error, and what it says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from latentode.training.callbacks import FitState
from latentode.training.loss_parts import LossParts

SHOWN = 5  # series that a message names

Names = Callable[[Any], Sequence[object]]


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite.

    Attributes
    ----------
    epoch, batch : int
        Where, both counted from 1.
    series : tuple
        Names of the series in that batch, as far as they are known.
    """

    def __init__(self, message: str, *, epoch: int, batch: int, series: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.series = tuple(series)


def finite_loss(parts: LossParts, state: FitState, phase: str, batch: int, names: Sequence[object]) -> float:
    """The loss as a number.

    Raises
    ------
    NonFiniteLossError
    """
    total = float(parts.total.detach())
    if not math.isfinite(total):
        raise non_finite("loss", total, state, phase, batch, names)
    return total


def non_finite(
    what: str, value: float, state: FitState, phase: str, batch: int, names: Sequence[object]
) -> NonFiniteLossError:
    """The error for a `value` of "loss" or "norm of the gradient" in a batch of a phase, of these series."""
    series = list(dict.fromkeys(names))  # windows of one series share its name
    among = f" (series {listed(series)})" if series else ""
    where = "these series" if series else "the data"
    halved = f", with the learning rate halved {state.restarts} times" if state.restarts else ""
    return NonFiniteLossError(
        f"the {what} is {value} in epoch {state.epoch}, {phase} batch {batch}{among}{halved}: try a smaller lr, and "
        f"look for extreme values in {where}",
        epoch=state.epoch,
        batch=batch,
        series=series,
    )


def listed(names: Sequence[object]) -> str:
    """At most five names, and how many more there are."""
    shown = ", ".join(map(repr, names[:SHOWN]))
    more = len(names) - SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
