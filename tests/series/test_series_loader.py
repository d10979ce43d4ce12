"""The loader: every series once, series of similar length together, order from the generator."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from latentode.series import SeriesLoader, SeriesTable, TableLayout, pad


def ragged_table(n_series: int = 103) -> SeriesTable:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, n_series)
    df = pd.DataFrame({"id": np.repeat(np.arange(n_series), lengths)})
    df["time"], df["x"] = rng.uniform(size=len(df)), rng.normal(size=len(df))
    return TableLayout.infer(df).read(df)


def order(loader: SeriesLoader) -> list[list[int]]:
    return [index.tolist() for index, _ in loader]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8, 103, 500])
def test_every_series_comes_once_per_epoch(shuffle, batch_size):
    loader = SeriesLoader(ragged_table(), batch_size, rng=np.random.default_rng(0), shuffle=shuffle)
    for _ in range(2):
        batches = order(loader)
        assert len(batches) == len(loader)
        assert sorted(chain.from_iterable(batches)) == list(range(103))
        assert max(map(len, batches)) <= batch_size


def test_batches_hold_the_series_of_their_index():
    table = ragged_table()
    for index, batch in SeriesLoader(table, 10, rng=np.random.default_rng(0), dtype=torch.float64):
        expected = pad(table, index, dtype=torch.float64)
        assert torch.equal(batch.values, expected.values)
        assert torch.equal(batch.times, expected.times)
        assert batch.lengths.tolist() == table.lengths[index].tolist()


def test_values_are_single_unless_asked():
    _, batch = next(iter(SeriesLoader(ragged_table(), 10, shuffle=False)))
    assert batch.values.dtype == torch.float32
    assert batch.times.dtype == torch.float64


def test_the_generator_decides_and_each_epoch_differs():
    loaders = [SeriesLoader(ragged_table(), 8, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    first = [order(loader) for loader in loaders]
    second = [order(loader) for loader in loaders]
    assert first[0] == first[1] != first[2]
    assert second[0] == second[1]
    assert first[0] != second[0]


def test_each_epoch_brings_other_company():
    loader = SeriesLoader(ragged_table(), 2, rng=np.random.default_rng(0))
    first, second = ({frozenset(index) for index in order(loader)} for _ in range(2))
    assert first != second


def test_without_shuffling_the_order_stays_and_goes_by_length():
    table = ragged_table()
    loader = SeriesLoader(table, 8, shuffle=False)
    assert order(loader) == order(loader)
    assert (np.diff(table.lengths[list(chain.from_iterable(order(loader)))]) >= 0).all()


def test_series_of_similar_length_share_a_batch():
    table = ragged_table(100)
    loader = SeriesLoader(table, 5, rng=np.random.default_rng(0))  # 20 batches: one chunk
    batches = sorted((sorted(table.lengths[index]) for index, _ in loader), key=lambda lengths: lengths[0])
    for shorter, longer in pairwise(batches):
        assert shorter[-1] <= longer[0]


def test_the_batches_themselves_come_in_random_order():
    table = ragged_table(100)
    shortest = [
        table.lengths[index].min() for index, _ in SeriesLoader(table, 5, rng=np.random.default_rng(0))
    ]
    assert shortest != sorted(shortest)


def test_shuffling_needs_a_generator():
    with pytest.raises(ValueError, match="shuffle=True needs a numpy Generator to draw from, got rng=None"):
        SeriesLoader(ragged_table(), 8)


def test_batches_need_a_size():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        SeriesLoader(ragged_table(), 0, shuffle=False)
