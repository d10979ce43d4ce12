"""What the estimators on arrays learn before they train comes from the training rows alone."""

from __future__ import annotations

import numpy as np
import pytest
from small_flows import small
from small_nets import classifier, regressor

import latentode.estimators.flow_density
import latentode.estimators.ode_net
from latentode.estimators.row_split import split_rows

ROWS = np.random.default_rng(0).normal(5.0, 3.0, size=(60, 2))
LABELS = np.arange(60) % 2


@pytest.fixture
def drawn(monkeypatch):
    """The split that a fit draws, once it was drawn."""
    splits = []

    def spied(*arguments):
        splits.append(split_rows(*arguments))
        return splits[-1]

    for module in (latentode.estimators.ode_net, latentode.estimators.flow_density):
        monkeypatch.setattr(module, "split_rows", spied)
    return splits


@pytest.mark.parametrize("images", [False, True])
def test_a_classifier_is_scaled_by_its_training_rows(images, drawn):
    X = ROWS[:, :, None, None] * np.ones((1, 1, 3, 3)) if images else ROWS
    model = classifier(validation_fraction=0.3).fit(X, LABELS)
    assert len(drawn[0].validation) == 18
    assert_scale(model.model_.scale, ROWS[drawn[0].train].astype(X.dtype), 1e-6 if images else 1e-13)


def test_a_regressor_is_scaled_by_its_training_rows(drawn):
    targets = np.stack([ROWS[:, 0] ** 2, 7 * ROWS[:, 1]], axis=1)
    model = regressor(validation_fraction=0.3).fit(ROWS, targets)
    assert_scale(model.model_.scale, ROWS[drawn[0].train], 1e-13)
    assert_scale(model.model_.target_scale, targets[drawn[0].train], 1e-13)


@pytest.mark.parametrize("which", ["continuous", "planar"])
def test_a_flow_is_scaled_by_its_training_rows_and_their_weights(which, drawn):
    weight = np.linspace(1, 3, 60)
    model = small(which, validation_fraction=0.3).fit(ROWS, sample_weight=weight)
    train = drawn[0].train
    mean = np.average(ROWS[train], axis=0, weights=weight[train])
    spread = np.average((ROWS[train] - mean) ** 2, axis=0, weights=weight[train]) ** 0.5
    np.testing.assert_allclose(model.whitening_.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(model.whitening_.scale, spread, rtol=1e-13)


def assert_scale(scale, rows, rounding):
    np.testing.assert_allclose(scale.mean, rows.mean(0), rtol=rounding)
    np.testing.assert_allclose(scale.std, rows.std(0), rtol=rounding)
