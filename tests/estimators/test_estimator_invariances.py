"""What must not matter: order of rows and series, company, padding, unit and origin of time and values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import (
    COMPANY,
    OTHER_STEPS,
    TARGETS,
    assert_same_weights,
    differ,
    numbers,
    small,
    spirals,
    waves,
    weights,
)

TIMES = [-0.5, 0.25, 2.0, 5.5]
ROUNDED_TRAINING = 1e-2  # rounding of 1e-16 in, amplified by some epochs of training in float32


def shuffled(df: pd.DataFrame, seed: int = 1) -> pd.DataFrame:
    """Rows in another order, so series appear in another order too."""
    return df.sample(frac=1.0, random_state=seed)


def by_id(answer: pd.DataFrame) -> pd.DataFrame:
    return answer.sort_values(["id", "time"], kind="stable").reset_index(drop=True)


def gappy(df: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Some cells missing, some rows without any observation, some times repeated."""
    rng = np.random.default_rng(seed)
    df = df.assign(time=np.round(df["time"] * 4) / 4)
    cells = df[TARGETS].mask(rng.random((len(df), 2)) < 0.3)
    return df.assign(**cells)


@pytest.mark.parametrize("make", [spirals, lambda: gappy(spirals())], ids=["complete", "gaps and ties"])
@pytest.mark.parametrize("scaler", ["standard", "series"])
def test_order_of_rows_and_series_does_not_matter_to_fit(make, scaler):
    df = make()
    assert df.duplicated(["id", "time"]).any() == (make is not spirals)
    one = small(scaler=scaler).fit(df)
    other = small(scaler=scaler).fit(shuffled(df))
    assert_same_weights(one, other)
    assert one.best_epoch_ == other.best_epoch_


def test_order_of_rows_does_not_matter_where_ids_are_of_several_types(table):
    names = {i: i if i % 2 else f"s{i}" for i in range(12)}
    df = table.assign(id=table["id"].map(names).astype(object))
    assert_same_weights(small().fit(df), small().fit(shuffled(df)))


@pytest.mark.parametrize("columns", [["y", "id", "x", "time"], ["time", "id", "x", "y"]])
def test_order_of_columns_does_not_matter_where_targets_are_named(table, columns):
    assert_same_weights(small(target_cols=TARGETS).fit(table), small(target_cols=TARGETS).fit(table[columns]))


def test_order_of_rows_does_not_matter_to_predict(fixed_steps):
    df = gappy(spirals(seed=5))
    one, other = by_id(fixed_steps.predict(df, TIMES)), by_id(fixed_steps.predict(shuffled(df), TIMES))
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=0, atol=COMPANY)
    at_rows = fixed_steps.predict(shuffled(df))
    assert at_rows.index.equals(shuffled(df).index)
    np.testing.assert_allclose(
        numbers(at_rows.sort_index()), numbers(fixed_steps.predict(df)), rtol=0, atol=COMPANY
    )


def test_rows_at_one_time_may_come_in_any_order(fitted):
    times = [0.0, 1.0, 1.0, 1.0, 2.0]
    x, y = [0.5, np.nan, -1.0, 2.0, 0.0], [0.1, 3.0, np.nan, -2.0, 0.0]
    df = pd.DataFrame({"id": 0, "time": times, "x": x, "y": y})
    one, other = (numbers(fitted.predict(d, [1.5, 4.0])) for d in (df, df.iloc[[0, 3, 1, 2, 4]]))
    np.testing.assert_array_equal(one, other)
    swapped = df.assign(x=[-1.0, np.nan, 0.5, 2.0, 0.0])
    assert not np.array_equal(one, numbers(fitted.predict(swapped, [1.5, 4.0])))


def test_rows_without_observation_say_nothing(fixed_steps, table):
    empty = table.assign(time=table["time"] + 1 / 64, x=np.nan, y=np.nan)
    before = table.groupby("id", as_index=False).first().assign(time=-3.0, x=np.nan, y=np.nan)
    both = pd.concat([before, empty, table], ignore_index=True)
    np.testing.assert_allclose(
        numbers(by_id(fixed_steps.predict(both, TIMES))),
        numbers(fixed_steps.predict(table, TIMES)),
        atol=COMPANY,
    )
    assert_same_weights(small().fit(table), small().fit(both))


def test_a_longer_companion_does_not_matter(fixed_steps, table):
    companion = waves(200, end=4.0).assign(id=99, y=0.0)
    alone = fixed_steps.predict(table, TIMES)
    together = fixed_steps.predict(pd.concat([companion, table]), TIMES)
    together = together[together["id"] != 99]
    np.testing.assert_allclose(numbers(together), numbers(alone), rtol=0, atol=COMPANY)


@pytest.mark.parametrize("method", ["predict", "predict_interval", "predict_quantiles", "std"])
def test_a_split_of_the_batch_does_not_matter(fixed_steps, table, method):
    def answer(df: pd.DataFrame) -> pd.DataFrame:
        if method == "std":
            return fixed_steps.predict(df, TIMES, return_std=True)[1]
        return getattr(fixed_steps, method)(df, TIMES)

    table = table[table["id"] < 4]
    whole = answer(table)
    parts = pd.concat([answer(table[table["id"] == i]) for i in table["id"].unique()])
    keys = [name for name in ("quantile", "id", "time") if name in whole]
    values = [name for name in whole if name not in ("quantile", "id", "time")]
    whole, parts = (a.sort_values(keys, kind="stable")[values] for a in (whole, parts))
    np.testing.assert_allclose(parts.to_numpy(), whole.to_numpy(), rtol=0, atol=COMPANY)


def test_a_split_of_the_batch_moves_an_adaptive_solver_by_less_than_its_tolerance(fitted, table):
    whole = numbers(fitted.predict(table, TIMES))
    parts = [numbers(fitted.predict(table[table["id"] == i], TIMES)) for i in table["id"].unique()]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=OTHER_STEPS)


def test_a_split_of_many_queries_does_not_matter(fixed_steps, table, monkeypatch):
    whole = numbers(fixed_steps.predict(table))
    monkeypatch.setattr("latentode.estimators.forecaster.CELLS_AT_ONCE", 2000)  # two series at once
    np.testing.assert_allclose(numbers(fixed_steps.predict(table)), whole, rtol=0, atol=COMPANY)


def test_other_queries_do_not_matter(fitted, table):
    few = fitted.predict(table, [1.0, 4.5])
    many = fitted.predict(table, np.linspace(-2, 8, 101))
    many = many[many["time"].isin([1.0, 4.5])]
    np.testing.assert_allclose(numbers(many), numbers(few), rtol=0, atol=OTHER_STEPS)


def test_queries_of_other_series_do_not_matter(fixed_steps, table):
    asked = pd.DataFrame({"id": [3, 3], "time": [1.0, 4.5]})
    others = pd.DataFrame({"id": np.repeat([0, 7], 50), "time": np.tile(np.linspace(-1, 6, 50), 2)})
    alone, together = (
        numbers(fixed_steps.predict(table, q))[:2] for q in (asked, pd.concat([asked, others]))
    )
    np.testing.assert_allclose(together, alone, rtol=0, atol=COMPANY)


def test_samples_without_noise_do_not_depend_on_other_queries(fitted, table):
    few = fitted.sample(table, [4.5], 5, noise=False)
    many = fitted.sample(table, [-1.0, 4.5, 5.0], 5, noise=False)
    many = many[many["time"] == 4.5]
    np.testing.assert_allclose(numbers(many), numbers(few), rtol=0, atol=OTHER_STEPS)


def test_samples_without_noise_do_not_depend_on_other_series(fixed_steps, table):
    """A series draws by its id: alone, among others or in another order, the same curves."""
    whole = fixed_steps.sample(table, TIMES, 4, noise=False)
    mixed = fixed_steps.sample(shuffled(table), TIMES, 4, noise=False)
    for name in (0, 7):
        own = numbers(whole[whole["id"] == name])
        alone = numbers(fixed_steps.sample(table[table["id"] == name], TIMES, 4, noise=False))
        np.testing.assert_allclose(alone, own, rtol=0, atol=COMPANY)
        np.testing.assert_allclose(numbers(mixed[mixed["id"] == name]), own, rtol=0, atol=COMPANY)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 1024.0), (4.0, 0.0), (0.25, -512.0)])
@pytest.mark.parametrize("params", [{}, {"anchor": "start"}, {"time_dependent": True}, {"context": 0.5}])
def test_unit_and_origin_of_time_do_not_matter(factor, shift, params, table):
    """Shifts and scales that float64 represents exactly: the same bits."""
    moved = table.assign(time=table["time"] * factor + shift)
    one, other = small(**params).fit(table), small(**params).fit(moved)
    assert_same_weights(one, other)
    times = np.array(TIMES)
    expected, got = one.predict(table, times), other.predict(moved, times * factor + shift)
    np.testing.assert_array_equal(numbers(got), numbers(expected))


def test_unit_and_origin_of_time_do_not_matter_up_to_rounding(table):
    moved = table.assign(time=(table["time"] + 123.456) * 86400.0)
    one, other = small().fit(table), small().fit(moved)
    expected = one.predict(table, TIMES)
    got = other.predict(moved, (np.array(TIMES) + 123.456) * 86400.0)
    np.testing.assert_allclose(numbers(got), numbers(expected), rtol=0, atol=ROUNDED_TRAINING)


def test_unit_of_time_does_not_matter_to_windows(wave):
    moved = wave.assign(time=wave["time"] * 8 + 4096)
    one, other = small(window=16.0).fit(wave), small(window=128.0).fit(moved)
    assert_same_weights(one, other)


@pytest.mark.parametrize("shift", [256.0, -3.0])
def test_a_fitted_model_knows_no_origin_of_time(fixed_steps, table, shift):
    expected = numbers(fixed_steps.predict(table, TIMES))
    moved = table.assign(time=table["time"] + shift)
    got = numbers(fixed_steps.predict(moved, np.array(TIMES) + shift))
    np.testing.assert_allclose(got, expected, rtol=0, atol=COMPANY)


def test_a_time_dependent_model_sees_absolute_time(table):
    model = small(time_dependent=True, max_epochs=25, lr=0.03).fit(table)
    expected = numbers(model.predict(table, TIMES))
    moved = table.assign(time=table["time"] + 5.0)
    assert differ(numbers(model.predict(moved, np.array(TIMES) + 5.0)), expected)


@pytest.mark.parametrize("scaler", ["standard", "robust", "minmax", "series"])
@pytest.mark.parametrize(("factor", "shift"), [(4.0, 0.0), (1 / 16, 0.0)])
def test_unit_of_values_does_not_matter(scaler, factor, shift, table):
    """Powers of two: the same bits, in the caller's unit."""
    other_unit = table.assign(x=table["x"] * factor)
    one, other = small(scaler=scaler).fit(table), small(scaler=scaler).fit(other_unit)
    assert_same_weights(one, other)
    expected = numbers(one.predict(table, TIMES)) * np.array([factor, 1.0])
    np.testing.assert_allclose(numbers(other.predict(other_unit, TIMES)), expected, rtol=1e-12)


@pytest.mark.parametrize("scaler", ["standard", "robust", "minmax", "series"])
def test_every_answer_comes_in_the_unit_of_the_values(scaler, table):
    factor, shift = np.array([1000.0, 0.1]), np.array([-50.0, 7.0])
    other_unit = table.assign(**(table[TARGETS] * factor + shift))
    one, other = small(scaler=scaler).fit(table), small(scaler=scaler).fit(other_unit)

    def in_other_unit(answer: pd.DataFrame) -> np.ndarray:
        return numbers(answer) * factor + shift

    for ask in (
        lambda model, df: model.predict(df, TIMES),
        lambda model, df: model.predict_quantiles(df, TIMES, [0.05, 0.9]),
        lambda model, df: model.sample(df, TIMES, 3, random_state=0),
    ):
        relative = (numbers(ask(other, other_unit)) - in_other_unit(ask(one, table))) / factor
        np.testing.assert_allclose(relative, 0, rtol=0, atol=ROUNDED_TRAINING)
    std, other_std = (
        numbers(model.predict(df, TIMES, return_std=True)[1])
        for model, df in ((one, table), (other, other_unit))
    )
    np.testing.assert_allclose(other_std / factor, std, rtol=0, atol=ROUNDED_TRAINING)
    assert one.score(table) == pytest.approx(other.score(other_unit), abs=ROUNDED_TRAINING)


def test_the_series_scaler_takes_the_level_from_the_context(table):
    model = small(scaler="series", max_epochs=25, lr=0.03).fit(table)
    far_away = table.assign(x=table["x"] + 1000.0)
    expected = numbers(model.predict(table, TIMES)) + np.array([1000.0, 0.0])
    np.testing.assert_allclose(numbers(model.predict(far_away, TIMES)), expected, rtol=0, atol=0.01)
    std, far_std = (numbers(model.predict(df, TIMES, return_std=True)[1]) for df in (table, far_away))
    np.testing.assert_allclose(far_std, std, rtol=1e-3)


@pytest.mark.parametrize("scaler", ["standard", "robust", "minmax"])
def test_other_scalers_keep_to_the_training_range(scaler, table):
    model = small(scaler=scaler).fit(table)
    far_away = table.assign(x=table["x"] + 1000.0)
    assert numbers(model.predict(far_away, TIMES))[:, 0].max() < 500


def test_names_of_series_do_not_matter(table):
    renamed = table.assign(id=table["id"].map(lambda i: f"patient {i:02d}"))  # the same order
    one, other = small().fit(table), small().fit(renamed)
    assert_same_weights(one, other)
    np.testing.assert_array_equal(numbers(one.predict(table, TIMES)), numbers(other.predict(renamed, TIMES)))


def test_columns_without_a_role_do_not_matter(table):
    df = table.assign(ward="A", seen=pd.Timestamp("2020-01-01"))
    model = small().fit(df)
    assert_same_weights(small().fit(table), model)
    assert list(model.predict(df, [1.0]).columns) == ["id", "time", "x", "y"]


def test_weights_come_from_training_rows_in_float32(fitted):
    assert {torch.float32} == {weight.dtype for weight in fitted.model_.state_dict().values()}
    assert all(np.isfinite(weight).all() for weight in weights(fitted).values())
