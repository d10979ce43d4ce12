"""Static covariates, controls, a user's own parts, and what the bound is made of, through `fit`."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import COMPANY, OTHER_STEPS, assert_same_weights, differ, numbers, small
from torch import nn

from latentode import LatentODERegressor
from latentode.exceptions import DataError, LatentODEWarning
from latentode.nn.encoders import GRUEncoder
from latentode.nn.fields import FIELDS, MLPField
from latentode.nn.normal import Normal


def driven(n_series: int = 12, seed: int = 0) -> pd.DataFrame:
    """dx/dt = -x + u with a step control u, and a level per series; rows at the changes of u observe nothing."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(n_series):
        time = np.sort(np.round(rng.uniform(0, 6, 14) * 64) / 64)
        switch = rng.uniform(1, 5)
        u = np.where(time < switch, 0.0, 2.0)
        mass = float(i % 3)
        x = (
            np.where(time < switch, 0.0, 2 * (1 - np.exp(-(time - switch))))
            + mass
            + 0.05 * rng.normal(size=14)
        )
        parts.append(pd.DataFrame({"id": f"s{i}", "time": time, "x": x, "u": u, "mass": mass}))
        parts.append(
            pd.DataFrame({"id": [f"s{i}"], "time": [switch], "x": [np.nan], "u": [2.0], "mass": [mass]})
        )
    return pd.concat(parts, ignore_index=True)


ROLES = {
    "target_cols": ["x"],
    "static_cols": ["mass"],
    "control_cols": ["u"],
    "control_interpolation": "step",
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return driven()


@pytest.fixture(scope="module", params=list(FIELDS))
def model(request: pytest.FixtureRequest) -> LatentODERegressor:
    return learned(request.param)


@cache
def learned(field: str) -> LatentODERegressor:
    return small(field=field, max_epochs=60, lr=0.03, **ROLES).fit(driven())


def plan(name: str, u: float) -> pd.DataFrame:
    return pd.DataFrame({"id": name, "time": [6.5, 8.0, 9.0], "u": u})


def test_a_forecast_follows_the_controls_it_is_given(model, table):
    context = table[table["id"] == "s0"]
    low, high = (numbers(model.predict(context, plan("s0", u)), ["x"]) for u in (-2.0, 4.0))
    assert (high > low + 2 * OTHER_STEPS)[1:].all()  # the first time is the one at which they part


def test_controls_in_rows_of_the_table_are_the_same_as_in_the_queries(model, table):
    context, asked = table[table["id"] == "s0"], plan("s0", 4.0)
    in_table = pd.concat([context, asked.assign(mass=0.0)], ignore_index=True)
    one = model.predict(context, asked)
    other = model.predict(in_table, asked[["id", "time"]])
    np.testing.assert_allclose(numbers(one, ["x"]), numbers(other, ["x"]), rtol=0, atol=COMPANY)


def test_without_further_rows_a_control_keeps_its_value(model, table):
    context = table[table["id"] == "s0"]
    last = context.sort_values("time")["u"].iloc[-1]
    with pytest.warns(LatentODEWarning, match="beyond the last row that tells the controls"):
        one = model.predict(context, [6.5, 8.0, 9.0])
    other = model.predict(context, plan("s0", last))
    np.testing.assert_allclose(numbers(one, ["x"]), numbers(other, ["x"]), rtol=0, atol=COMPANY)


def test_a_static_covariate_matters(model, table):
    context = table[table["id"] == "s0"]
    one, other = (numbers(model.predict(context.assign(mass=m), [3.0]), ["x"]) for m in (0.0, 2.0))
    assert differ(one, other)


def test_company_and_order_of_rows_do_not_matter(model, table):
    asked = pd.concat([plan("s0", 1.0), plan("s3", 2.0)], ignore_index=True)
    both = model.predict(table[table["id"].isin(["s0", "s3"])].sample(frac=1, random_state=0), asked)
    alone = model.predict(table[table["id"] == "s3"], plan("s3", 2.0))
    steps = OTHER_STEPS if model.field != "linear" else COMPANY
    np.testing.assert_allclose(numbers(both, ["x"])[3:], numbers(alone, ["x"]), rtol=0, atol=steps)


def test_the_order_of_rows_does_not_change_fit(table):
    one = small(max_epochs=2, **ROLES).fit(table)
    assert_same_weights(one, small(max_epochs=2, **ROLES).fit(table.sample(frac=1, random_state=1)))


def test_units_of_covariates_and_controls_do_not_matter(table):
    """Powers of two, so that scaled values stay the same bit by bit."""
    one = small(max_epochs=2, **ROLES).fit(table)
    other = small(max_epochs=2, **ROLES).fit(table.assign(u=table["u"] * 1024, mass=table["mass"] / 64))
    assert_same_weights(one, other)


def test_the_picture_follows_a_plan(table):
    model = small(max_epochs=1, **ROLES).fit(table)
    axes = model.plot_forecast(table[table["id"] == "s0"], plan("s0", 4.0))
    assert axes.get_lines()


def test_a_series_without_a_covariate_is_read_where_the_training_had_one(table):
    gappy = table.assign(mass=table["mass"].where(table["id"] != "s1"))
    model = small(max_epochs=2, **ROLES).fit(gappy)
    assert np.isfinite(numbers(model.predict(gappy[gappy["id"] == "s1"], [3.0]), ["x"])).all()
    strict = small(max_epochs=1, **ROLES).fit(table)
    with pytest.raises(DataError, match="series 's1' has no value of the static column 'mass'"):
        strict.predict(gappy, [3.0])


def test_a_plan_finer_than_the_training_counts(table):
    """A short strong dose in `times` does about what a long weak one of the same area does."""
    model = learned("mlp")
    context, last = table[table["id"] == "s0"], 9.0

    def forecast(width: float, u: float) -> float:
        knots = pd.DataFrame({"id": "s0", "time": [6.5, 7.0, 7.0 + width, last], "u": [0.0, u, 0.0, 0.0]})
        return float(model.predict(context, knots)["x"].iloc[-1])

    nothing, short, long = forecast(0.5, 0.0), forecast(0.1, 25.0), forecast(0.5, 5.0)
    assert abs(long - nothing) > 2 * OTHER_STEPS
    assert abs(short - nothing) > 0.2 * abs(long - nothing)  # the field need not be linear in a control


def test_a_control_that_never_changes_is_a_constant_input():
    df = driven().assign(u=1.0)
    model = small(max_epochs=1, control_cols=["u"]).fit(df)
    assert np.isfinite(numbers(model.predict(df), list(model.layout_.target_cols))).all()


def test_windows_of_a_long_series_see_its_controls():
    rng = np.random.default_rng(0)
    time = np.arange(0, 60, 0.25)
    u = np.sin(time)
    df = pd.DataFrame(
        {"id": 0, "time": time, "x": np.cumsum(u) * 0.25 + 0.01 * rng.normal(size=len(time)), "u": u}
    )
    model = small(window=10.0, scaler="series", control_cols=["u"], max_epochs=3).fit(df)
    low, high = (
        model.predict(df, pd.DataFrame({"id": 0, "time": [61.0, 63.0], "u": [v, v]}))["x"].iloc[-1]
        for v in (-3.0, 3.0)
    )
    assert low != high


class Mean(nn.Module):
    """An encoder of a user's own: from the mean of what was observed."""

    def __init__(self, n_values: int, latent_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_values, 2 * latent_dim)

    def forward(self, times, values, mask, lengths):
        mean = torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)
        loc, raw = self.layer(mean).chunk(2, dim=-1)
        return Normal(loc, nn.functional.softplus(raw) + 0.01)


class Spring(nn.Module):
    """A field of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(1.0))

    def forward(self, t, z):
        return torch.cat([z[:, 1:2], -self.k * z[:, :1], -z[:, 2:]], dim=1)


def test_a_users_own_encoder_and_field_are_trained_as_copies(table):
    encoder, field = Mean(1, 3), Spring()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    model = small(encoder=encoder, field=field, target_cols=["x"], max_epochs=3).fit(table)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert float(field.k.detach()) == 1.0
    assert float(model.model_.field.k.detach()) != 1.0
    assert np.isfinite(numbers(model.predict(table, [7.0]), ["x"])).all()


def test_an_encoder_object_of_ours_is_the_named_one(table):
    named = small(target_cols=["x"], max_epochs=2).fit(table)
    given = GRUEncoder(1, 10, 3, backwards=False, generator=torch.Generator().manual_seed(0))
    field = MLPField(3, 10, generator=torch.Generator().manual_seed(0))
    other = small(target_cols=["x"], max_epochs=2, encoder=given, field=field).fit(table)
    names = [name for name, _ in named.model_.named_parameters()]
    assert names == [name for name, _ in other.model_.named_parameters()]


class Wrong(Mean):
    def __init__(self, answer) -> None:
        super().__init__(1, 3)
        self.answer = answer

    def forward(self, times, values, mask, lengths):
        return self.answer(super().forward(times, values, mask, lengths))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda q: (q.mean, q.std), "an encoder must return latentode.nn.normal.Normal(mean, std)"),
        (lambda q: Normal(q.mean[:, :2], q.std[:, :2]), "shape (6, 3), series × latent_dim; got mean (6, 2)"),
        (lambda q: Normal(q.mean, -q.std), "mean and positive std of shape (6, 3)"),
    ],
    ids=["no Normal", "too narrow", "negative std"],
)
def test_an_encoder_that_answers_wrongly_is_refused(answer, message, table):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(encoder=Wrong(answer), target_cols=["x"]).fit(table)


def test_a_constant_weight_of_the_kl_counts_at_once(table):
    history = small(kl_schedule="constant", max_epochs=4, target_cols=["x"]).fit(table).history_
    assert history["train_kl_weight"].tolist() == [1.0] * 4


def test_a_cyclic_weight_comes_back_to_zero(table):
    history = small(kl_schedule="cyclic", kl_warmup=0.5, max_epochs=12, target_cols=["x"]).fit(table).history_
    weights = history["train_kl_weight"]
    assert (weights < 0.2).sum() >= 2
    assert weights.iloc[-1] == 1


def test_free_bits_keep_the_posterior_from_collapsing(table):
    """A huge weight of the KL drives every dimension to the prior, unless some nats are free."""
    arguments = {"kl_weight": 50.0, "kl_warmup": 0.0, "max_epochs": 60, "lr": 0.03, "target_cols": ["x"]}
    none = small(**arguments).fit(table).history_.iloc[-1]
    some = small(free_bits=0.5, **arguments).fit(table).history_.iloc[-1]
    assert none["train_active_dims"] == 0
    assert some["train_active_dims"] >= 1


def test_penalties_make_the_dynamics_calmer(table):
    arguments = {"max_epochs": 40, "lr": 0.03, "piece_warmup": 0, "target_cols": ["x"]}
    plain = small(kinetic=1e-6, jacobian=1e-6, **arguments).fit(table).history_.iloc[-1]
    calm = small(kinetic=0.3, jacobian=0.3, **arguments).fit(table).history_.iloc[-1]
    for name in ("train_kinetic", "train_jacobian"):
        assert calm[name] < plain[name]


def test_one_of_two_controls_may_be_planned(table):
    two = table.assign(v=1.0)
    model = small(max_epochs=20, lr=0.03, target_cols=["x"], control_cols=["u", "v"]).fit(two)
    context = two[two["id"] == "s0"]
    low, high = (
        numbers(model.predict(context, pd.DataFrame({"id": "s0", "time": [7.0, 8.0], "u": u})), ["x"])
        for u in (-5.0, 5.0)
    )
    assert differ(low, high)


def test_a_control_with_two_values_at_one_time_is_refused(table):
    twice = pd.concat([table, table.assign(u=table["u"] + 1)])
    with pytest.raises(DataError, match="the control 'u' of series 's0' has two values at one time"):
        small(**ROLES).fit(twice)
    same = pd.concat([table, table])
    assert len(small(max_epochs=1, **ROLES).fit(same).predict(same)) == len(same)


@pytest.mark.parametrize("seed", range(6))
def test_a_missing_covariate_may_be_in_the_validation_series(seed, table):
    gappy = table.assign(mass=table["mass"].where(table["id"] != "s1"))
    small(max_epochs=1, random_state=seed, validation_fraction=0.3, **ROLES).fit(gappy)


def test_a_covariate_that_no_series_has_is_refused(table):
    with pytest.raises(DataError, match="static column 'mass' is NaN in every training series"):
        small(**ROLES).fit(table.assign(mass=np.nan))


def test_what_was_fitted_scores_and_names_the_same_after_set_params(table):
    model = small(max_epochs=1, target_cols=["x"], event_times="poisson").fit(table)
    score, names = model.score(table), list(model.predict_intensity(table))
    model.set_params(context=0.9, event_times="poisson_per_target")
    assert model.score(table) == score
    assert list(model.predict_intensity(table)) == names


def test_error_columns_are_needed_where_they_count_only(table):
    df = table.assign(err=0.1)
    model = small(max_epochs=1, target_cols=["x"], error_cols={"x": "err"}).fit(df)
    assert np.isfinite(model.score(table))
    assert model.predict(table)["x"].equals(model.predict(df)["x"])
    with pytest.raises(DataError, match="no column 'err', named in error_cols"):
        model.log_likelihood(table)


class Clocked(Spring):
    """Remembers what times it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.latest = -np.inf

    def forward(self, t, z):
        self.latest = max(self.latest, float(t.max()))
        return super().forward(t, z)


def test_a_users_field_sees_calendar_time_where_that_is_asked_for(table):
    late = table.assign(time=table["time"] + 1000)
    arguments = {"target_cols": ["x"], "max_epochs": 1}
    seen = small(field=Clocked(), time_dependent=True, **arguments).fit(late).model_.field.latest
    blind = small(field=Clocked(), **arguments).fit(late).model_.field.latest
    assert seen > blind
    told = Clocked()
    told.time_dependent = False
    with pytest.raises(ValueError, match="time_dependent=True, but the field has time_dependent=False"):
        small(field=told, time_dependent=True, **arguments).fit(late)


def test_an_encoder_of_ours_that_reads_the_wrong_way_is_refused(table):
    with pytest.raises(
        ValueError, match="anchor='end' needs an encoder that reads forwards: make it with backwards=False"
    ):
        small(encoder=GRUEncoder(1, 10, 3), target_cols=["x"]).fit(table)


class Failing(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, t, z):
        return self.answer(t, z)


@pytest.mark.parametrize(
    ("answer", "params", "message"),
    [
        (
            lambda t, z: z[:, :2],
            {},
            "field(t, z) with t (2,), z (2, 3) must return dz/dt of shape (2, 3) torch.float32; got",
        ),
        (lambda t, z: z.double(), {}, "got (2, 3) torch.float64"),
        (lambda t, z: z @ torch.ones(7, 3), {}, "the field failed with RuntimeError"),
        (
            lambda t, z: z,
            {"static_cols": ["mass"]},
            "It is called as field(t, z, inputs) with t (2,), z (2, 3), inputs (2, 1)",
        ),
    ],
    ids=["narrow", "double", "fails", "no inputs"],
)
def test_a_field_that_cannot_be_called_is_refused(answer, params, message, table):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(field=Failing(answer), target_cols=["x"], **params).fit(table)


def test_an_encoder_that_fails_is_told_what_it_was_given(table):
    with pytest.raises(
        ValueError, match=r"the encoder failed with RuntimeError.* values \(6, \d+, 2\) torch.float32"
    ):
        small(encoder=Mean(5, 3), target_cols=["x"], static_cols=["mass"]).fit(table)


@pytest.mark.parametrize("interpolation", ["linear", "step"])
def test_a_control_that_never_changes_is_no_trouble(table, interpolation):
    df = table.assign(u=1.0)
    model = small(control_cols=["u"], control_interpolation=interpolation, max_epochs=1).fit(df)
    assert np.isfinite(model.predict(df)[list(model.layout_.target_cols)]).all(axis=None)
