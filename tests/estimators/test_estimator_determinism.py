"""Same seed, same machine: the same model in another process and with another order of rows."""

from __future__ import annotations

import numpy as np
import pytest
from other_process import digest, epochs_for, fitted
from small_models import assert_same_weights, small, spirals, waves
from test_estimator_surviving import KINDS, run_other


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_learns_the_same_weights(kind):
    """Also one that hashes strings otherwise; the daily test of this is that of killed processes."""
    assert run_other(kind, PYTHONHASHSEED="12345") == (
        0,
        digest(kind, fitted(kind, max_epochs=epochs_for(0))),
    )


@pytest.mark.parametrize("params", [{}, {"validation_fraction": 0.5}, {"window": 16.0}], ids=str)
def test_another_order_of_rows_gives_the_same_model(params):
    df = waves(60).assign(y=lambda d: -d["x"]) if "window" in params else spirals()
    mixed = df.sample(frac=1, random_state=1)
    one, other = (small(**params).fit(table) for table in (df, mixed))
    assert_same_weights(one, other)
    answers = one.predict(df, [1.0, 5.0]), other.predict(mixed, [1.0, 5.0])
    first, second = (answer.sort_values(["id", "time"])[["x", "y"]].to_numpy() for answer in answers)
    np.testing.assert_allclose(
        second, first, rtol=1e-5
    )  # batches of predictions follow the caller's order of series


def test_ids_of_another_order_of_appearance_are_the_same_series():
    df = spirals().assign(id=lambda d: d["id"].map("series {}".format))
    backwards = df.iloc[::-1]
    one, other = (small(max_epochs=2).fit(table) for table in (df, backwards))
    assert_same_weights(one, other)
