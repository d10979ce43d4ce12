"""Batches of a training: shuffled, from windows that are drawn anew, or the same in every pass."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from latentode.estimators.training_data import TrainingData
from latentode.seeding import generator_state, set_generator_state
from latentode.series import SeriesBatch, SeriesLoader, SeriesTable, draw_windows


class NamedBatch(NamedTuple):
    """Series with their ids, which errors name."""

    ids: list[Hashable]
    series: SeriesBatch


class Batches:
    """Batches of an epoch; of long series, those of windows that are drawn anew for each epoch."""

    def __init__(
        self, table: SeriesTable, batch_size: int, window: float | None, rng: np.random.Generator
    ) -> None:
        self.table, self.batch_size, self.window, self.rng = table, batch_size, window, rng
        self._draw()

    def _draw(self) -> None:
        """The series of the next epoch, and what they were drawn from."""
        self._drawn_from = generator_state(self.rng)
        self._series = self.table
        if self.window is not None:
            self._series = draw_windows(self.table, self.window, self.rng, self._windows_per_series())
        self._loader = SeriesLoader(self._series, self.batch_size, rng=self.rng)

    def _windows_per_series(self) -> int:
        """Twice as many windows as cover the longest series, and at least one batch of them."""
        assert self.window is not None
        cover = 2 * int(np.ceil(self.table.spans.max() / self.window))
        return max(cover, -(-self.batch_size // len(self.table)))

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[NamedBatch]:
        for index, batch in self._loader:
            yield NamedBatch(self._series.ids[index].tolist(), batch)
        if self.window is not None:
            self._draw()

    def state_dict(self) -> dict[str, Any]:
        """Where the generator stands, and where it stood before it drew the windows that come next."""
        return {"drawn_from": self._drawn_from, "now": generator_state(self.rng)}

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        set_generator_state(self.rng, tree["drawn_from"])
        if self.window is not None:
            self._draw()
        set_generator_state(self.rng, tree["now"])


class FixedPasses:
    """The validation batches, with a generator that begins every pass with the same numbers."""

    def __init__(self, data: TrainingData, batch_size: int, seed: int) -> None:
        assert data.validation is not None
        table, rng = data.validation, np.random.default_rng(seed)
        windows = table if data.window is None else draw_windows(table, data.window, rng)
        self._series = windows
        self._loader = SeriesLoader(windows, batch_size, shuffle=False)
        self._seed = seed
        self.generator = torch.Generator()

    def __call__(self) -> Iterator[NamedBatch]:
        self.generator.manual_seed(self._seed)
        for index, batch in self._loader:
            yield NamedBatch(self._series.ids[index].tolist(), batch)
