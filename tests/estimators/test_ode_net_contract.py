"""`ODENetClassifier`, `ODENetRegressor`: what they learn and answer, of which inputs, and scikit-learn's own rules."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_models import assert_same_weights
from small_nets import BLOCKS, circles, classifier, clouds, line, regressor, stripes

from latentode import ODENetClassifier, ODENetRegressor
from latentode.estimators import base_ode_net
from latentode.exceptions import LatentODEWarning

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
