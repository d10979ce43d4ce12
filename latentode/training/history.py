"""What happened in a training, one record per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]


class History:
    """Records of the epochs of one training, in order.

    A record is a flat dict: `epoch` (from 1), `train_loss` and `train_<part>`, `validation_loss` and
    `validation_<part>` (only where there are validation batches), `learning_rate` (of the last step),
    `gradient_norm` (mean over the steps, before clipping), `restarts` (how often the epoch was begun again, with half
    the learning rate, because a loss was not finite) and `seconds` (wall clock, with validation and restarts).

    Attributes
    ----------
    records : list of dict
    stop_reason : str or None
        Why training ended before `max_epochs`; None where it did not.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.stop_reason: str | None = None

    def append(self, record: Record) -> None:
        """Add the record of the epoch that just ended."""
        self.records.append(record)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        return self.records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def was_interrupted(self) -> bool:
        """Whether Ctrl-C ended the training."""
        return (self.stop_reason or "").startswith("interrupted by Ctrl-C")

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the lowest validation loss, the first of several; None without validation."""
        losses = [
            (record["validation_loss"], record["epoch"]) for record in self if "validation_loss" in record
        ]
        return min(losses)[1] if losses else None

    def as_table(self) -> dict[str, list[Any]]:
        """Columns of equal length, in the order of their first appearance; NaN where a record lacks one."""
        names = dict.fromkeys(name for record in self for name in record)
        return {name: [record.get(name, math.nan) for record in self] for name in names}
