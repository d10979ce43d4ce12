"""What `ODENetClassifier` and `ODENetRegressor` refuse, and how they say so."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from small_nets import classifier, clouds, regressor, stripes

from latentode import ODENetClassifier

every_kind = pytest.mark.parametrize("make", [classifier, regressor])


@pytest.fixture(scope="module")
def fitted() -> ODENetClassifier:
    """A solve with a field that needs some evaluations."""
    return classifier(block="ode", max_epochs=8, tolerance=1e-3).fit(*clouds())


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
