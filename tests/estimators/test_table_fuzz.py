"""Whatever a table holds: a clear error, or answers that are finite, of the right shape, and in the caller's types."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from clear_errors import complaints_about
from fuzzed_tables import Case, cases
from hypothesis import HealthCheck, given, settings

from latentode import LatentODERegressor
from latentode.exceptions import LatentODEWarning, SolverError
from latentode.training.non_finite import NonFiniteLossError

REFUSALS = (ValueError, TypeError, SolverError, NonFiniteLossError)  # DataError is a ValueError
N_DRAWS = 3

CALLS = {
    "predict": lambda model, df, times: model.predict(df, times),
    "std": lambda model, df, times: model.predict(df, times, return_std=True)[1],
    "interval": lambda model, df, times: model.predict_interval(df, times),
    "quantiles": lambda model, df, times: model.predict_quantiles(df, times, [0.01, 0.99]),
    "sample": lambda model, df, times: model.sample(df, times, N_DRAWS),
    "impute": lambda model, df, times: model.impute(df),
    "transform": lambda model, df, times: model.transform(df),
}
REPEATS = {"quantiles": 2, "sample": N_DRAWS}


def same(one: Any, other: Any) -> bool:
    return bool(one.equals(other))


def numbers_of(answer: pd.DataFrame) -> np.ndarray:
    """The numeric columns but the keys."""
    columns = [name for name in answer.columns if name not in ("id", "time")]
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(answer[name])]
    return answer[numeric].to_numpy(dtype=np.float64, na_value=np.nan)


def check_answer(case: Case, call: str, answer: Any, learned_targets: list[str]) -> None:
    """Finite, of the right shape and, at the rows of a table of pandas, with its index and its keys."""
    assert isinstance(answer, type(case.table)) or call == "transform"
    frame = answer if isinstance(answer, pd.DataFrame) else answer.to_pandas()
    at_rows = case.times is None or call == "impute"
    rows = len(case.table) if at_rows else case.n_series * len(case.times)
    assert len(frame) == (case.n_series if call == "transform" else rows * REPEATS.get(call, 1))
    if call == "impute":  # keeps the caller's other columns
        frame = frame[learned_targets]
    elif call == "std":  # categories have none
        frame = frame[[name for name in learned_targets if frame[name].notna().any()]]
    assert np.isfinite(numbers_of(frame)).all(), f"{call}: {frame}"
    if isinstance(case.table, pd.DataFrame) and call in ("predict", "interval") and at_rows:
        assert answer.index.equals(case.table.index)
        for key in ("id", "time"):
            if key in case.table:
                pd.testing.assert_series_equal(answer[key], case.table[key])


def assert_clear(error: Exception) -> None:
    complaints = complaints_about(error)
    assert not complaints, complaints


def learned(case: Case) -> LatentODERegressor | None:
    """The fitted estimator, or None for a table that it refuses clearly."""
    try:
        return LatentODERegressor(**case.params).fit(case.table)
    except REFUSALS as error:
        return assert_clear(error)


def check(case: Case) -> None:
    before = copy.deepcopy(case.table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LatentODEWarning)
        model = learned(case)
        for call, ask in CALLS.items() if model is not None else ():
            try:
                answer = ask(model, case.table, case.times)
            except REFUSALS as error:
                assert_clear(error)
                continue
            check_answer(case, call, answer, list(model.layout_.target_cols))
    assert same(case.table, before)


def fuzz(n_examples: int) -> Any:
    """Settings for a repeatable run."""
    return settings(
        max_examples=n_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@fuzz(50)
@given(case=cases())
def test_a_table_is_answered_or_refused_clearly(case):
    check(case)


@pytest.mark.slow
@fuzz(2000)
@given(case=cases())
def test_two_thousand_tables_are_answered_or_refused_clearly(case):
    check(case)
