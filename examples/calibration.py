"""Intervals that hold what they promise: 90 % intervals of forecasts, before and after calibration.

Spirals, the visits of the PBC trial of the Mayo Clinic, and stays in intensive care (PhysioNet 2012, set a; both are
downloaded once). Of series that neither training nor calibration have seen, the second half is forecast from the first.
Prints the share of observations inside their 90 % interval, its width and the log score, over all cells, by target and
by horizon, and draws the whole calibration curves.

    python examples/calibration.py                # all three, a quarter of an hour
    python examples/calibration.py --data pbc
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from latentode import LatentODERegressor
from latentode.datasets import fetch_pbc, fetch_physionet2012, make_spirals
from latentode.metrics import (
    calibration_curve,
    horizon_bins,
    interval_coverage,
    interval_width,
    pit_samples,
)
from latentode.plotting import plot_calibration

COVERAGE = 0.9
QUICK: dict[str, Any] = {"max_epochs": 1, "latent_dim": 3, "hidden_dim": 8}
COLOURS = {"before": "#D55E00", "after": "#0072B2"}


def spirals(seed: int) -> pd.DataFrame:
    return make_spirals(600, 30, random_state=seed)


def pbc(seed: int) -> pd.DataFrame:
    """Visits in years; of skewed values the logarithm."""
    visits = fetch_pbc()
    skewed = ["bili", "alk.phos", "ast", "protime"]
    visits = visits.assign(time=visits["time"] / 365.25, **np.log(visits[skewed]))
    return visits[["id", "time", "albumin", "platelet", *skewed]]


def physionet(seed: int) -> pd.DataFrame:
    """1,600 of the 4,000 stays, five channels, without what cannot be true."""
    channels = ["HR", "MAP", "Temp", "GCS", "Urine"]
    rows = fetch_physionet2012("a").data[["id", "time", *channels]]
    possible = pd.DataFrame(
        {"HR": rows["HR"] > 0, "MAP": rows["MAP"] > 0, "Temp": rows["Temp"].between(30, 45)}
    )
    rows[list(possible)] = rows[list(possible)].where(possible)
    rows["Urine"] = np.log1p(rows["Urine"].clip(lower=0))
    rows = rows.dropna(subset=channels, how="all")
    drawn = np.random.default_rng(seed).permutation(rows["id"].unique())[:1600]
    return rows[rows["id"].isin(drawn)]


class Study(NamedTuple):
    """Where a table comes from, how it is learned, and the borders of its horizons; more `seeds` where it is small."""

    title: str
    table: Callable[[int], pd.DataFrame]
    parameters: dict[str, Any]
    horizons: tuple[float, ...]
    unit: str
    seeds: int = 1


STUDIES = {
    "spirals": Study("Spirals", spirals, {"max_epochs": 200}, (0, 0.5, 1, 1.5, 2), "units of time", seeds=3),
    "pbc": Study(
        "PBC, clinical visits",
        pbc,
        {"likelihood": "student_t", "hidden_dim": 32, "max_epochs": 200, "lr": 5e-3},
        (0, 1, 2, 4, 8),
        "years",
        seeds=5,
    ),
    "physionet": Study(
        "PhysioNet, intensive care",
        physionet,
        {"latent_dim": 10, "max_epochs": 40},
        (0, 6, 12, 18, 24),
        "hours",
    ),
}


class Scores(NamedTuple):
    """Of one model: coverage and width by `all`, target and horizon; the calibration curve."""

    table: pd.DataFrame
    curve: pd.Series


def scores(
    model: LatentODERegressor, test: pd.DataFrame, horizons: tuple[float, ...], n_samples: int = 199
) -> Scores:
    """How the second halves of the series are forecast from the first ones."""
    times = test.groupby("id")["time"]
    middle = (times.transform("min") + times.transform("max")) / 2
    rest = test[test["time"] > middle].reset_index(drop=True)
    known = test[(test["time"] <= middle) & test["id"].isin(rest["id"])]
    interval = model.predict_interval(known, rest[["id", "time"]], COVERAGE)
    targets = list(model.layout_.target_cols)
    lower, upper = (
        interval[["id", "time", *(f"{name}_{end}" for name in targets)]].set_axis(
            ["id", "time", *targets], axis=1
        )
        for end in ("lower", "upper")
    )
    lower = lower.where(rest.notna())  # widths of the cells that are scored, no others
    bins = horizon_bins(rest, known, horizons)
    parts: dict[str, dict[str, Any]] = {"all": {}, "target": {"per_target": True}, "horizon": {"by": bins}}
    coverage = {part: pd.Series(interval_coverage(rest, lower, upper, **how)) for part, how in parts.items()}
    table = pd.concat({part: found.rename(_label) for part, found in coverage.items()}).to_frame("coverage")
    widths = interval_width(lower, upper, per_target=True)
    table.loc["target", "width"] = [widths[name] for name in targets]
    table.loc["all", "log score"] = model.log_likelihood(test)
    pit = pit_samples(rest, model.sample(known, rest[["id", "time"]], n_samples=n_samples))
    return Scores(table, calibration_curve(pit).set_index("nominal")["observed"])


def _label(group: object) -> str:
    """A number alone comes without a label, in a series with the label 0."""
    return "cells" if group == 0 else str(group)


def study(name: str, quick: bool, seed: int) -> dict[str, Scores]:
    """Scores of the same weights before and after calibration: it changes no weight, only the spread."""
    spec = STUDIES[name]
    table = spec.table(seed)
    ids = np.random.default_rng(seed).permutation(table["id"].unique())[: 60 if quick else None]
    tested = table["id"].isin(ids[: len(ids) // 4])
    train, test = table[table["id"].isin(ids) & ~tested], table[tested]
    found = {}
    for when, calibrate in (("before", False), ("after", True)):
        model = LatentODERegressor(
            calibrate=calibrate,
            validation_fraction=0.25,
            random_state=seed,
            verbose=0,
            **spec.parameters | (QUICK if quick else {}),
        ).fit(train)
        found[when] = scores(model, test, spec.horizons, 19 if quick else 199)
    return found


def mean_of(found: list[Scores]) -> Scores:
    """Means over the seeds."""
    tables, curves = [one.table for one in found], [one.curve for one in found]
    return Scores(
        pd.concat(tables).groupby(level=[0, 1], sort=False).mean(), pd.concat(curves, axis=1).mean(axis=1)
    )


def picture(curves: dict[str, pd.DataFrame]) -> str:
    """One panel for each data set: before dashed, after solid, each with its name beside the line."""
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4.6 * len(curves), 4.9), squeeze=False, layout="constrained"
    )
    for ax, (name, curve) in zip(axes[0], curves.items()):
        plot_calibration(curve, ax=ax)
        ax.get_legend().remove()
        ax.set_title(STUDIES[name].title, loc="left")
        for line in ax.get_lines():
            when = str(line.get_label())
            if when in COLOURS:
                line.set(color=COLOURS[when], linestyle="--" if when == "before" else "-", marker="")
        apart = (curve["before"] - curve["after"]).where(curve["nominal"].between(0.4, 0.7), 0)
        at = int(apart.abs().to_numpy().argmax())  # where the lines are farthest apart, away from the corners
        side_of_before = 1 if apart.iloc[at] > 0 else -1
        for when, side in (("before", side_of_before), ("after", -side_of_before)):
            ax.annotate(
                when,
                (curve["nominal"].iloc[at], curve[when].iloc[at]),
                xytext=(-8 * side, 5 * side),
                textcoords="offset points",
                ha="right" if side > 0 else "left",
                va="bottom" if side > 0 else "top",
                color=COLOURS[when],
                fontweight="bold",
            )
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    figure.savefig("calibration.png", dpi=130)
    return "calibration.png"


def main(quick: bool = False, data: str | None = None) -> pd.DataFrame:
    """Share of held-out observations in their 90 % interval by data set and seed, before and after calibration."""
    overall, curves = {}, {}
    for name in STUDIES if data is None else [data]:
        spec = STUDIES[name]
        runs = [study(name, quick, seed) for seed in range(1 if quick else spec.seeds)]
        for seed, run in enumerate(runs):
            overall[name, seed] = {when: run[when].table.loc["all", "coverage"].item() for when in run}
        mean = {when: mean_of([run[when] for run in runs]) for when in runs[0]}
        curves[name] = pd.DataFrame({when: mean[when].curve for when in mean}).reset_index()
        table = pd.concat({when: mean[when].table for when in mean}, axis=1).swaplevel(axis=1)
        print(f"\n{spec.title}, {len(runs)} split(s), horizons in {spec.unit}")
        print(table[["coverage", "width", "log score"]].round(3).to_string(na_rep=""), flush=True)
    print(f"    {picture(curves)}")
    plt.close("all")
    found = pd.DataFrame(overall).T.rename_axis(["data", "seed"])
    print(f"\nshare inside {COVERAGE:.0%} intervals\n{found.round(3)}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="60 series, one epoch")
    parser.add_argument("--data", choices=STUDIES, help="only this one")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.data)
