"""A training on disk: continued as if it had never stopped, and never a reason to lose one."""

from __future__ import annotations

import errno
import json
import math
import os
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_stubs import Diary, Parts, Point

from latentode import storage
from latentode.exceptions import LatentODEWarning
from latentode.training import BestWeights, Callback, Checkpoint, EarlyStopping, ProgressBar, Trainer

ZERO = torch.zeros(1, dtype=torch.float64)


class Draws:
    """Random numbers whose state can be kept."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(3)

    def state_dict(self):
        return {"state": self.generator.get_state()}

    def load_state_dict(self, tree):
        self.generator.set_state(tree["state"])


class Killed(BaseException):
    """What nothing catches."""


class KillsAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_end(self, state) -> None:
        if state.epoch == self.epoch:
            raise Killed


def network(width=5):
    torch_state = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.BatchNorm1d(width), nn.Linear(width, 1)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch_state, dtype=torch.float64))
    return model


def fit(checkpoint=None, *callbacks, max_epochs=8, bad_in=None, patience=None, model=None):
    """A training with noise, buffers, best weights and, in epoch `bad_in`, one loss that is NaN."""
    model, draws = network() if model is None else model, Draws()
    rng = np.random.default_rng(0)
    x = torch.as_tensor(rng.normal(size=(12, 3)))
    tries = []

    def loss(batch, epoch):
        noise = torch.randn(len(batch), 1, generator=draws.generator, dtype=torch.float64)
        tries.append(epoch)
        factor = math.nan if epoch == bad_in and tries.count(epoch) == 2 else 1.0
        return Parts(((model(batch) - batch.sum(1, keepdim=True) - noise) ** 2).mean() * factor)

    own = [BestWeights(), *([EarlyStopping(patience)] if patience else [])]
    history = Trainer(max_epochs, lr=0.3, callbacks=[*own, *callbacks]).fit(
        model,
        lambda epoch: x.split(4),
        loss=loss,
        validation_batches=lambda: [x],
        validation_loss=lambda batch, epoch: Parts(((model(batch) - batch.sum(1, keepdim=True)) ** 2).mean()),
        sources=[draws],
        checkpoint=checkpoint,
    )
    return model, history


def assert_same(one, other):
    (model, history), (twin, again) = one, other
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, twin.state_dict()[name]), name
    mine, theirs = ({k: v for k, v in h.as_table().items() if k != "seconds"} for h in (history, again))
    assert mine == theirs
    assert history.stop_reason == again.stop_reason


def kill_in(epoch, folder, **arguments):
    with pytest.raises(Killed):
        fit(Checkpoint(folder, "one"), KillsAt(epoch), **arguments)


@pytest.mark.parametrize("epochs", [[2], [8], [2, 3, 7], [1, 5, 5, 5]], ids=str)
@pytest.mark.parametrize("params", [{}, {"patience": 2}, {"bad_in": 4}], ids=str)
def test_a_killed_training_ends_as_an_undisturbed_one(epochs, params, tmp_path):
    whole = fit(**params)
    if params:  # otherwise the case says nothing
        assert len(whole[1]) < 8 or sum(whole[1].as_table()["restarts"]) == 1
    for epoch in epochs:
        if epoch <= len(whole[1]):
            kill_in(epoch, tmp_path, **params)
    assert_same(fit(Checkpoint(tmp_path, "one"), **params), whole)


def test_a_checkpoint_changes_nothing(tmp_path):
    assert_same(fit(Checkpoint(tmp_path, "one")), fit())


@pytest.mark.parametrize("patience", [None, 2])
def test_a_finished_training_is_returned_at_once(tmp_path, patience):
    whole, diary = fit(Checkpoint(tmp_path, "one"), patience=patience), Diary()
    assert_same(fit(Checkpoint(tmp_path, "one"), diary, patience=patience), whole)
    assert diary.calls == ["fit begins", "fit ends"]


def test_the_bar_of_a_finished_training_is_full(tmp_path, capsys):
    fit(Checkpoint(tmp_path, "one"))
    fit(Checkpoint(tmp_path, "one"), ProgressBar())
    last = capsys.readouterr().err.split("\r")[-1]
    assert "epoch 8/8" in last
    assert "100%" in last


def test_a_training_that_a_callback_stopped_is_finished(tmp_path):
    whole = fit(Checkpoint(tmp_path, "one"), lambda record: record["epoch"] == 3)
    again = fit(Checkpoint(tmp_path, "one"))
    assert_same(again, whole)
    assert len(again[1]) == 3


def test_trainings_of_other_names_share_a_folder(tmp_path):
    fit(Checkpoint(tmp_path, "one"), max_epochs=2)
    assert_same(fit(Checkpoint(tmp_path, "two")), fit())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.safetensors", "two.safetensors"]


def test_the_file_is_plain_safetensors_and_json(tmp_path):
    model, _ = fit(Checkpoint(tmp_path, "one"), max_epochs=2)
    content = (tmp_path / "one.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tree = json.loads(json.loads(header["__metadata__"]["header"])["tree"])
    assert tree["epoch"] == 2
    assert [record["epoch"] for record in tree["records"]] == [1, 2]
    tensors = load_file(tmp_path / "one.safetensors")
    assert tensors["/model/0.weight"].shape == model[0].weight.shape


# --- files that cannot be used


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "text":
        content = bytearray(b"no checkpoint at all")
    elif how == "bit":
        content[-5] ^= 1
    elif how == "json":
        content = bytearray(re.sub(rb'(epoch\\+": )3', rb"\g<1>2", bytes(content), count=1))
        assert bytes(content) != path.read_bytes()
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["cut", "empty", "text", "bit", "json"])
def test_a_damaged_file_is_told_and_replaced(how, tmp_path):
    kill_in(4, tmp_path)
    spoil(tmp_path / "one.safetensors", how)
    with pytest.warns(LatentODEWarning, match=r"one.safetensors cannot be used \(it.* from the beginning"):
        found = fit(Checkpoint(tmp_path, "one"))
    assert_same(found, fit())
    assert_same(fit(Checkpoint(tmp_path, "one")), found)  # replaced by a good one


def test_a_file_of_another_training_is_not_taken(tmp_path):
    kill_in(4, tmp_path)
    os.rename(tmp_path / "one.safetensors", tmp_path / "two.safetensors")
    with pytest.warns(LatentODEWarning, match="it belongs to another training or version"):
        assert_same(fit(Checkpoint(tmp_path, "two")), fit())


def test_safetensors_of_somebody_else_are_not_taken(tmp_path):
    save_file({"x": ZERO}, tmp_path / "one.safetensors")
    with pytest.warns(LatentODEWarning, match="it is a safetensors file, but none of latentode"):
        assert_same(fit(Checkpoint(tmp_path, "one")), fit())


def test_a_file_of_another_model_is_not_taken(tmp_path):
    """Same name, but other shapes: nothing of it stays in the model."""
    kill_in(4, tmp_path)
    with pytest.warns(LatentODEWarning, match="it is of another model: .* state_dict for Sequential"):
        found = fit(Checkpoint(tmp_path, "one"), model=network(4))
    assert_same(found, fit(model=network(4)))


def test_a_folder_in_place_of_the_file_is_told(tmp_path):
    (tmp_path / "one.safetensors").mkdir()
    with pytest.warns(LatentODEWarning) as caught:
        assert_same(fit(Checkpoint(tmp_path, "one")), fit())
    assert [("cannot be used" in str(w.message), "could not be saved" in str(w.message)) for w in caught] == [
        (True, False),
        (False, True),
    ]


def test_what_a_kill_in_a_write_leaves_does_no_harm_and_goes(tmp_path):
    kill_in(4, tmp_path)
    (tmp_path / f".one.safetensors.abc{storage.UNFINISHED}").write_bytes(b"half of a file")
    (tmp_path / f".other.safetensors.abc{storage.UNFINISHED}").write_bytes(b"of somebody else")
    checkpoint = Checkpoint(tmp_path, "one")
    checkpoint.sweep()
    assert_same(fit(checkpoint), fit())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f".other.safetensors.abc{storage.UNFINISHED}",
        "one.safetensors",
    ]


# --- writes that fail


def test_a_full_disk_costs_one_warning(tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    text = r"could not be saved to .*one.safetensors \(No space left on device\): it goes on"
    with pytest.warns(LatentODEWarning, match=text) as caught:
        found = fit(Checkpoint(tmp_path, "one"))
    assert len(caught) == 1
    assert_same(found, fit())
    assert list(tmp_path.iterdir()) == []  # nothing half written is left


def test_a_disk_that_is_full_for_a_while_leaves_an_older_checkpoint(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full_later(handle):
        calls.append(handle)
        if len(calls) > 4:  # two for each epoch: file and folder
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(storage.os, "fsync", full_later)
    with pytest.warns(LatentODEWarning, match="No space left"):
        kill_in(5, tmp_path)
    monkeypatch.undo()
    assert Checkpoint(tmp_path, "one").saved["epoch"] == 2
    assert_same(fit(Checkpoint(tmp_path, "one")), fit())


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(LatentODEWarning, match="could not be saved") as caught:
        found = fit(Checkpoint(tmp_path / "file" / "below", "one"))
    assert len(caught) == 1
    assert_same(found, fit())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.warns(LatentODEWarning, match="Permission denied") as caught:
        fit(Checkpoint(tmp_path, "one"))
    tmp_path.chmod(0o700)
    assert len(caught) == 1


def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path):
    def remove(record):
        if record["epoch"] == 3:
            (tmp_path / "sub" / "one.safetensors").unlink()
            (tmp_path / "sub").rmdir()

    fit(Checkpoint(tmp_path / "sub", "one"), remove)
    assert Checkpoint(tmp_path / "sub", "one").saved["epoch"] == 8


def test_a_callback_whose_state_is_no_json_costs_one_warning(tmp_path):
    class Odd(Callback):
        def state_dict(self):
            return {"state": object()}

        def load_state_dict(self, tree):
            pass

    with pytest.warns(LatentODEWarning, match="Object of type object is not JSON serializable") as caught:
        found = fit(Checkpoint(tmp_path, "one"), Odd())
    assert len(caught) == 1
    assert_same(found, fit())


def test_callbacks_with_a_state_are_continued(tmp_path):
    class Counts(Callback):
        n = 0

        def on_epoch_end(self, state):
            self.n += 1

        def state_dict(self):
            return {"n": self.n}

        def load_state_dict(self, tree):
            self.n = tree["n"]

    with pytest.raises(Killed):
        fit(Checkpoint(tmp_path, "one"), Counts(), KillsAt(4))
    counts = Counts()
    fit(Checkpoint(tmp_path, "one"), counts, KillsAt(0))
    assert counts.n == 8


def test_point_without_validation_is_continued(tmp_path):
    def train(*callbacks):
        model = Point(5.0, -1.0)
        Trainer(5, lr=0.2, callbacks=callbacks).fit(
            model,
            lambda e: [ZERO] * 2,
            loss=model.half_squared_distance,
            checkpoint=Checkpoint(tmp_path, "point") if callbacks else None,
        )
        return model.w.detach()

    with pytest.raises(Killed):
        train(KillsAt(3))
    assert torch.equal(train(KillsAt(0)), train())
