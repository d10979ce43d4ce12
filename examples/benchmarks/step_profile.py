"""Which part of a training step takes how long, forwards and backwards.

A step is cut where one part hands over to the next: each part begins with tensors without a history, so that its
backward pass can be called, and timed, alone. The parts add up to the whole step, and no profiler slows them down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from training_step import TrainingTask

from latentode.models.elbo import elbo
from latentode.nn.normal import Normal

FORWARD, BACKWARD = ", forward", ", backward"
MODEL_PARTS = ("encoder", "solve", "decoder and likelihood", "sample and bound")
PARTS = ("batch", *(part + way for part in MODEL_PARTS for way in (FORWARD, BACKWARD)), "optimiser")


class Stopwatch:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin


def timed_step(task: TrainingTask) -> dict[str, float]:
    """One step, as `training_step` has it; the seconds of its parts."""
    model, clock = task.model, Stopwatch()
    encoder, solve, decoder, bound = MODEL_PARTS
    with clock("batch"):
        piece = next(task.pieces)
    with clock(encoder + FORWARD):
        posterior = model.posterior(piece.context, piece.origin)
    with clock(bound + FORWARD):
        mean, std = map(_leaf, posterior)
        eps = torch.randn(1, *mean.shape, generator=task.generator)
        z0 = Normal(mean, std).sample(eps)
    with clock(solve + FORWARD):
        first = _leaf(z0)
        z = model.trajectory(first, piece.target.times, piece.origin).z
    with clock(decoder + FORWARD):
        states = _leaf(z)
        log_lik = model.likelihood.log_prob(model.decoder(states), piece.target.values, piece.target.mask)
    with clock(bound + FORWARD):
        score = _leaf(log_lik)
        loss = elbo(score, Normal(mean, std).kl()).loss / piece.target.n_observed.sum()
    with clock("optimiser"):
        task.optimiser.zero_grad(set_to_none=True)
    with clock(bound + BACKWARD):
        loss.backward()
    with clock(decoder + BACKWARD):
        log_lik.backward(score.grad)
    with clock(solve + BACKWARD):
        z.backward(states.grad)
    with clock(bound + BACKWARD):
        z0.backward(first.grad)
    with clock(encoder + BACKWARD):
        torch.autograd.backward(list(posterior), [mean.grad, std.grad])
    with clock("optimiser"):
        task.optimiser.step()
    return clock.seconds


def _leaf(x: Tensor) -> Tensor:
    """The same numbers without their history, where a gradient is collected."""
    return x.detach().requires_grad_()
