"""Series as features: the latent state of every patient, handed to a classifier of scikit-learn in one Pipeline.

Which patients of the PBC trial die within some years, told from the visits of their first year? (The data are
downloaded once.) A table of series has many rows per label, so scikit-learn's `cross_val_score` cannot split both by
row; here the patients are split, and the pipeline gets all rows of those in the training part. The latent ODE, the
scaling and the classifier are fitted anew in every fold: nothing of the tested patients is seen before the test.

    python examples/pipeline.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from latentode import LatentODERegressor
from latentode.datasets import fetch_pbc

WATCHED, ASKED = (
    1.05,
    5.0,
)  # years: visits that are shown (the yearly one comes late now and then), time of the question
SKEWED = ["bili", "alk.phos", "ast", "protime"]
TARGETS = ["albumin", "platelet", *SKEWED]


def first_visits() -> tuple[pd.DataFrame, pd.Series]:
    """Visits of the first year in a long table, and by patient whether they died (1) within `ASKED` years.

    Only of patients who were alive after the visits shown, and whose fate at `ASKED` years is known.
    """
    visits = fetch_pbc()
    visits = visits.assign(time=visits["time"] / 365.25, **np.log(visits[SKEWED]))
    fate = visits.groupby("id").agg(years=("futime", "first"), status=("status", "first"))
    years, dead = fate["years"] / 365.25, fate["status"] == 2
    known = fate[(years > WATCHED) & (dead | (years >= ASKED))].index
    died = (dead & (years <= ASKED)).loc[known].astype(int)
    shown = visits["id"].isin(known) & (visits["time"] <= WATCHED)
    return visits.loc[shown, ["id", "time", *TARGETS]], died


def means(visits: pd.DataFrame) -> pd.DataFrame:
    """The baseline: the mean of every value over the visits of each patient, in order of first appearance."""
    return visits.groupby("id", sort=False)[TARGETS].mean()


def pipelines(quick: bool, seed: int) -> dict[str, Pipeline]:
    """From a long table to a probability per series."""
    latent = LatentODERegressor(
        latent_dim=6,
        hidden_dim=8 if quick else 32,
        max_epochs=1 if quick else 150,
        lr=5e-3,
        random_state=seed,
        verbose=0,
    )
    return {
        "latent states": make_pipeline(latent, StandardScaler(), LogisticRegression()),
        "means of visits": make_pipeline(
            FunctionTransformer(means), SimpleImputer(), StandardScaler(), LogisticRegression()
        ),
    }


MEASURES: dict[str, Callable[[pd.Series, np.ndarray], float]] = {
    "area under ROC": roc_auc_score,
    "balanced accuracy": lambda truth, chance: balanced_accuracy_score(truth, chance > 0.5),
    "log loss": log_loss,
}


def cross_validated(
    pipeline: Pipeline, df: pd.DataFrame, labels: pd.Series, folds: StratifiedKFold
) -> pd.DataFrame:
    """Scores of each fold; patients are split, and all rows of a patient go where they go."""
    scores = []
    for train, test in folds.split(labels.index, labels):
        learned, asked = (df[df["id"].isin(labels.index[part])] for part in (train, test))
        fitted = clone(pipeline).fit(
            learned, labels.loc[learned["id"].unique()]
        )  # in order of first appearance
        truth = labels.loc[asked["id"].unique()]
        chance = fitted.predict_proba(asked)[:, 1]
        scores.append({name: measure(truth, chance) for name, measure in MEASURES.items()})
    return pd.DataFrame(scores)


def main(quick: bool = False, seed: int = 0) -> pd.DataFrame:
    """Mean scores over the folds, of latent states and of the baseline."""
    df, labels = first_visits()
    folds = StratifiedKFold(2 if quick else 5, shuffle=True, random_state=seed)
    found, errors = {}, {}
    for name, pipeline in pipelines(quick, seed).items():
        scores = cross_validated(pipeline, df, labels, folds)
        found[name], errors[name] = scores.mean(), scores.sem()
    print(f"{len(labels)} patients, {len(df)} visits, {labels.mean():.0%} died within {ASKED:g} years")
    print(f"means over {folds.n_splits} folds\n{pd.DataFrame(found).T.round(3)}")
    print(f"their standard errors\n{pd.DataFrame(errors).T.round(3)}")
    return pd.DataFrame(found).T


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two folds, one epoch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.seed)
