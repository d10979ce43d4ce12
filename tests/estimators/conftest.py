"""Small models, fitted once per session."""

from __future__ import annotations

import copy
from dataclasses import replace

import pandas as pd
import pytest
from small_models import small, spirals, waves

from latentode import LatentODERegressor


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Twelve spirals of twelve rows."""
    return spirals()


@pytest.fixture(scope="session")
def fitted(table: pd.DataFrame) -> LatentODERegressor:
    """Fitted on `table`, long enough that answers depend on the context."""
    return small(max_epochs=60, lr=0.03, piece_warmup=0).fit(table)


@pytest.fixture(scope="session")
def fixed_steps(fitted: LatentODERegressor) -> LatentODERegressor:
    """The same model solved with fixed steps: no rounding can turn an accepted step into a rejected one."""
    model = copy.deepcopy(fitted)
    model.model_.options = replace(model.model_.options, solver="rk4", step_size=0.1)
    return model


@pytest.fixture(scope="session")
def wave() -> pd.DataFrame:
    """One long series."""
    return waves()


@pytest.fixture(scope="session")
def windowed(wave: pd.DataFrame) -> LatentODERegressor:
    """Fitted on windows of `wave`; its answers follow the level of the context that they come from."""
    return small(window=16.0, scaler="series", max_epochs=15, lr=0.03).fit(wave)
