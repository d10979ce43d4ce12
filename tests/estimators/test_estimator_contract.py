"""scikit-learn's rules: the constructor stores, `fit` validates and learns, clones are unfitted."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from small_models import assert_same_weights, numbers, small

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.estimators import parameters
from latentode.gradients import GRADIENTS
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.likelihoods import LIKELIHOODS
from latentode.nn.mlp import ACTIVATIONS
from latentode.solvers import SOLVERS

SIGNATURE = inspect.signature(LatentODERegressor.__init__).parameters
NAMES = [name for name in SIGNATURE if name != "self"]


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_stores_each_parameter_as_it_is(name):
    given = object()  # not even a sensible value is looked at before fit
    model = LatentODERegressor(**{name: given})
    assert getattr(model, name) is given
    assert model.get_params()[name] is given


def test_the_constructor_does_nothing_else():
    assert vars(LatentODERegressor()) == LatentODERegressor().get_params()
    assert sorted(LatentODERegressor().get_params()) == sorted(NAMES)


def test_all_parameters_are_keyword_only():
    assert {SIGNATURE[name].kind for name in NAMES} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match="takes parameters by name only, such as id_col="):
        LatentODERegressor("id")


def test_each_parameter_has_a_constraint_and_a_line_of_documentation():
    assert set(NAMES) <= set(parameters.CONSTRAINTS)
    documented = re.findall(r"^    ([a-z_, ]+) : ", LatentODERegressor.__doc__, flags=re.MULTILINE)
    described = {name for line in documented for name in line.split(", ")}
    assert set(NAMES) <= described


def test_set_params_and_clone():
    model = small(callbacks=[], context=0.5).set_params(latent_dim=5, solver="tsit5")
    twin = clone(model)
    assert twin is not model
    assert twin.get_params() == model.get_params()
    assert twin.get_params()["latent_dim"] == 5
    with pytest.raises(ValueError, match="has no parameter 'latent_dims'"):
        model.set_params(latent_dims=3)


def test_a_clone_of_a_fitted_model_is_not_fitted(fitted, table):
    twin = clone(fitted)
    assert twin.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(table)


def test_repr_shows_what_was_set():
    assert repr(LatentODERegressor()) == "LatentODERegressor()"
    assert repr(LatentODERegressor(latent_dim=3, context="all")) == (
        "LatentODERegressor(context='all', latent_dim=3)"
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda model, df: model.predict(df),
        lambda model, df: model.predict_quantiles(df),
        lambda model, df: model.predict_interval(df),
        lambda model, df: model.sample(df),
        lambda model, df: model.score(df),
        lambda model, df: model.plot_forecast(df),
        lambda model, df: model.plot_history(),
    ],
    ids=[
        "predict",
        "predict_quantiles",
        "predict_interval",
        "sample",
        "score",
        "plot_forecast",
        "plot_history",
    ],
)
def test_nothing_is_answered_before_fit(call, table):
    with pytest.raises(NotFittedError, match="This LatentODERegressor instance is not fitted yet"):
        call(small(), table)


def test_public_methods_are_those_of_the_map():
    methods = {"fit", "predict", "predict_quantiles", "predict_interval", "sample", "score"}
    assert methods | {"plot_forecast", "plot_history"} <= set(dir(LatentODERegressor))


def test_fit_returns_itself_and_learns_names_with_an_underscore(table):
    model = small(max_epochs=1)
    assert model.fit(table) is model
    learned = set(vars(model)) - set(NAMES)
    assert {name for name in learned if not name.startswith("_") and not name.endswith("_")} == set()
    assert {"model_", "history_", "layout_", "time_scale_", "scaler_", "best_epoch_"} <= learned
    assert list(model.feature_names_in_) == ["x", "y"]
    assert model.n_features_in_ == 2
    assert is_regressor(model)


def test_fit_leaves_parameters_and_table_alone(table):
    model, before = small(max_epochs=1, target_cols=["y", "x"], callbacks=[]), table.copy(deep=True)
    params = copy.deepcopy(model.get_params())
    model.fit(table).predict(table, [1.0])
    assert model.get_params() == params
    assert table.equals(before)


def test_a_second_fit_forgets_the_first(fitted, table):
    model = small(max_epochs=2).fit(table.assign(z=1.0, x=100.0))
    model.fit(table)
    assert list(model.feature_names_in_) == ["x", "y"]
    assert_same_weights(model, small(max_epochs=2).fit(table))
    assert len(model.history_) == 2


def test_what_was_learned_does_not_change_with_later_parameters(fitted, table):
    model = copy.deepcopy(fitted)
    before = model.predict(table, [2.0, 5.0])
    drawn = model.sample(table, [5.0], 3, random_state=1)
    model.set_params(latent_dim=7, hidden_dim=3, anchor="end", window=1.0, solver="euler", scaler="minmax")
    assert model.predict(table, [2.0, 5.0]).equals(before)
    assert model.sample(table, [5.0], 3, random_state=1).equals(drawn)


def test_a_fitted_model_survives_pickle_and_deepcopy(fitted, table):
    expected = numbers(fitted.predict(table, [1.0, 6.0]))
    for twin in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(numbers(twin.predict(table, [1.0, 6.0])), expected)


NOT_A_COUNT = [0, -1, 2.0, True, "3", None]
NOT_POSITIVE = [0, -1.0, float("nan"), float("inf"), "1", True, None]
NOT_A_SWITCH = [1, 0, "yes", None]

BAD = {
    "id_col": ([["id"], {}], "a column name, or None"),
    "time_col": ([None, ["time"]], "a column name"),
    "target_cols": (["x", 3], "a list of column names, or None"),
    "latent_dim": (NOT_A_COUNT, "an int of at least 1"),
    "hidden_dim": (NOT_A_COUNT, "an int of at least 1"),
    "depth": (NOT_A_COUNT, "an int of at least 1"),
    "encoder_dim": (NOT_A_COUNT[:-1], "an int of at least 1, or None"),
    "static_cols": (["x", None], "a list of column names"),
    "control_cols": (["x", None], "a list of column names"),
    "control_interpolation": (["cubic", None], "one of 'linear', 'step'"),
    "error_cols": (["x", ["x"]], "a mapping from target to name, or None"),
    "activation": (["gelu", None], "one of " + ", ".join(map(repr, ACTIVATIONS))),
    "encoder": (["lstm", None, 1], "one of " + ", ".join(map(repr, ENCODERS)) + ", or an nn.Module"),
    "field": (["mlpp", None], "one of " + ", ".join(map(repr, FIELDS)) + ", or an nn.Module"),
    "likelihood": (["gauss", None], "one of " + ", ".join(map(repr, LIKELIHOODS)) + ", or a mapping"),
    "event_times": (["hawkes", True], "one of 'poisson', 'poisson_per_target', or None"),
    "kl_schedule": (["cosine", None], "one of 'constant', 'linear', 'cyclic'"),
    "free_bits": ([-1, float("nan"), "1", None], "a number of at least 0"),
    "kinetic": ([-1, float("inf"), "1", None], "a number of at least 0"),
    "jacobian": ([-1, float("inf"), "1", None], "a number of at least 0"),
    "time_dependent": (NOT_A_SWITCH, "one of True, False"),
    "solver": (["heun", None, 5], "one of " + ", ".join(map(repr, SOLVERS))),
    "rtol": (NOT_POSITIVE, "a number greater than 0"),
    "atol": (NOT_POSITIVE, "a number greater than 0"),
    "step_size": (NOT_POSITIVE[:-1], "a number greater than 0, or None"),
    "gradient": (["autograd", None], "one of " + ", ".join(map(repr, GRADIENTS))),
    "engine": (["cuda", None], "one of 'auto', 'torch', 'native'"),
    "context": (["first", 0, 1, 0.0, 1.0, -0.5, True, None], "one of 'random', 'all', or a number in (0, 1)"),
    "context_gaps": ([-0.1, 1.1, "x", None], "a number in [0, 1]"),
    "anchor": (["middle", 0, None], "one of 'start', 'end'"),
    "n_samples": (NOT_A_COUNT, "an int of at least 1"),
    "kl_weight": ([-1, float("nan"), float("inf"), "1", None], "a number of at least 0"),
    "piece_warmup": ([-0.1, 1.1, "x", None], "a number in [0, 1]"),
    "kl_warmup": ([-0.1, 1.1, "x", None], "a number in [0, 1]"),
    "max_epochs": (NOT_A_COUNT[:-1], "an int of at least 1, or None"),
    "batch_size": (NOT_A_COUNT, "an int of at least 1"),
    "lr": (NOT_POSITIVE, "a number greater than 0"),
    "early_stopping": (NOT_A_SWITCH, "one of True, False"),
    "validation_fraction": ([1, 1.0, -0.1, "x", None], "a number in [0, 1)"),
    "patience": (NOT_A_COUNT[:-1], "an int of at least 1, or None"),
    "scaler": (["zscore", None], "one of 'standard', 'robust', 'minmax', 'series'"),
    "calibrate": (NOT_A_SWITCH, "one of True, False"),
    "callbacks": ([3, "history"], "a list of callbacks, or None"),
    "checkpoint_dir": ([3, True, ["here"]], "a path, or None"),
    "device": ([None, 0], "a str"),
    "verbose": ([-1, "loud", None, 0.5], "an int of at least 0, or one of True, False"),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name][0]])
def test_parameters_out_of_range_are_refused_in_fit(name, value, table):
    expected = f"LatentODERegressor: {name} must be {BAD[name][1]}"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}.*; got {re.escape(repr(value))}"):
        small(**{name: value}).fit(table)


def test_every_parameter_is_tried_with_bad_values():
    own_messages = {"window", "random_state"}  # in test_estimator_windows, and below
    assert set(NAMES) - set(BAD) == own_messages


@pytest.mark.parametrize(
    ("name", "typo", "meant"),
    [
        ("solver", "dopr5", "dopri5"),
        ("gradient", "backprob", "backprop"),
        ("scaler", "standart", "standard"),
        ("context", "randon", "random"),
        ("anchor", "ends", "end"),
        ("field", "mpl", "mlp"),
        ("likelihood", "gausian", "gaussian"),
        ("encoder", "grus", "gru"),
    ],
)
def test_typos_get_the_name_that_was_meant(name, typo, meant, table):
    with pytest.raises(ValueError, match=rf"got '{typo}' \(did you mean '{meant}'\?\)$"):
        small(**{name: typo}).fit(table)


@pytest.mark.parametrize("state", ["a", 1.5, [1]])
def test_random_states_of_another_kind_are_refused(state, table, fitted):
    message = re.escape(
        f"random_state must be an int, a numpy Generator or RandomState, or None; got {state!r}"
    )
    with pytest.raises(ValueError, match=message):
        small(random_state=state).fit(table)
    with pytest.raises(ValueError, match=message):
        fitted.sample(table, random_state=state)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_devices_that_are_not_there_are_refused(device, table):
    message = f"device must be 'auto' or one that torch has on this machine, such as 'cpu'; got '{device}'"
    with pytest.raises(ValueError, match=message):
        small(device=device).fit(table)


@pytest.mark.parametrize("estimator", [LatentODERegressor, LatentODEClassifier])
class TestMisspeltNames:
    def test_in_the_constructor(self, estimator):
        message = f"{estimator.__name__} has no parameter 'latent_dims' (did you mean 'latent_dim'?)"
        with pytest.raises(TypeError, match=re.escape(message)):
            estimator(latent_dims=3)
        with pytest.raises(
            TypeError, match=r"has no parameter 'n_trees'; its parameters are .*, latent_dim, "
        ):
            estimator(n_trees=3)

    def test_in_set_params(self, estimator):
        model = estimator()
        message = f"{estimator.__name__} has no parameter 'batchsize' (did you mean 'batch_size'?)"
        with pytest.raises(ValueError, match=re.escape(message)):
            model.set_params(batchsize=3)
        assert model.get_params() == estimator().get_params()

    def test_the_signature_stays_readable(self, estimator):
        names = set(inspect.signature(estimator).parameters)
        assert names == set(estimator().get_params())
