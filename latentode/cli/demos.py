"""The demos: data, a model, its errors beside those of simple baselines, and one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from latentode.cli import baselines
from latentode.datasets import PHYSIONET2012_CHANNELS, fetch_physionet2012, load_co2, make_spirals
from latentode.estimators import LatentODERegressor
from latentode.estimators.drawing import ends_of
from latentode.metrics import interval_coverage, rmse, standardised_mse
from latentode.plotting import channels_picture, long_series_picture, spirals_picture


@dataclass(frozen=True)
class DemoResult:
    """A picture and the lines below it."""

    figure: Figure
    report: str


@dataclass(frozen=True)
class ForecastTables:
    """Mean and 90 % interval at the same rows."""

    mean: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame

    @classmethod
    def of(cls, model: LatentODERegressor, known: pd.DataFrame, asked: pd.DataFrame) -> ForecastTables:
        keys = asked[["id", "time"]]
        lower, upper = ends_of(model.predict_interval(known, keys), model.layout_, model.layout_.target_cols)
        return cls(model.predict(known, keys), lower, upper)

    def coverage(self, truth: pd.DataFrame) -> float:
        """Share of the true values inside the interval."""
        return float(interval_coverage(truth, self.lower, self.upper))


def spirals(quick: bool, seed: int, data_home: Path | None) -> DemoResult:
    """Protocol A at 30 observed points: learn 300 noisy spirals, forecast the next stretch of 200 others."""
    n_train, n_test, epochs = (40, 8, 3) if quick else (300, 200, None)
    train = make_spirals(n_train, 30, random_state=seed)
    test = make_spirals(n_test, 30, start=(0, 200), return_truth=True, random_state=seed + 1)
    model = LatentODERegressor(max_epochs=epochs, random_state=seed).fit(train)
    known, truth = test.data, test.extrapolation
    forecast = ForecastTables.of(model, known, truth)
    rivals = {
        "last value": baselines.last_value(known, truth, ("x", "y")),
        "series mean": baselines.series_mean(known, truth, ("x", "y")),
    }
    shown = list(range(min(4, n_test)))
    whole = ForecastTables.of(model, known, test.truth[test.truth["id"].isin(shown)])
    times = np.sort(test.truth.loc[test.truth["id"] == 0, "time"].unique())
    samples = model.sample(known[known["id"].isin(shown)], times, 20, noise=False)
    figure = spirals_picture(known, whole.mean, whole.lower, whole.upper, test.truth, samples, series=shown)
    # the band is for observations, so it is held against the curve with fresh noise on it
    noise = np.random.default_rng(seed).normal(0, 0.1, (len(truth), 2))
    observed = truth.assign(x=truth["x"] + noise[:, 0], y=truth["y"] + noise[:, 1])
    gaps = rmse(test.interpolation, model.predict(known, test.interpolation[["id", "time"]]))
    errors = {"latent ODE": rmse(truth, forecast.mean)} | {k: rmse(truth, v) for k, v in rivals.items()}
    report = _report(f"next 100 times of {n_test} spirals", "RMSE", errors, forecast.coverage(observed))
    return DemoResult(figure, f"{report}\ninterpolation: RMSE {gaps:.3f} (noise of the observations: 0.1)")


def co2(quick: bool, seed: int, data_home: Path | None) -> DemoResult:
    """Forecast the last five years of the weekly Mauna Loa record from the years before."""
    table = load_co2()
    cut = table["time"].max() - pd.DateOffset(years=5)
    known, rest = table[table["time"] <= cut], table[table["time"] > cut]
    model = LatentODERegressor(
        window="2922D",  # eight years; a forecast reads the last four
        scaler="series",
        piece_warmup=0.8,  # eight turns of the seasons are learned one by one
        batch_size=20,
        validation_fraction=0,
        max_epochs=3 if quick else CO2_EPOCHS,
        random_state=seed,
    ).fit(known)
    forecast = ForecastTables.of(model, known, rest)
    errors = {
        "latent ODE": rmse(rest, forecast.mean),
        "last value": rmse(rest, baselines.last_value(known, rest, ["co2"])),
        "series mean": rmse(rest, baselines.series_mean(known, rest, ["co2"])),
        "last year again": rmse(rest, baselines.last_year(known, rest, ["co2"])),
    }
    whole = ForecastTables.of(model, known, table[table["time"] > cut - pd.DateOffset(years=1)])
    figure = long_series_picture(
        known,
        whole.mean,
        whole.lower,
        whole.upper,
        rest,
        title="Weekly CO2 at Mauna Loa: the last five years, forecast from the years before",
        labels={"co2": "CO2 [ppm]", "time": "year"},
    )
    return DemoResult(figure, _report("last 5 years", "RMSE [ppm]", errors, forecast.coverage(rest)))


CO2_EPOCHS = 500


def physionet2012(quick: bool, seed: int, data_home: Path | None) -> DemoResult:
    """Forecast the second 24 hours of intensive-care stays from the first, all 37 channels at once."""
    stays = fetch_physionet2012(sets=("a",), data_home=data_home).data
    ids = np.random.default_rng(seed).permutation(stays["id"].unique())
    if quick:
        ids = ids[:200]
    test_ids = ids[: len(ids) // 5]
    stays = stays[stays["id"].isin(ids)]
    held_out = stays["id"].isin(test_ids)
    train, test = stays[~held_out], stays[held_out]
    channels = [name for name in PHYSIONET2012_CHANNELS if train[name].notna().any()]
    model = LatentODERegressor(
        target_cols=channels,
        latent_dim=20,
        hidden_dim=50,
        max_epochs=2 if quick else PHYSIONET_EPOCHS,
        random_state=seed,
    ).fit(train)
    first_day = test["time"] < 24
    known, rest = test[first_day], test[~first_day]
    unseen = pd.DataFrame({"id": rest.loc[~rest["id"].isin(known["id"]), "id"].unique(), "time": 0.0})
    known = pd.concat([known, unseen], ignore_index=True)  # stays whose first day observed nothing count too
    forecast = ForecastTables.of(model, known, rest)
    mean = train[channels].mean()
    spread = train[channels].std(ddof=0).replace(0.0, 1.0)  # MechVent is 1 or missing
    rivals = {
        "latent ODE": forecast.mean,
        "training mean": baselines.constant(mean, rest),
        "last value": baselines.last_value(known, rest, channels),
        "series mean": baselines.series_mean(known, rest, channels),
    }
    errors = {name: standardised_mse(rest, answer, mean, spread) for name, answer in rivals.items()}
    shown = _well_observed(test, _SHOWN_CHANNELS, 2)
    grid = pd.DataFrame(
        [(stay, hour) for stay in shown for hour in np.linspace(0, 48, 193)], columns=["id", "time"]
    )
    drawn = ForecastTables.of(model, known[known["id"].isin(shown)], grid)
    figure = channels_picture(
        known,
        drawn.mean,
        drawn.lower,
        drawn.upper,
        rest,
        series=shown,
        target_cols=_SHOWN_CHANNELS,
        title="Two intensive-care stays: the second day, forecast from the first",
        labels={"time": "hours since admission"},
    )
    stays_forecast = rest["id"].nunique()
    return DemoResult(
        figure,
        _report(f"second day of {stays_forecast} stays", "MSE / variance", errors, forecast.coverage(rest)),
    )


PHYSIONET_EPOCHS = 8
_SHOWN_CHANNELS = ["HR", "MAP", "Temp", "GCS"]


def _well_observed(stays: pd.DataFrame, channels: list[str], n: int) -> list[int]:
    """The stays in which the scarcest of these channels is observed most often.

    Those with values eight standard deviations out (a temperature of −18 °C) are passed over: they would flatten the
    picture.
    """
    far = ((stays[channels] - stays[channels].mean()) / stays[channels].std()).abs().max(axis=1) > 8
    stays = stays[~stays["id"].isin(stays.loc[far, "id"])]
    counts = stays.groupby("id")[channels].count().min(axis=1)
    return [int(stay) for stay in counts.sort_values(ascending=False, kind="stable").index[:n]]


def _report(what: str, unit: str, errors: dict[str, float], coverage: float) -> str:
    figures = ", ".join(f"{name} {error:.3f}" for name, error in errors.items())
    held = f"the 90 % interval holds {100 * coverage:.0f} % of the observations"
    return f"forecast of the {what}: {unit} {figures}; {held}"


DEMOS: dict[str, Callable[[bool, int, Path | None], DemoResult]] = {
    "spirals": spirals,
    "co2": co2,
    "physionet2012": physionet2012,
}
