"""Densities by flows, against kernels, mixtures and the truth (Chen et al. 2018, section 4).

Two moons, eight Gaussians and a pinwheel, 5,000 points each, and scikit-learn's digits on their first 8 principal
components: the mean log density of held-out rows, in nats, by the default continuous flow; by the paper's gated one,
its planar one, and a discrete planar flow of as many parameters as that; by `KernelDensity` with a cross-validated
bandwidth and by the `GaussianMixture` that BIC chooses. And the densities over the flow's time, as pictures. Some
minutes for each data set on one core.

    python examples/paper/densities.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, make_moons
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from latentode import ContinuousFlowDensity, PlanarFlowDensity
from latentode.datasets import eight_gaussians_log_density, make_eight_gaussians, make_pinwheel

UNITS = 64  # of the planar flows: hidden units, or layers
DATA_SETS = ("two moons", "eight Gaussians", "pinwheel", "digits")


class Rows(NamedTuple):
    """Rows to learn from and to test with, and the true log density of these where it is known."""

    train: np.ndarray
    test: np.ndarray
    truth: float = np.nan


def data_sets(n: int, seed: int) -> dict[str, Rows]:
    """All data sets by name."""
    draws = (n, seed), (4 * n // 5, seed + 1000)
    gaussians = [make_eight_gaussians(m, random_state=s) for m, s in draws]
    digits = load_digits().data[np.random.default_rng(seed).permutation(1797)]
    cut = min(n, 1400)
    pca = PCA(8, random_state=0).fit(digits[:cut])
    return {
        "two moons": Rows(*(make_moons(m, noise=0.05, random_state=s)[0] for m, s in draws)),
        "eight Gaussians": Rows(*gaussians, eight_gaussians_log_density(gaussians[1]).mean()),
        "pinwheel": Rows(*(make_pinwheel(m, random_state=s) for m, s in draws)),
        "digits": Rows(pca.transform(digits[:cut]), pca.transform(digits[cut:][:397])),
    }


def size(model: Any) -> int:
    """Number of parameters."""
    return sum(part.numel() for part in model.model_.parameters())


def estimators(train: np.ndarray, seed: int, epochs: int | None) -> dict[str, Any]:
    """Fitted estimators by name."""
    options = {"random_state": seed, "verbose": 0, "max_epochs": epochs}
    kernels = GridSearchCV(KernelDensity(), {"bandwidth": np.geomspace(0.01, 1.0, 20) * train.std()})
    mixtures = [
        GaussianMixture(n, covariance_type=kind, random_state=0).fit(train)
        for n in (1, 2, 4, 6, 8, 10, 12, 16, 24)
        for kind in ("full", "diag")
        if n < len(train)
    ]
    return {
        "continuous flow": ContinuousFlowDensity(**options).fit(train),
        "continuous, gated": ContinuousFlowDensity(field="gated", **options).fit(train),
        "continuous, planar": ContinuousFlowDensity(field="planar", hidden_dim=UNITS, **options).fit(train),
        "discrete planar": PlanarFlowDensity(n_layers=UNITS, **options).fit(train),
        "kernels": kernels.fit(train).best_estimator_,
        "Gaussian mixture": min(mixtures, key=lambda mixture: mixture.bic(train)),
    }


def held_out(model: Any, rows: np.ndarray) -> float:
    """Mean log density [nats]."""
    return float(np.mean(model.score_samples(rows)))


def main(
    quick: bool = False, names: Sequence[str] = DATA_SETS, seed: int = 0, folder: str | Path = "."
) -> pd.DataFrame:
    """Mean log densities, a row per data set; and a picture of each flow of the plane."""
    n, epochs = (100, 1) if quick else (5000, None)
    rows = {}
    for name, data in data_sets(n, seed).items():
        if name not in (("two moons", "digits") if quick else names):
            continue
        fitted = estimators(data.train, seed, epochs)
        rows[name] = {kind: held_out(model, data.test) for kind, model in fitted.items()} | {
            "truth": data.truth
        }
        sizes = {kind: size(model) for kind, model in fitted.items() if hasattr(model, "model_")}
        print(name, *(f"{kind} {value:.3f}" for kind, value in rows[name].items()), sep="   ", flush=True)
        print("    parameters:", *(f"{kind} {count}" for kind, count in sizes.items()), sep="   ")
        if data.train.shape[1] == 2:
            path = Path(folder) / f"flow_{name.replace(' ', '_').lower()}.png"
            axes = fitted["continuous flow"].plot_flow(data.test[:500])
            axes[0].figure.savefig(path, dpi=150)
            print(f"    picture: {path}")
    table = pd.DataFrame(rows).T
    print(f"\nheld-out log density in nats, seed {seed}\n{table.round(3).to_string()}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 points, one epoch")
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=".", help="folder of the pictures")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.data, arguments.seed, arguments.out)
