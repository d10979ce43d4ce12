"""What a fit does: solvers and gradients, early stopping, callbacks, the plan of epochs, silence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import OTHER_STEPS, assert_same_weights, numbers, small, spirals, waves, weights

from latentode.estimators import fitting, training_data
from latentode.estimators.batches import Batches
from latentode.exceptions import SolverError
from latentode.gradients import GRADIENTS
from latentode.models.latent_ode import LossOptions
from latentode.solvers import SOLVERS
from latentode.training import Callback

TIMES = [-0.5, 1.0, 6.0]
COARSE = {"solver": "rk4", "step_size": 1.0}  # cheap, whatever a wild learning rate makes of the field


def losses(model) -> list[float]:
    return model.history_["train_loss"].tolist()


def test_training_lowers_the_loss(fitted):
    history = fitted.history_
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] - 0.5
    assert list(history["epoch"]) == list(range(1, len(history) + 1))


def test_all_gradients_train_alike(table):
    """Both are exact: the same losses up to float32."""
    found = [losses(small(gradient=gradient, max_epochs=3).fit(table)) for gradient in GRADIENTS]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4)


@pytest.mark.parametrize(
    "params", [{"anchor": "start"}, {"time_dependent": True}, {"n_samples": 2}, {"scaler": "series"}]
)
def test_all_gradients_train_alike_with_other_parts(params, table):
    found = [losses(small(gradient=gradient, max_epochs=2, **params).fit(table)) for gradient in GRADIENTS]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_all_solvers_train_from_the_same_start(solver, table):
    """The first loss is that of the same weights and draws: solvers differ by their errors only."""
    step_size = {"euler": 0.002}.get(solver)
    first = losses(
        small(solver=solver, step_size=step_size, max_epochs=1, batch_size=20, validation_fraction=0).fit(
            table
        )
    )
    expected = losses(
        small(rtol=1e-6, atol=1e-7, max_epochs=1, batch_size=20, validation_fraction=0).fit(table)
    )
    np.testing.assert_allclose(first, expected, rtol=3e-3)


def test_a_fixed_step_solver_has_a_step_size_of_its_own(table):
    one, other = (
        small(solver="rk4", max_epochs=1, **params).fit(table) for params in ({}, {"step_size": 0.1})
    )
    assert_same_weights(one, other)
    longer = small(solver="rk4", step_size=1.0, max_epochs=1).fit(table)
    assert not np.array_equal(
        weights(longer)["field.mlp.layers.0.weight"], weights(one)["field.mlp.layers.0.weight"]
    )


def test_an_adaptive_solver_can_be_told_its_steps(table):
    model = small(solver="tsit5", step_size=0.2, max_epochs=2).fit(table)
    assert model.model_.options.step_size == 0.2
    assert np.isfinite(numbers(model.predict(table, TIMES))).all()


def test_tolerances_reach_the_solver(table):
    loose, tight = (small(rtol=tol, atol=tol, max_epochs=1).fit(table) for tol in (1e-2, 1e-5))
    assert (loose.model_.options.rtol, tight.model_.options.atol) == (1e-2, 1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"context": "all"},
        {"context": 0.5},
        {"context": np.float32(0.5)},
        {"anchor": "start"},
        {"anchor": "start", "context": 0.3},
        {"time_dependent": True},
        {"n_samples": 4},
        {"kl_weight": 0.0},
        {"validation_fraction": 0.5},
        {"batch_size": 1, "max_epochs": 1},
        {"latent_dim": 1, "hidden_dim": 1},
        {"device": "cpu"},
        {"patience": 1},
    ],
    ids=str,
)
def test_every_option_trains_and_answers(params, table):
    model = small(**params).fit(table)
    assert np.isfinite(losses(model)).all()
    mean, std = model.predict(table, TIMES, return_std=True)
    assert np.isfinite(numbers(mean)).all()
    assert (numbers(std) > 0).all()
    assert model.score(table) <= 1


def test_the_context_decides_what_is_learned(table):
    names = ("random", "all", 0.5)
    first = [losses(small(context=c, max_epochs=1, piece_warmup=0).fit(table))[0] for c in names]
    assert len({round(loss, 4) for loss in first}) == 3


class Scripted(Callback):
    """Weights after each epoch, and validation losses that follow a script."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, state) -> None:
        self.weights.append({name: w.clone() for name, w in state.model.state_dict().items()})


def test_the_best_epoch_of_the_validation_stays(table):
    seen = Scripted()
    model = small(max_epochs=12, lr=0.3, early_stopping=False, callbacks=[seen], **COARSE).fit(table)
    validation = model.history_["validation_loss"]
    assert len(validation) == 12
    assert model.best_epoch_ == validation.argmin() + 1
    assert model.best_epoch_ < 12  # otherwise the last weights would pass as well
    for name, weight in model.model_.state_dict().items():
        assert torch.equal(weight, seen.weights[model.best_epoch_ - 1][name])


def test_early_stopping_waits_for_its_patience(table):
    params = {"max_epochs": 30, "lr": 0.5, "patience": 2, **COARSE}
    model = small(**params).fit(table)
    validation = model.history_["validation_loss"].to_numpy()
    assert len(validation) < 30
    assert validation.argmin() == len(validation) - 3
    patient = small(**params, early_stopping=False).fit(table)
    assert len(patient.history_) == 30


def test_nothing_is_held_out_without_a_fraction(table):
    model = small(validation_fraction=0, max_epochs=3).fit(table)
    assert model.best_epoch_ is None
    assert "validation_loss" not in model.history_
    assert len(model.history_) == 3


def test_a_single_series_without_window_trains_without_validation():
    df = waves(40)
    model = small(max_epochs=3).fit(df)
    assert model.best_epoch_ is None
    assert len(model.history_) == 3
    assert np.isfinite(numbers(model.predict(df, [61.0]), ["x"])).all()


def test_the_only_series_with_dynamics_is_never_held_out(table):
    """Of two series one has a single row: whichever of them chance holds out, the other is trained on."""
    two = pd.concat([table[table["id"] == 0], table[table["id"] == 1].head(1)])
    models = [small(max_epochs=1, random_state=seed).fit(two) for seed in range(6)]
    assert {model.best_epoch_ for model in models} == {None, 1}
    assert all(np.isfinite(numbers(model.predict(two, TIMES))).all() for model in models)


def test_validation_losses_of_one_model_are_the_same_each_time(table):
    """The same pieces and draws in every pass; a rate of next to nothing keeps the model the same."""
    model = small(lr=1e-12, max_epochs=4).fit(table)
    validation = model.history_["validation_loss"]
    np.testing.assert_allclose(validation, validation[0], rtol=1e-6)
    assert model.history_["train_loss"].nunique() == 4  # training draws anew


def test_the_history_shows_the_parts_of_the_bound(table):
    model = small(kl_weight=2.0, kl_warmup=0.5, max_epochs=8).fit(table)
    history = model.history_
    np.testing.assert_allclose(history["train_kl_weight"], np.minimum(np.arange(8) / 3.5, 1) * 2.0)
    bound = -history["train_log_lik"] + history["train_kl_weight"] * history["train_kl"]
    np.testing.assert_allclose(history["train_loss"], bound, rtol=1e-4)
    full = -history["validation_log_lik"] + 2.0 * history["validation_kl"]
    np.testing.assert_allclose(history["validation_loss"], full, rtol=1e-4)


def test_without_warmup_the_whole_weight_counts_at_once(table):
    history = small(kl_warmup=0.0, max_epochs=3).fit(table).history_
    assert history["train_kl_weight"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("n_series", "batch_size", "epochs"), [(12, 4, 10), (12, 5, 10), (4, 50, 30)])
def test_the_default_number_of_epochs_makes_a_number_of_steps(n_series, batch_size, epochs, monkeypatch):
    monkeypatch.setattr(fitting, "DEFAULT_STEPS", 30)
    params = {"max_epochs": None, "validation_fraction": 0, "batch_size": batch_size}
    model = small(**params).fit(spirals(n_series, 6))
    assert len(model.history_) == epochs


def test_at_least_one_epoch_is_trained(monkeypatch, table):
    monkeypatch.setattr(fitting, "DEFAULT_STEPS", 1)
    assert len(small(max_epochs=None, batch_size=1, validation_fraction=0).fit(table).history_) == 1


def test_functions_of_the_record_can_stop_the_training(table):
    records: list[dict] = []

    def stop_at_two(record):
        records.append(record)
        return record["epoch"] == 2

    model = small(max_epochs=9, callbacks=[stop_at_two]).fit(table)
    assert [record["epoch"] for record in records] == [1, 2]
    assert len(model.history_) == 2
    assert records[1]["train_loss"] == model.history_["train_loss"][1]


def test_callbacks_see_the_model(table):
    seen = Scripted()
    model = small(max_epochs=3, callbacks=[seen]).fit(table)
    assert len(seen.weights) == 3
    assert seen.weights[0].keys() == model.model_.state_dict().keys()


def test_what_is_no_callback_is_refused(table):
    with pytest.raises(ValueError, match="a callback must be a Callback object or a function"):
        small(callbacks=[3]).fit(table)


def test_no_output_without_verbose(table, capfd):
    small(verbose=0, max_epochs=2).fit(table).predict(table)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [1, True])
def test_a_progress_bar_with_verbose(verbose, table, capfd):
    small(verbose=verbose, max_epochs=2).fit(table)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 2/2" in err


def test_statistics_come_from_training_series_alone(table):
    """Values of the series that are held out reach neither scale nor weights."""
    rng = np.random.default_rng
    arguments = {"scaler": "standard", "window": None, "validation_fraction": 0.25, "scaled": [True, True]}
    arguments["static_cols"] = []
    layout = small(max_epochs=1).fit(table).layout_
    data = training_data.prepare(layout.read(table), rng=rng(0), **arguments)
    held_out = set(data.validation.ids)
    assert len(held_out) == 3
    rest = table[~table["id"].isin(held_out)]
    np.testing.assert_allclose(data.scaler.loc, rest[["x", "y"]].mean())
    np.testing.assert_allclose(data.scaler.scale, rest[["x", "y"]].std(ddof=0))
    changed = table.assign(x=table["x"].where(~table["id"].isin(held_out), 1e6))
    again = training_data.prepare(layout.read(changed), rng=rng(0), **arguments)
    np.testing.assert_array_equal(again.scaler.loc, data.scaler.loc)
    assert again.time_scale == data.time_scale


def test_exploding_losses_stop_with_a_message(table):
    with pytest.raises(
        SolverError, match="the dynamics could not be solved in training: try a smaller lr"
    ) as info:
        small(lr=1e30, max_epochs=5, engine="torch").fit(table)
    assert "NON_FINITE" in str(info.value)


def test_an_interrupted_fit_leaves_no_half_model(table):
    def interrupt(record):
        raise KeyboardInterrupt

    model = small(callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        model.fit(table)
    assert not hasattr(model, "model_")


def test_adaptive_and_fixed_steps_agree_on_a_fitted_model(fitted, fixed_steps, table):
    one, other = numbers(fitted.predict(table, TIMES)), numbers(fixed_steps.predict(table, TIMES))
    np.testing.assert_allclose(one, other, rtol=0, atol=OTHER_STEPS)


def test_windows_are_drawn_anew_for_each_epoch(wave):
    table = small(max_epochs=1).fit(wave).layout_.read(wave)
    batches = Batches(table, 4, 16.0, np.random.default_rng(0))
    begins = [sorted(float(t) for batch in batches for t in batch.series.times[:, 0]) for _ in range(3)]
    assert len({tuple(b) for b in begins}) == 3
    assert {len(b) for b in begins} == {len(begins[0])}
    assert len(batches) == -(-len(begins[0]) // 4)
    assert len(begins[0]) * 16.0 >= 2 * table.spans[0]


def test_the_objective_sees_pieces_in_the_scale_of_their_context(table):
    """`scaler="series"`: level and spread of a piece are those of what the encoder reads."""
    layout = small(max_epochs=1).fit(table).layout_
    data = training_data.prepare(
        layout.read(table),
        scaler="series",
        scaled=[True, True],
        static_cols=[],
        window=None,
        validation_fraction=0,
        rng=np.random.default_rng(0),
    )
    seen = []

    class Recorder:
        def loss(self, piece, **arguments):
            seen.append((piece, arguments))

    objective = fitting.Objective(
        Recorder(), data.scaler, 0.5, "end", 0.0, LossOptions(3), torch.device("cpu")
    )
    for batch in Batches(data.train, 12, None, np.random.default_rng(0)):
        objective(batch, 0.7, torch.Generator())
    ((piece, arguments),) = seen
    assert (arguments["options"].n_samples, arguments["kl_weight"]) == (3, 0.7)
    count = piece.context.mask.sum(1)
    torch.testing.assert_close(piece.context.values.sum(1) / count, torch.zeros(12, 2), rtol=0, atol=1e-5)
    assert (piece.context.lengths < piece.target.lengths).all()
    n_read = piece.context.times.shape[1]  # the target begins with what was read, in the same scale
    both = piece.context.mask & piece.target.mask[:, :n_read]
    torch.testing.assert_close(piece.target.values[:, :n_read][both], piece.context.values[both])
    assert (piece.context.times.amax(1) == 0).all()


def test_pandas_of_the_history_is_a_plain_table(fitted):
    assert isinstance(fitted.history_, pd.DataFrame)
    assert {"epoch", "train_loss", "validation_loss", "learning_rate", "gradient_norm", "seconds"} <= set(
        fitted.history_
    )
