"""The picture of a calibration curve draws its numbers."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from latentode.exceptions import DataError
from latentode.plotting import plot_calibration

mpl.use("Agg")
CURVE = pd.DataFrame({"nominal": [0.9, 0.1, 0.5], "x": [0.8, 0.2, 0.5], "y": [1.0, 0.1, 0.6]})


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def drawn(ax):
    return {line.get_label(): np.array(line.get_data()) for line in ax.lines}


def test_a_line_per_column_and_the_diagonal():
    ax = plot_calibration(CURVE)
    lines = drawn(ax)
    assert set(lines) == {"as promised", "x", "y"}
    np.testing.assert_array_equal(lines["as promised"], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(lines["x"], [[0.1, 0.5, 0.9], [0.2, 0.5, 0.8]])  # in order of the level
    assert {text.get_text() for text in ax.figure.legends[0].get_texts()} == set(lines)
    ax.figure.canvas.draw()  # warnings of the layout are errors


def test_targets_are_told_apart():
    names = [f"target {i}" for i in range(13)]
    ax = plot_calibration(pd.DataFrame({"nominal": [0.5]} | {name: [0.5] for name in names}))
    looks = {(line.get_color(), str(line._linestyle), str(line._dash_pattern)) for line in ax.lines}
    assert len(looks) == 14
    ax.figure.canvas.draw()


def test_axes_of_the_caller():
    _, mine = plt.subplots()
    assert plot_calibration(CURVE, ax=mine) is mine
    assert mine.get_legend() is not None
    assert mine.get_xlim() == (0, 1)


def test_what_is_no_curve():
    with pytest.raises(DataError, match="no column 'nominal', only"):
        plot_calibration(CURVE.drop(columns="nominal"))
    for empty in (CURVE[:0], CURVE[["nominal"]]):
        with pytest.raises(DataError, match="the curve is empty"):
            plot_calibration(empty)
    with pytest.raises(DataError, match="column 'x' of the curve must hold shares between 0 and 1"):
        plot_calibration(CURVE.assign(x=[80, 20, 50]))
    with pytest.raises(DataError, match=r"column 'x' of the curve has dtype .*, expected shares"):
        plot_calibration(CURVE.assign(x="a"))
