"""Ctrl-C: the training ends in good order once an epoch is complete."""

from __future__ import annotations

import pytest
import torch
from training_stubs import Diary, Parts, Point, fit_scripted

from latentode.exceptions import LatentODEWarning
from latentode.training import BestWeights, Callback, Checkpoint, EarlyStopping, Trainer

ZERO = torch.zeros(1, dtype=torch.float64)


def fit_interrupted(epoch, batch, *callbacks, max_epochs=6, checkpoint=None, where="training"):
    """A training that is interrupted in a batch of an epoch; (model, history)."""
    model = Point(5.0)

    def loss(number, now):
        if (now, number) == (epoch, batch) and (where == "training") == torch.is_grad_enabled():
            raise KeyboardInterrupt
        return model.half_squared_distance(ZERO, now)

    validation = (lambda: [0, 1]) if where == "validation" else None
    trainer = Trainer(max_epochs, lr=0.1, schedule="constant", callbacks=callbacks)
    return model, trainer.fit(
        model, lambda e: [0, 1], loss=loss, validation_batches=validation, checkpoint=checkpoint
    )


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("batch", [0, 1])
def test_the_weights_of_the_last_complete_epoch_stay(where, batch):
    diary = Diary()
    text = (
        "training was interrupted by Ctrl-C in epoch 4; the weights of epoch 3 are kept; give checkpoint_dir="
    )
    with pytest.warns(LatentODEWarning, match=text):
        model, history = fit_interrupted(4, batch, diary, where=where)
    assert torch.equal(model.w.detach(), diary.weights[2])
    assert history.as_table()["epoch"] == [1, 2, 3]
    assert history.stop_reason == "interrupted by Ctrl-C in epoch 4"
    assert diary.calls[-1] == "fit ends"


def test_before_the_first_epoch_is_complete_it_propagates():
    with pytest.raises(KeyboardInterrupt):
        fit_interrupted(1, 1)


def test_an_interrupt_at_the_end_of_an_epoch_leaves_that_epoch_out():
    """Whatever a callback had seen of it by then: history, best weights and patience are of one epoch."""

    class Interrupts(Callback):
        def on_epoch_end(self, state):
            if state.epoch == 3:
                raise KeyboardInterrupt

    model, diary, best = Point(5.0), Diary(), BestWeights()
    with pytest.warns(LatentODEWarning, match="in epoch 3; the weights of epoch 2 are kept"):
        history = fit_scripted([3, 2, 1, 0], best, EarlyStopping(2), diary, Interrupts(), model=model)
    assert history.as_table()["validation_loss"] == [3, 2]
    assert history.best_epoch == 2
    assert torch.equal(model.w.detach(), diary.weights[1])


def test_a_second_interrupt_propagates():
    class InterruptsAgain(Callback):
        def on_fit_end(self, state):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_interrupted(3, 0, InterruptsAgain())


def test_an_interrupt_while_the_last_epoch_is_saved_is_no_early_end(tmp_path, monkeypatch):
    save = Checkpoint.save

    def interrupted(self, tree):
        save(self, tree)
        if tree["epoch"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupted)
    _, history = fit_interrupted(0, 0, max_epochs=3, checkpoint=Checkpoint(tmp_path, "one"))
    assert len(history) == 3
    assert history.stop_reason is None


def test_with_a_checkpoint_the_training_goes_on_where_it_was(tmp_path):
    whole, _ = fit_interrupted(0, 0)
    with pytest.warns(LatentODEWarning, match="the same fit with the same checkpoint_dir continues it"):
        fit_interrupted(4, 1, checkpoint=Checkpoint(tmp_path, "one"))
    diary = Diary()
    model, history = fit_interrupted(0, 0, diary, checkpoint=Checkpoint(tmp_path, "one"))
    assert torch.equal(model.w, whole.w)
    assert history.stop_reason is None
    assert [call for call in diary.calls if call.startswith("epoch")] == ["epoch 4", "epoch 5", "epoch 6"]


def test_an_interrupt_right_after_going_on_keeps_what_was_saved(tmp_path):
    with pytest.warns(LatentODEWarning):
        before, _ = fit_interrupted(4, 1, checkpoint=Checkpoint(tmp_path, "one"))
    with pytest.warns(LatentODEWarning, match="in epoch 4; the weights of epoch 3"):
        after, history = fit_interrupted(4, 0, checkpoint=Checkpoint(tmp_path, "one"))
    assert torch.equal(after.w, before.w)
    assert len(history) == 3


def test_other_exceptions_propagate():
    def loss(batch, epoch):
        if epoch == 2:
            raise OSError("the data are gone")
        return Parts(model.w.sum())

    model = Point(5.0)
    with pytest.raises(OSError, match="the data are gone"):
        Trainer(3).fit(model, lambda e: [0], loss=loss)
