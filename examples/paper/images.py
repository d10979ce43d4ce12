"""ODE-Net, RK-Net and ResNet on images (Chen et al. 2018, table 1; protocol E): error, parameters, time, evaluations.

Three networks with the same two convolutions and the same head: six residual blocks, or one solve of a field as large
as one of them, by fixed Runge-Kutta steps or by an adaptive solver. `mnist`: 8,000 / 2,000 of the 10,000 test images,
drawn once; `digits`: scikit-learn's 1,797 images of 8 x 8 pixels, a quarter of them for testing, drawn for each seed.
Training images are there five times: as they are, and shifted by a pixel to each side. The published table: ResNet
0.41 % with 0.60 M parameters, RK-Net 0.47 % and ODE-Net 0.42 % with 0.22 M, on all 60,000.

    python examples/paper/images.py --data digits
    python examples/paper/images.py --data mnist
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from latentode import ODENetClassifier
from latentode.datasets import fetch_mnist

BLOCKS = {"ResNet": "resnet", "RK-Net": "rk", "ODE-Net": "ode"}
EPOCHS = {"digits": 12, "mnist": 4}  # of five times the images


class Images(NamedTuple):
    """Training and test images with their labels."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


def images_of(data: str, seed: int) -> Images:
    """The split of a data set for a seed."""
    if data == "digits":
        X, y = load_digits(return_X_y=True)
        return Images(
            *train_test_split(X.reshape(-1, 8, 8), y, test_size=0.25, stratify=y, random_state=seed)
        )
    test = fetch_mnist(subset="test").test
    assert test is not None
    split = train_test_split(test.images, test.labels, test_size=2000, stratify=test.labels, random_state=0)
    return Images(*split)


def with_shifts(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All images, and all of them moved by one pixel up, down, left and right."""
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1)))
    height, width = X.shape[1:]
    moved = [
        padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down, right in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    return np.concatenate(moved), np.tile(y, len(moved))


def run(
    block: str, images: Images, *, epochs: int, hidden_dim: int, tolerance: float, seed: int
) -> dict[str, float]:
    """One network, trained and tested."""
    model = ODENetClassifier(
        block=block,
        hidden_dim=hidden_dim,
        tolerance=tolerance,
        max_epochs=epochs,
        validation_fraction=0,
        random_state=seed,
        verbose=0,
    ).fit(*with_shifts(images.X_train, images.y_train))
    last = model.history_.iloc[-1]
    return {
        "error [%]": 100 * (1 - model.score(images.X_test, images.y_test)),
        "parameters": sum(part.numel() for part in model.model_.parameters()),
        "s per epoch": model.history_["seconds"].mean(),
        "evaluations": last.get("train_n_evals", np.nan),
        "backwards": last.get("train_n_evals_backward", np.nan),
        "in test": model.evaluations(images.X_test).mean(),
    }


def main(
    quick: bool = False,
    data: str = "digits",
    blocks: tuple[str, ...] = tuple(BLOCKS),
    epochs: int | None = None,
    hidden_dim: int = 32,
    tolerance: float = 1e-2,
    seeds: int = 3,
) -> pd.DataFrame:
    """The table: means over the seeds, and the spread of the error."""
    epochs = epochs or EPOCHS[data]
    if quick:
        epochs, hidden_dim, seeds = 1, 8, 1
    rows = []
    for seed in range(seeds):
        images = images_of(data, seed)
        if quick:
            images = Images(*(part[:60] for part in images))
        for name in blocks:
            found = run(
                BLOCKS[name], images, epochs=epochs, hidden_dim=hidden_dim, tolerance=tolerance, seed=seed
            )
            rows.append({"network": name, "seed": seed, **found})
            print(f"seed {seed}  {name:<8}" + "".join(f"  {k} {v:.4g}" for k, v in found.items()), flush=True)
    results = pd.DataFrame(rows)
    table = results.drop(columns="seed").groupby("network", sort=False).mean()
    table.insert(1, "± (seeds)", results.groupby("network", sort=False)["error [%]"].std())
    print(
        f"\n{data}, {seeds} seeds, {epochs} epochs of five times the images, {hidden_dim} channels, ", end=""
    )
    print(f"{torch.get_num_threads()} threads\n{table.round(2).to_string()}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 images, one epoch, one seed")
    parser.add_argument("--data", choices=sorted(EPOCHS), default="digits")
    parser.add_argument("--blocks", nargs="+", choices=list(BLOCKS), default=list(BLOCKS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--hidden-dim", type=int, default=32)
    parser.add_argument("--tolerance", type=float, default=1e-2, help="of the ODE-Net")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    main(
        arguments.quick,
        arguments.data,
        tuple(arguments.blocks),
        arguments.epochs,
        arguments.hidden_dim,
        arguments.tolerance,
        arguments.seeds,
    )
