from __future__ import annotations

import functools

import pytest
import torch
from training_stubs import Diary, Parts, Point, fit_scripted, scripted

from latentode.exceptions import LatentODEWarning
from latentode.training import BestWeights, Callback, EarlyStopping, ProgressBar, Trainer, callbacks


def interrupt_at(epoch):
    def interrupt(record):
        if record["epoch"] == epoch:
            raise KeyboardInterrupt

    return interrupt


# --- early stopping: epochs counted by hand


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "n_epochs"),
    [
        ([5, 4, 4.5, 4.2, 4.1, 3], 3, 0.0, 5),  # best in 2; 3, 4, 5 are no better
        ([5, 4, 4.5, 4.2, 3.9, 4, 4, 4], 3, 0.0, 8),  # 5 improves just in time
        ([5, 4, 3, 2, 1], 1, 0.0, 5),
        ([5, 5, 5, 5], 2, 0.0, 3),  # equal is no improvement
        ([5, 4.9, 4.8, 4.7, 4.6], 2, 0.5, 3),  # each better than 5, by too little
        ([5, 4.9, 4.4, 4.3, 4.2], 2, 0.5, 5),  # 4.4 is 0.6 below 5: waiting starts again
        ([1, 2], 1, 0.0, 2),
    ],
)
def test_early_stopping_counts(losses, patience, min_delta, n_epochs):
    assert len(fit_scripted(losses, EarlyStopping(patience, min_delta))) == n_epochs


def test_early_stopping_says_why():
    assert fit_scripted([1, 2, 3], EarlyStopping(1)).stop_reason == "no better validation loss for 1 epochs"
    assert fit_scripted([3, 2, 1], EarlyStopping(1)).stop_reason is None


def test_early_stopping_starts_afresh_in_a_second_training():
    stopping = EarlyStopping(2)
    fit_scripted([1, 2, 3], stopping)
    assert len(fit_scripted([9, 8, 7, 6], stopping)) == 4


def test_early_stopping_needs_validation():
    model = Point(1.0)
    trainer = Trainer(2, callbacks=[EarlyStopping(3)])
    with pytest.raises(ValueError, match=r"early stopping needs a validation loss.*set some series aside"):
        trainer.fit(model, lambda epoch: [torch.zeros(1)], loss=model.half_squared_distance)


@pytest.mark.parametrize("patience", [0, -3])
def test_patience_must_be_positive(patience):
    with pytest.raises(ValueError, match=f"patience must be at least 1 epoch; got {patience}"):
        EarlyStopping(patience)


@pytest.mark.parametrize("min_delta", [-0.1, float("nan")])
def test_min_delta_must_not_be_negative(min_delta):
    with pytest.raises(ValueError, match=f"min_delta must be at least 0; got {min_delta}"):
        EarlyStopping(1, min_delta)


# --- best weights


def test_best_weights_come_back():
    model, diary = Point(5.0), Diary()
    history = fit_scripted([4, 3, 1, 2, 1, 6], BestWeights(), diary, model=model)
    assert history.best_epoch == 3
    assert not torch.equal(diary.weights[2], diary.weights[5])
    assert torch.equal(model.w.detach(), diary.weights[2])


def test_best_weights_come_back_after_ctrl_c():
    model, diary = Point(5.0), Diary()
    with pytest.warns(
        LatentODEWarning, match="interrupted by Ctrl-C in epoch 4; the weights of epoch 2 are kept"
    ):
        fit_scripted([4, 1, 2, 3, 0, 0], BestWeights(), diary, interrupt_at(4), model=model)
    assert torch.equal(model.w.detach(), diary.weights[1])


def test_best_weights_come_back_after_an_error_in_the_loss():
    model, diary = Point(5.0), Diary()
    with pytest.raises(RuntimeError, match="loss is nan in epoch 4"):
        fit_scripted([4, 1, 2, float("nan")], BestWeights(), diary, model=model)
    assert torch.equal(model.w.detach(), diary.weights[1])


def test_best_weights_come_back_when_another_callback_fails_at_the_end():
    class Broken(Callback):
        def on_fit_end(self, state):
            raise OSError("disk full")

    model, diary = Point(5.0), Diary()
    with pytest.raises(OSError, match="disk full"):
        fit_scripted([1, 2, 3], Broken(), BestWeights(), diary, model=model)
    assert torch.equal(model.w.detach(), diary.weights[0])


def test_best_weights_of_one_training_do_not_reach_the_next():
    keeper, model = BestWeights(), Point(5.0)
    fit_scripted([1, 2], keeper, model=Point(5.0))
    before = model.w.detach().clone()

    class Refuses(Callback):
        def on_fit_begin(self, state):
            raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        fit_scripted([1, 2], Refuses(), keeper, model=model)
    assert torch.equal(model.w.detach(), before)


def test_best_weights_start_afresh_in_a_second_training():
    keeper, model, diary = BestWeights(), Point(5.0), Diary()
    fit_scripted([0, 1], keeper)
    fit_scripted([3, 2, 4], keeper, diary, model=model)
    assert torch.equal(model.w.detach(), diary.weights[1])


def test_without_validation_the_latest_weights_stay():
    model, diary = Point(5.0), Diary()
    trainer = Trainer(3, callbacks=[BestWeights(), diary])
    trainer.fit(model, lambda epoch: [torch.zeros(1)], loss=model.half_squared_distance)
    assert torch.equal(model.w.detach(), diary.weights[2])


# --- the user's own


def test_a_function_that_returns_true_stops():
    def enough(record):
        return record["validation_loss"] < 3

    history = fit_scripted([5, 4, 2, 1], enough)
    assert len(history) == 3
    assert history.stop_reason == "stopped by enough"


def test_a_function_cannot_change_the_history():
    assert fit_scripted([5, 4], dict.clear).as_table()["validation_loss"] == [5, 4]


def test_a_callback_object_that_returns_true_stops():
    class Once(Callback):
        def on_epoch_end(self, state):
            return True

    diary = Diary()
    history = fit_scripted([5, 4], Once(), diary)
    assert history.stop_reason == "stopped by Once"
    assert diary.calls[-2:] == ["epoch 1", "fit ends"]  # the others still see the end of the epoch


@pytest.mark.parametrize("wrong", ["early_stopping", 3, None])
def test_what_is_no_callback_is_refused(wrong):
    with pytest.raises(
        ValueError, match="must be a Callback object or a function of the epoch's record; got"
    ):
        Trainer(1, callbacks=[wrong])


def test_a_callback_class_is_refused_with_the_repair():
    with pytest.raises(ValueError, match=r"got <class .*EarlyStopping'>: write EarlyStopping\(...\)"):
        Trainer(1, callbacks=[EarlyStopping])


# --- progress bar


@pytest.fixture
def every_update(monkeypatch):
    """tqdm that skips no update for having come too soon."""
    monkeypatch.setattr(callbacks, "tqdm", functools.partial(callbacks.tqdm, mininterval=0))


def fit_with_bar(verbose, n_batches=3):
    model, bar = Point(5.0), ProgressBar(verbose)
    trainer = Trainer(4, callbacks=[bar, EarlyStopping(1)])
    batches = [torch.zeros(1, dtype=torch.float64)] * n_batches
    trainer.fit(
        model,
        lambda epoch: batches,
        loss=lambda batch, epoch: Parts(0 * model.w.sum() + 1.25),
        validation_batches=lambda: batches,
        validation_loss=scripted([2.5, 1.5, 7.5]),
    )


def test_bar_is_silent_when_asked(capsys):
    fit_with_bar(0)
    assert capsys.readouterr() == ("", "")


def test_bar_shows_epochs_batches_and_losses_on_stderr(capsys, every_update):
    fit_with_bar(1)
    out, err = capsys.readouterr()
    frames = err.split("\r")
    assert out == ""
    assert any("epoch 2/4, batch 3/3" in f and "loss 1.25, train 1.25, validation 2.5" in f for f in frames)
    assert any("epoch 2/4 |" in f and "50%" in f and "train 1.25, validation 1.5" in f for f in frames)
    assert "epoch 3, no better validation loss for 1 epochs" in frames[-1]
    assert "100%" in frames[-1]


def test_bar_never_runs_ahead_of_the_epoch(capsys, every_update):
    fit_with_bar(1, n_batches=1)
    assert "batch" not in capsys.readouterr().err


def test_bar_is_there_before_the_optimiser_is_made(capsys, monkeypatch):
    seen = []
    adam = torch.optim.Adam

    def slow_adam(*given, **options):
        seen.append(capsys.readouterr().err)
        return adam(*given, **options)

    model = Point(1.0)
    monkeypatch.setattr(torch.optim, "Adam", slow_adam)
    trainer = Trainer(2, callbacks=[ProgressBar()])
    trainer.fit(model, lambda epoch: [torch.zeros(1)], loss=model.half_squared_distance)
    assert "epoch 1/2" in seen[0]
    assert "0%" in seen[0]


def test_bar_is_closed_by_an_interrupt(capsys, monkeypatch):
    bars = []
    tqdm = callbacks.tqdm
    monkeypatch.setattr(callbacks, "tqdm", lambda **given: bars.append(tqdm(**given)) or bars[0])
    with pytest.warns(LatentODEWarning):
        fit_scripted([1, 2, 3], ProgressBar(), interrupt_at(2))
    assert capsys.readouterr().err.endswith("\n")
