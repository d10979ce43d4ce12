"""Estimators that are fitted in a moment, and tables to fit them on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from latentode import LatentODERegressor
from latentode.datasets import make_spirals

# float32 networks in batches of another size: matrix products add in another order; answers are of order 1
COMPANY = 1e-4

# Other steps of an adaptive solver (the last one is cut elsewhere, or rounding turns "accepted" into "rejected"): the
# latent state moves by some rtol = 1e-3, and the spirals spread over 5
OTHER_STEPS = 1e-2

TARGETS = ["x", "y"]


def small(**params: Any) -> LatentODERegressor:
    """An unfitted estimator of three latent dimensions that trains for a few epochs."""
    defaults = {
        "latent_dim": 3,
        "hidden_dim": 10,
        "max_epochs": 3,
        "batch_size": 6,
        "random_state": 0,
        "verbose": 0,
    }
    return LatentODERegressor(**(defaults | params))


def spirals(n_series: int = 12, n_obs: int = 12, seed: int = 0) -> pd.DataFrame:
    """Spirals with times on a grid of 1/1024, so that shifts and scales by powers of two are exact."""
    df = make_spirals(n_series, n_obs, random_state=seed)
    return df.assign(time=np.round(df["time"] * 1024) / 1024)


def waves(n_rows: int = 240, end: float = 60.0, seed: int = 0) -> pd.DataFrame:
    """One long series at irregular times in [0, end], on a grid of 1/1024."""
    rng = np.random.default_rng(seed)
    time = np.sort(np.round(rng.uniform(0, end, n_rows) * 1024) / 1024)
    x = np.sin(time) + 0.05 * time + 0.1 * rng.normal(size=n_rows)
    return pd.DataFrame({"id": "w", "time": time, "x": x})


def numbers(answer: pd.DataFrame, columns: list[str] = TARGETS) -> NDArray[np.float64]:
    """The target columns of an answer."""
    return answer[columns].to_numpy(dtype=np.float64)


def weights(model: LatentODERegressor) -> dict[str, NDArray]:
    """All weights by name."""
    return {name: weight.numpy().copy() for name, weight in model.model_.state_dict().items()}


def assert_same_weights(one: LatentODERegressor, other: LatentODERegressor) -> None:
    """Bitwise equality of all weights."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name], err_msg=name)


def differ(one: Any, other: Any) -> bool:
    """Whether two arrays differ by more than any tolerance of these tests."""
    return bool(np.max(np.abs(np.asarray(one) - np.asarray(other))) > 2 * OTHER_STEPS)
