"""Kinds of targets, measurement errors and event times, through `fit`."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from small_models import numbers, small, spirals

from latentode import LatentODERegressor
from latentode.exceptions import DataError


def counts(n_series: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    df = pd.DataFrame({"id": np.repeat(np.arange(n_series), 12), "time": np.tile(np.arange(12.0), n_series)})
    level = 1 + df["id"] % 3
    return df.assign(
        x=level + 0.1 * rng.normal(size=len(df)),
        n=rng.poisson(20 * level),
        sick=rng.random(len(df)) < 0.3,
        ward=np.where(level == 2, "north", "south"),
    )


KINDS = {"n": "negative_binomial", "sick": "bernoulli", "ward": "categorical"}


@pytest.fixture(scope="module")
def mixed() -> LatentODERegressor:
    return small(likelihood=KINDS, max_epochs=120, lr=0.03, piece_warmup=0).fit(counts())


def test_every_target_has_its_own_likelihood_and_its_own_kind_of_answer(mixed):
    df = counts()
    assert mixed.likelihoods_ == {"x": "gaussian", **KINDS}
    mean = mixed.predict(df, [13.0])
    assert list(mean.columns) == ["id", "time", "x", "n", "sick", "ward"]
    assert set(mean["ward"]) <= {"north", "south"}
    assert (mean["ward"] == np.where(mean["id"] % 3 == 1, "north", "south")).mean() > 0.8
    assert mean["sick"].between(0, 1).all()
    np.testing.assert_allclose(mean["n"], 20 * (1 + mean["id"] % 3), rtol=0.3)
    quantiles = mixed.predict_quantiles(df, [13.0], [0.1, 0.9])
    assert "ward" not in quantiles  # it has no order
    assert (quantiles["n"] == quantiles["n"].round()).all()
    assert set(quantiles["sick"]) <= {0.0, 1.0}
    assert not [name for name in mixed.predict_interval(df, [13.0]) if name.startswith("ward")]


def test_probabilities_of_classes_sum_to_one(mixed):
    found = mixed.predict_proba(counts(), [13.0])
    assert list(found.columns) == ["id", "time", "sick_0", "sick_1", "ward_north", "ward_south"]
    np.testing.assert_allclose(found["ward_north"] + found["ward_south"], 1, atol=1e-6)
    np.testing.assert_allclose(found["sick_1"], mixed.predict(counts(), [13.0])["sick"], atol=1e-6)


def test_standard_deviations_of_categories_are_missing(mixed):
    _, std = mixed.predict(counts(), [13.0], return_std=True)
    assert std["ward"].isna().all()
    assert (std[["x", "n", "sick"]] > 0).all(axis=None)


def test_samples_are_values_of_the_right_kind(mixed):
    drawn = mixed.sample(counts(), [13.0], n_samples=20)
    assert set(drawn["ward"]) == {"north", "south"}
    assert set(drawn["sick"]) == {0.0, 1.0}
    assert (drawn["n"] == drawn["n"].round()).all()
    smooth = mixed.sample(counts(), [13.0], n_samples=3, noise=False)
    assert set(smooth["ward"]) <= {"north", "south"}


def test_the_score_counts_categories_by_the_errors_avoided(mixed):
    assert mixed.score(counts()[["id", "time", "x", "n", "sick", "ward"]]) <= 1
    only = small(likelihood="categorical", target_cols=["ward"], max_epochs=40, lr=0.03, piece_warmup=0).fit(
        counts()
    )
    assert 0.5 < only.score(counts()) <= 1
    with pytest.raises(DataError, match="nothing to draw: every target is a category"):
        only.plot_forecast(counts())


def test_the_picture_leaves_categories_out(mixed):
    axes = mixed.plot_forecast(counts(), series=[0])
    assert len(np.atleast_1d(axes)) == 3


def test_an_ordered_category_has_quantiles_and_keeps_its_dtype():
    dtype = pd.CategoricalDtype(["low", "middle", "high"], ordered=True)
    df = counts().assign(level=lambda t: pd.Categorical.from_codes(t["id"] % 3, dtype=dtype))
    model = small(likelihood={"level": "categorical"}, target_cols=["level"], max_epochs=2).fit(df)
    assert model.predict(df, [13.0])["level"].dtype == dtype
    assert model.predict_quantiles(df, [13.0])["level"].cat.categories.tolist() == ["low", "middle", "high"]


BAD_VALUES = {
    "half a count": (
        {"n": 0.5},
        "poisson",
        "target 'n' is 0.5 in series 0 (row 0), but likelihood 'poisson' needs whole",
    ),
    "negative count": ({"n": -1}, "negative_binomial", "target 'n' is -1 in series 0 (row 0)"),
    "not binary": ({"n": 2}, "bernoulli", "likelihood 'bernoulli' needs 0 or 1"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_that_a_likelihood_does_not_know_are_refused(case):
    values, likelihood, message = BAD_VALUES[case]
    with pytest.raises(DataError, match=re.escape(message)):
        small(likelihood={"n": likelihood}, target_cols=["x", "n"]).fit(counts().assign(**values))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"likelihood": {"x": "gauss"}}, "likelihood of target 'x' must be one of 'gaussian'"),
        ({"likelihood": {"y": "poisson"}}, "likelihood names 'y', which is no target"),
        ({"likelihood": "categorical"}, 'likelihood="categorical" needs target_cols='),
        (
            {"likelihood": {"x": "student_t"}, "error_cols": {"x": "n"}},
            "error_cols gives measurement errors for 'x', whose likelihood 'student_t' cannot use them; those that can "
            "are ['gaussian', 'gaussian_heteroscedastic']",
        ),
        ({"free_bits": 0.1, "n_samples": 2}, "free_bits=0.1 needs n_samples=1"),
    ],
    ids=["no likelihood", "no target", "all categories", "errors", "free bits"],
)
def test_parameters_that_do_not_fit_together_are_refused(params, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        small(**params).fit(counts())


def test_probabilities_of_numbers_do_not_exist(table):
    model = small(target_cols=["x"], max_epochs=1).fit(table)
    assert not hasattr(model, "predict_proba")  # as scikit-learn's searches and scorers ask
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'") as caught:
        model.predict_proba(table)
    assert "no target has classes; the likelihood is {'x': 'gaussian'}: name those" in str(
        caught.value.__cause__
    )


def test_known_measurement_errors_take_over_from_learned_noise():
    """Values whose noise is given leave little to learn: the noise of the likelihood shrinks."""
    rng = np.random.default_rng(2)
    df = counts(20).drop(columns=["n", "sick", "ward"])
    noisy = df.assign(x=(df["id"] % 3) + rng.normal(size=len(df)), x_err=1.0)
    arguments = {"max_epochs": 60, "lr": 0.03, "piece_warmup": 0, "target_cols": ["x"]}
    plain, told = small(**arguments).fit(noisy), small(error_cols={"x": "x_err"}, **arguments).fit(noisy)
    noise = [float(model.model_.likelihood.noise_std[0].detach()) for model in (plain, told)]
    assert noise[1] < 0.7 * noise[0]


def events(unit: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    for i in range(15):
        time = np.cumsum(rng.exponential(0.5, 25))
        parts.append(
            pd.DataFrame({"id": i, "time": unit * time, "x": rng.normal(size=25), "y": rng.normal(size=25)})
        )
    df = pd.concat(parts, ignore_index=True)
    return df.assign(y=df["y"].where(rng.random(len(df)) < 0.5))


BRIEFLY = {"max_epochs": 10, "lr": 0.05, "piece_warmup": 0, "solver": "rk4", "step_size": 0.5}


def test_a_constant_rate_of_events_is_found_in_the_unit_of_the_table():
    for unit in (1.0, 60.0):
        model = small(event_times="poisson", **BRIEFLY).fit(events(unit))
        rate = model.predict_intensity(events(unit), [unit * 5.0])["intensity"] * unit
        assert rate.mean() == pytest.approx(2.0, rel=0.2)  # 360 gaps, so their mean is known to 5 %


def test_each_target_may_have_a_rate_of_its_own():
    model = small(event_times="poisson_per_target", **BRIEFLY).fit(events())
    rates = model.predict_intensity(events(), [5.0])
    assert list(rates.columns) == ["id", "time", "x_intensity", "y_intensity"]
    assert rates["y_intensity"].mean() == pytest.approx(rates["x_intensity"].mean() / 2, rel=0.3)


def test_rates_of_datetimes_are_per_day():
    df = events()
    dated = df.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(df["time"], unit="D"))
    arguments = {"event_times": "poisson", "max_epochs": 3}
    days = small(**arguments).fit(df).predict_intensity(df, [5.0])["intensity"]
    dates = small(**arguments).fit(dated).predict_intensity(dated, [pd.Timestamp("2024-01-06")])["intensity"]
    np.testing.assert_allclose(dates, days, rtol=1e-3)  # microseconds round the times


def test_a_model_without_event_times_has_no_intensity(table):
    with pytest.raises(AttributeError, match="the model has no intensity: fit it with event_times="):
        small(target_cols=["x"], max_epochs=1).fit(table).predict_intensity(table)


def test_targets_of_a_picture_may_be_chosen(mixed):
    assert len(np.atleast_1d(mixed.plot_forecast(counts(), series=[0], target_cols=["n"]))) == 1
    with pytest.raises(DataError, match="target_cols must name targets that are numbers"):
        mixed.plot_forecast(counts(), target_cols=["ward"])


def test_the_spread_of_huge_counts_is_finite():
    """Its square is beyond float32."""
    df = spirals().assign(x=1e30)
    model = small(max_epochs=1, likelihood={"x": "negative_binomial"}).fit(df)
    _, std = model.predict(df, return_std=True)
    assert np.isfinite(numbers(std)).all()
