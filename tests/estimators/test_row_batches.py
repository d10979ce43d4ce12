"""Batches of rows: every row once, validation with the same numbers in every pass."""

from __future__ import annotations

import numpy as np
import torch
from small_flows import mixture, small

from latentode.estimators.row_batches import FixedRows, ShuffledRows


class Stirring(torch.nn.Module):
    """A Jacobian beside whose diagonal there is something, so that probes matter."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.tensor([[0.5, 1.0], [0.7, -0.3]]))

    def forward(self, t, z):
        return z @ self.matrix


ROWS = (torch.arange(7), 10 * torch.arange(7))


def test_each_epoch_has_every_row_once_in_a_new_order():
    batches = ShuffledRows(ROWS, 3, np.random.default_rng(0))
    first, second = ([*batches] for _ in range(2))
    assert len(batches) == len(first) == 3
    orders = [torch.cat([batch[0] for batch in epoch]) for epoch in (first, second)]
    assert all(order.sort().values.equal(ROWS[0]) for order in orders)
    assert not orders[0].equal(orders[1])
    assert all(tens.equal(10 * ones) for ones, tens in first)


def test_an_order_goes_on_from_where_it_was_saved():
    batches, other = (ShuffledRows(ROWS, 3, np.random.default_rng(seed)) for seed in (0, 1))
    list(batches)
    other.load_state_dict(batches.state_dict())
    assert all(one[0].equal(same[0]) for one, same in zip(batches, other))


def test_every_pass_of_validation_has_the_same_rows_and_draws():
    fixed = FixedRows(ROWS, 3, seed=5)
    passes = [[(batch[0], torch.rand(2, generator=fixed.generator)) for batch in fixed()] for _ in range(2)]
    for (rows, draws), (same_rows, same_draws) in zip(*passes):
        assert rows.equal(same_rows)
        assert draws.equal(same_draws)
    assert not passes[0][0][1].equal(passes[0][1][1])


def test_epochs_are_compared_by_the_same_probes():
    """A model that does not change has one validation loss, estimated as it is."""
    options = {"trace": "hutchinson", "lr": 1e-12, "max_epochs": 3, "validation_fraction": 0.2}
    model = small(field=Stirring(), **options).fit(mixture(100))
    assert model.history_["validation_loss"].round(9).nunique() == 1
