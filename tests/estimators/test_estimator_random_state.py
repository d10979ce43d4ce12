"""The same seed gives the same numbers, and nobody else's random state is read or moved."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import assert_same_weights, differ, numbers, small, spirals, waves, weights

from latentode.seeding import numpy_generator


def global_states() -> tuple:
    numpy_state = np.random.get_state()  # noqa: NPY002
    return random.getstate(), tuple(numpy_state[1]), numpy_state[2:], torch.get_rng_state().tolist()


def test_one_seed_gives_one_model(table):
    one, other = small().fit(table), small().fit(table)
    assert_same_weights(one, other)
    assert one.predict(table, [1.0, 5.0]).equals(other.predict(table, [1.0, 5.0]))
    figures = [name for name in one.history_ if name != "seconds"]
    assert one.history_[figures].equals(other.history_[figures])


def test_fitting_again_with_a_seed_gives_the_same_model(table):
    model = small().fit(table)
    before = weights(model)
    model.fit(table)
    for name, weight in weights(model).items():
        np.testing.assert_array_equal(weight, before[name])


def test_other_seeds_give_other_models(table):
    one, other = (weights(small(random_state=seed).fit(table)) for seed in (0, 1))
    assert all(differ(one[name], other[name]) for name in one if name.endswith("weight"))


def test_no_seed_gives_another_model_each_time(table):
    one, other = (weights(small(random_state=None, max_epochs=1).fit(table)) for _ in range(2))
    assert any(differ(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_generators_are_drawn_from(kind, table):
    one = small(random_state=kind(3)).fit(table)
    other = small(random_state=kind(3)).fit(table)
    assert_same_weights(one, other)
    before = weights(other)
    after = weights(other.fit(table))  # the generator has moved on
    assert any(differ(before[name], after[name]) for name in before)


def test_a_generator_is_the_same_as_its_seed(table):
    assert_same_weights(small(random_state=7).fit(table), small(random_state=numpy_generator(7)).fit(table))


@pytest.mark.parametrize("params", [{}, {"window": 16.0}], ids=["series", "windows"])
@pytest.mark.parametrize("saved", [False, True])
def test_no_global_random_state_is_read_or_moved(params, saved, tmp_path):
    df = waves(60) if params else spirals()
    df = df.assign(y=df["x"])
    folder = {"checkpoint_dir": tmp_path} if saved else {}
    before = global_states()
    one = small(max_epochs=2, **folder, **params).fit(df)
    small(max_epochs=2, **folder, **params).fit(df)  # what was saved is read
    one.predict(df, [3.0])
    one.predict_interval(df, [3.0])
    one.sample(df, [3.0], 2)
    one.score(df)
    assert global_states() == before
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    assert_same_weights(one, small(max_epochs=2, **params).fit(df))


def test_samples_repeat_with_the_seed_of_the_estimator(fitted, table):
    assert fitted.sample(table, [5.0], 4).equals(fitted.sample(table, [5.0], 4))


def test_samples_have_a_seed_of_their_own(fitted, table):
    one, two, again = (numbers(fitted.sample(table, [5.0], 4, random_state=s)) for s in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert differ(one, two)


def test_samples_of_a_generator_go_on(fitted, table):
    rng = np.random.default_rng(0)
    one, two = (numbers(fitted.sample(table, [5.0], 4, random_state=rng)) for _ in range(2))
    assert differ(one, two)


def test_predictions_draw_nothing(fitted, table):
    np.testing.assert_array_equal(numbers(fitted.predict(table)), numbers(fitted.predict(table)))


def test_samples_do_not_depend_on_the_order_of_rows(fitted, table):
    shuffled = table.sample(frac=1, random_state=1)
    one, other = (fitted.sample(df, [2.0, 5.0], n_samples=3) for df in (table, shuffled))
    keys = ["id", "time", "sample"]
    one, other = (found.sort_values(keys, ignore_index=True) for found in (one, other))
    pd.testing.assert_frame_equal(one, other, atol=1e-4)
