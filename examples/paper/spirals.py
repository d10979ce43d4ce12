"""Protocol A: bi-directional spirals (Chen et al. 2018, section 5.1), 800 to train on, 200 to forecast.

Prints, for each number of observed points, the RMSE against the clean curve over the next 100 fine times
(extrapolation) and over the first 100 (interpolation), beside the last value. The paper reports
0.1642 / 0.1502 / 0.1346 for 30 / 50 / 100 points, with noise, split and optimiser unknown.

    python examples/paper/spirals.py --points 30 --epochs 200 --seeds 1
"""

from __future__ import annotations

import argparse

import numpy as np

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.metrics import rmse


def main(
    quick: bool = False, points: int = 30, epochs: int = 200, seeds: int = 1
) -> list[tuple[float, float]]:
    """Train once per seed; (extrapolation, interpolation) RMSE of each."""
    n_train, n_test, epochs = (40, 10, 2) if quick else (800, 200, epochs)
    errors = []
    for seed in range(seeds):
        train = make_spirals(n_train, points, random_state=seed)
        test = make_spirals(n_test, points, start=(0, 200), return_truth=True, random_state=1000 + seed)
        model = LatentODERegressor(max_epochs=epochs, random_state=seed).fit(train)

        def error(truth, model=model, known=test.data):
            return rmse(truth, model.predict(known, truth[["id", "time"]]))

        last = test.data.groupby("id")[["x", "y"]].last().loc[test.extrapolation["id"]].reset_index(drop=True)
        last_value = rmse(test.extrapolation[["x", "y"]].to_numpy(), last.to_numpy())
        errors.append((error(test.extrapolation), error(test.interpolation)))
        print(
            f"{points} points, seed {seed}: extrapolation {errors[-1][0]:.3f} (last value {last_value:.3f}), "
            f"interpolation {errors[-1][1]:.3f}"
        )
    if seeds > 1:
        print(
            "mean",
            np.mean(errors, axis=0).round(3),
            "standard deviation",
            np.std(errors, axis=0, ddof=1).round(3),
        )
    return errors


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="40 series, two epochs")
    parser.add_argument("--points", type=int, default=30, choices=(30, 50, 100))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.points, arguments.epochs, arguments.seeds)
