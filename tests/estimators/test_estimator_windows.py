"""`window`: one long series, read in parts of half a window."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from small_models import COMPANY, OTHER_STEPS, assert_same_weights, differ, numbers, small, waves

X = ["x"]
WINDOW = 16.0


def last_rows(wave: pd.DataFrame, length: float) -> pd.Series:
    return wave["time"] > wave["time"].max() - length


def test_a_forecast_reads_the_last_half_of_a_window(windowed, wave):
    end = wave["time"].max()
    expected = numbers(windowed.predict(wave, [end + 1.0, end + 4.0]), X)
    recent = last_rows(wave, WINDOW / 2)
    earlier_changed = wave.assign(x=wave["x"].where(recent, -5.0))
    got = numbers(windowed.predict(earlier_changed, [end + 1.0, end + 4.0]), X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=COMPANY)
    only_recent = wave[recent]
    got = numbers(windowed.predict(only_recent, [end + 1.0, end + 4.0]), X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=COMPANY)
    recent_changed = wave.assign(x=wave["x"].where(~recent, -1.0))
    assert differ(numbers(windowed.predict(recent_changed, [end + 1.0, end + 4.0]), X), expected)


def test_a_query_inside_is_answered_by_the_half_window_around_it(windowed, wave):
    """Contexts are counted from the end: the last is (end - 8, end], the one before (end - 16, end - 8], ..."""
    end = wave["time"].max()
    asked = end - 10.0
    own = (wave["time"] > end - 16.0) & (wave["time"] <= end - 8.0)
    expected = numbers(windowed.predict(wave, [asked]), X)
    others_changed = wave.assign(x=wave["x"].where(own, 9.0))
    np.testing.assert_allclose(numbers(windowed.predict(others_changed, [asked]), X), expected, atol=COMPANY)
    own_changed = wave.assign(x=wave["x"].where(~own, -1.0))
    assert differ(numbers(windowed.predict(own_changed, [asked]), X), expected)


def test_a_query_in_a_gap_is_answered_by_the_context_before_it(windowed, wave):
    end = wave["time"].max()
    gap = (wave["time"] > end - 30.0) & (wave["time"] <= end - 12.0)
    holed = wave[~gap]
    asked = [end - 25.0, end - 13.0]
    expected = numbers(windowed.predict(holed, asked), X)
    later_changed = holed.assign(x=holed["x"].where(holed["time"] <= end - 12.0, 9.0))
    np.testing.assert_allclose(numbers(windowed.predict(later_changed, asked), X), expected, atol=COMPANY)
    earlier_changed = holed.assign(x=holed["x"].where(holed["time"] > end - 12.0, -1.0))
    assert differ(numbers(windowed.predict(earlier_changed, asked), X), expected)


def test_a_query_before_the_series_is_answered_by_its_first_context(windowed, wave):
    begin = wave["time"].min()
    expected = numbers(windowed.predict(wave, [begin - 2.0]), X)
    later_changed = wave.assign(x=wave["x"].where(wave["time"] < begin + WINDOW / 2, 9.0))
    got = numbers(windowed.predict(later_changed, [begin - 2.0]), X)
    np.testing.assert_allclose(got, expected, rtol=0, atol=OTHER_STEPS)


def test_other_queries_do_not_matter_to_windows(windowed, wave):
    times = np.linspace(-3, 70, 147)
    together = numbers(windowed.predict(wave, times), X)[:, 0]
    alone = np.array([numbers(windowed.predict(wave, [t]), X)[0, 0] for t in times[::7]])
    np.testing.assert_allclose(together[::7], alone, rtol=0, atol=OTHER_STEPS)


def test_series_with_windows_do_not_see_each_other(windowed, wave):
    short, twin = wave[wave["time"] > 50].assign(id="s"), wave.assign(id="t", x=-wave["x"])
    both = pd.concat([short, wave, twin]).sample(frac=1, random_state=0)
    asked = pd.DataFrame({"id": list("wstwst"), "time": [1.0, 70.0, 30.0, 70.0, -1.0, 70.0]})
    together = windowed.predict(both, asked)
    for name, rows in (("w", wave), ("s", short), ("t", twin)):
        alone = windowed.predict(rows, asked[asked["id"] == name])
        np.testing.assert_allclose(
            numbers(together[together["id"] == name], X), numbers(alone, X), rtol=0, atol=OTHER_STEPS
        )


def test_every_row_is_answered_in_its_place(windowed, wave):
    mixed = wave.sample(frac=1, random_state=2)
    answer = windowed.predict(mixed)
    pd.testing.assert_frame_equal(answer[["id", "time"]], mixed[["id", "time"]])
    ordered = windowed.predict(wave)
    np.testing.assert_allclose(numbers(answer.sort_index(), X), numbers(ordered, X), rtol=0, atol=COMPANY)


def test_windows_learn_from_one_series(windowed, wave):
    """With a window, one series is enough: inside it, the fit beats its mean."""
    error = ((numbers(windowed.predict(wave), X)[:, 0] - wave["x"]) ** 2).mean()
    assert error < 0.5 * wave["x"].var(ddof=0)


def dated(wave: pd.DataFrame) -> pd.DataFrame:
    """Days since 1960, exact in milliseconds."""
    return wave.assign(
        time=(pd.Timestamp("1960-01-01") + pd.to_timedelta(wave["time"], unit="D")).dt.as_unit("ms")
    )


@pytest.mark.parametrize(
    "window",
    ["16D", "384h", pd.Timedelta(days=16), np.timedelta64(16, "D"), pd.Timedelta(16, "D").to_pytimedelta()],
)
def test_windows_of_datetimes_are_durations(window, wave):
    model = small(window=window).fit(dated(wave))
    plain = small(window=16).fit(wave)
    assert_same_weights(model, plain)
    later = pd.Timestamp("1960-01-01") + pd.to_timedelta([10, 40, 64], unit="D")
    got, expected = model.predict(dated(wave), later), plain.predict(wave, [10, 40, 64])
    np.testing.assert_allclose(numbers(got, X), numbers(expected, X), rtol=0, atol=COMPANY)


@pytest.mark.parametrize("window", [16, np.int64(16), np.float32(16)])
def test_windows_of_numbers_are_numbers(window, wave):
    assert_same_weights(
        small(window=window, max_epochs=2).fit(wave), small(window=16.0, max_epochs=2).fit(wave)
    )


@pytest.mark.parametrize(
    "window", ["16", "16D", pd.Timedelta("16D"), 0, -1.0, float("nan"), float("inf"), True, [3]]
)
def test_windows_of_another_kind_are_refused_for_numbers(window, wave):
    expected = f"window must be a positive number, in the unit of the time column 'time'; got {window!r}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        small(window=window).fit(wave)


@pytest.mark.parametrize("window", [16, 16.0, np.int64(16), np.float32(16), "16", True])
def test_windows_without_a_unit_are_refused_for_datetimes(window, wave):
    expected = "window must be a timedelta such as '3650D', since the time column 'time' holds datetimes; "
    with pytest.raises(ValueError, match=re.escape(f"{expected}got {window!r}")):
        small(window=window).fit(dated(wave))


@pytest.mark.parametrize("window", ["a year", [16], object()])
def test_what_is_no_duration_is_refused_for_datetimes(window, wave):
    with pytest.raises(
        ValueError, match=re.escape(f"window must be a timedelta such as '3650D'; got {window!r}")
    ):
        small(window=window).fit(dated(wave))


@pytest.mark.parametrize("window", ["-3D", "0D", "NaT"])
def test_durations_must_be_positive(window, wave):
    with pytest.raises(ValueError, match=re.escape(f"window must be positive; got {window!r}")):
        small(window=window).fit(dated(wave))


def test_a_window_that_holds_no_two_observations_is_refused(wave):
    thin = wave.iloc[::20]
    with pytest.raises(ValueError, match=r"window=0\.01 is shorter than every gap between two observations"):
        small(window=0.01).fit(thin)


def test_a_window_longer_than_the_series_takes_it_whole(wave):
    model = small(window=1000.0, max_epochs=2).fit(wave)
    assert np.isfinite(numbers(model.predict(wave, [0.0, 70.0]), X)).all()


def test_several_long_series_share_one_model():
    df = pd.concat([waves(120, seed=seed).assign(id=seed) for seed in range(3)])
    model = small(window=WINDOW, max_epochs=4).fit(df)
    assert "validation_loss" in model.history_
    assert model.predict(df, [61.0])["id"].tolist() == [0, 1, 2]


def test_the_end_of_one_long_series_is_held_out(wave):
    model = small(window=WINDOW, max_epochs=4).fit(wave)
    assert np.isfinite(model.history_["validation_loss"]).all()
    held_out = wave.index >= 180  # the last window of four, and less than a third
    changed = wave.assign(x=wave["x"].where(~held_out, 1e6))
    other = small(window=WINDOW, max_epochs=4).fit(changed)
    assert other.scaler_.loc == pytest.approx(model.scaler_.loc)  # the statistics of training rows alone
    assert model.history_["train_loss"].tolist() == other.history_["train_loss"].tolist()
