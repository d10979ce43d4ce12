"""Protocol D of Rubanova et al. (2019): PhysioNet 2012, every observed value reconstructed from all of them.

Sets a and b, 8,000 stays, 41 attributes, times at one minute, 80/20, latent 20, encoder 40, field 3 x 50, batches of
50 stays, 3 posterior samples. Prints seconds per epoch, peak memory, and the mean squared error on values scaled to
[0, 1] by the range of the whole set, as the paper does (its Latent ODE: 2.118e-3 after 100 epochs).

    python examples/paper/physionet2012_interpolation.py --epochs 5
"""

from __future__ import annotations

import argparse
import resource
import sys

import numpy as np

from latentode import LatentODERegressor
from latentode.datasets import fetch_physionet2012


def main(quick: bool = False, epochs: int = 5, seed: int = 0) -> dict[str, float]:
    """Train, print a line per epoch and the result; the figures as a dict."""
    stays = fetch_physionet2012(("a",) if quick else ("a", "b"), descriptors_as_series=True).data
    targets = [name for name in stays.columns if name not in ("id", "time")]
    span = stays[targets].max() - stays[targets].min()
    ids = np.random.default_rng(seed).permutation(stays["id"].unique())
    if quick:
        ids, epochs = ids[:100], 1
    test_ids = ids[: len(ids) // 5]
    stays = stays[stays["id"].isin(ids)]
    train, test = stays[~stays["id"].isin(test_ids)], stays[stays["id"].isin(test_ids)]

    model = LatentODERegressor(
        latent_dim=20,
        encoder_dim=40,
        hidden_dim=50,
        depth=3,
        context="all",
        scaler="minmax",
        batch_size=50,
        n_samples=3,
        max_epochs=epochs,
        validation_fraction=0,
        callbacks=[lambda epoch: print(f"epoch {epoch['epoch']}: {epoch['seconds']:.1f} s")],
        random_state=seed,
    ).fit(train)

    error = (model.predict(test)[targets] - test[targets]) / span.where(span > 0, 1.0)
    figures = {
        "seconds per epoch": float(model.history_["seconds"].median()),
        "peak memory [GB]": _peak_memory(),
        "test MSE x 1e-3": 1e3 * float(np.nanmean(error.to_numpy() ** 2)),
    }
    print(f"{len(ids) - len(test_ids)} stays, batches of 50, 3 posterior samples:", figures)
    return figures


def _peak_memory() -> float:
    """Largest resident size of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 stays, one epoch")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.epochs, arguments.seed)
