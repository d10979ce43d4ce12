"""Make the files of the current format that `test_saved_versions.py` loads for ever: `python make_saved_model.py`.

Run it once for each new format version, from this folder with `tests` on the path, and never overwrite the files of an
earlier one: they stand for the files that users have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from small_models import spirals

from latentode import LatentODEClassifier, LatentODERegressor
from latentode.estimators.saved_model import FORMAT_VERSION

FILES = Path(__file__).parent / "files"
TINY: dict[str, Any] = {
    "latent_dim": 2,
    "hidden_dim": 4,
    "max_epochs": 3,
    "batch_size": 4,
    "random_state": 0,
    "verbose": 0,
    "solver": "rk4",  # fixed steps: an adaptive solver may take others where rounding differs
    "step_size": 0.25,
}


def training_table() -> pd.DataFrame:
    """Spirals with datetimes of a time zone, a category and a static column with an integer name."""
    df = spirals(8, 6)
    time = pd.Timestamp("2020-03-28", tz="Europe/Berlin") + pd.to_timedelta(df["time"], unit="D")
    return (
        df.assign(time=time.dt.as_unit("us"), side=np.where(df["x"] > 0, "right", "left"))
        .assign(age=df["id"] % 3)
        .rename(columns={"age": 7})
    )


def regressor() -> LatentODERegressor:
    likelihood = {"y": "student_t", "side": "categorical"}
    return LatentODERegressor(
        target_cols=["x", "y", "side"], static_cols=[7], likelihood=likelihood, **TINY
    ).fit(training_table())


def classifier() -> LatentODEClassifier:
    df = training_table()
    labels = df.groupby("id")["x"].mean() > 0
    return LatentODEClassifier(target_cols=["x", "y"], encoder="odernn", field="gated", **TINY).fit(
        df, labels
    )


def answers_of_regressor(model: LatentODERegressor) -> dict[str, list[Any]]:
    """Every column of a forecast; labels as they are."""
    df = training_table()
    times = pd.DatetimeIndex(["2020-03-27 00:00", "2020-03-30 12:00", "2020-04-10 00:00"], tz="Europe/Berlin")
    found = model.predict(df, times=times)
    return {str(name): found[name].tolist() for name in ("x", "y", "side")}


def answers_of_classifier(model: LatentODEClassifier) -> dict[str, list[float]]:
    found = model.predict_proba(training_table())
    return {str(name): found[name].tolist() for name in found}


def main() -> None:
    FILES.mkdir(exist_ok=True)
    made = {
        "regressor": (regressor(), answers_of_regressor),
        "classifier": (classifier(), answers_of_classifier),
    }
    for name, (model, answers) in made.items():
        path = FILES / f"{name}_version_{FORMAT_VERSION}.latentode"
        if path.exists():
            raise SystemExit(f"{path} exists: files of a version are made once")
        model.save(path)
        path.with_suffix(".json").write_text(json.dumps(answers(model), indent=1) + "\n")


if __name__ == "__main__":
    main()
