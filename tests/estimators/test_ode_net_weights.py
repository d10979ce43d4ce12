"""Weights of rows and classes of ODE-Nets: factors of the losses, and of nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_models import assert_same_weights, weights
from small_nets import classifier, clouds, regressor

every_kind = pytest.mark.parametrize("make", [classifier, regressor])


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
