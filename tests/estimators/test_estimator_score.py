"""`score`: R² of forecasts of the rest of each series from its first part."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score
from small_models import TARGETS, small

from latentode.exceptions import DataError


def by_hand(model, df: pd.DataFrame, share: float) -> float:
    """Forecasts with the public method, and scikit-learn's R² per target where something was observed."""
    seen = df.dropna(how="all", subset=TARGETS)
    begin, end = (seen.groupby("id")["time"].transform(end) for end in ("min", "max"))
    known = seen["time"] <= begin + share * (end - begin)
    forecast = model.predict(seen[known], seen.loc[~known, ["id", "time"]])
    scores = []
    for target in TARGETS:
        truth = seen.loc[~known, target].to_numpy()
        there = ~np.isnan(truth)
        if there.sum() > 1:
            scores.append(r2_score(truth[there], forecast[target].to_numpy()[there]))
    return float(np.mean(scores))


def gappy(df: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return df.assign(**df[TARGETS].mask(rng.random((len(df), 2)) < 0.3)).sample(frac=1, random_state=1)


@pytest.mark.parametrize(
    "change", [lambda df: df, gappy, lambda df: df.assign(y=np.nan)], ids=["all", "gaps", "x"]
)
def test_the_score_is_scikit_learns_r2_of_the_second_halves(change, fitted, table):
    df = change(table)
    assert fitted.score(df) == pytest.approx(by_hand(fitted, df, 0.5), abs=1e-6)


@pytest.mark.parametrize("context", [0.3, np.float32(0.5), 0.75])
def test_a_context_that_is_a_number_is_the_first_part(context, table):
    model = small(context=context, max_epochs=2).fit(table)
    assert model.score(table) == pytest.approx(by_hand(model, table, float(context)), abs=1e-6)


def test_a_better_model_has_a_better_score(fitted, table):
    assert fitted.score(table) > small(max_epochs=1).fit(table).score(table)


def test_windows_are_scored_too(windowed, wave):
    assert np.isfinite(windowed.score(wave[wave["time"] < 24]))


def test_the_forecast_does_not_see_what_it_is_scored_on(fitted, table):
    """Other values in the rest change the score exactly as they change the truth."""
    begin, end = (table.groupby("id")["time"].transform(end) for end in ("min", "max"))
    rest = table["time"] > begin + 0.5 * (end - begin)
    changed = table.assign(x=table["x"].where(~rest, table["x"] + 10.0))
    forecast = fitted.predict(table[~rest], table.loc[rest, ["id", "time"]])
    scores = [r2_score(changed.loc[rest, name], forecast[name]) for name in TARGETS]
    assert fitted.score(changed) == pytest.approx(np.mean(scores), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda df: df.groupby("id", as_index=False).first(),
        lambda df: df.assign(time=1.0),
        lambda df: df.assign(x=np.nan, y=np.nan),
    ],
    ids=["one row each", "one time", "nothing observed"],
)
def test_nothing_to_score_is_refused(change, fitted, table):
    with pytest.raises(
        DataError, match="nothing to score: no series has an observation after its first part"
    ):
        fitted.score(change(table))


def test_two_observations_are_enough(fitted, table):
    few = table[table["id"] == 0].iloc[[0, 1, -2, -1]]
    assert fitted.score(few) == pytest.approx(by_hand(fitted, few, 0.5), abs=1e-6)


def test_one_observation_is_no_r2(fitted, table):
    two = table[table["id"] == 0].iloc[[0, -1]]
    with pytest.raises(
        DataError, match="nothing to score: no target has two observations after the first parts"
    ):
        fitted.score(two)
