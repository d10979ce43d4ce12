"""Times of every kind on an axis: where they stand, and in which unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from latentode.plotting import plot_forecast_panels


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(time: pd.Series) -> tuple[np.ndarray, str]:
    """Positions of a forecast on the axis, and the label of that."""
    df = pd.DataFrame({"id": "a", "time": time, "x": np.arange(float(len(time)))})
    ax = plot_forecast_panels(df, df)
    (line,) = (line for line in ax.lines if line.get_label() == "forecast")
    return np.asarray(line.get_xdata()), ax.get_xlabel()


@pytest.mark.parametrize(
    ("step", "unit", "length"),
    [
        ("1D", "days", 1.0),
        ("12h", "days", 0.5),
        ("2h", "hours", 2.0),
        ("90s", "minutes", 1.5),
        ("1ms", "seconds", 0.001),
    ],
)
def test_timedeltas_are_numbers_in_a_unit_that_suits_them(step, unit, length):
    steps = 10 if unit != "seconds" else 3
    x, label = drawn(pd.Series(pd.timedelta_range(0, periods=steps, freq=step)))
    np.testing.assert_allclose(x, length * np.arange(steps), rtol=1e-12)
    assert label == f"time ({unit})"


def test_negative_timedeltas_count():
    _, label = drawn(pd.Series(pd.to_timedelta([-20, -10], unit="D")))
    assert label == "time (days)"


def test_one_unit_for_observations_and_forecast():
    seen = pd.DataFrame({"id": "a", "time": pd.to_timedelta([1, 2], unit="h"), "x": 0.0})
    ahead = seen.assign(time=pd.to_timedelta([3, 10], unit="D"))
    ax = plot_forecast_panels(seen, ahead, labels={"x": "metres"})
    found = {line.get_label(): np.asarray(line.get_xdata(), dtype=float) for line in ax.lines}
    np.testing.assert_allclose(found["observed"], np.array([1, 2]) / 24)
    np.testing.assert_allclose(found["forecast"], [3, 10])


def test_a_label_of_the_caller_stays_as_it_is():
    df = pd.DataFrame({"id": "a", "time": pd.to_timedelta([1, 2], unit="h"), "x": 0.0})
    assert plot_forecast_panels(df, df, labels={"time": "age"}).get_xlabel() == "age"


@pytest.mark.parametrize("dtype", ["period[M]", "timestamp[us][pyarrow]", "datetime64[s]"])
def test_dates_of_every_dtype_stand_at_their_start(dtype):
    months = pd.Series(pd.date_range("2024-01-01", periods=4, freq="MS"))
    x, label = drawn(months.dt.to_period("M") if dtype == "period[M]" else months.astype(dtype))
    np.testing.assert_array_equal(x.astype("datetime64[ns]"), months.to_numpy(dtype="datetime64[ns]"))
    assert label == "time"
