"""A latent ODE beside three recurrent baselines, trained and scored in one process on the spirals of protocol A.

Prints the RMSE against the clean curves over the first 100 fine times (interpolation) and over the next 100
(extrapolation), and the seconds of training. Chen et al. (2018), table 2, report 0.3937 (RNN) and 0.1642 (latent ODE)
at 30 points, with noise, split and optimiser unknown.

    python examples/paper/baselines_on_spirals.py --points 30 --epochs 200
"""

from __future__ import annotations

import argparse
import time

import pandas as pd
from baselines import BASELINES, Baseline

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.metrics import rmse


def main(quick: bool = False, points: int = 30, epochs: int = 200, seed: int = 0) -> pd.DataFrame:
    """Train each model once; its errors as a table."""
    n_train, n_test, epochs = (20, 5, 2) if quick else (800, 200, epochs)
    train = make_spirals(n_train, points, random_state=seed)
    test = make_spirals(n_test, points, start=(0, 200), return_truth=True, random_state=1000 + seed)

    models = {"latent ODE": LatentODERegressor(max_epochs=epochs, random_state=seed, verbose=0)}
    for name in BASELINES:
        models[name] = Baseline(name, max_epochs=epochs, random_state=seed)

    rows = {}
    for name, model in models.items():
        begin = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - begin
        rows[name] = {
            "interpolation": rmse(test.interpolation, model.predict(test.data, test.interpolation)),
            "extrapolation": rmse(test.extrapolation, model.predict(test.data, test.extrapolation)),
            "seconds": seconds,
        }
        print(name, {what: round(value, 3) for what, value in rows[name].items()}, flush=True)
    found = pd.DataFrame(rows).T
    print(f"{points} points, {n_train} series, {epochs} epochs, seed {seed}: RMSE\n{found.round(3)}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 series, two epochs")
    parser.add_argument("--points", type=int, default=30, choices=(30, 50, 100))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.points, arguments.epochs, arguments.seed)
