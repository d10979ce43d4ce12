"""Accuracy against cost of a trained ODE-Net: every prediction chooses its tolerance (Chen et al. 2018, figure 3).

An ODE-Net learns scikit-learn's digits at a tolerance of 1e-3, once. Then it predicts with tolerances from 1e-5 to 1:
the error of its solver against a solve at 1e-7, the evaluations of the field, the time, and the share of right answers;
and, from the history of the training, the evaluations forwards and backwards. Takes about three minutes on one core.

    python examples/tolerance.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from latentode import ODENetClassifier

PICTURE = "tolerance.png"
TOLERANCES = tuple(10.0**power for power in (-5, -4, -3, -2, -1, 0))


def measured(
    model: ODENetClassifier, X: np.ndarray, y: np.ndarray, tolerance: float, exact: np.ndarray
) -> dict:
    """What a prediction with this tolerance gives and costs."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        logits = model.decision_function(X, tolerance=tolerance)
        seconds.append(time.perf_counter() - begin)
    return {
        "tolerance": tolerance,
        "evaluations": model.evaluations(X, tolerance=tolerance).mean(),
        "seconds": statistics.median(seconds),
        "error of logits": np.sqrt(np.mean((logits - exact) ** 2)),
        "right [%]": 100 * model.score(X, y, tolerance=tolerance),
    }


def draw(table: pd.DataFrame, history: pd.DataFrame, path: str | Path) -> None:
    """Error, evaluations and accuracy against tolerance; evaluations against epochs."""
    figure = Figure(figsize=(12, 3.4), dpi=150, layout="constrained")
    panels = figure.subplots(1, 4)
    columns = ("error of logits", "evaluations", "right [%]")
    for axes, column in zip(panels, columns):
        axes.plot(table["tolerance"], table[column], "o-", color="#0072B2")
        axes.set(xscale="log", xlabel="tolerance", ylabel=column)
    panels[0].set(yscale="log")
    panels[1].set(ylim=(0, None), ylabel="evaluations per image")
    panels[2].set(ylim=(0, 105))
    panels[3].plot(history["epoch"], history["train_n_evals"], label="forwards")
    panels[3].plot(history["epoch"], history["train_n_evals_backward"], label="backwards")
    panels[3].set(xlabel="epoch", ylabel="evaluations per image", ylim=(0, None))
    panels[3].legend(frameon=False)
    titles = ("Error of the solver", "Cost of a prediction", "Right answers", "In training")
    for axes, title in zip(panels, titles):
        axes.set_title(title, fontsize=10, loc="left")
        axes.grid(alpha=0.3)
    figure.savefig(path)


def main(quick: bool = False, seed: int = 0, path: str | Path = PICTURE) -> pd.DataFrame:
    """The table of tolerances, and the picture."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    if quick:
        X_train, y_train, X_test, y_test = X_train[:60], y_train[:60], X_test[:20], y_test[:20]
    hidden, epochs = (8, 2) if quick else (32, 30)
    model = ODENetClassifier(hidden_dim=hidden, max_epochs=epochs, random_state=seed, verbose=0)
    model.fit(X_train, y_train)
    exact = model.decision_function(X_test, tolerance=1e-7)
    table = pd.DataFrame([measured(model, X_test, y_test, tolerance, exact) for tolerance in TOLERANCES])
    print(
        f"digits, seed {seed}, trained at a tolerance of {model.tolerance:g}\n{table.to_string(index=False)}"
    )
    draw(table, model.history_, path)
    print(f"picture: {path}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 images, two epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=PICTURE)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed, arguments.out)
