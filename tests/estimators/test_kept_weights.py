"""Which weights the estimators on arrays keep, and when they stop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from small_flows import small
from small_nets import classifier, regressor

from latentode.training import Callback

X = np.random.default_rng(3).normal(size=(48, 2))
NOISE = np.random.default_rng(0).integers(0, 2, 48)  # what is learned of it is wrong
RESTLESS = {"lr": 0.3, "max_epochs": 30, "patience": 3, "validation_fraction": 0.3}
KINDS = {
    "classifier": classifier,
    "regressor": regressor,
    "continuous": lambda **params: small("continuous", batch_size=16, **params),
    "planar": lambda **params: small("planar", batch_size=16, **params),
}


class Album(Callback):
    """The weights at the end of each epoch."""

    def __init__(self) -> None:
        self.pictures = []

    def on_epoch_end(self, state):
        self.pictures.append(copy.deepcopy(state.model.state_dict()))


def fit(kind, **params):
    album = Album()
    return KINDS[kind](callbacks=[album], **(RESTLESS | params)).fit(X, NOISE), album.pictures


def assert_kept(model, picture):
    kept = model.model_.state_dict()
    assert kept.keys() == picture.keys()
    assert all(torch.equal(kept[name], picture[name]) for name in kept)


def differ(one, other):
    return any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_weights_of_the_best_epoch_are_kept(kind, early_stopping):
    model, pictures = fit(kind, early_stopping=early_stopping)
    losses = model.history_["validation_loss"]
    assert model.best_epoch_ == losses.argmin() + 1 < len(losses)
    assert differ(pictures[-1], pictures[model.best_epoch_ - 1])
    assert_kept(model, pictures[model.best_epoch_ - 1])
    assert len(losses) == (model.best_epoch_ + 3 if early_stopping else 30)


@pytest.mark.parametrize("kind", KINDS)
def test_without_validation_the_last_weights_are_kept(kind):
    model, pictures = fit(kind, validation_fraction=0, max_epochs=4)
    assert model.best_epoch_ is None
    assert len(pictures) == 4
    assert_kept(model, pictures[-1])
