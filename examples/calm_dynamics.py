"""Penalties on the dynamics make a field that a solver crosses in fewer steps, at some cost in accuracy.

The same model is trained on the spirals without and with penalties on the kinetic energy and on the Jacobian (Finlay et
al. 2020), from the same first weights. Prints the evaluations of the field per forecast at two tolerances, and errors.

    python examples/calm_dynamics.py
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import make_spirals
from latentode.metrics import rmse
from latentode.series import cut_pieces, pad, scale_table

WEIGHTS = (0.0, 0.01, 0.1)


def main(quick: bool = False, seed: int = 0) -> pd.DataFrame:
    """One row per weight of the penalties."""
    n_train, n_test = (10, 5) if quick else (300, 100)
    train = make_spirals(n_train, 30, random_state=seed)
    test = make_spirals(n_test, 30, start=(0, 200), random_state=1000 + seed, return_truth=True)
    rows = {}
    for weight in WEIGHTS:
        model = LatentODERegressor(
            kinetic=weight,
            jacobian=weight,
            random_state=seed,
            verbose=0,
            **({"max_epochs": 1} if quick else {}),
        ).fit(train)
        rows[weight] = {
            "evaluations": evaluations(model, test.data, 1e-3),
            "at tolerance 1e-6": evaluations(model, test.data, 1e-6),
            "error inside": rmse(test.interpolation, model.predict(test.data, test.interpolation)),
            "error of forecast": rmse(test.extrapolation, model.predict(test.data, test.extrapolation)),
        }
    found = pd.DataFrame(rows).T
    found.index.name = "weight"
    print(f"{n_train} spirals, seed {seed}\n{found.round(3)}")
    return found


def evaluations(model: LatentODERegressor, df: pd.DataFrame, rtol: float) -> float:
    """Mean evaluations of the field that carries the posterior means over the rows of the series."""
    latent = model.model_
    latent.options, kept = replace(latent.options, rtol=rtol, atol=rtol / 10), latent.options
    table = scale_table(model.layout_.read(df), model.time_scale_, model.scaler_)
    piece = cut_pieces(pad(table), "all")
    posterior = latent.posterior(piece.context, piece.origin)
    found = latent.trajectory(posterior.mean[None], piece.target.times, piece.origin)
    latent.options = kept
    return float(found.n_evals.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten series, one epoch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed)
