"""Losses that are not finite: back to the last good epoch with half the learning rate, three times at most."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from training_stubs import Diary, Parts, Point, fit_scripted

from latentode.exceptions import SolverError
from latentode.training import BestWeights, NonFiniteLossError, Trainer
from latentode.training.trainer import RESTARTS

ZERO = torch.zeros(1, dtype=torch.float64)


class Trap:
    """½ w², and what `spring` makes of it the first `n` times that a batch of an epoch is reached."""

    def __init__(self, model, epoch, batch, n, spring):
        self.model, self.epoch, self.batch, self.n, self.spring = model, epoch, batch, n, spring
        self.weights = []

    def __call__(self, batch, epoch):
        parts = self.model.half_squared_distance(ZERO, epoch)
        if (epoch, batch) == (self.epoch, self.batch) and self.n:
            self.n -= 1
            self.weights.append(self.model.w.item())
            return self.spring(parts)
        return parts


def nan(parts):
    return Parts(parts.total * math.nan)


def unsolved(parts):
    raise SolverError("series 3 could not be solved")


def half_steps(n_good, n_halved, factor, batches=2):
    """Adam by torch, on ½ w² from 5, with the rate 0.1 for the first epochs and `factor` of it for the others."""
    w = torch.nn.Parameter(torch.tensor([5.0], dtype=torch.float64))
    adam = torch.optim.Adam([w], lr=0.1)
    for step in range(batches * (n_good + n_halved)):
        adam.param_groups[0]["lr"] = 0.1 if step < batches * n_good else 0.1 * factor
        adam.zero_grad()
        (0.5 * (w**2).sum()).backward()
        adam.step()
    return w.item()


@pytest.mark.parametrize("spring", [nan, unsolved], ids=["nan", "unsolved"])
@pytest.mark.parametrize("n", [1, RESTARTS])
@pytest.mark.parametrize(("epoch", "batch"), [(1, 1), (3, 1), (3, 0)])
def test_the_epoch_begins_again_with_half_the_rate(spring, n, epoch, batch):
    """The weights are those of a training that took the halved steps from the good state on, moments included."""
    model = Point(5.0)
    trap = Trap(model, epoch, batch, n, spring)
    history = Trainer(4, lr=0.1, schedule="constant", max_norm=None).fit(model, lambda e: [0, 1], loss=trap)
    np.testing.assert_allclose(model.w.item(), half_steps(epoch - 1, 5 - epoch, 0.5**n), rtol=1e-12)
    table = history.as_table()
    assert table["restarts"] == [n * (e == epoch) for e in (1, 2, 3, 4)]
    assert table["epoch"] == [1, 2, 3, 4]
    assert table["learning_rate"] == [0.1 if e < epoch else 0.1 * 0.5**n for e in (1, 2, 3, 4)]
    if batch == 0:  # each time from the very same weights
        assert len(set(trap.weights)) == 1


def test_an_infinite_gradient_goes_back_too():
    model = Point(0.0)
    model.w.data += 4.0
    calls = []

    def loss(batch, epoch):
        calls.append(epoch)
        bad = len(calls) == 2
        return Parts((model.w - (model.w.detach() if bad else 0.0)).abs().sqrt().sum())

    history = Trainer(2, lr=0.1).fit(model, lambda e: [0], loss=loss)
    assert history.as_table()["restarts"] == [0, 1]
    assert torch.isfinite(model.w).all()


def test_validation_batches_count_too():
    found = iter([3.0, math.nan, 2.0, 1.0])
    model, diary = Point(5.0), Diary()
    history = Trainer(3, lr=0.1, callbacks=[diary]).fit(
        model,
        lambda e: [ZERO],
        loss=model.half_squared_distance,
        validation_batches=lambda: [None],
        validation_loss=lambda batch, epoch: Parts(torch.tensor(next(found))),
    )
    assert history.as_table()["validation_loss"] == [3.0, 2.0, 1.0]
    assert history.as_table()["restarts"] == [0, 1, 0]
    assert diary.calls.count("batch 2.1") == 2
    assert diary.calls.count("epoch 2") == 1  # the end of an epoch is told once


def test_three_restarts_are_for_the_whole_training():
    model = Point(5.0)
    tries = []

    def loss(batch, epoch):
        tries.append(epoch)
        bad = tries.count(epoch) <= {1: 1, 2: 2, 3: 1}.get(epoch, 0)
        return Parts(model.half_squared_distance(ZERO, epoch).total * (math.nan if bad else 1.0))

    text = "the loss is nan in epoch 3, training batch 1, with the learning rate halved 3 times: try a smaller lr"
    with pytest.raises(NonFiniteLossError, match=text):
        Trainer(4, lr=0.1).fit(model, lambda e: [0], loss=loss)
    assert tries == [1, 1, 2, 2, 2, 3]


def test_the_weights_of_the_last_good_epoch_stay():
    model, diary = Point(5.0), Diary()
    trap = Trap(model, 3, 1, 9, nan)
    with pytest.raises(NonFiniteLossError):
        Trainer(4, lr=0.1, callbacks=[diary]).fit(model, lambda e: [0, 1], loss=trap)
    assert torch.equal(model.w.detach(), diary.weights[1])
    assert trap.n == 9 - 1 - RESTARTS


def test_the_best_weights_stay():
    model, diary = Point(5.0), Diary()
    with pytest.raises(NonFiniteLossError):
        fit_scripted([1, 2, 3, math.nan], BestWeights(), diary, model=model)
    assert torch.equal(model.w.detach(), diary.weights[0])


@pytest.mark.parametrize("phase", ["training", "validation"])
def test_the_series_of_the_batch_are_named(phase):
    names = {0: ["a"], 1: ["p", "q", "p", 3, "s", "t", "u", "v"]}
    model = Point(5.0)

    def broken(batch, epoch):
        return Parts(model.w.sum() * (math.nan if batch == 1 else 1.0))

    losses = {
        "training": {"loss": broken},
        "validation": {"loss": model.half_squared_distance, "validation_loss": broken},
    }[phase]
    text = rf"epoch 1, {phase} batch 2 \(series 'p', 'q', 3, 's', 't' and 2 more\), with .* values in these series"
    with pytest.raises(NonFiniteLossError, match=text) as error:
        Trainer(2).fit(
            model, lambda e: [0, 1], validation_batches=lambda: [0, 1], names=names.__getitem__, **losses
        )
    assert error.value.series == ("p", "q", 3, "s", "t", "u", "v")
