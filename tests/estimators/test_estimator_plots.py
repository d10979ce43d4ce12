"""Pictures of a fitted model: which tables reach them, and what comes back."""

from __future__ import annotations

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from small_models import TARGETS, numbers, small

from latentode.exceptions import DataError

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def line(ax: Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the line with this label."""
    (found,) = (drawn for drawn in ax.lines if drawn.get_label() == label)
    return np.asarray(found.get_xdata(), dtype=float), np.asarray(found.get_ydata(), dtype=float)


@pytest.fixture(scope="module")
def one_target(table):
    return small(target_cols=["y"], max_epochs=2).fit(table)


def test_one_target_of_one_series_gives_axes(one_target, table):
    assert isinstance(one_target.plot_forecast(table, series=[3]), Axes)
    assert isinstance(one_target.plot_forecast(table[table["id"] == 3]), Axes)


def test_several_give_an_array_of_targets_by_series(fitted, one_target, table):
    assert fitted.plot_forecast(table, series=[3]).shape == (2, 1)
    assert fitted.plot_forecast(table, series=[3, 1, 5]).shape == (2, 3)
    assert one_target.plot_forecast(table, series=[3, 1]).shape == (1, 2)


def test_by_default_the_first_four_series_are_drawn(fitted, table):
    df = table[table["id"] > 2][::-1]
    axes = fitted.plot_forecast(df)
    assert axes.shape == (2, 4)
    assert [ax.get_title(loc="left") or ax.get_title() for ax in axes[0]] == [
        "id 11",
        "id 10",
        "id 9",
        "id 8",
    ]


def test_the_default_times_reach_half_a_span_beyond(fitted, table):
    (ax, _), one = fitted.plot_forecast(table, series=[2])[:, 0], table[table["id"] == 2]
    x, y = line(ax, "forecast")
    begin, end = one["time"].min(), one["time"].max()
    np.testing.assert_allclose(x, np.linspace(begin, end + (end - begin) / 2, 200))
    np.testing.assert_allclose(y, fitted.predict(one, x)["x"], rtol=0, atol=1e-4)


def test_given_times_are_drawn_with_forecast_interval_and_observations(fitted, table):
    times = np.linspace(-1, 6, 15)
    axes = fitted.plot_forecast(table, times, series=[2, 7], coverage=0.5)
    for column, name in enumerate([2, 7]):
        one = table[table["id"] == name]
        band = fitted.predict_interval(one, times, coverage=0.5)
        for row, target in enumerate(TARGETS):
            ax = axes[row, column]
            x, y = line(ax, "forecast")
            np.testing.assert_allclose(x, times)
            np.testing.assert_allclose(y, fitted.predict(one, times)[target], rtol=0, atol=1e-4)
            np.testing.assert_allclose(line(ax, "observed")[1], one[target])
            (drawn,) = ax.collections
            assert drawn.get_label() == "50% interval"
            ends = drawn.get_paths()[0].vertices[:, 1]
            assert ends.min() == pytest.approx(band[f"{target}_lower"].min(), abs=1e-3)
            assert ends.max() == pytest.approx(band[f"{target}_upper"].max(), abs=1e-3)


def test_a_table_of_times_may_ask_about_more_series_than_are_drawn(fitted, table):
    asked = table[["id", "time"]].assign(time=table["time"] + 3)
    axes = fitted.plot_forecast(table, asked)
    assert axes.shape == (2, 4)
    np.testing.assert_allclose(line(axes[0, 1], "forecast")[0], asked.loc[asked["id"] == 1, "time"])
    assert fitted.plot_forecast(table, asked, series=[11]).shape == (2, 1)


def test_the_truth_is_drawn_beside(fitted, table):
    known, rest = table[table["time"] < 2], table[table["time"] >= 2]
    axes = fitted.plot_forecast(known, series=[1], truth=rest)
    np.testing.assert_allclose(line(axes[0, 0], "truth")[1], rest.loc[rest["id"] == 1, "x"])


def test_axes_can_be_given(one_target, fitted, table):
    _, ax = plt.subplots()
    assert one_target.plot_forecast(table, series=[0], ax=ax) is ax
    _, two = plt.subplots(2, 1)
    assert list(fitted.plot_forecast(table, series=[0], ax=two).flat) == list(two)
    assert fitted.plot_history(ax=ax) is ax


@pytest.mark.parametrize(
    "change",
    [
        lambda df: df.assign(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(df["time"], unit="D")),
        lambda df: df.assign(
            time=(pd.Timestamp("2020-01-01") + pd.to_timedelta(df["time"], unit="D")).dt.tz_localize(
                "Asia/Tokyo"
            )
        ),
        lambda df: df.assign(time=(df["time"] * 1024).astype("int64")),
        lambda df: df.assign(id=df["id"].astype("category")),
        lambda df: df.assign(id=df["id"].map("s{}".format)),
        lambda df: df.groupby("id", as_index=False).head(1),
        lambda df: df.set_index(np.zeros(len(df), dtype=int)),
    ],
    ids=["dates", "zone", "int", "category", "names", "one row", "index"],
)
def test_default_times_suit_every_kind_of_table(change, table):
    df = change(table)
    model = small(max_epochs=1).fit(change(table) if len(df) > 12 else table)
    axes = model.plot_forecast(df)
    assert axes.shape == (2, 4)
    x, y = line(axes[0, 0], "forecast")
    assert len(x) == 200
    assert (np.diff(x) > 0).all()
    assert np.isfinite(y).all()


def test_at_most_four_targets_are_drawn(table):
    df = table.assign(**{f"z{i}": table["x"] * i for i in range(1, 5)})
    assert small(max_epochs=1).fit(df).plot_forecast(df, series=[0]).shape == (4, 1)


def test_long_series_with_windows_are_drawn(windowed, wave):
    ax = windowed.plot_forecast(wave)
    assert isinstance(ax, Axes)
    x, _ = line(ax, "forecast")
    end = wave["time"].max()
    assert x[[0, -1]] == pytest.approx(
        [end - 16.0, end + 8.0]
    )  # a window before the end to half a one after it
    seen, _ = line(ax, "observed")
    assert seen.min() >= end - 16.0


@pytest.mark.parametrize("series", [[99], [0, 99], []])
def test_unknown_series_are_refused(series, fitted, table):
    text = re.escape(
        f"series must name series of the table, got {series!r}; its first ones are [0, 1, 2, 3, 4]"
    )
    with pytest.raises(DataError, match=text):
        fitted.plot_forecast(table, series=series)


@pytest.mark.parametrize("series", ["a", 3])
def test_series_must_be_a_sequence(series, fitted, table):
    with pytest.raises(
        TypeError, match=re.escape(f"series must be a sequence of ids, got {series!r}: write [{series!r}]")
    ):
        fitted.plot_forecast(table, series=series)


def test_the_history_is_drawn(fitted):
    ax = fitted.plot_history()
    assert isinstance(ax, Axes)
    history = fitted.history_
    np.testing.assert_allclose(line(ax, "training")[1], history["train_loss"])
    np.testing.assert_allclose(line(ax, "validation")[1], history["validation_loss"])
    x, _ = line(ax, f"best epoch: {fitted.best_epoch_}")
    assert x.tolist() == [fitted.best_epoch_]


def test_numbers_of_a_picture_do_not_depend_on_other_pictures(fitted, table):
    alone = numbers(fitted.predict(table[table["id"] == 0], [5.0]))
    fitted.plot_forecast(table)
    np.testing.assert_array_equal(numbers(fitted.predict(table[table["id"] == 0], [5.0])), alone)
