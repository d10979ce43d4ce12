"""Whole runs by either engine: epochs of protocol D (PhysioNet 2012), and the demo from command to picture."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import fetch_physionet2012

PHYSIONET_SIZES = {"latent_dim": 20, "encoder_dim": 40, "hidden_dim": 50, "depth": 3, "n_samples": 3}


def stays(n_stays: int) -> pd.DataFrame:
    """Some stays of set a, with the general descriptors as columns of their own."""
    table = fetch_physionet2012(("a",), descriptors_as_series=True).data
    ids = np.random.default_rng(0).permutation(table["id"].unique())[:n_stays]
    return table[table["id"].isin(ids)]


class Epochs:
    """Single epochs of the estimator, from fresh weights of another seed each.

    Parameters
    ----------
    table : DataFrame
        Of series.
    engine : str
    sizes : dict
        Of the model.
    """

    def __init__(self, table: pd.DataFrame, engine: str, sizes: dict[str, int]) -> None:
        self.table, self.engine, self.sizes = table, engine, sizes
        self.seed = 0

    def __call__(self) -> float:
        """Train one; its seconds, without those of reading and scaling the table."""
        model = LatentODERegressor(
            context="all",
            scaler="minmax",
            batch_size=50,
            max_epochs=1,
            validation_fraction=0,
            engine=self.engine,
            random_state=self.seed,
            verbose=0,
            **self.sizes,
        ).fit(self.table)
        self.seed += 1
        return float(model.history_["seconds"].iloc[0])


def demo(engine: str, *, full: bool) -> Callable[[], None]:
    """`latentode demo` in a process of its own, with the picture it leaves."""
    command = [sys.executable, "-c", "from latentode.cli import app; app()", "demo", "--out"]
    environment = dict(os.environ)
    environment.pop("LATENTODE_ENGINE", None)
    if engine == "torch":
        environment["LATENTODE_ENGINE"] = "torch"  # hides the kernels

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "spirals.png"
            options = [str(picture), *([] if full else ["--quick"])]
            subprocess.run([*command, *options], check=True, capture_output=True, env=environment)
            if not picture.stat().st_size:
                raise RuntimeError("the demo left no picture")

    return run
