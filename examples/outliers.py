"""Heavy tails: where one observation in twenty is grossly wrong, a Student t describes the rest better than a Gaussian.

Spirals with 5 % outliers. Both models are trained on the same table and scored by the log density that they give to
held-out observations (outliers among them), and by the error of their forecasts against the clean curves.

    python examples/outliers.py
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.metrics import rmse

SHARE, SIZE = 0.05, 2.0


def with_outliers(df: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The table with SHARE of its cells moved by Gaussian errors of SIZE, twenty times the noise."""
    rng = np.random.default_rng(seed)
    cells = df[["x", "y"]].to_numpy()
    wrong = rng.random(cells.shape) < SHARE
    return df.assign(**dict(zip(("x", "y"), (cells + wrong * SIZE * rng.normal(size=cells.shape)).T)))


def main(quick: bool = False, seed: int = 0) -> pd.DataFrame:
    """Log score and error of both likelihoods."""
    n_train, n_test = (10, 5) if quick else (300, 200)
    train = with_outliers(make_spirals(n_train, 40, random_state=seed), seed)
    test = make_spirals(n_test, 40, start=(0, 200), random_state=1000 + seed, return_truth=True)
    spoilt = with_outliers(test.data, 1000 + seed)
    rows = {}
    for likelihood in ("gaussian", "student_t"):
        model = LatentODERegressor(
            likelihood=likelihood, random_state=seed, verbose=0, **({"max_epochs": 1} if quick else {})
        ).fit(train)
        rows[likelihood] = {
            "log score": model.log_likelihood(spoilt),
            "error inside": rmse(test.interpolation, model.predict(spoilt, test.interpolation)),
            "error of forecast": rmse(test.extrapolation, model.predict(spoilt, test.extrapolation)),
        }
    found = pd.DataFrame(rows).T
    print(f"{SHARE:.0%} outliers, {n_train} series, seed {seed}\n{found.round(3)}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten series, one epoch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed)
