from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from training_stubs import Diary, Parts, Point

from latentode.training import Callback, NonFiniteLossError, Trainer, one_cycle

ZERO = torch.zeros(1, dtype=torch.float64)


def regression(seed=0, n=40):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    return x, x @ [1.5, -2.0, 0.5] + rng.normal(scale=0.3, size=n)


def fit_regression(max_epochs=300, batch_size=40, **arguments):
    x, y = (torch.as_tensor(array) for array in regression())
    model = Point(0.0, 0.0, 0.0)
    pieces = list(zip(x.split(batch_size), y.split(batch_size), strict=True))

    def loss(batch, epoch):
        residual = batch[1] - batch[0] @ model.w
        return Parts((residual**2).mean(), {"largest": residual.abs().max()}, weight=len(residual))

    history = Trainer(max_epochs, lr=0.1, **arguments).fit(
        model, lambda epoch: pieces, loss=loss, validation_batches=lambda: pieces
    )
    return model, history


# --- what it computes


def test_regression_reaches_the_least_squares_solution():
    model, history = fit_regression()
    best, residual, *_ = np.linalg.lstsq(*regression())
    np.testing.assert_allclose(model.w.detach(), best, atol=1e-4)  # the last step: lr / 1000
    # the loss is flat at its minimum: an error of 1e-4 in w counts squared
    assert history[-1]["validation_loss"] == pytest.approx(residual[0] / 40, rel=1e-6)


def adam_by_hand(w, target, rates, max_norm):
    """Kingma & Ba (2015), algorithm 1, on ½ |w − target|² with the gradient scaled down to `max_norm`."""
    m = v = np.zeros_like(w)
    for t, rate in enumerate(rates, start=1):
        g = w - target
        g = g * min(1.0, max_norm / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_those_of_adam_with_clipping_and_schedule(fused, monkeypatch):
    adam = torch.optim.Adam

    def without_kernel(parameters, lr, fused=False):
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be on a supported device")
        return adam(parameters, lr=lr)

    if not fused:
        monkeypatch.setattr(torch.optim, "Adam", without_kernel)
    model, target = Point(3.0, -4.0), torch.tensor([0.0, 1.0], dtype=torch.float64)
    Trainer(3, lr=0.3, max_norm=2.0).fit(
        model, lambda epoch: [target, target], loss=model.half_squared_distance
    )
    rates = [0.3 * one_cycle(step / 5) for step in range(6)]
    expected = adam_by_hand(np.array([3.0, -4.0]), target.numpy(), rates, max_norm=2.0)
    np.testing.assert_allclose(model.w.detach(), expected, rtol=1e-6)  # clipping adds 1e-6 to the norm


def test_learning_rate_moves_with_every_step_and_is_recorded():
    model, diary = Point(1.0), Diary()
    history = Trainer(3, lr=0.5, callbacks=[diary]).fit(
        model, lambda epoch: [ZERO] * 4, loss=model.half_squared_distance
    )
    assert diary.rates == pytest.approx([0.5 * one_cycle(step / 11) for step in range(12)])
    assert history.as_table()["learning_rate"] == diary.rates[3::4]


def test_schedule_stays_at_its_end_when_an_epoch_is_longer_than_the_first():
    model, diary = Point(1.0), Diary()
    Trainer(2, lr=0.5, callbacks=[diary]).fit(
        model, lambda epoch: [ZERO] * (2 if epoch == 1 else 4), loss=model.half_squared_distance
    )
    assert diary.rates[-3:] == pytest.approx([0.5 / 1000] * 3)


def test_gradient_is_clipped_to_the_norm_and_recorded_before():
    model, diary = Point(3.0, -4.0), Diary()
    trainer = Trainer(1, lr=1e-9, max_norm=0.5, callbacks=[diary])
    history = trainer.fit(
        model, lambda epoch: [torch.zeros(2), torch.full((2,), -100.0)], loss=model.half_squared_distance
    )
    np.testing.assert_allclose(diary.grads[0], [0.3, -0.4], rtol=1e-6)
    expected = (math.hypot(3, 4) + math.hypot(103, 96)) / 2
    assert history[0]["gradient_norm"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("max_norm", [None, 6.0])
def test_gradient_within_the_norm_is_left(max_norm):
    model, diary = Point(3.0, -4.0), Diary()
    trainer = Trainer(1, max_norm=max_norm, callbacks=[diary])
    trainer.fit(model, lambda epoch: [torch.zeros(2)], loss=model.half_squared_distance)
    np.testing.assert_array_equal(diary.grads[0], [3.0, -4.0])


def test_frozen_parameters_stay():
    model = nn.ParameterDict({"free": nn.Parameter(torch.ones(1)), "frozen": nn.Parameter(torch.ones(1))})
    model["frozen"].requires_grad_(False)
    Trainer(2).fit(model, lambda e: [0.0], loss=lambda b, e: Parts((model["free"] * model["frozen"]).sum()))
    assert model["frozen"].item() == 1.0
    assert model["free"].item() < 1.0


def test_same_batches_same_weights_and_no_global_random_state():
    before = torch.get_rng_state()
    (first, _), (second, _) = (fit_regression(max_epochs=5, batch_size=7) for _ in range(2))
    assert torch.equal(first.w, second.w)
    assert torch.equal(torch.get_rng_state(), before)


# --- what it calls, in which order and mode


def test_callbacks_are_called_in_order():
    model, diary = Point(1.0), Diary()
    Trainer(2, callbacks=[diary]).fit(model, lambda e: [ZERO] * 2, loss=model.half_squared_distance)
    expected = "fit begins,batch 1.1,batch 1.2,epoch 1,batch 2.1,batch 2.2,epoch 2,fit ends"
    assert diary.calls == expected.split(",")


def test_callbacks_begin_and_end_in_the_order_given():
    calls = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_fit_begin(self, state):
            calls.append(f"{self.name} begins")

        def on_fit_end(self, state):
            calls.append(f"{self.name} ends")

    model = Point(1.0)
    trainer = Trainer(1, callbacks=[Named("a"), Named("b")])
    trainer.fit(model, lambda epoch: [ZERO], loss=model.half_squared_distance)
    assert calls == ["a begins", "b begins", "a ends", "b ends"]


def test_batches_are_asked_for_once_per_epoch():
    model, epochs, validations = Point(1.0), [], []
    Trainer(3).fit(
        model,
        lambda epoch: epochs.append(epoch) or [ZERO],
        loss=model.half_squared_distance,
        validation_batches=lambda: validations.append(1) or [ZERO],
    )
    assert epochs == [1, 2, 3]
    assert len(validations) == 3


def test_losses_are_told_the_epoch():
    model, told = Point(1.0), []

    def loss(batch, epoch):
        told.append((epoch, torch.is_grad_enabled()))
        return model.half_squared_distance(batch, epoch)

    Trainer(2).fit(model, lambda epoch: [ZERO], loss=loss, validation_batches=lambda: [ZERO])
    assert told == [(1, True), (1, False), (2, True), (2, False)]


@pytest.mark.parametrize("interrupted", [False, True])
def test_modes_are_train_then_eval_then_as_before(interrupted):
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))
    model.eval()
    model[0].train()
    modes = []

    def loss(batch, epoch):
        modes.append(model.training and model[1].training)
        if interrupted and len(modes) == 2:
            raise KeyboardInterrupt
        return Parts(model[0].weight.sum())

    def fit():
        Trainer(2).fit(model, lambda epoch: [0], loss=loss, validation_batches=lambda: [0])

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            fit()
    else:
        fit()
    assert modes == [True, False, True, False][: len(modes)]
    assert (model.training, model[0].training, model[1].training) == (False, True, False)


# --- what it records


def test_history_has_one_record_per_epoch_with_weighted_means():
    model = Point(0.0)
    batches = [(2.0, 30), (6.0, 10)]

    def loss(batch, epoch):
        value, weight = batch
        return Parts(model.w.sum() * 0 + value * epoch, {"kl": value / 2}, weight)

    history = Trainer(2).fit(model, lambda e: batches, loss=loss, validation_batches=lambda: batches[1:])
    table = history.as_table()
    assert list(table) == [
        "epoch",
        "train_loss",
        "train_kl",
        "learning_rate",
        "gradient_norm",
        "validation_loss",
        "validation_kl",
        "restarts",
        "seconds",
    ]
    assert table["epoch"] == [1, 2]
    assert table["train_loss"] == [3.0, 6.0]
    assert table["train_kl"] == [1.5, 1.5]
    assert table["validation_loss"] == [6.0, 12.0]
    assert table["gradient_norm"] == [0.0, 0.0]
    assert all(second >= 0 for second in table["seconds"])


def test_history_has_no_validation_columns_without_validation():
    model = Point(1.0)
    history = Trainer(1).fit(model, lambda epoch: [ZERO], loss=model.half_squared_distance)
    columns = ["epoch", "train_loss", "learning_rate", "gradient_norm", "restarts", "seconds"]
    assert list(history.as_table()) == columns


# --- what it refuses


def breaks_at(model, epoch, value):
    def loss(batch, now):
        factor = value if (now, batch) == (epoch, 1) else 1.0
        return Parts((model.w * factor).sum())

    return loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_loss_names_epoch_and_batch_and_leaves_the_weights_finite(value):
    model = Point(1.0)
    text = f"the loss is {value} in epoch 2, training batch 2, with the learning rate halved 3 times: try a smaller lr"
    with pytest.raises(NonFiniteLossError, match=text) as error:
        Trainer(3).fit(model, lambda epoch: [0, 1, 2], loss=breaks_at(model, 2, value))
    assert (error.value.epoch, error.value.batch) == (2, 2)
    assert torch.isfinite(model.w).all()


def test_non_finite_validation_loss_names_epoch_and_batch():
    model = Point(1.0)
    with pytest.raises(RuntimeError, match="the loss is nan in epoch 3, validation batch 2"):
        Trainer(3).fit(
            model,
            lambda epoch: [ZERO],
            loss=model.half_squared_distance,
            validation_batches=lambda: [0, 1],
            validation_loss=breaks_at(model, 3, math.nan),
        )


def test_non_finite_gradient_of_a_finite_loss_is_not_stepped():
    model = Point(0.0)
    with pytest.raises(NonFiniteLossError, match="norm of the gradient is inf in epoch 1, training batch 1"):
        Trainer(1).fit(model, lambda epoch: [0], loss=lambda b, e: Parts(model.w.sqrt().sum()))
    assert model.w.item() == 0.0


@pytest.mark.parametrize("model", [nn.Tanh(), nn.Linear(1, 1).requires_grad_(False)])
def test_model_without_trainable_parameters_is_refused(model):
    with pytest.raises(ValueError, match="the model has no trainable parameters"):
        Trainer(1).fit(model, lambda epoch: [0], loss=lambda b, e: Parts(ZERO))


def test_batches_without_a_length_are_refused():
    model = Point(1.0)
    with pytest.raises(ValueError, match=r"something with a length, such as a list.*got generator"):
        Trainer(1).fit(model, lambda e: (ZERO for _ in range(2)), loss=model.half_squared_distance)


def test_no_batches_are_refused():
    model = Point(1.0)
    with pytest.raises(ValueError, match="train_batches gave no batch"):
        Trainer(1).fit(model, lambda epoch: [], loss=model.half_squared_distance)


def test_an_epoch_without_batches_is_refused():
    model = Point(1.0)
    with pytest.raises(ValueError, match="train_batches gave no batch"):
        Trainer(2).fit(model, lambda e: [ZERO] if e == 1 else [], loss=model.half_squared_distance)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0"),
        ({"max_epochs": 1, "lr": 0.0}, "lr must be positive and finite; got 0.0"),
        ({"max_epochs": 1, "lr": math.nan}, "lr must be positive and finite; got nan"),
        ({"max_epochs": 1, "lr": math.inf}, "lr must be positive and finite; got inf"),
        ({"max_epochs": 1, "max_norm": 0}, "max_norm must be positive, or None for no clipping; got 0"),
        ({"max_epochs": 1, "schedule": "one-cycle"}, "schedule must be one of .* got 'one-cycle'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        Trainer(**arguments)
