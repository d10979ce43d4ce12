"""The picture of a density over the time of a flow."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from latentode.plotting import plot_density_path

mpl.use("Agg")
BOX = (-2.0, 2.0, 0.0, 1.0)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def ramps(n=3):
    """Densities that grow along y, of another size in every frame."""
    return np.linspace(0, 1, 5)[None, :, None] * np.ones((n, 5, 4)) * np.arange(1, n + 1)[:, None, None]


def test_a_panel_per_time_with_its_title():
    axes = plot_density_path([0, 0.5, 1], ramps(), extent=BOX)
    assert [ax.get_title(loc="left") for ax in axes] == ["t = 0", "t = 0.5", "t = 1"]
    assert all(ax.get_xlim() == (-2, 2) and ax.get_ylim() == (0, 1) for ax in axes)


def test_low_y_is_below_and_every_panel_has_its_own_colours():
    for ax, frame in zip(plot_density_path([0, 0.5, 1], ramps(), extent=BOX), ramps()):
        (image,) = ax.images
        assert image.origin == "lower"
        np.testing.assert_array_equal(image.get_array(), frame)
        assert image.get_clim()[0] == 0
        assert image.get_clim()[1] == pytest.approx(frame.max(), rel=0.05)


def test_points_stand_where_they_are_at_each_time():
    points = [np.array([[0.0, 0.1]]) + shift for shift in (0.0, 0.2, 0.4)]
    for ax, where in zip(plot_density_path([0, 0.5, 1], ramps(), extent=BOX, points=points), points):
        (dots,) = ax.lines
        np.testing.assert_allclose(dots.get_xydata(), where)


def test_a_density_of_zeros_can_be_drawn():
    (ax,) = plot_density_path([1.0], np.zeros((1, 4, 4)), extent=BOX)
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("times", "densities"), [([0, 1], ramps(3)), ([], ramps(0)), ([0], np.zeros((4, 4)))]
)
def test_as_many_densities_as_times(times, densities):
    with pytest.raises(ValueError, match=r"densities must have shape \(T, G, H\) with T ="):
        plot_density_path(times, densities, extent=BOX)
