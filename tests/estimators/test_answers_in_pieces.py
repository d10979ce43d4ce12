"""Answers for many rows take the memory of some rows."""

from __future__ import annotations

import numpy as np
import pytest
from small_flows import mixture, small
from small_nets import BLOCKS, classifier, clouds

from latentode.estimators import flow_density


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("question", ["predict", "evaluations"])
def test_a_network_sees_some_hundreds_of_rows_at_a_time(block, question):
    model, seen = classifier(block=block, max_epochs=1).fit(*clouds()), []
    model.model_.scale.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    assert len(getattr(model, question)(clouds(1001).X)) == 1001
    if (block, question) != ("resnet", "evaluations"):
        assert sum(seen) == 1001
    assert all(n <= 300 for n in seen)


@pytest.mark.parametrize("field", ["concatsquash", "gated"])
@pytest.mark.parametrize("n_dims", [2, 12])
def test_the_tangents_of_all_dimensions_count(field, n_dims, monkeypatch):
    X = mixture(200)[:, np.arange(n_dims) % 2] + np.random.default_rng(0).normal(size=(200, n_dims))
    model, seen = small(field=field, max_epochs=1).fit(X), []
    own = type(model)._transport

    def spied(self, flow, points, **options):
        seen.append(len(points))
        return own(self, flow, points, **options)

    monkeypatch.setattr(type(model), "_transport", spied)
    monkeypatch.setattr(flow_density, "PIECE", 2000)
    assert len(model.score_samples(X)) == sum(seen) == 200
    assert all(n * n_dims * 8 <= 2000 for n in seen)  # hidden_dim is 8
    assert len(seen) > 1
