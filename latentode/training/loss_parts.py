"""What a loss function gives to the trainer, and its average over the batches of a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, SupportsFloat

from torch import Tensor


class LossParts(Protocol):
    """Loss of one batch: any object with these four attributes, such as a NamedTuple of the model's own.

    Attributes
    ----------
    total : Tensor, scalar
        What the optimiser minimises: a mean over the batch (per observed cell or per series).
    parts : mapping of str to float, scalar Tensor or anything that `float` takes
        Figures for the history, also means over the batch; `"loss"` is the name of the total. They are read after the
        backward pass, so that they may count what happens in it.
    weight : float or scalar Tensor
        What the mean was taken over (number of observed cells or of series), to average over batches.
    counts : mapping of str to int or scalar Tensor
        How often something happened in the batch; the history has their sums.
    """

    @property
    def total(self) -> Tensor: ...

    @property
    def parts(self) -> Mapping[str, SupportsFloat]: ...

    @property
    def weight(self) -> float | Tensor: ...

    @property
    def counts(self) -> Mapping[str, int | Tensor]: ...


class WeightedMean:
    """Means of the loss and of its parts over the batches of one pass, each batch by its weight; sums of counts."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._n_batches = 0

    def add(self, loss: LossParts) -> None:
        """Count one batch; a part that some batches lack is averaged over those that have it."""
        if "loss" in loss.parts:
            raise ValueError('"loss" is the name of the total; give the entry of `parts` another name')
        weight = float(loss.weight)
        self._n_batches += 1
        for name, value in (("loss", loss.total), *loss.parts.items()):
            number = float(value.detach()) if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums.get(name, 0.0) + weight * number
            self._weights[name] = self._weights.get(name, 0.0) + weight
        for name, count in loss.counts.items():
            self._counts[name] = self._counts.get(name, 0) + int(count)

    def means(self, prefix: str) -> dict[str, float]:
        """`{prefix_loss, prefix_<part>, ...}`.

        Raises
        ------
        ValueError
            When there was no batch, or none with a positive weight.
        """
        if not self._n_batches:
            raise ValueError(f"{prefix}_batches gave no batch: at least one series is needed")
        if not self._weights["loss"] > 0:
            raise ValueError(
                f"the weights of the {prefix} batches sum to {self._weights['loss']}: nothing was observed "
                "in them; give series with at least one observed cell"
            )
        means = {name: self._mean(name) for name in self._sums}
        return {f"{prefix}_{name}": value for name, value in (means | self._counts).items()}

    def _mean(self, name: str) -> float:
        weight = self._weights[name]
        return self._sums[name] / weight if weight else float("nan")
