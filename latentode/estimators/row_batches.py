"""Batches of rows of tensors: shuffled anew in every epoch, or the same in every pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentode.seeding import generator_state, set_generator_state

Rows = tuple[Tensor, ...]  # of equal length


class ShuffledRows:
    """Batches of an epoch, in an order that is drawn anew; the last one holds what is left over.

    Parameters
    ----------
    rows : tuple of Tensor (N, ...)
    batch_size : int
    rng : numpy Generator
    """

    def __init__(self, rows: Rows, batch_size: int, rng: np.random.Generator) -> None:
        self.rows, self.batch_size, self.rng = rows, batch_size, rng

    def __len__(self) -> int:
        return -(-len(self.rows[0]) // self.batch_size)

    def __iter__(self) -> Iterator[Rows]:
        order = torch.as_tensor(self.rng.permutation(len(self.rows[0])))
        for index in order.split(self.batch_size):
            yield tuple(part[index] for part in self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Where the generator stands."""
        return generator_state(self.rng)

    def load_state_dict(self, tree: dict[str, Any]) -> None:
        set_generator_state(self.rng, tree)


class FixedRows:
    """The validation batches in their order, with a generator that begins every pass with the same numbers."""

    def __init__(self, rows: Rows, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.generator = torch.Generator()

    def __call__(self) -> Iterator[Rows]:
        self.generator.manual_seed(self.seed)
        yield from zip(*(part.split(self.batch_size) for part in self.rows))
