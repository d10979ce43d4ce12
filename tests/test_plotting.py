"""What is drawn: lines, bands and labels hold the numbers of the tables they were given."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.dates import ConciseDateFormatter, date2num

from latentode.exceptions import DataError
from latentode.plotting import (
    channels_picture,
    long_series_picture,
    plot_forecast_panels,
    plot_history,
    plot_plane,
    spirals_picture,
)

KINDS = ["observed", "mean", "lower", "upper", "truth"]


@pytest.fixture(autouse=True)
def _nothing_left_behind():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    plt.close("all")


@pytest.fixture
def tables():
    """Three series of two targets at times 0..9, rows shuffled; observed up to time 4, one gap in x."""
    keys = pd.DataFrame({"id": np.repeat(["a", "b", "c"], 10), "time": np.tile(np.arange(10.0), 3)})
    rng = np.random.default_rng(0)
    truth = keys.assign(x=rng.normal(size=30), y=rng.normal(size=30))
    mean = truth.assign(x=truth["x"] + 0.1, y=truth["y"] - 0.2)
    observed = truth[truth["time"] <= 4].copy()
    observed.loc[observed["time"] == 2, "x"] = np.nan
    lower, upper = (mean.assign(x=mean["x"] + s, y=mean["y"] + 2 * s) for s in (-1, 1))
    made = dict(zip(KINDS, (observed, mean, lower, upper, truth)))
    return {kind: table.sample(frac=1, random_state=1) for kind, table in made.items()}


def band_free(tables):
    return tables["observed"], tables["mean"]


def banded(tables):
    return tables["observed"], tables["mean"], tables["lower"], tables["upper"]


def line(ax, label):
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def drawn(ax, label):
    return np.asarray(line(ax, label).get_xydata())


def expected(table, series, target):
    rows = table[table["id"] == series].sort_values("time").dropna(subset=target)
    return rows[["time", target]].to_numpy()


def edges(ax):
    """(time, lower, upper) of the one band of an Axes, read from its vertices."""
    (band,) = ax.collections
    corners = pd.DataFrame(band.get_paths()[0].vertices, columns=["time", "value"]).round(12)
    return corners.groupby("time")["value"].agg(["min", "max"]).reset_index().to_numpy()


def legend_texts(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def render(figure):
    figure.savefig(io.BytesIO())


# --- forecast panels


def test_panels_hold_the_numbers_of_the_tables(tables):
    axes = plot_forecast_panels(*banded(tables), truth=tables["truth"])
    assert axes.shape == (2, 3)
    for row, target in enumerate("xy"):
        for column, series in enumerate(tables["mean"]["id"].unique()):
            ax = axes[row, column]
            for label, kind in {"observed": "observed", "forecast": "mean", "truth": "truth"}.items():
                np.testing.assert_array_equal(drawn(ax, label), expected(tables[kind], series, target))
            low, high = (expected(tables[kind], series, target)[:, 1] for kind in ("lower", "upper"))
            np.testing.assert_allclose(edges(ax), np.c_[np.arange(10.0), low, high], atol=1e-11)
            assert line(ax, "last observation").get_xdata()[0] == 4.0
    render(axes[0, 0].figure)


def test_outer_panels_carry_the_labels(tables):
    axes = plot_forecast_panels(*band_free(tables), series=["b", "a"], labels={"y": "height (m)"})
    assert [ax.get_title(loc="left") for ax in axes.flat] == ["id b", "id a", "", ""]
    assert [ax.get_xlabel() for ax in axes.flat] == ["", "", "time", "time"]
    assert [ax.get_ylabel() for ax in axes.flat] == ["x", "", "height (m)", ""]


def test_one_series_and_target_is_one_axes(tables):
    ax = plot_forecast_panels(*banded(tables), series=["b"], target_cols=["y"], coverage=0.5)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("time", "y", "id b")
    np.testing.assert_array_equal(drawn(ax, "forecast"), expected(tables["mean"], "b", "y"))
    assert legend_texts(ax.figure) == ["observed", "forecast", "50% interval", "last observation"]


def test_the_legend_hides_no_data(tables):
    axes = plot_forecast_panels(*banded(tables), truth=tables["truth"])
    figure = axes[0, 0].figure
    render(figure)
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(ax.get_tightbbox()) for ax in axes.flat)


def test_a_legend_on_the_callers_axes_hides_no_data(tables):
    figure, given = plt.subplots()
    ax = plot_forecast_panels(*banded(tables), series=["a"], target_cols=["x"], ax=given)
    assert ax is given
    render(figure)
    assert figure.legends == []
    assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    assert ax.get_title(loc="left") == "id a"


def test_no_legend_when_none_is_wanted(tables):
    ax = plot_forecast_panels(*band_free(tables), series=["a"], target_cols=["x"], legend=False)
    assert ax.figure.legends == []
    assert ax.get_legend() is None


def test_the_default_choice_is_the_first_few(tables):
    axes = plot_forecast_panels(*band_free(tables), max_series=2, max_targets=1)
    assert axes.shape == (1, 2)
    assert [ax.get_title(loc="left") for ax in axes.flat] == [
        f"id {i}" for i in tables["mean"]["id"].unique()[:2]
    ]


def test_given_axes_are_filled_in_order(tables):
    _, given = plt.subplots(2, 3)
    axes = plot_forecast_panels(*band_free(tables), ax=given)
    assert axes.tolist() == given.tolist()
    assert len(plt.get_fignums()) == 1


def test_the_observations_end_where_any_target_was_seen(tables):
    observed = tables["observed"].assign(x=lambda t: t["x"].where(t["time"] < 2))
    ax = plot_forecast_panels(observed, tables["mean"], series=["a"], target_cols=["x"])
    assert line(ax, "last observation").get_xdata()[0] == 4.0
    nothing = plot_forecast_panels(observed[:0], tables["mean"], series=["a"], target_cols=["x"])
    assert "last observation" not in [line.get_label() for line in nothing.lines]


def test_sparse_truth_is_points(tables):
    ax = plot_forecast_panels(
        *band_free(tables), truth=tables["truth"], series=["a"], target_cols=["x"], truth_style="points"
    )
    assert line(ax, "held out").get_linestyle() == "None"
    np.testing.assert_array_equal(drawn(ax, "held out"), expected(tables["truth"], "a", "x"))


def test_a_table_without_ids_is_one_series(tables):
    one = {kind: table[table["id"] == "a"].drop(columns="id") for kind, table in tables.items()}
    axes = plot_forecast_panels(*banded(one), id_col=None)
    assert [ax.get_title(loc="left") for ax in axes.flat] == ["", ""]
    np.testing.assert_array_equal(drawn(axes[0, 0], "forecast"), expected(tables["mean"], "a", "x"))


@pytest.mark.parametrize("zone", [None, "Asia/Kolkata"])
def test_dates_are_drawn_in_their_own_zone(tables, zone):
    start = pd.Timestamp("2024-03-05", tz=zone)
    dated = {k: t.assign(time=start + pd.to_timedelta(t["time"], unit="h")) for k, t in tables.items()}
    ax = plot_forecast_panels(*banded(dated), series=["a"], target_cols=["x"])
    render(ax.figure)
    instant = start if zone is None else start.tz_convert("UTC").tz_localize(None)
    assert drawn(ax, "forecast")[0, 0] == date2num(instant)
    formatter = ax.xaxis.get_major_formatter()
    assert isinstance(formatter, ConciseDateFormatter)
    ticks = [tick for tick in ax.get_xticks() if tick >= date2num(instant)]
    labels = formatter.format_ticks(ticks)
    assert labels[0] == "Mar-05"  # midnight where the table was made, not in UTC
    assert labels[1].endswith(":00")


# --- plane


def test_plane_holds_the_numbers_of_the_tables(tables):
    samples = pd.concat(
        [tables["mean"].assign(sample=k, x=tables["mean"]["x"] + k) for k in range(3)], ignore_index=True
    )
    ax = plot_plane(*band_free(tables), tables["truth"], samples, x="x", y="y", series="b", max_samples=2)

    def path(table):
        rows = table[table["id"] == "b"].sort_values("time").dropna()
        return rows[["x", "y"]].to_numpy()

    for label, kind in {"observed": "observed", "forecast": "mean", "truth": "truth"}.items():
        np.testing.assert_array_equal(drawn(ax, label), path(tables[kind]))
    faint = [line for line in ax.lines if line.get_label() in ("samples", "_nolegend_")]
    assert [line.get_label() for line in faint] == ["samples", "_nolegend_"]
    np.testing.assert_array_equal(faint[1].get_xydata(), path(samples[samples["sample"] == 1]))
    assert ax.get_aspect() == 1.0
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("x", "y", "id b")
    assert legend_texts(ax.figure) == ["observed", "truth", "forecast", "samples"]
    render(ax.figure)


def test_plane_on_the_callers_axes(tables):
    figure, given = plt.subplots()
    assert plot_plane(*band_free(tables), x="y", y="x", series="a", ax=given) is given
    assert figure.legends == []
    assert given.get_legend() is not None
    assert given.get_xlabel() == "y"


def test_plane_shows_one_series(tables):
    with pytest.raises(DataError, match="mean holds 3 series and a plane shows one: name it with series="):
        plot_plane(*band_free(tables), x="x", y="y")
    one = tables["mean"][tables["mean"]["id"] == "c"]
    assert plot_plane(tables["observed"], one, x="x", y="y").get_title(loc="left") == "id c"


def test_samples_need_their_number(tables):
    with pytest.raises(DataError, match="samples has no column 'sample'"):
        plot_plane(*band_free(tables), samples=tables["mean"], x="x", y="y", series="a")


# --- history


def history(**columns):
    return pd.DataFrame({"epoch": [1, 2, 3, 4], "train_loss": [4.0, 3.0, 2.0, 1.0]} | columns)


def test_history_marks_the_best_validation_epoch():
    ax = plot_history(history(validation_loss=[5.0, 2.5, 3.0, np.nan]))
    np.testing.assert_array_equal(drawn(ax, "training"), [[1, 4], [2, 3], [3, 2], [4, 1]])
    np.testing.assert_array_equal(drawn(ax, "validation")[:3], [[1, 5], [2, 2.5], [3, 3]])
    np.testing.assert_array_equal(drawn(ax, "best epoch: 2"), [[2, 2.5]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    assert len(ax.figure.axes) == 1


def test_history_without_validation_or_epochs():
    ax = plot_history(history(train_loss=[4.0, 1.0, 2.0, 3.0]).drop(columns="epoch"))
    np.testing.assert_array_equal(drawn(ax, "best epoch: 2"), [[2, 1]])
    assert legend_texts(ax.figure) == ["best epoch: 2", "training"]


def test_history_of_failed_epochs_marks_none():
    ax = plot_history(history(validation_loss=np.nan))
    assert [line.get_label() for line in ax.lines] == ["training", "validation"]


@pytest.mark.parametrize(
    ("columns", "second", "label"),
    [
        ({"learning_rate": [1.0, 2.0, 3.0, 4.0], "train_kl": 0.0}, None, "learning rate"),
        ({"train_kl": [1.0, 2.0, 3.0, 4.0]}, None, "train kl"),
        ({"learning_rate": 0.0, "seconds": [1.0, 2.0, 3.0, 4.0]}, "seconds", "seconds"),
    ],
)
def test_history_has_a_second_panel(columns, second, label):
    ax = plot_history(history(**columns), second=second)
    loss_axes, below = ax.figure.axes
    assert loss_axes is ax
    assert (below.get_ylabel(), below.get_xlabel()) == (label, "epoch")
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [1, 2, 3, 4])
    render(ax.figure)


def test_history_on_the_callers_axes_is_the_losses_only():
    figure, given = plt.subplots()
    assert plot_history(history(learning_rate=0.1), ax=given) is given
    assert figure.axes == [given]


def test_history_errors():
    with pytest.raises(DataError, match="the history has no epoch yet: nothing was trained"):
        plot_history(history()[:0])
    with pytest.raises(DataError, match=r"no column 'train_loss', only \['epoch'\]"):
        plot_history(history()[["epoch"]])
    with pytest.raises(DataError, match="no column 'kl_weight'"):
        plot_history(history(), second="kl_weight")


# --- the demo's pictures


def pixels(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer)
    buffer.seek(0)
    return plt.imread(buffer).shape[:2]


def test_spirals_picture(tables):
    samples = pd.concat([tables["mean"].assign(sample=k) for k in range(2)])
    figure = spirals_picture(*banded(tables), tables["truth"], samples, series=["b", "c"], title="Two curves")
    planes, (over_x, over_y) = figure.axes[:2], figure.axes[2:]
    assert figure.get_suptitle() == "Two curves"
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "id b",
        "id c",
        "id b: x over time",
        "id b: y over time",
    ]
    assert all(ax.get_aspect() == 1.0 for ax in planes)
    np.testing.assert_array_equal(drawn(over_x, "forecast"), expected(tables["mean"], "b", "x"))
    np.testing.assert_array_equal(drawn(over_y, "truth"), expected(tables["truth"], "b", "y"))
    assert len(over_x.collections) == len(over_y.collections) == 1
    assert legend_texts(figure) == [
        "observed", "truth", "forecast", "samples", "90% interval", "last observation"
    ]  # fmt: skip
    assert pixels(figure) == (900, 1600)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("dated", [False, True])
def test_long_series_picture_enlarges_the_end(tables, dated):
    one = {kind: table[table["id"] == "a"].drop(columns="id") for kind, table in tables.items()}
    if dated:
        one = {
            k: t.assign(time=pd.Timestamp("2001-01-01") + pd.to_timedelta(t["time"], unit="D"))
            for k, t in one.items()
        }
    figure = long_series_picture(
        *banded(one), one["truth"], target_col="y", id_col=None, labels={"y": "CO2 (ppm)"}
    )
    whole, close = figure.axes
    assert len(drawn(whole, "observed")) == 5
    # observed to 4, forecast to 9: the enlarged part starts 1.6 * 5 before 9, at 1
    assert len(drawn(close, "observed")) == 4
    assert len(drawn(close, "forecast")) == 9
    assert close.get_ylabel() == "CO2 (ppm)"
    shaded = whole.patches[0]
    assert shaded.get_x() == drawn(close, "observed")[0, 0]
    assert shaded.get_width() == 8.0
    assert pixels(figure) == (900, 1600)


def test_the_enlarged_part_may_be_chosen(tables):
    figure = long_series_picture(*banded(tables), tables["truth"], series="b", zoom_from=6.0)
    assert figure.axes[0].get_title(loc="left") == "The whole record"
    np.testing.assert_array_equal(drawn(figure.axes[1], "truth"), expected(tables["truth"], "b", "x")[6:])


def test_nothing_to_enlarge(tables):
    inside = {kind: table[table["time"] <= 4] for kind, table in tables.items()}
    with pytest.raises(
        DataError, match=r"forecast ends at 4\.0, the observations at 4\.0: nothing to enlarge"
    ):
        long_series_picture(*banded(inside), inside["truth"])
    with pytest.raises(DataError, match="nothing was observed in the series to draw: give zoom_from="):
        long_series_picture(tables["observed"][:0], *banded(tables)[1:], tables["truth"])


def test_channels_picture(tables):
    figure = channels_picture(*banded(tables), tables["truth"], target_cols=["y", "x"], title="Two stays")
    assert figure.get_suptitle() == "Two stays"
    assert len(figure.axes) == 4
    assert [ax.get_ylabel() for ax in figure.axes] == ["y", "", "x", ""]
    first = tables["mean"]["id"].iloc[0]
    np.testing.assert_array_equal(drawn(figure.axes[0], "held out"), expected(tables["truth"], first, "y"))
    assert pixels(figure) == (900, 1600)
    assert plt.get_fignums() == []


# --- bad input


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            {"series": ["z"]},
            DataError,
            r"series 'z' is not in mean, which holds 3: '[abc]', '[abc]', '[abc]'$",
        ),
        ({"series": "a"}, ValueError, r"series must be a sequence of ids, got 'a': write \['a'\]"),
        (
            {"series": []},
            DataError,
            "no series to draw: mean has no rows, or series= or max_series= leaves none",
        ),
        (
            {"target_cols": ["w"]},
            DataError,
            r"observed has no column 'w', only \['id', 'time', 'x', 'y'\]: check",
        ),
        (
            {"target_cols": "x"},
            ValueError,
            r"target_cols must be a sequence of names, got 'x': write \['x'\]",
        ),
        ({"target_cols": []}, DataError, "no target to draw: target_cols= or max_targets= leaves none"),
        ({"time_col": "ds"}, DataError, "observed has no column 'ds'"),
        ({"id_col": "unique_id"}, DataError, "observed has no column 'unique_id'"),
        ({"upper": None}, ValueError, "lower and upper must be given together or not at all"),
        (
            {"coverage": 90},
            ValueError,
            "coverage must lie strictly between 0 and 1, got 90: write 90 % as 0.9",
        ),
        ({"truth_style": "dots"}, ValueError, "truth_style must be 'line' or 'points', got 'dots'"),
        ({"mean": [1, 2]}, DataError, "mean must be a pandas DataFrame in long form, got list"),
    ],
)
def test_panel_errors(tables, change, error, text):
    with pytest.raises(error, match=text):
        plot_forecast_panels(**(tables | change))
    assert plt.get_fignums() == []


def test_table_errors(tables):
    with pytest.raises(DataError, match="truth has no column 'y'"):
        plot_forecast_panels(*band_free(tables), truth=tables["truth"].drop(columns="y"))
    with pytest.raises(DataError, match="mean has no numeric column beside 'id' and 'time'"):
        plot_forecast_panels(tables["observed"], tables["mean"][["id", "time"]])
    with pytest.raises(DataError, match="no series to draw: mean has no rows"):
        plot_forecast_panels(tables["observed"], tables["mean"][:0])
    with pytest.raises(DataError, match=r"lower and upper differ in the times of series '[abc]'"):
        plot_forecast_panels(*banded(tables)[:3], tables["upper"][1:])
    assert plt.get_fignums() == []


def test_axes_of_the_wrong_number(tables):
    _, given = plt.subplots(1, 2)
    with pytest.raises(
        ValueError, match=r"ax holds 2 Axes, but 2 target\(s\) of 3 series need .*shape \(2, 3\)"
    ):
        plot_forecast_panels(*band_free(tables), ax=given)


def test_a_forecast_of_one_time_is_drawn():
    """A point and a bar: a line of one point, and a band of no width, would not be seen."""
    observed = pd.DataFrame({"id": [0, 0], "time": [0.0, 1.0], "x": [0.0, 1.0]})
    mean, low, high = (pd.DataFrame({"id": [0], "time": [2.0], "x": [x]}) for x in (1.0, 0.5, 1.5))
    axes = plot_forecast_panels(observed, mean, low, high)
    (line,) = [line for line in axes.get_lines() if line.get_label() == "forecast"]
    assert line.get_marker() == "D"
    assert axes.get_xlim()[1] > 2.0
    assert axes.get_ylim()[1] >= 1.5
