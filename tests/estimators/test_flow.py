"""Density estimators: what they answer, in which units, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_flows import FLOWS, mixture, small
from torch import nn

from latentode import ContinuousFlowDensity, PlanarFlowDensity
from latentode.estimators.whitening import Whitening
from latentode.nn.flow_fields import FLOW_FIELDS

X = mixture(300)
ROUNDING = 1e-9  # float64 through some dozens of solver steps, the same ones
SOLVED = 2e-3  # two solves at 1e-5 each
each_flow = pytest.mark.parametrize("which", FLOWS)


@pytest.fixture(scope="module")
def fitted():
    return {which: small(which, max_epochs=8, lr=0.03).fit(X) for which in FLOWS}


@each_flow
def test_answers_have_the_shapes_of_kernel_density(which, fitted):
    model, peer = fitted[which], KernelDensity().fit(X)
    log_density = model.score_samples(X[:7])
    assert log_density.shape == peer.score_samples(X[:7]).shape == (7,)
    assert log_density.dtype == np.float64
    assert isinstance(model.score(X), float)
    assert model.score(X) == pytest.approx(model.score_samples(X).sum())
    assert model.sample().shape == peer.sample().shape == (1, 2)
    assert model.sample(5, random_state=0).shape == (5, 2)
    assert model.transform(X).shape == X.shape
    assert model.n_features_in_ == 2


@each_flow
def test_training_raises_the_density_of_held_out_rows(which):
    held_out = mixture(300, seed=1)
    begun = small(which, max_epochs=1, lr=1e-8).fit(X)
    assert small(which, max_epochs=8, lr=0.05).fit(X).score(held_out) > begun.score(held_out) + 10


@each_flow
def test_the_density_integrates_to_one(which, fitted):
    side = np.linspace(-14, 14, 141)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert np.exp(fitted[which].score_samples(grid)).sum() * 0.2**2 == pytest.approx(1.0, abs=0.01)


@each_flow
def test_the_density_is_that_of_the_map_to_the_base(which, fitted):
    """log p(x) = log N(z) + log|det dz/dx|, with the Jacobian of `transform` by central differences."""
    model, x, step = fitted[which], X[:4], 1e-3
    moved = [
        (model.transform(x + step * unit) - model.transform(x - step * unit)) / (2 * step)
        for unit in np.eye(2)
    ]
    log_det = np.linalg.slogdet(np.stack(moved, -1)).logabsdet
    z = model.transform(x)
    expected = -0.5 * (z**2).sum(1) - np.log(2 * np.pi) + log_det
    np.testing.assert_allclose(model.score_samples(x), expected, atol=0.02)


@each_flow
def test_there_and_back(which, fitted):
    model = fitted[which]
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=SOLVED)


@each_flow
def test_samples_are_the_base_carried_back(which, fitted):
    model = fitted[which]
    base = np.random.default_rng(3).standard_normal((6, 2))
    np.testing.assert_array_equal(model.sample(6, random_state=3), model.inverse_transform(base))
    assert not np.array_equal(model.sample(6), model.sample(6))


@each_flow
def test_samples_have_the_density_that_is_scored(which, fitted):
    """The mean of 1 / p over samples within a box is its area, whatever p is."""
    model, box = fitted[which], 1.0
    drawn = model.sample(4000, random_state=0)
    inside = (np.abs(drawn) < box).all(1)
    weights = np.where(inside, np.exp(-model.score_samples(drawn)), 0.0)
    error = weights.std() / len(drawn) ** 0.5
    assert abs(weights.mean() - (2 * box) ** 2) < 5 * error


@each_flow
def test_units_of_the_columns_change_the_log_density_by_a_constant(which):
    factor, shift = np.array([2.0**10, 2.0**-7]), np.array([3.0, -5.0])
    plain = small(which).fit(X).score_samples(X[:9])
    scaled = small(which).fit(X * factor + shift).score_samples(X[:9] * factor + shift)
    np.testing.assert_allclose(scaled + np.log(factor).sum(), plain, atol=1e-3)


@each_flow
def test_answers_do_not_feel_their_company(which, fitted):
    model = fitted[which]
    together = model.score_samples(X)
    np.testing.assert_allclose(model.score_samples(X[5:6]), together[5:6], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(model.score_samples(X[::-1])[::-1], together, rtol=0, atol=ROUNDING)


def test_answers_come_in_pieces_of_bounded_size(fitted, monkeypatch):
    model = fitted["continuous"]
    whole = model.score_samples(X)
    monkeypatch.setattr("latentode.estimators.flow_density.PIECE", 7 * model._row_cost)
    np.testing.assert_allclose(model.score_samples(X), whole, rtol=0, atol=ROUNDING)


@each_flow
def test_the_same_seed_gives_the_same_numbers(which):
    one, same, other = (small(which, random_state=seed).fit(X).score_samples(X) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@each_flow
def test_no_global_random_state_is_touched(which):
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    small(which).fit(X).sample(3)
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@each_flow
def test_history_is_in_units_of_the_columns(which):
    penalties = {"kinetic": 0, "jacobian": 0} if which == "continuous" else {}
    model = small(which, max_epochs=2, lr=1e-8, validation_fraction=0.2, **penalties).fit(X * 100)
    assert {"train_loss", "validation_loss"} <= set(model.history_.columns)
    # nothing was learned at this rate: the loss is that of the model at hand, whose density is of X * 100
    assert model.history_["train_loss"].iloc[-1] == pytest.approx(-model.score(X * 100) / len(X), abs=0.2)
    assert model.history_["train_loss"].iloc[-1] > np.log(100)


def test_history_counts_evaluations():
    history = small(kinetic=0.1, jacobian=0.1, gradient="discrete_adjoint").fit(X).history_
    counts = {"train_n_evals", "train_n_evals_backward", "validation_n_evals"}
    assert counts | {"train_kinetic", "train_jacobian", "train_nats"} <= set(history.columns)
    assert (history[sorted(counts)] > 0).all(axis=None)
    assert "validation_kinetic" not in history


def test_penalties_calm_the_flow():
    free, calm = (
        small(max_epochs=6, lr=0.03, kinetic=weight, jacobian=weight).fit(X) for weight in (0.0, 3.0)
    )
    rows = torch.as_tensor(free._white(X), dtype=torch.float32)
    energies = [
        float(model.model_.travel(rows, (1.0, 0.0), kinetic=True).kinetic.detach().mean())
        for model in (free, calm)
    ]
    assert energies[1] < 0.5 * energies[0]


@each_flow
def test_weights_count_by_their_ratios(which):
    rng = np.random.default_rng(0)
    weight = rng.integers(0, 3, 300).astype(float)
    plain = small(which).fit(X, sample_weight=weight).score_samples(X)
    larger = small(which).fit(X, sample_weight=weight * 4).score_samples(X)
    left_out = small(which).fit(X[weight > 0], sample_weight=weight[weight > 0]).score_samples(X)
    np.testing.assert_allclose(larger, plain, rtol=0, atol=ROUNDING)
    assert np.isfinite(left_out).all()


@each_flow
def test_weights_move_the_density(which):
    left = X[:, 0] < 0
    weighted = small(which, max_epochs=6, lr=0.05).fit(X, sample_weight=np.where(left, 9.0, 1.0))
    usual = small(which, max_epochs=6, lr=0.05).fit(X)
    gain = weighted.score_samples(X) - usual.score_samples(X)
    assert gain[left].mean() > 0.1 > -0.1 > gain[~left].mean()


def test_whitening_by_weights_is_that_of_repeated_rows():
    weight = np.random.default_rng(0).integers(0, 3, 300)
    weighted = Whitening.of(X, weight.astype(float))
    repeated = np.repeat(X, weight, axis=0)
    np.testing.assert_allclose(weighted.mean, repeated.mean(0), rtol=1e-12)
    np.testing.assert_allclose(weighted.scale, repeated.std(0), rtol=1e-12)
    half_log_det = np.linalg.slogdet(np.cov(repeated.T, bias=True))[1] / 2
    assert weighted.log_scale == pytest.approx(
        half_log_det, abs=1e-4
    )  # drawn by (2 / 300)² towards no correlation


@pytest.mark.parametrize("field", FLOW_FIELDS)
@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_every_field_and_trace(field, trace):
    model = small(field=field, trace=trace, n_probes=2, activation="softplus").fit(X)
    assert np.isfinite(model.score_samples(X)).all()


def test_a_field_of_ones_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))

        def forward(self, t, z):
            return self.layers(torch.cat([z, t[:, None]], dim=1))

    own = Own()
    before = [p.detach().clone() for p in own.parameters()]
    model = small(field=own, max_epochs=4, lr=0.03).fit(X)
    assert all(torch.equal(a, b) for a, b in zip(before, own.parameters()))
    assert model.history_["train_loss"].iloc[-1] < model.history_["train_loss"].iloc[0]
    side = np.linspace(-14, 14, 71)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    assert np.exp(model.score_samples(grid)).sum() * 0.4**2 == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("gradient", ["discrete_adjoint", "adjoint", "reversible"])
def test_other_gradients_learn_the_same(gradient):
    tolerances = {"rtol": 1e-5, "atol": 1e-5, "max_epochs": 2}
    usual = small(**tolerances).fit(X).history_["train_loss"].to_numpy()
    other = small(gradient=gradient, **tolerances).fit(X).history_["train_loss"].to_numpy()
    np.testing.assert_allclose(other, usual, atol=1e-3)


def test_answers_do_not_depend_on_how_training_was_solved(fitted):
    model = fitted["continuous"]
    rough = pickle.loads(pickle.dumps(model))
    rough.model_.options = type(rough.model_.options)("euler", 0.5, 0.5, step_size=0.5)
    rough.model_.trace = "hutchinson"
    np.testing.assert_array_equal(rough.score_samples(X), model.score_samples(X))


@pytest.mark.parametrize("n_dims", [1, 12])
@each_flow
def test_one_dimension_and_many(which, n_dims):
    wide = np.random.default_rng(0).normal(size=(60, n_dims))
    model = small(which).fit(wide)
    assert model.score_samples(wide).shape == (60,)
    assert model.sample(3, random_state=0).shape == (3, n_dims)


@each_flow
def test_two_rows_are_enough(which):
    assert np.isfinite(small(which).fit([[0.0, 1.0], [2.0, 5.0]]).score_samples([[1.0, 3.0]])).all()


@each_flow
def test_tables_give_their_names(which):
    frame = pd.DataFrame(X, columns=["east", "north"])
    model = small(which).fit(frame)
    assert list(model.feature_names_in_) == ["east", "north"]
    assert len(model.get_feature_names_out()) == 2
    np.testing.assert_allclose(
        model.score_samples(frame), small(which).fit(X).score_samples(X), rtol=0, atol=ROUNDING
    )


@each_flow
def test_inside_scikit_learn(which):
    search = GridSearchCV(small(which), {"lr": [1e-6, 0.03]}, cv=2).fit(X)
    assert search.best_params_ == {"lr": 0.03}
    pipeline = make_pipeline(StandardScaler(), small(which)).fit(X)
    assert pipeline.score_samples(X).shape == (300,)
    assert clone(small(which)).get_params() == small(which).get_params()


@each_flow
def test_a_pickled_model_answers_the_same(which, fitted):
    again = pickle.loads(pickle.dumps(fitted[which]))
    np.testing.assert_array_equal(again.score_samples(X), fitted[which].score_samples(X))


@each_flow
def test_an_interrupted_fit_goes_on(which, tmp_path):
    class Stop(Exception):
        pass

    def interrupt(record):
        if record["epoch"] == 2:
            raise Stop

    options = {"max_epochs": 4, "checkpoint_dir": tmp_path}
    with pytest.raises(Stop):
        small(which, callbacks=[interrupt], **options).fit(X)
    resumed = small(which, **options).fit(X)
    np.testing.assert_array_equal(
        resumed.score_samples(X), small(which, max_epochs=4).fit(X).score_samples(X)
    )


@each_flow
@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([[0.0, 1.0]], "minimum of 2 is required"),
        ([[0.0, 3.0], [1.0, 3.0]], "column 1 of X is constant .3.*leave such columns out"),
        ([[0.0, 1.0], [0.0, 1.0]], "column 0 of X is constant"),
        ([[0.0, np.nan], [1.0, 1.0]], "NaN"),
        ([[0.0, np.inf], [1.0, 1.0]], "infinity"),
        ([1.0, 2.0], "Expected 2D array"),
    ],
)
def test_bad_rows(which, rows, text):
    with pytest.raises(ValueError, match=text):
        small(which).fit(rows)


@each_flow
def test_bad_weights(which):
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        small(which).fit(X, sample_weight=-np.ones(300))
    with pytest.raises(ValueError, match="at least 2 rows need a positive sample_weight; got 1"):
        small(which).fit(X, sample_weight=np.eye(300)[0])


@each_flow
def test_bad_calls(which, fitted):
    model = fitted[which]
    with pytest.raises(ValueError, match="X has 3 features, but"):
        model.score_samples(np.zeros((2, 3)))
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"n_samples must be an int of at least 0; got {wrong}"):
            model.sample(wrong)
    assert model.sample(0).shape == (0, 2)
    with pytest.raises(ValueError, match=r"Z must have shape \(N, 2\); got \(2, 3\)"):
        model.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Z must be finite"):
        model.inverse_transform([[np.nan, 0.0]])
    for ask in (model.score_samples, model.transform, model.score, model.inverse_transform):
        with pytest.raises(NotFittedError):
            getattr(small(which), ask.__name__)(X)
    with pytest.raises(NotFittedError):
        small(which).sample()


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"field": "concat"}, "field must be one of .*did you mean 'concatsquash'"),
        ({"activation": "relu"}, "activation must be one of 'tanh', 'softplus'; got 'relu'"),
        ({"trace": "hutch"}, "trace must be one of"),
        ({"n_probes": 0}, "n_probes must be an int of at least 1; got 0"),
        ({"kinetic": -1.0}, "kinetic must be a number of at least 0; got -1.0"),
        ({"jacobian": "some"}, "jacobian must be a number of at least 0, or 'auto'; got 'some'"),
        ({"n_blocks": 0}, "n_blocks must be an int of at least 1; got 0"),
        ({"depth": 0}, "depth must be an int of at least 1, or None; got 0"),
        (
            {"field": "planar", "depth": 2},
            "depth is for the fields 'concatsquash', 'gated'; the field 'planar' takes",
        ),
        ({"solver": "rk4"}, "solver 'rk4' has no error estimate and needs step_size="),
    ],
)
def test_bad_parameters(params, text):
    with pytest.raises(ValueError, match=text):
        small(**params).fit(X)
    with pytest.raises(ValueError, match="n_layers must be an int of at least 1; got 0"):
        small("planar", n_layers=0).fit(X)


@pytest.mark.parametrize("kind", [ContinuousFlowDensity, PlanarFlowDensity])
def test_misspelt_parameters(kind):
    with pytest.raises(TypeError, match=r"has no parameter 'max_epoch'.*did you mean 'max_epochs'"):
        kind(max_epoch=3)
    with pytest.raises(ValueError, match="has no parameter 'max_epoch'"):
        kind().set_params(max_epoch=3)


def test_the_penalty_fades_with_the_rows_unless_given():
    given = {"max_epochs": 1, "validation_fraction": 0.0, "batch_size": 1000}
    assert small(**given).fit(X[:100]).jacobian_ == 0.3
    assert small(**given).fit(mixture(900)).jacobian_ == pytest.approx(0.1)
    assert small(field="gated", **given).fit(X).jacobian_ == 0.0
    assert small(jacobian=0.5, **given).fit(X).jacobian_ == 0.5


def test_blocks_have_weights_of_their_own():
    one, three = (small(field="planar", n_blocks=n).fit(X).model_ for n in (1, 3))
    sizes = [sum(weights.numel() for weights in model.parameters()) for model in (one, three)]
    assert sizes[1] == 3 * sizes[0] > 0
    first, second, _ = three.field
    assert not torch.equal(first.units.w, second.units.w)
    own = nn.Linear(2, 2)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = own

        def forward(self, t, z):
            return torch.tanh(self.map(z))

    given = small(field=Own(), n_blocks=2).fit(X).model_.field
    assert not torch.equal(given[0].map.weight, given[1].map.weight)
    assert all(part.map.weight is not own.weight for part in given)


def test_depth_reaches_the_field():
    deep = small(depth=3).fit(X).model_.field[0]
    assert len(deep.hidden) == 3
    assert len(small().fit(X).model_.field[0].hidden) == 2
    gates = small(field="gated", depth=2).fit(X).model_.field[0].gates
    assert len(gates.layers) == 3


def test_a_field_of_ones_own_may_be_in_double_precision():
    class Pull(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.strength = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

        def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            return -self.strength * z

    own = Pull()
    model = small(field=own, hidden_dim=64, max_epochs=1).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert own.strength.dtype == torch.float64  # a copy was trained


def test_nats_are_in_the_history_without_penalties_too():
    history = small(jacobian=0.0, max_epochs=2).fit(X).history_
    np.testing.assert_array_equal(history["train_nats"], history["train_loss"])
