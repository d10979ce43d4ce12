"""A script for tests: fits in processes of their own, some of which are killed on the way.

python other_process.py KIND                              fit, and print the digest of the model
python other_process.py KIND FOLDER SEED N_KILLS          the same, killed N_KILLS times before
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from small_models import small, spirals, waves

from latentode import LatentODEClassifier

MOST_AT_A_TIME = 5  # epochs that a process may save before it is killed
LONGEST_WAIT = 0.1  # seconds between an epoch's end and the kill


def epochs_for(n_kills: int) -> int:
    """More than all processes that are killed can train."""
    return MOST_AT_A_TIME * n_kills + 5


def table_of(kind: str) -> pd.DataFrame:
    return waves(80) if kind == "window" else spirals()


def fitted(kind: str, **params: Any) -> Any:
    """A small model of this kind, the same in every process."""
    torch.set_num_threads(1)
    table, common = table_of(kind), {"max_epochs": 10, "lr": 0.02}
    if kind == "window":
        return small(window=16.0, scaler="series", **(common | params)).fit(table)
    if kind == "classifier":
        labels = table["id"] % 3 == 0
        shape = {"latent_dim": 3, "hidden_dim": 10, "batch_size": 6, "random_state": 0, "verbose": 0}
        return LatentODEClassifier(**(shape | common | params)).fit(table, labels)
    if kind == "early stopping":
        common |= {"lr": 0.5, "patience": 4, "solver": "rk4", "step_size": 1.0}
    return small(**(common | params)).fit(table)


def digest(kind: str, model: Any) -> str:
    """Hash of all weights, of the history but for its seconds, and of predictions."""
    found = hashlib.sha256()
    module = getattr(model, "classifier_", model.model_)
    for name, weight in module.state_dict().items():
        found.update(name.encode() + weight.numpy().tobytes())
    found.update(model.history_.drop(columns="seconds").to_csv().encode())
    found.update(model.predict(table_of(kind)).to_csv().encode())
    return found.hexdigest()


def report_to(pipe: int, most: int) -> Any:
    """A callback that tells of every epoch, and waits for the end after some of them."""
    told = 0

    def report(record: dict[str, Any]) -> None:
        nonlocal told
        told += 1
        os.write(pipe, b".")
        if told > most:
            signal.pause()

    return report


def killed_once(kind: str, folder: str, max_epochs: int, rng: np.random.Generator) -> bool:
    """Fork a fit and kill it at a random moment of a random epoch; whether it was under way."""
    epochs, wait = int(rng.integers(1, MOST_AT_A_TIME)), rng.uniform(0, LONGEST_WAIT)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        report = report_to(writing, MOST_AT_A_TIME)
        fitted(kind, max_epochs=max_epochs, checkpoint_dir=folder, callbacks=[report])
        os._exit(0)
    os.close(writing)
    for _ in range(epochs):
        os.read(reading, 1)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main(kind: str, folder: str | None = None, seed: str = "0", n_kills: str = "0") -> None:
    rng, max_epochs = np.random.default_rng(int(seed)), epochs_for(int(n_kills))
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # takes seconds the first time: not in every fork
    kills = sum(killed_once(kind, str(folder), max_epochs, rng) for _ in range(int(n_kills)))
    model = fitted(kind, max_epochs=max_epochs, checkpoint_dir=folder)
    print(kills, digest(kind, model))


if __name__ == "__main__":
    main(*sys.argv[1:])
