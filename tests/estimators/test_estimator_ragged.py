"""Series as they come: down to one row, with repeated times, with targets that were never seen in some of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_models import COMPANY, TARGETS, differ, numbers, small, spirals, waves

TIMES = [-1.0, 2.0, 6.0]


@pytest.fixture(scope="module")
def ragged() -> pd.DataFrame:
    """Lengths 1 to 14, repeated times, rows and cells without observation, one target missing in some series."""
    df = spirals(14, 14, seed=3)
    df = df[df.groupby("id").cumcount() <= df["id"]].reset_index(drop=True)
    rng = np.random.default_rng(0)
    df["time"] = (df["time"] * 4).round() / 4
    df[TARGETS] = df[TARGETS].mask(rng.random((len(df), 2)) < 0.3)
    df.loc[df["id"].isin([4, 9]), "y"] = np.nan
    df.loc[df["id"] == 5, TARGETS] = np.nan
    return df.sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def model(ragged):
    return small(max_epochs=10, lr=0.03).fit(ragged)


def test_ragged_tables_are_ragged(ragged):
    lengths = ragged.groupby("id").size()
    assert (lengths.min(), lengths.max()) == (1, 14)
    assert ragged.duplicated(["id", "time"]).any()
    assert ragged[TARGETS].isna().all(axis=1).any()


def test_every_row_of_a_ragged_table_is_answered(model, ragged):
    assert np.isfinite(model.history_["train_loss"]).all()
    for answer in (model.predict(ragged), *model.predict(ragged, return_std=True)):
        pd.testing.assert_frame_equal(answer[["id", "time"]], ragged[["id", "time"]])
        assert np.isfinite(numbers(answer)).all()


def test_rows_at_one_time_get_one_answer(model, ragged):
    answer = model.predict(ragged)
    assert (answer.groupby(["id", "time"])[TARGETS].nunique() == 1).all().all()


def test_one_row_is_enough_to_forecast(model, fitted, table):
    """Prediction needs no two rows: what one observation says is used."""
    one = table.groupby("id", as_index=False).first()
    answer = numbers(fitted.predict(one, TIMES))
    assert np.isfinite(answer).all()
    other = numbers(fitted.predict(one.assign(x=-one["x"]), TIMES))
    assert differ(answer, other)
    alone = numbers(fitted.predict(one.iloc[:1], TIMES))
    np.testing.assert_allclose(alone, answer[:3], rtol=0, atol=COMPANY)


def test_series_of_one_row_do_not_hinder_training(table):
    loners = table.groupby("id", as_index=False).first()
    loners = loners.assign(id=loners["id"] + 100)
    model = small(max_epochs=3).fit(pd.concat([table, loners]))
    assert np.isfinite(model.history_["train_loss"]).all()


@pytest.mark.parametrize("params", [{}, {"anchor": "start"}, {"scaler": "series"}, {"context": 0.5}], ids=str)
def test_a_series_without_any_observation_gets_the_answer_to_no_data(params, table, fitted):
    model = small(max_epochs=3, **params).fit(table) if params else fitted
    unseen = pd.DataFrame({"id": ["a", "a", "b"], "time": [1.0, 2.0, 1.0], "x": np.nan, "y": np.nan})
    mean, std = model.predict(unseen, TIMES, return_std=True)
    assert np.isfinite(numbers(mean)).all()
    assert (numbers(std) > 0).all()
    assert np.isfinite(numbers(model.sample(unseen, TIMES, 4))).all()
    # nothing is known of both, from the same time on
    np.testing.assert_allclose(numbers(mean)[:3], numbers(mean)[3:], rtol=0, atol=COMPANY)


def test_a_target_unseen_in_a_series_is_answered_from_the_others(fitted, table):
    blind = table.assign(y=np.nan)
    answer = numbers(fitted.predict(blind, TIMES))
    assert np.isfinite(answer).all()
    assert not np.allclose(answer, numbers(fitted.predict(table, TIMES)))


def test_series_without_observation_do_not_reach_training(table):
    empty = pd.DataFrame({"id": 50, "time": [0.0, 500.0], "x": np.nan, "y": np.nan})
    one, other = small(max_epochs=2).fit(table), small(max_epochs=2).fit(pd.concat([table, empty]))
    np.testing.assert_array_equal(numbers(one.predict(table, TIMES)), numbers(other.predict(table, TIMES)))
    assert other.time_scale_ == one.time_scale_


def test_a_constant_target_keeps_its_value():
    df = waves(60, end=20.0).assign(z=7.0)
    df["id"] = np.arange(60) % 6
    model = small(max_epochs=30, lr=0.05, solver="rk4", step_size=2.0, piece_warmup=0).fit(df)
    found = numbers(model.predict(df, [5.0, 15.0]), ["z"])
    np.testing.assert_allclose(found, 7.0, atol=0.3)


def test_a_target_that_is_rarely_observed(table):
    rare = table.assign(y=table["y"].where(table.index % 37 == 0))
    assert rare["y"].notna().sum() == 4
    model = small(max_epochs=3).fit(rare)
    assert np.isfinite(numbers(model.predict(rare, TIMES))).all()


def test_values_of_any_size_are_learned(table):
    huge = table.assign(x=table["x"] * 1e9 + 1e12, y=table["y"] * 1e-9)
    model, plain = small(max_epochs=3).fit(huge), small(max_epochs=3).fit(table)
    got = numbers(model.predict(huge, TIMES))
    expected = numbers(plain.predict(table, TIMES))
    np.testing.assert_allclose((got - [1e12, 0.0]) / [1e9, 1e-9], expected, rtol=0, atol=0.01)


def test_unusual_observations_at_prediction_give_finite_answers(fitted, table):
    wild = table.assign(x=table["x"] * 1e6, y=1e30)
    assert np.isfinite(numbers(fitted.predict(wild, TIMES))).all()
