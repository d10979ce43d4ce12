"""Why augmentation matters: paths of points in the plane through an ODE-Net, with and without room to pass each other.

Solutions of a differential equation do not cross. Spirals can be unwound in the plane; but where one class encloses the
other (circles), a flow of the plane can only squeeze the inner class out between two points of the ring, and is wrong
there. With more dimensions, in which every point begins at 0, it lifts one class over the other (Dupont, Doucet, Teh
2019). The head is linear, so the points must end on two sides of a line. Takes about two minutes on one core.

    python examples/trajectories.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import make_circles
from sklearn.decomposition import PCA

from latentode import ODENetClassifier
from latentode.datasets import make_two_spirals

PICTURE = "trajectories.png"
COLOURS = np.array(["#0072B2", "#D55E00"])
N_PATHS = 60
N_DOTS = 300
N_TEST = 20_000  # so many that a gap in the ring is seen


def circles(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of a ring (class 0) and of a smaller one inside it (class 1)."""
    return make_circles(n, noise=0.05, factor=0.4, random_state=seed)


def spirals(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of two arms and their classes."""
    return make_two_spirals(n, noise=0.02, random_state=seed)


def draw_plane(axes: Axes, model: ODENetClassifier, X: np.ndarray, y: np.ndarray) -> None:
    """The points, and the probability of the second class behind them."""
    X, y = X[:N_DOTS], y[:N_DOTS]
    reach = 1.15 * np.abs(X).max()
    side = np.linspace(-reach, reach, 120)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    chance = model.predict_proba(grid)[:, 1].reshape(len(side), -1)
    axes.imshow(
        chance, origin="lower", extent=(-reach, reach) * 2, cmap="RdBu_r", vmin=-0.3, vmax=1.3, alpha=0.7
    )
    axes.scatter(*X.T, s=6, c=COLOURS[y], edgecolors="white", linewidths=0.3)
    axes.set(xticks=[], yticks=[], aspect="equal")


def draw_paths(axes: Axes, model: ODENetClassifier, X: np.ndarray, y: np.ndarray) -> None:
    """States from t = 0 (dots) to t = 1 (triangles), on the two directions in which they spread most."""
    paths = model.trajectories(X[:N_PATHS])  # (n, T, 2 + augment_dim)
    flat = PCA(2).fit_transform(paths.reshape(-1, paths.shape[-1])).reshape(*paths.shape[:2], 2)
    for path, colour in zip(flat, COLOURS[y]):
        axes.plot(*path.T, color=colour, linewidth=0.7, alpha=0.7)
        axes.plot(*path[0], "o", color=colour, markersize=2)
        axes.plot(*path[-1], "^", color=colour, markersize=4)
    axes.set(xticks=[], yticks=[])


def main(quick: bool = False, seed: int = 0, path: str | Path = PICTURE) -> dict[tuple[str, int], float]:
    """Share of right answers on held-out points, by data set and number of augmented dimensions; and the picture."""
    n, epochs, n_test = (60, 2, 60) if quick else (1000, 150, N_TEST)
    figure = Figure(figsize=(12, 6.4), dpi=150, layout="constrained")
    found = {}
    for row, data in zip(figure.subplots(2, 4), (circles, spirals)):
        X, y = data(n_test, seed + 1)
        for (plane, paths), extra in zip(row.reshape(2, 2), (0, 3)):
            model = ODENetClassifier(
                augment_dim=extra, max_epochs=epochs, validation_fraction=0, random_state=seed, verbose=0
            ).fit(*data(n, seed))
            case = f"{data.__name__}, augment_dim={extra}"
            found[data.__name__, extra] = right = model.score(X, y)
            evaluations = model.evaluations(X[:N_DOTS]).mean()
            print(f"{case}: {right:.2%} right, {evaluations:.0f} evaluations a point")
            draw_plane(plane, model, X, y)
            draw_paths(paths, model, X, y)
            plane.set_title(f"{case}: {right:.2%} right", fontsize=10, loc="left")
            paths.set_title(f"paths to t = 1, {evaluations:.0f} evaluations", fontsize=10, loc="left")
    figure.savefig(path)
    print(f"picture: {path}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 points, two epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=PICTURE)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed, arguments.out)
