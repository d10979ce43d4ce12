"""Densities in files: what was saved comes back bit by bit, and no other content is taken for a flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from latentode import ContinuousFlowDensity, PlanarFlowDensity, storage
from latentode.exceptions import ModelFileError

TINY = {"max_epochs": 1, "random_state": 0, "verbose": 0}


class Turn(nn.Module):
    """A user's own field."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 2))

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return (z @ self.weight.T[:, :2]).tanh()


def rows(n: int = 60) -> np.ndarray:
    return np.random.default_rng(0).normal([3.0, -20.0], [1.0, 5.0], size=(n, 2))


FLOWS: dict[str, Any] = {
    "concatsquash": lambda: ContinuousFlowDensity(hidden_dim=4, **TINY),
    "gated": lambda: ContinuousFlowDensity(field="gated", hidden_dim=4, depth=2, **TINY),
    "planar": lambda: ContinuousFlowDensity(field="planar", hidden_dim=4, trace="exact", kinetic=0.1, **TINY),
    "blocks": lambda: ContinuousFlowDensity(field="planar", hidden_dim=2, n_blocks=3, **TINY),
    "discrete": lambda: PlanarFlowDensity(n_layers=3, **TINY),
}


@pytest.fixture(scope="module", params=FLOWS)
def fitted(request) -> Any:
    return FLOWS[request.param]().fit(rows())


def test_a_loaded_flow_is_the_one_that_was_saved(fitted, tmp_path):
    fitted.save(tmp_path / "flow.latentode")
    back = type(fitted).load(tmp_path / "flow.latentode", device="cpu")
    X = rows(7)
    for name in ("score_samples", "transform", "inverse_transform"):
        np.testing.assert_array_equal(getattr(back, name)(X), getattr(fitted, name)(X))
    np.testing.assert_array_equal(back.sample(5, random_state=1), fitted.sample(5, random_state=1))
    pd.testing.assert_frame_equal(back.history_, fitted.history_)
    assert back.get_params() == {**fitted.get_params(), "device": "cpu"}
    assert getattr(back, "jacobian_", None) == getattr(fitted, "jacobian_", None)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_a_field_of_ones_own_is_given_again(n_blocks, tmp_path):
    fitted = ContinuousFlowDensity(field=Turn(), n_blocks=n_blocks, **TINY).fit(rows())
    fitted.save(tmp_path / "own.latentode")
    back = ContinuousFlowDensity.load(tmp_path / "own.latentode", field=Turn())
    np.testing.assert_array_equal(back.score_samples(rows()), fitted.score_samples(rows()))
    with pytest.raises(ValueError, match="give that module again"):
        ContinuousFlowDensity.load(tmp_path / "own.latentode")
    with pytest.raises(ValueError, match="is not the one of the training"):
        ContinuousFlowDensity.load(tmp_path / "own.latentode", field=Turn(3))


HOSTILE = {
    "another number of dimensions": ("facts", {"n_features_in": 3}),
    "a scale of 0": ("facts", {"scale": {"array": [0.0, 1.0], "dtype": "<f8"}}),
    "no scale": ("facts", {"scale": None}),
    "a scale too many": ("facts", {"scale": [1.0, 1.0, 1.0]}),
    "an unknown fact": ("facts", {"more": 1}),
    "a width that no memory holds": ("plan", {"hidden_dim": 10**12, "n_dims": 10**12}),
    "layers without end": ("plan", {"depth": 10**9, "n_layers": 10**9}),
    "blocks without end": ("plan", {"n_blocks": 10**9, "n_layers": 10**9}),
    "no blocks": ("plan", {"n_blocks": 0, "n_layers": 0}),
    "a trace by another name": ("plan", {"trace": "guess", "n_layers": "all"}),
    "an entry too many": ("plan", {"more": 1}),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("kind", ["concatsquash", "discrete"])
def test_a_hostile_header_is_refused(case, kind, tmp_path):
    path: Path = tmp_path / "bad.latentode"
    FLOWS[kind]().fit(rows()).save(path)
    stored = storage.read(path)
    place, change = HOSTILE[case]
    known = stored.header[place]
    changed = {name: value for name, value in change.items() if name in known or name == "more"}
    storage.write(path, stored.tensors, {**stored.header, place: {**known, **changed}})
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        type(FLOWS[kind]()).load(path)
