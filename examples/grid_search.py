"""Choose the size of a model by the forecasts it would have made: a grid search over cuts in time.

Spirals with a clock of their own each are cut at two shares of their span. From what lies before a cut the candidates
learn, what comes after it they forecast; the search keeps the size with the lowest CRPS and learns once more from all.
Takes about three minutes on one core.

    python examples/grid_search.py
"""

from __future__ import annotations

import argparse

import pandas as pd
from sklearn.model_selection import GridSearchCV

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.model_selection import TimeCutSplit, forecast_scorer


def main(quick: bool = False, seed: int = 0) -> pd.DataFrame:
    """Scores of every size, mean over the cuts."""
    n_series, sizes, epochs = (6, [2, 4], 1) if quick else (60, [2, 4, 8], 300)
    df = make_spirals(n_series, 40, random_state=seed)
    model = LatentODERegressor(hidden_dim=32, max_epochs=epochs, random_state=seed, verbose=0)
    search = GridSearchCV(
        model,
        {"latent_dim": sizes},
        cv=TimeCutSplit(cutoffs=[0.5, 0.75], per_series=True),
        scoring={name: forecast_scorer(name) for name in ("crps", "rmse", "coverage")},
        refit="crps",
        error_score="raise",
    ).fit(df)
    results = search.cv_results_
    found = pd.DataFrame(
        {
            "CRPS": -results["mean_test_crps"],
            "RMSE": -results["mean_test_rmse"],
            "miss of 90 % coverage": -results["mean_test_coverage"],
        },
        index=pd.Index(sizes, name="latent_dim"),
    )
    print(f"{n_series} spirals, seed {seed}\n{found.round(3)}\nbest: {search.best_params_}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="six series, two sizes, one epoch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed)
