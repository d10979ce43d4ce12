"""Schedules as plain functions: learning rates over the whole training, weights over its first epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

LearningRateSchedule = Callable[[float], float]
KLSchedule = Callable[[float, float], float]


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


def cyclic(step: float, n: float, *, cycles: int = 4, rise: float = 0.5) -> float:
    """Weight that rises from 0 to 1 again and again: `cycles` equal cycles, each a straight line and then 1.

    Good against a posterior that collapses under the first rise: every cycle starts from the weights of the one
    before and may use its latent space for more. Not for trainings of few steps per cycle, which skip over the rise.

    Parameters
    ----------
    step : float
        Epochs (or steps) counted so far; from `n` on the weight is 1.
    n : float
        Epochs (or steps) of the whole training, more than 0.
    cycles : int
        Number of cycles; with 1 it is `linear(step, rise * n)`.
    rise : float
        Part of each cycle that the rise takes, from 0 (always 1) to 1.

    Returns
    -------
    float
        Weight in [0, 1].

    References
    ----------
    Fu et al. (2019), "Cyclical annealing schedule: a simple approach to mitigating KL vanishing".
    """
    if not n > 0:
        raise ValueError(f"n, the length of the training, must be positive; got {n!r}")
    if cycles < 1:
        raise ValueError(f"cycles must be at least 1; got {cycles!r}")
    if not 0 <= rise <= 1:
        raise ValueError(f"rise must be a part of a cycle, from 0 to 1; got {rise!r}")
    done = max(step / n, 0.0)
    return 1.0 if done >= 1 else linear(done * cycles % 1.0, rise)


SCHEDULES: dict[str, LearningRateSchedule] = {"one_cycle": one_cycle, "constant": constant}

KL_SCHEDULES: dict[str, KLSchedule] = {
    "constant": lambda done, warmup: 1.0,
    "linear": linear,
    "cyclic": lambda done, warmup: cyclic(done, 1.0, rise=warmup),
}
"""Weights of the KL term by name: (done, warmup) -> weight in [0, 1].

`done` is the part of the training behind, 0 in its first epoch and 1 in its last one; `warmup` in [0, 1] is the part
of the training in which the weight rises: for "linear" at the beginning, for "cyclic" at the beginning of each of four
cycles, for "constant" not at all. Every one of them ends at 1.
"""


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
