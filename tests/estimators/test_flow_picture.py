"""What `plot_flow` draws: the density of the flow at its times, in units of the columns."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from small_flows import mixture, small

mpl.use("Agg")
SCALE, SHIFT = np.array([100.0, 0.01]), np.array([1000.0, 0.0])
X = mixture(200) * SCALE + SHIFT


@pytest.fixture(scope="module")
def model():
    return small(max_epochs=6, lr=0.05).fit(X)


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def grid_of(ax):
    image = ax.images[0]
    x0, x1, y0, y1 = image.get_extent()
    frame = np.asarray(image.get_array())
    x, y = np.linspace(x0, x1, frame.shape[1]), np.linspace(y0, y1, frame.shape[0])
    return x, y, frame


def test_the_last_panel_is_the_density(model):
    ax = model.plot_flow()[-1]
    x, y, frame = grid_of(ax)
    some = [(20, 30), (60, 60), (80, 40)]
    rows = np.array([[x[j], y[i]] for i, j in some])
    found = np.array([frame[i, j] for i, j in some])
    np.testing.assert_allclose(found, np.exp(model.score_samples(rows)), rtol=0.02)


def test_the_first_panel_is_the_base_and_all_integrate_to_one(model):
    axes = model.plot_flow(times=3)
    assert [ax.get_title(loc="left") for ax in axes] == ["t = 0", "t = 0.5", "t = 1"]
    for ax in axes:
        x, y, frame = grid_of(ax)
        assert frame.sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1.0, abs=0.03)
    x, y, frame = grid_of(axes[0])
    i, j = np.unravel_index(frame.argmax(), frame.shape)
    np.testing.assert_allclose([x[j], y[i]], X.mean(0), atol=2 * max(x[1] - x[0], 1e-3))


def test_rows_are_carried_along(model):
    axes = model.plot_flow(X[:50], times=[1.0, 0.0])
    data, base = (ax.lines[0].get_xydata() for ax in axes)
    np.testing.assert_allclose((data - SHIFT) / SCALE, (X[:50] - SHIFT) / SCALE, atol=1e-9)
    expected = model.whitening_.undo(model.transform(X[:50]))
    np.testing.assert_allclose((base - SHIFT) / SCALE, (expected - SHIFT) / SCALE, atol=0.02)


@pytest.mark.parametrize("times", [0, [], [0.5, 1.5], [-0.1]])
def test_times_lie_between_base_and_data(model, times):
    with pytest.raises(ValueError, match="times must be a number of panels"):
        model.plot_flow(times=times)


def test_one_panel_shows_the_data(model):
    (ax,) = model.plot_flow(times=1)
    assert ax.get_title(loc="left") == "t = 1"


def test_only_the_plane_can_be_drawn():
    with pytest.raises(ValueError, match="plot_flow draws densities of 2 dimensions; this one has 3"):
        small(max_epochs=1).fit(np.random.default_rng(0).normal(size=(30, 3))).plot_flow()
