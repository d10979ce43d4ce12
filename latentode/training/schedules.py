"""Schedules as plain functions: learning rates over the whole training, weights over its first epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

LearningRateSchedule = Callable[[float], float]


def one_cycle(fraction: float, *, warmup: float = 0.2, start: float = 1 / 25, end: float = 1 / 1000) -> float:
    """Cosine up to the full learning rate, then cosine down to almost nothing.

    Good for a fixed number of epochs: the small rates at the end settle the weights. Not for a training
    without a planned end, which would never reach them.

    Parameters
    ----------
    fraction : float
        Part of all optimiser steps already taken, from 0 (first step) to 1 (last step).
    warmup : float
        Part of the steps that the rise takes, in (0, 1).
    start, end : float
        Factors at the first and at the last step.

    Returns
    -------
    float
        Factor of the learning rate; 1 at `fraction == warmup`.

    References
    ----------
    Smith & Topin (2019), "Super-convergence: very fast training of neural networks using large learning
    rates".
    """
    if fraction < warmup:
        return _cosine(start, 1.0, fraction / warmup)
    return _cosine(1.0, end, (fraction - warmup) / (1.0 - warmup))


def constant(fraction: float) -> float:
    """The full learning rate at every step: for short trials and for continuing a finished training."""
    return 1.0


def linear(step: float, n: float, *, start: float = 0.0) -> float:
    """Weight that grows in a straight line and then stays at 1, such as the weight of the KL in the ELBO.

    Parameters
    ----------
    step : float
        Epochs (or steps) counted so far.
    n : float
        Epochs (or steps) after which the weight is 1; 0 for a weight of 1 from the beginning.
    start : float
        Weight at step 0.

    Returns
    -------
    float
        Weight in [start, 1].

    References
    ----------
    Bowman et al. (2016), "Generating sentences from a continuous space", section 3.1.
    """
    if n < 0:
        raise ValueError(f"n, the length of the warm-up, must be at least 0; got {n!r}")
    done = 1.0 if n == 0 else min(max(step / n, 0.0), 1.0)
    return start + (1.0 - start) * done


SCHEDULES: dict[str, LearningRateSchedule] = {"one_cycle": one_cycle, "constant": constant}


def schedule_for(schedule: str | LearningRateSchedule) -> LearningRateSchedule:
    """The schedule of that name, or the given function of the fraction of steps taken."""
    if callable(schedule):
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(
            f"schedule must be one of {sorted(SCHEDULES)} or a function of the fraction of steps taken; "
            f"got {schedule!r}"
        )
    return SCHEDULES[schedule]


def _cosine(first: float, last: float, fraction: float) -> float:
    """From `first` to `last` along half a cosine, flat at both ends."""
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * fraction))
