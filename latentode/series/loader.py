"""Mini-batches of series of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from latentode.series.batch import BatchSource, SeriesBatch
from latentode.series.table import IntArray, SeriesTable

CHUNK = 20  # batches whose series are sorted by length together: less padding, still random company


class SeriesLoader:
    """Every series once per epoch, in batches of similar length.

    Parameters
    ----------
    table : SeriesTable
        Series with at least one row each, already scaled.
    batch_size : int
        Series per batch; one batch may be smaller.
    rng : numpy Generator or None
        Source of the order; each pass over the loader draws a new one. None only without `shuffle`.
    shuffle : bool
        False always gives the same order, from the shortest series to the longest.
    dtype : torch dtype
        Of the values; times are float64.

    Yields
    ------
    index : array (n,), int64
        Positions of the batch's series in `table`.
    batch : SeriesBatch
        These series, padded.
    """

    def __init__(
        self,
        table: SeriesTable,
        batch_size: int,
        *,
        rng: np.random.Generator | None = None,
        shuffle: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if shuffle and rng is None:
            raise ValueError("shuffle=True needs a numpy Generator to draw from, got rng=None")
        self.batch_size = batch_size
        self._source = BatchSource(table, dtype)
        self._lengths = table.lengths
        self._rng = rng if shuffle else None

    def __len__(self) -> int:
        return -(-len(self._lengths) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[IntArray, SeriesBatch]]:
        for index in self._order():
            yield index, self._source.batch(index)

    def _order(self) -> list[IntArray]:
        everything = np.arange(len(self._lengths), dtype=np.int64)
        if self._rng is None:
            return _cut(self._by_length(everything), self.batch_size)
        chunks = _cut(self._rng.permutation(everything), CHUNK * self.batch_size)
        batches = [index for chunk in chunks for index in _cut(self._by_length(chunk), self.batch_size)]
        return [batches[i] for i in self._rng.permutation(len(batches))]

    def _by_length(self, index: IntArray) -> IntArray:
        return index[np.argsort(self._lengths[index], kind="stable")]


def _cut(index: IntArray, size: int) -> list[IntArray]:
    return [index[i : i + size] for i in range(0, len(index), size)]
