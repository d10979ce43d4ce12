"""A series that is far longer than the others of its table: a warning that names it, and a bounded solve."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from small_models import numbers, small, spirals

from latentode.exceptions import LatentODEWarning
from latentode.models.latent_ode import FARTHEST

TEXT = (
    r"series 3: as long as [\d.e+]+ typical series; farther than [\d.e+]+ \(%s\) from the row that a state belongs to, "
    r"the state stays as it is\. Cut such series at their long gaps, leave them out, or train on windows with window="
)


def with_a_gap(df: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Series 3 pauses before its last row."""
    last = df.index[df["id"] == 3][-1]
    return df.assign(time=df["time"].where(df.index != last, df["time"] + gap))


def evaluations(gap: float) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LatentODEWarning)
        model = small(max_epochs=1, validation_fraction=0).fit(with_a_gap(spirals(), gap))
    return int(model.history_["train_n_evals" if "train_n_evals" in model.history_ else "n_evals"].sum())


@pytest.mark.parametrize("gap", [1e6, 1e15, 1e30])
def test_a_gap_that_no_solve_crosses_is_told_and_answered_with_finite_numbers(gap):
    df = with_a_gap(spirals(), gap)
    with pytest.warns(LatentODEWarning, match=TEXT % "in the unit of the time column") as caught:
        model = small(max_epochs=1, validation_fraction=0).fit(df)
    assert [warning.filename for warning in caught] == [__file__]
    assert np.isfinite(numbers(model.predict(df))).all()
    inside = model.predict(df[df["id"] == 3], [gap / 3, gap / 2])
    assert np.isfinite(numbers(inside)).all()
    np.testing.assert_array_equal(*numbers(inside))  # both are farther than the state is followed


def test_the_gap_is_told_in_seconds_for_datetimes():
    df = with_a_gap(spirals(), 1e6)
    dated = df.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(df["time"], unit="s"))
    with pytest.warns(LatentODEWarning, match=TEXT % "seconds"):
        small(max_epochs=1, validation_fraction=0).fit(dated)


def test_a_longer_gap_takes_no_more_evaluations():
    """Rounding of the encoder's last step aside, all gaps beyond the farthest time are the same solve."""
    assert evaluations(1e30) <= 1.1 * evaluations(1e9)


def test_windows_do_not_cross_the_gap_and_nothing_is_told():
    df = with_a_gap(spirals(), 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(max_epochs=1, window=2.0).fit(df)


def test_ordinary_series_are_followed_to_their_end():
    """Ten times as long as the others: the state still moves at the last row, and nothing is told."""
    df = with_a_gap(spirals(), 30.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = small(max_epochs=1, validation_fraction=0).fit(df)
        answer = numbers(model.predict(df[df["id"] == 3], [5.0, 10.0]))
    assert (answer[0] != answer[1]).any()
    assert df.groupby("id")["time"].agg(np.ptp).max() / model.time_scale_.unit < FARTHEST
