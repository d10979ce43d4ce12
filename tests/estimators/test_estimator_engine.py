"""`engine=` of the estimators: both engines learn and answer the same; what the kernels do not know is said."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from estimators.small_models import numbers, small, spirals, weights

from latentode import LatentODERegressor
from latentode.native.library import library
from latentode.native.solve import NativeSolve
from latentode.nn.encoders import fused_gru

needs_native = pytest.mark.skipif(library() is None, reason="the native kernels were not built")

FIXED = {"solver": "rk4", "step_size": 0.25}  # the choice of steps would magnify rounding
TIMES = [0.5, 1.0, 3.0]


@pytest.fixture(scope="module")
def table():
    return spirals()


@pytest.fixture(scope="module")
def with_mass(table):
    mass = {i: float(np.sin(i)) for i in table["id"].unique()}
    return table.assign(mass=table["id"].map(mass))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"field": "gated", "anchor": "start", "activation": "softplus"},
        {"encoder": "odernn", "time_dependent": True},
        {"static_cols": ["mass"], "n_samples": 2},
    ],
    ids=["defaults", "gated", "odernn", "static"],
)
@needs_native
def test_both_engines_learn_and_answer_the_same(with_mass, params):
    params = {"target_cols": ["x", "y"], "max_epochs": 2, **FIXED, **params}
    torch, native = (small(engine=engine, **params).fit(with_mass) for engine in ("torch", "native"))
    np.testing.assert_allclose(native.history_["train_loss"], torch.history_["train_loss"], rtol=1e-4)
    one, other = (numbers(model.predict(with_mass, TIMES)) for model in (torch, native))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-3)


@needs_native
def test_the_engine_says_who_solves_and_encodes(table):
    model = small(max_epochs=1).fit(table)
    with (
        patch.object(NativeSolve, "forward", autospec=True, side_effect=NativeSolve.forward) as solve,
        patch.object(fused_gru, "gru_forward", wraps=fused_gru.gru_forward) as encode,
    ):
        model.set_params(engine="torch").predict(table, TIMES)
        assert not solve.called
        assert not encode.called
        model.set_params(engine="auto").predict(table, TIMES)
        assert solve.called
        assert encode.called


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"control_cols": ["mass"]}, "bounds its steps|plain perceptron"),
        ({"solver": "kvaerno5"}, "explicit Runge-Kutta methods alone"),
        ({"gradient": "adjoint"}, "gradient 'discrete_adjoint' alone"),
    ],
    ids=["controls", "implicit", "adjoint"],
)
@needs_native
def test_native_refuses_what_the_kernels_do_not_know(with_mass, params, why):
    with pytest.raises(ValueError, match=rf"engine='native' cannot solve this, because .*({why})"):
        small(engine="native", target_cols=["x", "y"], max_epochs=1, **params).fit(with_mass)


def test_without_kernels_native_says_so_and_auto_is_torch(table, monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", "torch")
    with pytest.raises(ValueError, match="LATENTODE_ENGINE=torch turns them off"):
        small(engine="native", max_epochs=1).fit(table)
    small(max_epochs=1).fit(table)


def test_a_saved_model_remembers_its_engine_as_a_parameter_alone(table, tmp_path):
    model = small(engine="torch", max_epochs=1).fit(table)
    model.save(tmp_path / "model.latentode")
    loaded = LatentODERegressor.load(tmp_path / "model.latentode")
    assert loaded.engine == "torch"
    assert loaded.model_.options.engine == "torch"
    assert [part.engine for part in loaded.model_.modules() if hasattr(part, "engine")] == 2 * ["torch"]
    for name, weight in weights(model).items():
        np.testing.assert_array_equal(weights(loaded)[name], weight)
