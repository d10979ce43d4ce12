"""What each encoder and each field costs on protocol D (PhysioNet 2012, sizes of Rubanova et al. 2019).

For every pair: seconds per training epoch (the whole step: encoder, solve, decoder, bound, gradient, optimiser) as the
median over the epochs, evaluations of the field per solve, and the reconstruction error after these few epochs. The
pairs take turns (A B C ... A B C ...), so that a slow minute of the machine meets all of them. A share of the stays is
used, and the seconds are scaled to all 6,400 training stays.

    OMP_NUM_THREADS=1 python examples/benchmarks/encoders_and_fields.py --share 0.25
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import pandas as pd
import torch

from latentode import LatentODERegressor
from latentode.datasets import fetch_physionet2012
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS

ALL_STAYS = 6400  # 80 % of sets a and b


def main(quick: bool = False, share: float = 0.25, rounds: int = 2) -> pd.DataFrame:
    """The table: one row per encoder and field."""
    stays = fetch_physionet2012(("a",), descriptors_as_series=True).data
    ids = np.random.default_rng(0).permutation(stays["id"].unique())
    n_train = 40 if quick else int(share * ALL_STAYS)
    train = stays[stays["id"].isin(ids[:n_train])]
    test = stays[stays["id"].isin(ids[-max(n_train // 4, 10) :])]
    targets = [name for name in stays.columns if name not in ("id", "time")]
    span = (stays[targets].max() - stays[targets].min()).replace(0.0, 1.0)

    pairs = list(product(ENCODERS, FIELDS))[: 2 if quick else None]
    records: dict[tuple[str, str], list[dict[str, float]]] = {pair: [] for pair in pairs}
    for _ in range(1 if quick else rounds):
        for encoder, field in pairs:
            records[encoder, field].append(
                measured(train, test, targets, span, encoder, field, ALL_STAYS / n_train)
            )
    found = pd.DataFrame({pair: pd.DataFrame(rows).median() for pair, rows in records.items()}).T
    found.index.names = ["encoder", "field"]
    print(f"{n_train} stays, batches of 50, {torch.get_num_threads()} threads\n{found.round(2)}")
    return found


def measured(
    train: pd.DataFrame,
    test: pd.DataFrame,
    targets: list[str],
    span: pd.Series,
    encoder: str,
    field: str,
    times: float,
) -> dict[str, float]:
    """Two epochs of one pair."""
    model = LatentODERegressor(
        encoder=encoder,
        field=field,
        latent_dim=20,
        encoder_dim=40,
        hidden_dim=50,
        depth=3,
        context="all",
        scaler="minmax",
        batch_size=50,
        n_samples=3,
        max_epochs=2,
        validation_fraction=0,
        random_state=0,
        verbose=0,
    ).fit(train)
    history = model.history_
    error = (model.predict(test)[targets] - test[targets]) / span
    return {
        "seconds per epoch": times * float(history["seconds"].median()),
        "evaluations": float(history["train_n_evals"].iloc[-1]),
        "test MSE x 1e-3": 1e3 * float(np.nanmean(error.to_numpy() ** 2)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="40 stays, one round, two pairs")
    parser.add_argument("--share", type=float, default=0.25, help="of the 6,400 stays, at most 0.5")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.share, arguments.rounds)
