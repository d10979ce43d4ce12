"""Densities by flows, against kernels, mixtures and the truth (Chen et al. 2018, section 4).

Two moons, eight Gaussians and a pinwheel, 5,000 points each, and scikit-learn's digits on their first 8 principal
components: the mean log density of held-out rows, in nats, by the default continuous flow; by the paper's gated one,
its planar one, and a discrete planar flow of as many parameters as that; by `KernelDensity` with a cross-validated
bandwidth and by the `GaussianMixture` that BIC chooses. And the densities over the flow's time, as pictures. Some
minutes for each data set on one core.

With `--equal`: planar flows of equal parameters on two moons, of several sizes (the paper's figure 4, which compares as
many hidden units with as many layers): discrete layers, one continuous flow, and one of four blocks. Some
minutes for each size and seed.

    python examples/paper/densities.py
    python examples/paper/densities.py --equal --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
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
NOISE = 0.05  # of the moons
SIZES = (8, 32, 92)  # of flows of equal parameters: 5 for each hidden unit or layer
BLOCKS = 4
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
    moons = [make_moons(m, noise=NOISE, random_state=s)[0] for m, s in draws]
    pca = PCA(8, random_state=0).fit(digits[:cut])
    return {
        "two moons": Rows(*moons, moons_log_density(moons[1]).mean()),
        "eight Gaussians": Rows(*gaussians, eight_gaussians_log_density(gaussians[1]).mean()),
        "pinwheel": Rows(*(make_pinwheel(m, random_state=s) for m, s in draws)),
        "digits": Rows(pca.transform(digits[:cut]), pca.transform(digits[cut:][:397])),
    }


def moons_log_density(X: np.ndarray) -> np.ndarray:
    """The truth: normal noise around points that are uniform on two half circles."""
    angle = (np.arange(1000) + 0.5) * np.pi / 1000
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    middles = np.concatenate([arc, [1.0, 0.5] - arc])
    squares = ((X**2).sum(1)[:, None] - 2 * X @ middles.T + (middles**2).sum(1)) / NOISE**2
    return np.log(np.exp(-squares / 2).mean(1)) - np.log(2 * np.pi * NOISE**2)


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
            axes = fitted["continuous flow"].plot_flow(data.test[:500], times=2 if quick else 5)
            axes[0].figure.savefig(path, dpi=150)
            print(f"    picture: {path}")
    if quick:
        equal_parameters(quick, SIZES[:1])
    table = pd.DataFrame(rows).T
    print(f"\nheld-out log density in nats, seed {seed}\n{table.round(3).to_string()}")
    return table


def equal_parameters(
    quick: bool = False, sizes: Sequence[int] = SIZES, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """Mean log densities of planar flows on two moons, a row per size and seed."""
    n, epochs = (100, 1) if quick else (5000, None)
    rows = {}
    for units, seed in product(sizes, seeds):
        data = data_sets(n, seed)["two moons"]
        options = {"random_state": seed, "verbose": 0, "max_epochs": epochs}
        continuous = {"field": "planar", "lr": 0.05, **options}
        flows = {
            "discrete": PlanarFlowDensity(n_layers=units, **options),
            "continuous": ContinuousFlowDensity(hidden_dim=units, **continuous),
            f"{BLOCKS} blocks": ContinuousFlowDensity(
                hidden_dim=units // BLOCKS, n_blocks=BLOCKS, **continuous
            ),
        }
        row = {kind: held_out(flow.fit(data.train), data.test) for kind, flow in flows.items()}
        count, *others = {size(flow) for flow in flows.values()}
        assert not others, "the flows must have equally many parameters"
        rows[count, seed] = row | {"truth": data.truth}
        print(f"{count} parameters, seed {seed}:", *(f"{k} {v:.3f}" for k, v in row.items()), flush=True)
    table = pd.DataFrame(rows).T.rename_axis(["parameters", "seed"])
    print(f"\nheld-out log density of two moons in nats\n{table.round(3).to_string()}")
    print(f"\nmeans\n{table.groupby('parameters').mean().round(3).to_string()}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 points, one epoch")
    parser.add_argument("--data", nargs="+", choices=DATA_SETS, default=DATA_SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--equal", action="store_true", help="only the planar flows of equal parameters")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=SIZES, help="of these: layers or hidden units"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,), help="of these")
    parser.add_argument("--out", default=".", help="folder of the pictures")
    arguments = parser.parse_args()
    if arguments.equal:
        equal_parameters(arguments.quick, arguments.sizes, arguments.seeds)
    else:
        main(arguments.quick, arguments.data, arguments.seed, arguments.out)
