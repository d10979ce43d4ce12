"""What a training of ODE-Nets counts and keeps, and what more tolerance saves in predictions."""

from __future__ import annotations

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit
from sklearn.datasets import make_moons
from sklearn.metrics import r2_score
from small_models import assert_same_weights, weights
from small_nets import BLOCKS, classifier, clouds, line, regressor, stripes

from latentode import ODENetClassifier, ODENetRegressor
from latentode.estimators import base_ode_net
from latentode.estimators.row_split import split_rows
from latentode.exceptions import LatentODEWarning, SolverError
from latentode.training import Callback

every_block = pytest.mark.parametrize("block", BLOCKS)
every_kind = pytest.mark.parametrize("make", [classifier, regressor])

# float32 networks in batches of another size add in another order; logits are of order 1 to 10
COMPANY = 1e-4


@pytest.fixture(scope="module")
def fitted() -> ODENetClassifier:
    """A solve with a field that needs some evaluations."""
    return classifier(block="ode", max_epochs=8, tolerance=1e-3).fit(*clouds())


@pytest.fixture(scope="module")
def fitted_regressor() -> ODENetRegressor:
    return regressor(block="ode", max_epochs=8).fit(*line())


# --- tolerance at prediction


def test_more_tolerance_when_predicting_takes_fewer_evaluations(fitted):
    X = clouds(seed=1).X
    tight, own, loose = (fitted.evaluations(X, tolerance=t) for t in (1e-5, None, 0.1))
    assert own.shape == (48,)
    assert own.dtype == np.int64
    assert tight.sum() > own.sum() > loose.sum()
    assert (fitted.evaluations(X, tolerance=1e-3) == own).all()
    exact = fitted.decision_function(X, tolerance=1e-6)
    errors = [np.abs(fitted.decision_function(X, tolerance=t) - exact).max() for t in (1e-4, 1e-1)]
    assert errors[0] < errors[1]
    loosely = fitted.predict_proba(X, tolerance=0.1)[:, 1]
    np.testing.assert_allclose(loosely, expit(fitted.decision_function(X, tolerance=0.1)), rtol=1e-9)
    assert fitted.score(*clouds(seed=1), tolerance=0.1) == 1.0


def test_a_regressor_takes_a_tolerance_too(fitted_regressor):
    X, y = line()
    loose, own = fitted_regressor.predict(X, tolerance=0.3), fitted_regressor.predict(X)
    assert not np.array_equal(loose, own)
    assert fitted_regressor.score(X, y, tolerance=0.3) == r2_score(y, loose)


@pytest.mark.parametrize("ask", ["predict", "evaluations", "trajectories"])
def test_inputs_that_cannot_be_solved_are_spoken_of_as_inputs(ask, fitted, fitted_regressor):
    """No tolerance below the rounding of float32 can be met."""
    repair = r"an input could not be solved at tolerance=1e-14: raise tolerance, or check the scale of X .* \(series "
    for model, X in ((fitted, clouds().X), (fitted_regressor, line().X)):
        with pytest.raises(SolverError, match=repair) as caught:
            getattr(model, ask)(X, tolerance=1e-14)
        assert isinstance(caught.value.__cause__, SolverError)
        assert model.model_.block.n_evals.shape == (0,)
    fitted = copy.deepcopy(fitted)
    fitted.model_.block.max_steps = 1
    with pytest.raises(SolverError, match=r"an input could not be solved at tolerance=0.001: raise"):
        getattr(fitted, ask)(clouds().X)


def test_fixed_steps_that_fail_are_spoken_of_as_such():
    model = classifier(block="rk", max_epochs=1).fit(*clouds())
    model.model_.block.max_steps = 1
    with pytest.raises(
        SolverError, match=r"with step_size=0.5: check the scale of X .* or fit with a smaller one"
    ):
        model.predict(clouds().X)


def test_questions_leave_the_model_as_it_was(fitted):
    X = clouds(seed=1).X
    before, answer = copy.deepcopy(fitted), fitted.predict_proba(X)
    block = fitted.model_.block
    for ask in (fitted.predict_proba, fitted.evaluations, fitted.trajectories):
        ask(X, tolerance=0.1)
        assert block.n_evals.shape == block.n_evals_backward.shape == (0,)
    assert (block.rtol, block.atol) == (1e-3, 1e-3)
    assert_same_weights(fitted, before)
    np.testing.assert_array_equal(fitted.predict_proba(X), answer)


def test_evaluations_of_the_other_blocks():
    X, y = clouds()
    assert set(classifier(block="resnet").fit(X, y).evaluations(X)) == {2}
    counts = classifier(block="rk", step_size=0.25).fit(X, y).evaluations(X)
    assert set(counts) in ({4 * 4}, {4 * 4 + 1})  # of rk4, and one at the start that the steps may share


def test_trajectories_begin_at_the_features(fitted):
    X = clouds().X
    paths = fitted.trajectories(X)
    assert paths.shape == (48, 21, 2 + base_ode_net.VECTOR_AUGMENT)
    assert paths.dtype == np.float32
    assert (paths[:, 0, 2:] == 0).all()
    slopes = np.polyfit(X[:, 0], paths[:, 0, 0], 1)
    np.testing.assert_allclose(paths[:, 0, 0], np.polyval(slopes, X[:, 0]), atol=1e-4)
    few = fitted.trajectories(X, times=[0.0, 0.5, 1.0])
    np.testing.assert_allclose(few, paths[:, [0, 10, 20]], atol=1e-2)


def test_trajectories_end_where_the_head_reads(fitted):
    X, ends = clouds().X, []
    for tolerance in (None, 1.0):
        ends.append(torch.as_tensor(fitted.trajectories(X, times=[1.0], tolerance=tolerance)[:, 0]))
        with torch.no_grad():
            logits = fitted.model_.head(ends[-1]).double().numpy()
        decided = fitted.decision_function(X, tolerance=tolerance)
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decided, atol=COMPANY)
    assert (ends[0] - ends[1]).abs().max() > 10 * COMPANY


# --- training


def test_the_history_counts_evaluations_both_ways(fitted):
    history = fitted.history_
    assert {
        "epoch",
        "train_loss",
        "train_accuracy",
        "train_n_evals",
        "train_n_evals_backward",
        "validation_loss",
        "validation_accuracy",
        "validation_n_evals",
    } <= set(history.columns)
    assert (history[["train_n_evals", "train_n_evals_backward"]] > 6).all(axis=None)
    assert history["train_accuracy"].between(0, 1).all()
    assert fitted.best_epoch_ == history["epoch"][history["validation_loss"].argmin()]


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "adjoint", "reversible", "backprop"])
def test_every_gradient_trains(gradient):
    model = classifier(block="ode", gradient=gradient, max_epochs=8, step_size=0.5).fit(*clouds())
    assert model.score(*clouds()) > 0.9
    backwards = model.history_["train_n_evals_backward"]
    assert (backwards == 0).all() if gradient == "backprop" else (backwards > 0).all()


@pytest.mark.parametrize(
    ("solver", "step_size"), [("tsit5", None), ("rk4", None), ("rk4", 0.1), ("kvaerno3", None)]
)
def test_other_solvers(solver, step_size):
    model = classifier(block="ode", solver=solver, step_size=step_size, max_epochs=1).fit(*clouds())
    expected = base_ode_net.STEP_SIZE if solver == "rk4" and step_size is None else step_size
    assert model.model_.block.step_size == expected
    assert np.isfinite(model.predict_proba(clouds().X)).all()


@every_kind
def test_the_same_seed_gives_the_same_weights(make):
    X, y = clouds()
    state = torch.random.get_rng_state()
    one = make().fit(X, y)
    torch.manual_seed(5)
    assert_same_weights(one, make().fit(X, y))
    drawn = [make(random_state=np.random.default_rng(3)).fit(X, y) for _ in range(2)]
    assert_same_weights(*drawn)
    others = [make(random_state=state).fit(X, y) for state in (1, None)]
    assert all((weights(other)["head.bias"] != weights(one)["head.bias"]).any() for other in others)
    torch.random.set_rng_state(state)


def test_validation_rows_come_from_every_class():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], [80, 15, 5])
    split = split_rows(100, 0.2, rng, codes)
    assert np.bincount(codes[split.validation]).tolist() == [16, 3, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(100))
    assert len(split_rows(100, 0.1, rng, codes).validation) == 8 + 1 + 0
    assert len(split_rows(9, 0.1, rng).validation) == 0
    assert len(split_rows(100, 0.25, rng).validation) == 25
    assert (split_rows(100, 0.25, rng).validation != split_rows(100, 0.25, rng).validation).any()


def test_training_stops_early_and_keeps_the_best_weights():
    X = clouds(seed=3).X
    noise = np.random.default_rng(0).integers(0, 2, 48)
    params = {"lr": 0.3, "max_epochs": 40, "patience": 3, "validation_fraction": 0.3}
    model = classifier(**params).fit(X, noise)
    assert model.stop_reason_ is not None
    assert len(model.history_) == model.best_epoch_ + 3 < 40
    whole = classifier(**(params | {"early_stopping": False})).fit(X, noise)
    assert len(whole.history_) == 40
    assert whole.stop_reason_ is None
    again = classifier(**(params | {"early_stopping": False, "validation_fraction": 0})).fit(X, noise)
    assert again.best_epoch_ is None
    assert "validation_loss" not in again.history_


def test_epochs_by_default_make_a_number_of_steps(monkeypatch):
    monkeypatch.setattr(base_ode_net.BaseODENet, "_default_steps", 12)
    model = classifier(max_epochs=None, validation_fraction=0).fit(*clouds())
    assert len(model.history_) == 4  # of three batches each
    monkeypatch.setattr(base_ode_net.BaseODENet, "_most_epochs", 3)
    assert len(classifier(max_epochs=None, validation_fraction=0).fit(*clouds()).history_) == 3


def test_epochs_by_default_are_as_many_as_documented():
    assert "1,500 steps of the optimiser, at most 200." in ODENetClassifier.__doc__
    assert [classifier()._default_epochs(n) for n in (1, 7, 8, 15, 5000)] == [200, 200, 188, 100, 1]


@pytest.mark.slow
def test_a_few_hundred_rows_learn_in_50_epochs():
    (X, y), (other, truth) = (make_moons(200, noise=0.1, random_state=seed) for seed in (0, 1))
    assert ODENetClassifier(max_epochs=50, random_state=0, verbose=0).fit(X, y).score(other, truth) > 0.95


@pytest.mark.parametrize(
    ("params", "aside"),
    [
        ({"block": "resnet"}, {"solver": "rk4", "tolerance": 1.0, "step_size": 0.1, "gradient": "adjoint"}),
        ({"block": "ode"}, {"n_blocks": 9}),
        ({"block": "ode", "step_size": 0.5}, {"tolerance": 1.0}),
        ({"block": "rk"}, {"n_blocks": 9, "tolerance": 1.0, "gradient": "backprop"}),
    ],
    ids=str,
)
def test_a_block_leaves_aside_what_it_has_no_use_for(params, aside):
    fits = [classifier(**params, max_epochs=1).set_params(**more).fit(*clouds()) for more in ({}, aside)]
    assert_same_weights(*fits)
    np.testing.assert_array_equal(*[model.predict_proba(clouds(seed=1).X) for model in fits])


@every_block
def test_images_leave_depth_and_activation_aside(block):
    fits = [
        classifier(block=block, max_epochs=1, **more).fit(*stripes())
        for more in ({}, {"depth": 3, "activation": "elu"})
    ]
    assert_same_weights(*fits)


class Killed(BaseException):
    """What nothing catches."""


def raising(error, epoch):
    class Raises(Callback):
        def on_batch_end(self, state):
            if state.epoch == epoch:
                raise error

    return Raises()


@every_kind
def test_a_killed_fit_is_continued_to_the_same_model(make, tmp_path):
    X, y = clouds()
    whole = make(max_epochs=5).fit(X, y)
    params = {"max_epochs": 5, "checkpoint_dir": tmp_path}
    for epoch in (2, 4):
        with pytest.raises(Killed):
            make(callbacks=[raising(Killed, epoch)], **params).fit(X, y)
    calls = []
    continued = make(callbacks=[calls.append], **params).fit(X, y)
    assert len(calls) == 2
    assert_same_weights(continued, whole)
    pd.testing.assert_frame_equal(
        continued.history_.drop(columns="seconds"), whole.history_.drop(columns="seconds")
    )
    make(**params).fit(X, 1 - y)
    make(**params).fit(X, y, sample_weight=np.linspace(1, 2, 48))
    assert len(list(tmp_path.glob("*.safetensors"))) == 3  # other data, other files


def test_ctrl_c_leaves_a_fitted_model_with_the_best_weights():
    X, y = clouds()
    text = r"interrupted by Ctrl-C in epoch 4; the weights of epoch \d are kept"
    with pytest.warns(LatentODEWarning, match=text) as caught:
        model = classifier(max_epochs=9, callbacks=[raising(KeyboardInterrupt, 4)]).fit(X, y)
    assert caught[0].filename == __file__
    assert model.history_["epoch"].tolist() == [1, 2, 3]
    assert np.isfinite(model.predict_proba(X)).all()


@every_block
def test_verbose_0_prints_nothing(block, capfd):
    classifier(block=block, max_epochs=1).fit(*clouds()).predict(clouds().X)
    assert capfd.readouterr() == ("", "")
    classifier(block=block, max_epochs=1, verbose=1).fit(*clouds())
    assert "epoch" in "".join(capfd.readouterr())


def test_the_history_is_drawn(fitted):
    axes = fitted.plot_history()
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), fitted.history_["train_loss"])
    plt.close(axes.figure)
