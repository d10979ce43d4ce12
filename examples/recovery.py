"""Known systems, learned from irregular, noisy observations: held-out series are forecast and held against the truth.

Four systems: damped oscillators; oscillators whose frequency a static covariate tells; predators and prey; a pendulum
pushed by a known torque, which is also forecast under another torque than the one that was planned. Prints the error of
the forecasts in standard deviations of the true curves, and draws one picture for each system.

    python examples/recovery.py                 # all four, some minutes each
    python examples/recovery.py --only pendulum
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import make_damped_oscillators, make_driven_pendulum, make_lotka_volterra
from latentode.plotting import plot_forecast_panels

SHOWN = 3  # series in a picture


class Study(NamedTuple):
    """A fitted model, what it knew of the held-out series, and the truth about their future."""

    model: LatentODERegressor
    known: pd.DataFrame
    asked: Any
    truth: pd.DataFrame

    def errors(self) -> dict[str, float]:
        """RMSE of the forecast of each target in standard deviations of its true curve."""
        forecast = self.model.predict(self.known, self.asked)
        found = {}
        for name in self.model.layout_.target_cols:
            error = forecast[name].to_numpy() - self.truth[name].to_numpy()
            found[str(name)] = float(np.sqrt(np.mean(error**2)) / self.truth[name].std())
        return found


def model(quick: bool, **parameters: Any) -> LatentODERegressor:
    return LatentODERegressor(**parameters | ({"max_epochs": 1} if quick else {}), random_state=0, verbose=0)


def oscillators(quick: bool) -> Study:
    """All of one frequency, which the model has to find; x and v are observed, with noise."""
    stiffness = (4.0, 4.0 + 1e-9)
    n_train, n_test = (10, 3) if quick else (300, 100)
    train = make_damped_oscillators(n_train, 20, stiffness=stiffness, random_state=0)
    test = make_damped_oscillators(n_test, 20, stiffness=stiffness, random_state=1, return_truth=True)
    fitted = model(quick, field="linear", max_epochs=1000).fit(train.drop(columns="stiffness"))
    return forecast_second_half(fitted, test, 10.0)


def covariate(quick: bool) -> Study:
    """Each of a frequency of its own, which the covariate `stiffness` tells."""
    n_train, n_test = (10, 3) if quick else (600, 100)
    train = make_damped_oscillators(n_train, 20, random_state=0)
    test = make_damped_oscillators(n_test, 20, random_state=1, return_truth=True)
    fitted = model(quick, field="linear", static_cols=["stiffness"], max_epochs=600).fit(train)
    return forecast_second_half(fitted, test, 10.0)


def predators(quick: bool) -> Study:
    """Nonlinear cycles, of another size and period for every series."""
    n_train, n_test = (10, 3) if quick else (300, 100)
    train = make_lotka_volterra(n_train, 40, random_state=0)
    test = make_lotka_volterra(n_test, 40, random_state=1, return_truth=True)
    return forecast_second_half(model(quick).fit(train), test, 20.0)


def forecast_second_half(fitted: LatentODERegressor, test: Any, span: float) -> Study:
    known = test.data[test.data["time"] <= span / 2]
    times = np.linspace(span / 2, span, 101)
    truth = test.truth_at(times)
    return Study(fitted, known, times, truth[truth["id"].isin(known["id"])])


def pendulum(quick: bool) -> Study:
    """Forecast under a torque that was drawn anew after the last observation: what if?"""
    n_train, n_test = (10, 3) if quick else (800, 100)
    train = make_driven_pendulum(n_train, 60, noise=0.03, random_state=0)
    test = make_driven_pendulum(n_test, 60, noise=0.03, random_state=1, return_truth=True)
    fitted = model(
        quick,
        control_cols=["torque"],
        anchor="start",  # the swings are damped: followed backwards they would grow
        context=0.5,
        lr=4e-3,
        max_epochs=260,
        early_stopping=False,
    ).fit(train)
    plan = test.other_forcing(10.0, random_state=2)
    times = np.linspace(10.0, 20.0, 101)
    study = Study(fitted, test.context(10.0, plan), times, test.truth_at(times, plan))
    if not quick:
        unplanned = Study(fitted, test.context(10.0), times, study.truth)
        print(f"pendulum, told the torque that did not come: {rounded(unplanned.errors())}")
    return study


STUDIES = {"oscillators": oscillators, "covariate": covariate, "predators": predators, "pendulum": pendulum}


def picture(name: str, study: Study, shown: int = SHOWN) -> str:
    """Observations, forecast with its 90 % band, and truth, of a few held-out series."""
    series = list(study.known["id"].unique()[:shown])
    known = study.known[study.known["id"].isin(series)]
    interval = study.model.predict_interval(known, study.asked)
    targets = list(study.model.layout_.target_cols)
    ends = [
        interval.rename(columns={f"{target}_{end}": target for target in targets})[["id", "time", *targets]]
        for end in ("lower", "upper")
    ]
    axes = plot_forecast_panels(
        known[["id", "time", *targets]],
        study.model.predict(known, study.asked),
        *ends,
        truth=study.truth[["id", "time", *targets]],
        series=series,
        target_cols=targets,
    )
    path = f"recovery_{name}.png"
    np.atleast_1d(axes).flat[0].figure.savefig(path, dpi=110)
    return path


def rounded(errors: dict[str, float]) -> dict[str, float]:
    return {name: round(error, 3) for name, error in errors.items()}


def main(quick: bool = False, only: str | None = None) -> dict[str, dict[str, float]]:
    """Run the studies; their errors by system and target."""
    found = {}
    for name, study_of in STUDIES.items():
        if only in (None, name):
            study = study_of(quick)
            found[name] = study.errors()
            print(f"{name}: error of the forecast in standard deviations {rounded(found[name])}", flush=True)
            print(f"    {picture(name, study, 1 if quick else SHOWN)}", flush=True)
            plt.close("all")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten series, one epoch")
    parser.add_argument("--only", choices=list(STUDIES))
    arguments = parser.parse_args()
    main(arguments.quick, arguments.only)
