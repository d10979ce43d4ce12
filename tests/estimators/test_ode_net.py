"""`ODENetClassifier` and `ODENetRegressor`: what they learn, what they take, and what they refuse."""

from __future__ import annotations

import copy
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import assert_same_weights, weights
from small_nets import BLOCKS, circles, classifier, clouds, line, regressor, stripes

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


# --- it learns


@every_block
def test_each_block_separates_what_a_line_separates(block):
    model = classifier(block=block, max_epochs=8).fit(*clouds())
    other = clouds(seed=1)
    assert model.score(*other) > 0.95
    assert model.predict(other.X).dtype == other.y.dtype


@every_block
@pytest.mark.parametrize("shape", [(6, 6), (2, 8, 8)], ids=str)
def test_each_block_tells_images_apart(shape, block):
    model = classifier(block=block, max_epochs=5).fit(*stripes(shape=shape))
    assert model.score(*stripes(shape=shape, seed=1)) == 1.0
    assert model.n_features_in_ == shape[0]


@every_block
def test_each_block_learns_a_curve(block):
    X, y = line()
    model = regressor(block=block, max_epochs=40, validation_fraction=0).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.predict(X).shape == (40,)


def separated(augment_dim, seed=0):
    X, y = circles()
    params = {
        "block": "ode",
        "hidden_dim": 16,
        "max_epochs": 50,
        "lr": 0.06,
        "batch_size": 240,
        "validation_fraction": 0,
    }
    return classifier(augment_dim=augment_dim, random_state=seed, **params).fit(X, y).score(X, y)


def test_a_class_inside_another_needs_room():
    """A flow of the plane cannot take the disc out of the ring; with a third axis it lifts it out (Dupont et al.)."""
    assert separated(augment_dim=0) < 0.95
    assert separated(augment_dim=1) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_class_inside_another_needs_room_whatever_the_seed(seed):
    assert separated(augment_dim=0, seed=seed) < 0.97
    assert separated(augment_dim=2, seed=seed) > 0.99


# --- answers


def test_probabilities_decisions_and_classes_agree(fitted):
    X = clouds(seed=1).X
    decision, probability = fitted.decision_function(X), fitted.predict_proba(X)
    assert decision.shape == (48,)
    assert probability.shape == (48, 2)
    np.testing.assert_allclose(probability.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(probability[:, 1], expit(decision), rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), (decision > 0).astype(int))


def test_of_more_classes_there_is_a_logit_each():
    X, _ = clouds()
    model = classifier().fit(X, np.arange(48) % 3)
    decision = model.decision_function(X)
    assert decision.shape == (48, 3)
    np.testing.assert_allclose(model.predict_proba(X), softmax(decision, axis=1))
    np.testing.assert_array_equal(model.predict(X), decision.argmax(1))


def test_score_is_that_of_scikit_learn(fitted, fitted_regressor):
    (X, y), (x, curve) = clouds(seed=1), line()
    y, weight = np.where(np.arange(48) % 5, y, 1 - y), np.linspace(0, 1, 48)
    assert fitted.score(X, y, weight) == accuracy_score(y, fitted.predict(X), sample_weight=weight)
    predicted, weight = fitted_regressor.predict(x), np.linspace(0, 1, 40)
    assert fitted_regressor.score(x, curve, weight) == r2_score(curve, predicted, sample_weight=weight)


@every_block
def test_an_answer_depends_on_neither_company_nor_pieces(block, monkeypatch):
    X = stripes().X
    model = classifier(block=block).fit(*stripes())
    together = model.decision_function(X)
    np.testing.assert_allclose(model.decision_function(X[[7, 2]]), together[[7, 2]], atol=COMPANY)
    monkeypatch.setattr(base_ode_net, "PIECE", 5)
    np.testing.assert_allclose(model.decision_function(X), together, atol=COMPANY)


@pytest.mark.parametrize(
    "names",
    [(0, 1), (-5, 7), (False, True), ("left", "right"), (0.0, 1.0), (np.uint8(3), np.uint8(200))],
    ids=str,
)
def test_classes_keep_their_names_and_types(names):
    X, y = clouds()
    labels = np.array(names)[y]
    model = classifier(max_epochs=8).fit(X, labels)
    np.testing.assert_array_equal(model.classes_, np.array(names))
    assert model.classes_.dtype == labels.dtype
    assert model.score(X, labels) > 0.9
    listed = classifier(max_epochs=8).fit(X.tolist(), labels.tolist())
    assert_same_weights(model, listed)


def test_texts_of_objects_are_classes_too():
    X, y = clouds()
    labels = pd.Series(np.array(["a", "b"], dtype=object)[y])
    assert set(classifier().fit(X, labels).predict(X)) <= {"a", "b"}


# --- images


def test_images_come_in_three_forms():
    images, y = stripes()
    flat, channel = images.reshape(24, -1), images[:, None]
    grey, coloured, vectors = (classifier().fit(X, y) for X in (images, channel, flat))
    assert_same_weights(grey, coloured)
    np.testing.assert_array_equal(grey.decision_function(images), coloured.decision_function(channel))
    assert vectors.model_.head.in_features == 36 + base_ode_net.VECTOR_AUGMENT
    assert grey.model_.head[-1].in_features == grey.hidden_dim
    listed = classifier().fit(images.tolist(), y.tolist())
    assert_same_weights(grey, listed)
    fortran = classifier().fit(np.asfortranarray(images), y)
    assert_same_weights(grey, fortran)
    tensors = classifier().fit(torch.as_tensor(images), torch.as_tensor(y))
    assert_same_weights(grey, tensors)


def test_the_unit_of_pixels_does_not_matter():
    """Each channel is standardised by the training rows: 0 to 255 or 0 to 1; powers of two are exact."""
    images, y = stripes(shape=(2, 4, 4))
    scale = np.array([256.0, 0.25], dtype=np.float32)[:, None, None]
    one, other = classifier().fit(images, y), classifier().fit(images * scale, y)
    np.testing.assert_allclose(
        one.decision_function(images), other.decision_function(images * scale), atol=COMPANY
    )
    bright = (images.clip(0, 1) * 255).astype(np.uint8)
    assert classifier().fit(bright, y).predict(bright).shape == (24,)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (28, 28), (1, 2, 40)], ids=str)
def test_images_of_any_size(shape):
    X, y = stripes(n=6, shape=shape)
    model = classifier(block="ode", hidden_dim=4, max_epochs=1).fit(X, y)
    assert model.predict_proba(X).shape == (6, 2)
    assert np.isfinite(model.predict_proba(X[:1])).all()


@every_kind
@pytest.mark.parametrize("shape", [(7, 7, 3), (5, 7, 1), (5, 7, 4)], ids=str)
def test_channels_last_are_taken_as_they_are_with_a_warning(shape, make):
    X, y = np.random.default_rng(0).normal(size=(4, *shape)), np.array([0, 1, 0, 1])
    text = rf"X \(4, {shape[0]}, 7, {shape[2]}\) looks like images with channels last; {shape[0]} channels of 7 x "
    with pytest.warns(
        LatentODEWarning, match=text + rf"{shape[2]} pixels .* X.transpose\(0, 3, 1, 2\)"
    ) as caught:
        model = make(max_epochs=1).fit(X, y)
    assert caught[0].filename == __file__
    assert model.n_features_in_ == shape[0]
    assert make(max_epochs=1).fit(X.transpose(0, 3, 1, 2), y).n_features_in_ == shape[2]


@pytest.mark.parametrize("shape", [(8, 4, 4), (8, 1, 1), (3, 6, 3), (2, 3, 4), (4, 4, 4)], ids=str)
def test_channels_first_are_taken_without_a_word(shape):
    X = np.random.default_rng(0).normal(size=(4, *shape))
    assert classifier(max_epochs=1).fit(X, [0, 1, 0, 1]).n_features_in_ == shape[0]


def test_regression_on_images():
    X, y = stripes()
    model = regressor(max_epochs=15).fit(X, 3.0 * y)
    assert model.score(*stripes(seed=1)._replace(y=3.0 * y)) > 0.9


# --- few rows, odd columns, odd targets


@pytest.mark.parametrize("n", [2, 3])
def test_few_rows_are_enough(n):
    X, y = clouds()
    model = classifier().fit(X[:n], y[:n])
    assert model.predict(X).shape == (48,)
    assert model.best_epoch_ is None


@every_block
@pytest.mark.parametrize("n", [1, 2])
def test_one_row_is_enough_for_a_regression(n, block):
    X, y = line()
    model = regressor(block=block).fit(X[:n], y[:n])
    assert np.isfinite(model.predict(X[:1])).all()


def test_constant_features_change_nothing_and_may_be_of_any_size():
    X, y = clouds()
    constant = np.column_stack([X, np.full(48, 1e9), np.zeros(48)])
    model = classifier(max_epochs=10).fit(constant, y)
    assert model.score(constant, y) > 0.95
    images = np.full((8, 2, 4, 4), 7.0)
    assert np.isfinite(classifier().fit(images, np.arange(8) % 2).predict_proba(images)).all()


@pytest.mark.parametrize(("level", "scale"), [(0.0, 1e-6), (0.0, 1e6), (1e6, 1.0)])
def test_targets_of_any_unit_are_learned_alike(level, scale):
    """Targets are standardised in float64, so that one in a million and one more or less is not lost."""
    X, _ = line()
    step = np.sign(X[:, 0] + 0.01)
    params = {"max_epochs": 30, "validation_fraction": 0}
    plain, model = regressor(**params).fit(X, step), regressor(**params).fit(X, level + scale * step)
    assert model.score(X, level + scale * step) > 0.8
    np.testing.assert_allclose((model.predict(X) - level) / scale, plain.predict(X), atol=1e-3)


def test_a_feature_far_from_zero_keeps_its_digits():
    """In float32 numbers of this size are 131,072 apart."""
    X, y = line()
    one, other = regressor().fit(X, y), regressor().fit(X + 2.0**40, y)
    np.testing.assert_allclose(one.predict(X), other.predict(X + 2.0**40), atol=1e-2)


def test_several_targets_each_in_its_unit():
    X, y = line()
    targets = np.column_stack([y, 1e6 - 1e3 * X[:, 0]])
    model = regressor(max_epochs=40, validation_fraction=0).fit(X, targets)
    assert model.predict(X).shape == (40, 2)
    assert model.score(X, targets) > 0.9
    assert regressor(max_epochs=1).fit(X, y[:, None]).predict(X).shape == (40, 1)


# --- weights


@every_kind
def test_rows_of_weight_0_are_as_if_they_were_not_there(make):
    X, y = clouds()
    wrong_X, wrong_y = np.concatenate([X, X + 1e6]), np.concatenate([y, 1 - y])
    weight = np.repeat([2.0, 0.0], 48)
    one = make().fit(wrong_X, wrong_y, sample_weight=weight)
    other = make().fit(X, y, sample_weight=np.full(48, 2.0))
    assert_same_weights(one, other)
    pd.testing.assert_frame_equal(
        one.history_.drop(columns="seconds"), other.history_.drop(columns="seconds")
    )


def test_classes_of_weight_0_are_as_if_they_were_not_there():
    """Neither among the classes nor in their balance."""
    X, y = clouds()
    more_X, more_y = np.concatenate([X, X[:20]]), np.concatenate([y, np.repeat([1, 2], 10)])
    weight = np.repeat([1.0, 0.0], [48, 20])
    one = classifier(class_weight="balanced").fit(more_X, more_y, sample_weight=weight)
    assert one.classes_.tolist() == [0, 1]
    assert_same_weights(one, classifier(class_weight="balanced").fit(X, y))
    with pytest.raises(ValueError, match=r"got one class, \[0\]"):
        classifier().fit(X, y, sample_weight=1.0 - y)


@every_kind
def test_a_weight_of_1_is_none(make):
    X, y = clouds()
    assert_same_weights(make().fit(X, y), make().fit(X, y, sample_weight=np.ones(48)))


@every_kind
def test_weights_are_factors_of_the_losses(make):
    X, y = clouds()
    params = {"validation_fraction": 0, "batch_size": 100, "max_epochs": 1}
    weight = np.linspace(0.5, 2, 48)

    def first_loss(weight):
        return make(**params).fit(X, y, sample_weight=weight).history_["train_loss"].iloc[0]

    assert first_loss(3 * weight) == pytest.approx(3 * first_loss(weight), rel=1e-5)
    together = first_loss(weight) + first_loss(weight[::-1])  # 2.5 for each row
    assert together == pytest.approx(2.5 * first_loss(np.ones(48)), rel=1e-5)


def test_heavier_rows_win_an_argument():
    """Each point is there twice, with both labels."""
    X, y = clouds()
    both = np.concatenate([X, X]), np.concatenate([y, 1 - y])
    for heavy in (0, 1):
        weight = np.repeat([5.0, 0.2] if heavy == 0 else [0.2, 5.0], 48)
        model = classifier(max_epochs=8).fit(*both, sample_weight=weight)
        assert model.score(X, y if heavy == 0 else 1 - y) > 0.9


def test_class_weight_is_a_sample_weight_by_class():
    X, y = clouds()
    rare = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:6]])
    X, y = X[rare], np.array(["often", "rare"])[y[rare]]
    weight = np.where(y == "often", 30 / (2 * 24), 30 / (2 * 6))
    by_row = classifier().fit(X, y, sample_weight=weight)
    assert_same_weights(classifier(class_weight="balanced").fit(X, y), by_row)
    by_name = {"often": 30 / (2 * 24), "rare": 30 / (2 * 6)}
    assert_same_weights(classifier(class_weight=by_name).fit(X, y), by_row)
    assert (weights(by_row)["head.bias"] != weights(classifier().fit(X, y))["head.bias"]).any()


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


# --- as scikit-learn has it


@every_kind
def test_clones_and_parameters(make):
    model = make(augment_dim=2)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(lr=0.5).lr == 0.5
    fitted = make().fit(*clouds())
    assert not hasattr(clone(fitted), "model_")


@every_kind
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_copies_answer_alike(copied, make):
    X, y = clouds()
    model = make().fit(X, y)
    np.testing.assert_array_equal(copied(model).predict(X), model.predict(X))


def test_pipelines_and_searches():
    X, y = clouds()
    pipeline = make_pipeline(StandardScaler(), classifier(max_epochs=8)).fit(X, y)
    assert pipeline.score(X, y) > 0.9
    search = GridSearchCV(classifier(max_epochs=5), {"block": ["rk", "resnet"]}, cv=2).fit(X, y)
    assert search.best_params_["block"] in ("rk", "resnet")
    assert search.best_score_ > 0.7
    assert cross_val_score(classifier(max_epochs=8), X, y, cv=2).mean() > 0.9


def test_names_of_features():
    X, y = clouds()
    df = pd.DataFrame(X, columns=["a", "b"])
    model = classifier().fit(df, y)
    assert model.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(df[["b", "a"]])


# --- what is refused


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(4), "Expected 2D array, got 1D array instead"),
        (
            np.zeros((4, 1, 2, 2, 2)),
            r"X must be vectors \(n, p\), images .* got an array of shape \(4, 1, 2, 2, 2\)",
        ),
        (np.zeros((4, 2, 0)), r"with at least one pixel; got an array of shape \(4, 2, 0\)"),
        (np.zeros((4, 0)), r"Found array with 0 feature\(s\)"),
        (np.full((4, 2, 2), np.nan), "contains NaN"),
        (np.full((4, 2), np.inf), "contains infinity"),
        (np.array([["a"]] * 4), "could not convert string to float"),
        (np.zeros((3, 2)), "inconsistent numbers of samples"),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_arrays_that_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            np.zeros((6, 6)),
            r"X must be images like those of fit, \(n, 6, 6\); got \(6, 6\): one input is X\[None\], \(1, 6, 6\)",
        ),
        (np.zeros((2, 6, 5)), r"images like those of fit, \(n, 6, 6\); got \(2, 6, 5\)$"),
        (np.zeros((2, 1, 6, 6)), r"images like those of fit, \(n, 6, 6\); got \(2, 1, 6, 6\)$"),
        (np.zeros((2, 36)), r"images like those of fit, \(n, 6, 6\); got \(2, 36\)$"),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_images_of_another_shape_are_refused(X, message):
    model = classifier(block="rk", max_epochs=1).fit(*stripes())
    for ask in (model.predict, model.predict_proba, model.evaluations, model.trajectories):
        with pytest.raises(ValueError, match=message):
            ask(X)


def test_vectors_of_another_length_are_refused(fitted):
    with pytest.raises(ValueError, match="X has 3 features, but ODENetClassifier is expecting 2 features"):
        fitted.predict(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        fitted.predict(np.zeros(2))
    with pytest.raises(
        ValueError, match=r"vectors like those of fit, \(n, 2\); got an array of shape \(4, 2, 2\)"
    ):
        fitted.predict(np.zeros((4, 2, 2)))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 1, 1, 1], r"y must have at least two classes to tell apart; got one class, \[1\]"),
        ([0.5, 1.5, 2.5, 0.1], "Unknown label type: continuous"),
        ([[0, 1]] * 4, "y should be a 1d array"),
        ([0, 1, np.nan, 1], "Input y contains NaN"),
        ([0, 1, 0], "inconsistent numbers of samples"),
    ],
)
def test_classes_that_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(np.zeros((4, 2)), y)


@every_kind
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([0, 0, 0, 0], "Sample weights must contain at least one non-zero number"),
        ([1, -1, 1, 1], "Negative values in data passed to `sample_weight`"),
        ([1, 1], "sample_weight.shape == "),
        ([1, np.nan, 1, 1], "sample_weight contains NaN"),
    ],
    ids=str,
)
def test_weights_that_are_refused(weight, message, make):
    with pytest.raises(ValueError, match=message):
        make().fit(np.eye(4), [0, 1, 0, 1], sample_weight=weight)


def test_classes_without_any_weight_are_refused():
    with pytest.raises(
        ValueError, match="class_weight is 0 for every row of positive weight: nothing is left"
    ):
        classifier(class_weight={0: 0.0, 1: 0.0}).fit(np.eye(4), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"block": "res"}, "block must be one of 'ode', 'rk', 'resnet'; got 'res'"),
        ({"block": "resnets"}, "got 'resnets' .did you mean 'resnet'"),
        ({"n_blocks": 0}, "n_blocks must be an int of at least 1; got 0"),
        ({"augment_dim": -1}, "augment_dim must be an int of at least 0, or None; got -1"),
        ({"augment_dim": 1.0}, "augment_dim must be an int"),
        ({"solver": "dopri"}, "solver must be one of .*did you mean"),
        ({"tolerance": 0}, "tolerance must be a number greater than 0; got 0"),
        ({"step_size": -0.1}, "step_size must be a number greater than 0, or None; got -0.1"),
        ({"gradient": "adjont"}, "gradient must be one of .*did you mean 'adjoint'"),
        ({"activation": "relu6"}, "activation must be one of .*did you mean 'relu'"),
        ({"hidden_dim": 0}, "hidden_dim must be an int of at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be an int of at least 1; got 0"),
        ({"validation_fraction": 1.0}, r"validation_fraction must be a number in \[0, 1\); got 1.0"),
        ({"class_weight": "even"}, "class_weight must be one of 'balanced'|class_weight must be 'balanced'"),
        (
            {"block": "rk", "gradient": "adjoint"},
            "block='rk' is differentiated by backprop; for gradient='adjoint'",
        ),
        ({"device": "abacus"}, "device must be 'auto' or one that torch has"),
    ],
    ids=str,
)
def test_parameters_that_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        classifier(**params).fit(*clouds())


def test_names_that_are_no_parameters():
    with pytest.raises(
        TypeError, match=r"ODENetClassifier has no parameter 'augment' .did you mean 'augment_dim'"
    ):
        ODENetClassifier(augment=1)
    with pytest.raises(ValueError, match="ODENetRegressor has no parameter 'class_weight'"):
        regressor().set_params(class_weight="balanced")


@pytest.mark.parametrize(
    "params", [{"block": "rk"}, {"block": "resnet"}, {"block": "ode", "step_size": 0.5}], ids=str
)
def test_a_tolerance_is_for_adaptive_solvers(params):
    model = classifier(**{"max_epochs": 1, "batch_size": 48, **params}).fit(*clouds())
    with pytest.raises(
        ValueError, match="tolerance is for adaptive solvers: this model takes fixed steps or has res"
    ):
        model.predict(clouds().X, tolerance=0.1)


@pytest.mark.parametrize("tolerance", [0, -1.0, "loose", np.nan])
def test_a_tolerance_is_a_positive_number(tolerance, fitted):
    with pytest.raises(ValueError, match="predict: tolerance must be a number greater than 0; got"):
        fitted.predict(clouds().X, tolerance=tolerance)


def test_residual_blocks_have_no_trajectories():
    model = classifier(block="resnet", max_epochs=1).fit(*clouds())
    with pytest.raises(ValueError, match="has no states between them: take block='ode'"):
        model.trajectories(clouds().X)


@every_kind
def test_an_unfitted_model_says_so(make):
    for name in ("predict", "evaluations", "trajectories"):
        with pytest.raises(NotFittedError):
            getattr(make(), name)(clouds().X)
    with pytest.raises(NotFittedError):
        make().plot_history()


@pytest.mark.parametrize(
    "times", [[-0.1, 1.0], [0.0, 1.5], 0.5, [np.nan], [0.5, np.inf], [[0.1, 0.2]], "now"], ids=str
)
def test_paths_have_times_from_0_to_1(times, fitted):
    with pytest.raises(ValueError, match=r"times must be a sequence of numbers from 0|could not convert"):
        fitted.trajectories(clouds().X, times)
