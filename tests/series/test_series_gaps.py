"""`with_gaps`: hidden cells in some series of a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentode.series.batch import SeriesBatch
from latentode.series.split import MOST_HIDDEN, with_gaps


def batch(n_series: int = 4_000, n_times: int = 50, n_targets: int = 2) -> SeriesBatch:
    shape = (n_series, n_times, n_targets)
    return SeriesBatch(
        times=torch.arange(float(n_times), dtype=torch.float64).expand(n_series, -1),
        values=torch.ones(shape),
        mask=torch.ones(shape, dtype=torch.bool),
        lengths=torch.full((n_series,), n_times),
        errors=torch.full(shape, 0.5),
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_the_share_of_series_loses_up_to_half_of_its_cells_uniformly(share):
    hidden = 1 - with_gaps(batch(), share, generator()).mask.double().mean(dim=(1, 2)).numpy()
    # a chosen series loses none of its 100 cells with a probability near 1 / 50
    assert (hidden > 0).mean() == pytest.approx(share * 0.98, abs=0.03)
    some = hidden[hidden > 0]
    assert np.mean(some) == pytest.approx(MOST_HIDDEN / 2, abs=0.02)
    assert some.max() < MOST_HIDDEN + 0.25  # five standard deviations of 100 coins


def test_hidden_cells_are_those_of_a_batch_that_never_saw_them():
    found = with_gaps(batch(100), 1.0, generator())  # SeriesBatch checks itself when it is built
    assert (found.values[~found.mask] == 0).all()
    assert (found.errors[~found.mask] == 0).all()
    assert (found.values[found.mask] == 1).all()
    assert torch.equal(found.times, batch(100).times)


def test_padding_stays_unobserved():
    padded = batch(50, 10)
    short = padded.rows(torch.zeros(50, dtype=torch.int64), torch.arange(50) % 10 + 1)
    found = with_gaps(short, 0.5, generator())
    assert not (found.mask & ~short.mask).any()


def test_one_target_or_no_share_hide_nothing():
    for given, share in ((batch(10, n_targets=1), 1.0), (batch(10), 0.0)):
        assert with_gaps(given, share, generator()) is given


def test_the_generator_decides():
    one, two = (with_gaps(batch(20), 0.5, generator()).mask for _ in range(2))
    assert torch.equal(one, two)
