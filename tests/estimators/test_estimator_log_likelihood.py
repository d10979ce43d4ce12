"""The log score against densities that SciPy makes of the estimator's own draws."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from small_models import small, spirals

from latentode.estimators import readouts
from latentode.exceptions import DataError

ROUNDED = 1e-4  # float32 networks in batches of another size


def parts(df: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """First halves of the time of each series, and the rest."""
    first = df.groupby("id")["time"].transform("min")
    last = df.groupby("id")["time"].transform("max")
    early = df["time"] <= first + 0.5 * (last - first)
    return df[early], df[~early]


def by_hand(model, df: pd.DataFrame, noise_of) -> float:
    """Mean log density of the rest under a mixture of Gaussians over the estimator's posterior draws."""
    known, rest = parts(df)
    eps = readouts.shared_noise(readouts.POSTERIOR_SAMPLES, model._learned.latent_dim)
    asked = model._ask(known, rest[["id", "time"]])
    table, queries = asked.table, asked.queries

    def centres(latent, prediction):
        return prediction.affine.invert(latent.likelihood.mean(prediction.params))

    means = model.scaler_.from_model(model._scaled(table, queries, centres, noise=eps))[..., 0]  # (K, R)
    logs = stats.norm.logpdf(rest["x"].to_numpy(), means, noise_of(rest))
    return float((special.logsumexp(logs, axis=0) - np.log(len(means))).mean())


@pytest.mark.parametrize("scaler", ["standard", "minmax", "robust"])
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_log_score_is_the_log_density_in_the_units_of_the_table(scaler, unit):
    df = spirals().assign(x=lambda t: unit * t["x"])
    model = small(target_cols=["x"], scaler=scaler, max_epochs=3).fit(df)
    noise = float(model.model_.likelihood.noise_std[0].detach()) * model.scaler_.scale[0]
    assert model.log_likelihood(df) == pytest.approx(by_hand(model, df, lambda rest: noise), abs=ROUNDED)


def test_known_measurement_errors_widen_the_density_of_their_cells():
    rng = np.random.default_rng(0)
    df = spirals().assign(err=lambda t: rng.uniform(0.1, 2.0, len(t)))
    model = small(target_cols=["x"], error_cols={"x": "err"}, max_epochs=3).fit(df)
    noise = float(model.model_.likelihood.noise_std[0].detach()) * model.scaler_.scale[0]
    expected = by_hand(model, df, lambda rest: np.sqrt(noise**2 + rest["err"].to_numpy() ** 2))
    assert model.log_likelihood(df) == pytest.approx(expected, abs=ROUNDED)


def test_a_series_scaler_gives_densities_in_the_same_units():
    """The score moves by -log(unit) when the unit changes, for a scaler of any kind."""
    for scaler in ("series", "standard"):
        one, other = (
            small(target_cols=["x"], scaler=scaler, max_epochs=2)
            .fit(spirals().assign(x=lambda t, unit=unit: unit * t["x"]))
            .log_likelihood(spirals().assign(x=lambda t, unit=unit: unit * t["x"]))
            for unit in (1.0, 1024.0)
        )
        assert other == pytest.approx(one - np.log(1024.0), abs=ROUNDED)


def test_probabilities_of_counts_need_no_unit():
    df = spirals().assign(n=lambda t: np.round(t["x"].abs() * 4))
    model = small(target_cols=["n"], likelihood="poisson", max_epochs=3).fit(df)
    assert model.log_likelihood(df) < 0  # probabilities are below 1


def test_cells_that_were_not_observed_are_not_scored():
    df = spirals()
    model = small(target_cols=["x", "y"], max_epochs=2).fit(df)
    only_x = df.assign(y=np.where(df["time"] > df.groupby("id")["time"].transform("mean"), np.nan, df["y"]))
    assert np.isfinite(model.log_likelihood(only_x))
    with pytest.raises(DataError, match="nothing to score"):
        model.log_likelihood(df.groupby("id").head(1))
