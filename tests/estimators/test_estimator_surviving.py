"""`checkpoint_dir=`: killed, interrupted and unlucky trainings, and what a user loses by them: nothing."""

from __future__ import annotations

import copy
import errno
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from other_process import digest, epochs_for, fitted
from sklearn.base import clone
from small_models import assert_same_weights, numbers, small, weights
from torch import nn

from latentode import LatentODEClassifier
from latentode.estimators import fitting
from latentode.exceptions import LatentODEWarning, SolverError
from latentode.models import ladder as of_ladder
from latentode.models.latent_ode import LatentODE
from latentode.nn.fields import MLPField
from latentode.solvers import Status
from latentode.training import Callback, NonFiniteLossError
from latentode.training import checkpoint as of_checkpoint

KINDS = ["plain", "window", "classifier", "early stopping"]


class Killed(BaseException):
    """What nothing catches."""


def kill_in(epoch):
    class Kills(Callback):
        def on_batch_end(self, state):
            if state.epoch == epoch:
                raise Killed

    return Kills()


def killed(kind, epoch, folder, **params):
    with pytest.raises(Killed):
        fitted(kind, checkpoint_dir=folder, callbacks=[kill_in(epoch)], **params)


# --- continued


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_fit_is_continued_to_the_same_model(kind, tmp_path):
    whole = fitted(kind, max_epochs=7)
    assert len(whole.history_) > 5
    for epoch in (3, 4, 6):
        killed(kind, epoch, tmp_path, max_epochs=7)
    assert digest(kind, fitted(kind, max_epochs=7, checkpoint_dir=tmp_path)) == digest(kind, whole)


def run_other(*arguments, **environment):
    """Kills and digest that another process prints."""
    here = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, here / "other_process.py", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here), *sys.path])} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    kills, digested = found.stdout.split()
    return int(kills), digested


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the trainings that are killed")
@pytest.mark.parametrize(
    ("kind", "n_kills"),
    [("plain", 2), *(pytest.param(kind, 10, marks=pytest.mark.slow) for kind in KINDS)],
)
def test_sigkill_at_random_moments(kind, n_kills, tmp_path):
    """Processes that are killed n times and then run to the end: the undisturbed model of this one, bit for bit."""
    kills, digested = run_other(kind, tmp_path, 1, n_kills, PYTHONHASHSEED="12345")
    if kind != "early stopping":  # that may be over before the last kill
        assert kills == n_kills
    assert digested == digest(kind, fitted(kind, max_epochs=epochs_for(n_kills)))


@pytest.mark.parametrize(
    "state", [np.random.default_rng, np.random.RandomState], ids=["Generator", "RandomState"]
)
def test_generators_are_continued_too(state, table, tmp_path):
    whole = small(random_state=state(3), max_epochs=5).fit(table)
    params = {"max_epochs": 5, "checkpoint_dir": tmp_path}
    with pytest.raises(Killed):
        small(random_state=state(3), callbacks=[kill_in(4)], **params).fit(table)
    generator = state(3)
    assert_same_weights(small(random_state=generator, **params).fit(table), whole)


def test_without_a_seed_the_first_one_is_used_again(table, tmp_path):
    """The continued fit ends as the undisturbed one of the seed that chance gave."""
    params = {"random_state": None, "max_epochs": 5, "checkpoint_dir": tmp_path}
    with pytest.raises(Killed):
        small(callbacks=[kill_in(3)], **params).fit(table)
    continued = small(**params).fit(table)
    assert continued.history_["epoch"].tolist() == [1, 2, 3, 4, 5]
    (file,) = tmp_path.iterdir()
    seed = of_checkpoint.Checkpoint(tmp_path, file.stem).saved["seed"]
    assert_same_weights(continued, small(random_state=seed, max_epochs=5).fit(table))
    assert any(
        (a != b).any() for a, b in zip(weights(continued).values(), weights(small().fit(table)).values())
    )


def test_a_finished_fit_is_returned_at_once(table, tmp_path):
    calls = []
    one = small(checkpoint_dir=tmp_path).fit(table)
    other = small(checkpoint_dir=tmp_path, callbacks=[calls.append], verbose=1).fit(table)
    assert calls == []
    assert_same_weights(one, other)
    assert other.history_.equals(one.history_)
    assert other.predict(table, [3.0]).equals(one.predict(table, [3.0]))


def test_a_checkpoint_changes_no_number(table, tmp_path):
    one, other = small(checkpoint_dir=str(tmp_path / "new" / "folder")).fit(table), small().fit(table)
    assert_same_weights(one, other)
    assert one.stop_reason_ is None


# --- which fit a file belongs to


def files(folder) -> int:
    return len(list(folder.glob("*.safetensors")))


@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0.02},
        {"max_epochs": 2},
        {"random_state": 1},
        {"random_state": None},
        {"target_cols": ["x"]},
        {"field": "gated"},
    ],
    ids=str,
)
def test_another_parameter_begins_anew(params, table, tmp_path):
    small(max_epochs=1, checkpoint_dir=tmp_path).fit(table)
    small(**({"max_epochs": 1} | params), checkpoint_dir=tmp_path).fit(table)
    assert files(tmp_path) == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda df: df.assign(x=df["x"].where(df.index != 7, 0.0)),
        lambda df: df.assign(x=df["x"].where(df.index != 7)),
        lambda df: df.assign(time=df["time"].where(df.index != 7, df["time"] + 1e-9)),
        lambda df: df.assign(id=df["id"].map("p{:02}".format)),
        lambda df: df.drop(index=7),
        lambda df: df[df["id"] > 0],
    ],
    ids=["value", "gap", "time", "ids", "row", "series"],
)
def test_another_table_begins_anew(change, table, tmp_path):
    small(max_epochs=1, checkpoint_dir=tmp_path).fit(table)
    small(max_epochs=1, checkpoint_dir=tmp_path).fit(change(table))
    assert files(tmp_path) == 2


def test_other_labels_covariates_and_controls_begin_anew(table, tmp_path):
    df = table.assign(s=1.0 * (table["id"] % 2), u=np.sin(table["time"]))

    def fit(df, labels):
        LatentODEClassifier(
            latent_dim=2, hidden_dim=4, max_epochs=1, static_cols=["s"], control_cols=["u"], random_state=0, verbose=0,
            checkpoint_dir=tmp_path,
        ).fit(df, labels)  # fmt: skip
        return files(tmp_path)

    assert fit(df, df["id"] % 3 == 0) == 1
    assert fit(df, df["id"] % 3 == 1) == 2
    assert fit(df.assign(s=df["s"] + 1), df["id"] % 3 == 0) == 3
    assert fit(df.assign(u=df["u"] + 1), df["id"] % 3 == 0) == 4
    assert fit(df, df["id"] % 3 == 0) == 4


def test_what_decides_no_weight_makes_no_file(table, tmp_path):
    small(max_epochs=1, checkpoint_dir=tmp_path).fit(table)
    small(max_epochs=1, checkpoint_dir=str(tmp_path), device="cpu", callbacks=[print]).fit(
        table.sample(frac=1, random_state=0)
    )
    assert files(tmp_path) == 1


class Own(MLPField):
    """A field of the user's own."""


def test_modules_of_ones_own_count_with_their_weights(table, tmp_path):
    field = Own(3, 4, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(field)
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    for module, n in ((field, 1), (copy.deepcopy(field), 1), (other, 2)):
        small(max_epochs=1, field=module, checkpoint_dir=tmp_path).fit(table)
        assert files(tmp_path) == n


def test_many_fits_share_a_folder(table, tmp_path):
    """As those of a grid search: clones with other parameters on parts of one table."""
    first = small(max_epochs=1, checkpoint_dir=tmp_path)
    for fold in (0, 1):
        for lr in (0.01, 0.02):
            clone(first).set_params(lr=lr).fit(table[table["id"] % 2 == fold])
    assert files(tmp_path) == 4


# --- Ctrl-C


def interrupt_in(epoch):
    class Interrupts(Callback):
        def on_batch_end(self, state):
            if state.epoch == epoch:
                raise KeyboardInterrupt

    return Interrupts()


def test_ctrl_c_leaves_a_fitted_model_with_the_best_weights(table):
    text = r"interrupted by Ctrl-C in epoch 4; the weights of epoch \d are kept; give checkpoint_dir="
    with pytest.warns(LatentODEWarning, match=text) as caught:
        model = small(max_epochs=9, callbacks=[interrupt_in(4)]).fit(table)
    assert caught[0].filename == __file__
    assert model.stop_reason_ == "interrupted by Ctrl-C in epoch 4"
    assert model.history_["epoch"].tolist() == [1, 2, 3]
    assert model.best_epoch_ == model.history_["validation_loss"].argmin() + 1
    assert np.isfinite(numbers(model.predict(table, [1.0, 5.0]))).all()


def test_after_ctrl_c_the_same_fit_continues(table, tmp_path):
    params = {"max_epochs": 6, "checkpoint_dir": tmp_path}
    with pytest.warns(LatentODEWarning, match="the same fit with the same checkpoint_dir continues it"):
        small(callbacks=[interrupt_in(4)], **params).fit(table)
    continued = small(**params).fit(table)
    assert_same_weights(continued, small(max_epochs=6).fit(table))
    assert continued.stop_reason_ is None


def test_a_classifier_is_usable_after_ctrl_c(table):
    with pytest.warns(LatentODEWarning, match="interrupted"):
        model = LatentODEClassifier(
            latent_dim=2, hidden_dim=4, max_epochs=5, random_state=0, verbose=0, callbacks=[interrupt_in(3)]
        ).fit(table, table["id"] % 2)
    assert model.predict_proba(table).notna().all(axis=None)


# --- disks


def test_a_full_disk_loses_nothing(table, tmp_path, monkeypatch):
    def full(*paths):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(of_checkpoint.os, "replace", full)
    with pytest.warns(LatentODEWarning, match="could not be saved .*No space left on device") as caught:
        model = small(checkpoint_dir=tmp_path).fit(table)
    assert [warning.filename for warning in caught] == [__file__]
    assert_same_weights(model, small().fit(table))


def test_a_folder_that_cannot_be_made_loses_nothing(table, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(LatentODEWarning, match="could not be saved") as caught:
        model = small(checkpoint_dir=tmp_path / "file" / "below").fit(table)
    assert len(caught) == 1
    assert_same_weights(model, small().fit(table))


@pytest.mark.parametrize("state", [0, None])
def test_a_damaged_file_is_told_once_and_the_fit_begins_anew(state, table, tmp_path):
    small(checkpoint_dir=tmp_path, random_state=state).fit(table)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(LatentODEWarning, match="cannot be used") as caught:
        model = small(checkpoint_dir=tmp_path, random_state=state).fit(table)
    assert len(caught) == 1
    assert len(model.history_) == 3


# --- losses and solves that fail


def spoil_losses(monkeypatch, series, times=math.inf):
    """The loss of a batch with this series is NaN, some times; the ids of the batches."""
    call, seen = fitting.Objective.__call__, []

    def spoiled(self, batch, *given):
        found = call(self, batch, *given)
        if series not in batch.ids or len(seen) >= times:
            return found
        seen.append(batch.ids)
        return found._replace(total=found.total * math.nan)

    monkeypatch.setattr(fitting.Objective, "__call__", spoiled)
    return seen


def test_a_loss_that_is_not_finite_names_the_series(table, monkeypatch):
    seen = spoil_losses(monkeypatch, 7)
    with pytest.raises(
        NonFiniteLossError, match=r"\(series .*\), with the learning rate halved 3 times: try a smaller lr"
    ) as error:
        small(batch_size=4).fit(table)
    assert len(seen) == 4
    assert 7 in error.value.series
    assert error.value.series == tuple(seen[-1])


def test_a_loss_that_recovers_is_counted(table, monkeypatch):
    spoil_losses(monkeypatch, 7, times=2)
    history = small().fit(table).history_
    assert history["restarts"].tolist() == [2, 0, 0]
    np.testing.assert_allclose(history["learning_rate"].iloc[-1], 0.01 / 1000 / 4)


def test_series_that_the_solver_cannot_solve_are_retried_and_counted(table, monkeypatch):
    """The first series of every solve fails at first: twice a batch of training, once one of validation."""
    solve = of_ladder.solve_ivp

    def fails_at_first(*given, **arguments):
        found = solve(*given, **arguments)
        if "first_step" not in arguments and len(found.status) > 1:
            found.status[0] = int(Status.STEP_UNDERFLOW)
            found.y[0].detach().fill_(math.nan)
        return found

    plain = small(validation_fraction=0.25).fit(table)
    monkeypatch.setattr(of_ladder, "solve_ivp", fails_at_first)
    model = small(validation_fraction=0.25).fit(table)
    assert model.history_["train_retried"].tolist() == [
        4,
        4,
        4,
    ]  # two batches; alone, the next one fails again
    assert model.history_["validation_retried"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(model.history_["train_loss"], plain.history_["train_loss"], rtol=1e-2)
    answers = [numbers(one.predict(table, [1.0, 5.0])) for one in (plain, model)]
    np.testing.assert_allclose(*answers, rtol=0, atol=0.05)


def test_solves_that_work_are_counted_as_none(fitted):
    assert (fitted.history_["train_retried"] == 0).all()
    assert (fitted.history_["restarts"] == 0).all()


def test_a_series_that_cannot_be_solved_in_training_is_named(table):
    """After all rungs and restarts; by its id, with repairs that the estimator has."""

    class NoNumber(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rate = nn.Parameter(torch.ones(()))

        def forward(self, t, z):
            return self.rate * z * math.nan

    named = table.assign(id=table["id"].map("p{}".format))
    text = (
        r"try a smaller lr.*series 'p\d+' \(and 5 more series\) could not be solved beyond .* with any of dopri5, .*: "
        "the states grow without bound: train with a smaller lr"
    )
    with pytest.raises(SolverError, match=text):
        small(field=NoNumber()).fit(named)


def test_answers_by_fixed_steps_alone_are_told(fitted, table, monkeypatch):
    trajectory = LatentODE.trajectory

    def unsure(self, z0, times, *given):
        found = trajectory(self, z0, times, *given)
        return found._replace(uncontrolled=torch.arange(len(times)) == 0)

    monkeypatch.setattr(LatentODE, "trajectory", unsure)
    with pytest.warns(
        LatentODEWarning, match=r"of series \d+ could be solved only with fixed steps"
    ) as caught:
        fitted.predict(table, [1.0])
    assert caught[0].filename == __file__
