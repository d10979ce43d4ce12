"""Means, spreads, quantiles and samples are those of one mixture over posterior samples, plus noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, optimize, stats
from small_models import COMPANY, OTHER_STEPS, numbers, small, waves

from latentode.estimators.latent_ode import _shared_noise
from latentode.nn.normal import Normal

TIMES = np.array([-1.0, 0.5, 2.0, 3.0, 7.5])


class Mixture:
    """The mixture (K, times, D) that a fitted model means for one series, by its parts and SciPy's solver."""

    def __init__(self, model, df, times, *, n_samples=32):
        module, clock, scaler = model.model_, model.time_scale_, model.scaler_
        known = df.dropna(how="all", subset=["x", "y"]).sort_values("time")
        rows = clock.to_model(known["time"].to_numpy())
        anchor = rows[0] if model.anchor == "start" else rows[-1]
        values = scaler.to_model(known[["x", "y"]].to_numpy())
        mask = ~np.isnan(values)
        with torch.no_grad():
            posterior = module.encoder(
                torch.tensor(rows - anchor)[None],
                torch.tensor(np.where(mask, values, 0.0), dtype=torch.float32)[None],
                torch.tensor(mask)[None],
                torch.tensor([len(rows)]),
            )
            z0 = posterior.sample(_shared_noise(n_samples, model.latent_dim)(np.zeros(1, int)))[:, 0]
            states = np.stack([self._solve(module, z, clock.to_model(times) - anchor, anchor) for z in z0])
            means = module.likelihood.mean(module.decoder(torch.tensor(states, dtype=torch.float32)[:, None]))
            noise = module.likelihood.noise_std.double().numpy()
        self.means = scaler.from_model(means[:, 0].double().numpy())
        self.noise = noise * scaler.scale
        self.posterior: Normal = posterior

    @staticmethod
    def _solve(module, z, times, anchor):
        """States (T, L) at any times from the one at 0."""
        start = anchor if module.field.time_dependent else 0.0

        def field(t, y):
            return module.field(torch.tensor([t]), torch.tensor(y, dtype=torch.float32)[None])[0].numpy()

        states = np.empty((len(times), len(z)))
        for side in (times >= 0, times < 0):
            if side.any():
                order = np.argsort(np.abs(times[side]))
                at = times[side][order]
                found = integrate.solve_ivp(
                    field,
                    (start, start + at[-1]),
                    z.double().numpy(),
                    t_eval=start + at,
                    rtol=1e-6,
                    atol=1e-6,
                )
                states[np.flatnonzero(side)[order]] = found.y.T
        return states

    @property
    def mean(self):
        return self.means.mean(0)

    @property
    def std(self):
        return np.sqrt(self.noise**2 + self.means.var(0))

    def cdf(self, values):
        return stats.norm.cdf((values - self.means) / self.noise).mean(0)

    def quantile(self, level):
        found = np.empty(self.means.shape[1:])
        for t, d in np.ndindex(found.shape):
            excess = lambda v, t=t, d=d: (  # noqa: E731
                stats.norm.cdf((v - self.means[:, t, d]) / self.noise[d]).mean() - level
            )
            found[t, d] = optimize.brentq(excess, -1e3, 1e3)
        return found


MODELS = {
    "anchor at the start": {},
    "anchor at the end": {"anchor": "end"},
    "absolute time": {"time_dependent": True},
    "minmax": {"scaler": "minmax"},
    "robust": {"scaler": "robust"},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, table, fitted):
    return (
        small(max_epochs=10, lr=0.03, **MODELS[request.param]).fit(table) if MODELS[request.param] else fitted
    )


@pytest.fixture(scope="module")
def one(table):
    """A series with a gap in each target, an empty row, and rows out of order."""
    df = table[table["id"] == 7].copy()
    df.iloc[3, 2], df.iloc[5, 3], df.iloc[0, 2:], df.iloc[8, 2:] = np.nan, np.nan, np.nan, np.nan
    return df[::-1]


def test_the_answer_is_the_mixture_put_together_by_hand(model, one):
    mixture = Mixture(model, one, TIMES)
    mean, std = model.predict(one, TIMES, return_std=True)
    np.testing.assert_allclose(numbers(mean), mixture.mean, rtol=0, atol=OTHER_STEPS)
    np.testing.assert_allclose(numbers(std), mixture.std, rtol=0, atol=OTHER_STEPS)
    levels = [0.01, 0.3, 0.5, 0.95]
    found = numbers(model.predict_quantiles(one, TIMES, levels)).reshape(4, len(TIMES), 2)
    for level, quantile in zip(levels, found):
        np.testing.assert_allclose(quantile, mixture.quantile(level), rtol=0, atol=OTHER_STEPS)


def test_the_spread_comes_from_both_posterior_and_noise(fitted, one):
    mixture = Mixture(fitted, one, TIMES)
    assert (mixture.means.std(0) > 0.15 * mixture.noise).any()  # otherwise the test above could not tell
    assert (numbers(fitted.predict(one, TIMES, return_std=True)[1]) > mixture.noise).all()


def test_return_std_gives_the_same_mean(fitted, table):
    mean, _ = fitted.predict(table, TIMES, return_std=True)
    assert mean.equals(fitted.predict(table, TIMES))


def test_quantiles_are_ordered_and_ends_of_the_interval(fitted, table):
    levels = [0.001, 0.05, 0.1, 0.5, 0.9, 0.95, 0.999]
    found = numbers(fitted.predict_quantiles(table, TIMES, levels)).reshape(len(levels), -1, 2)
    assert (np.diff(found, axis=0) > 0).all()
    interval = fitted.predict_interval(table, TIMES, coverage=0.9)
    np.testing.assert_array_equal(interval[["x_lower", "y_lower"]], found[1])
    np.testing.assert_array_equal(interval[["x_upper", "y_upper"]], found[5])
    assert fitted.predict_interval(table, TIMES).equals(interval)  # 0.9 is the default


@pytest.mark.parametrize("levels", [0.5, np.float32(0.5), (0.5,), np.array([0.5])])
def test_one_level_will_do(levels, fitted, table):
    answer = fitted.predict_quantiles(table, TIMES, levels)
    assert answer["quantile"].unique().tolist() == [0.5]
    np.testing.assert_array_equal(
        numbers(answer), numbers(fitted.predict_quantiles(table, TIMES))[len(answer) : 2 * len(answer)]
    )


def test_with_one_posterior_sample_quantiles_are_those_of_a_gaussian(fitted, table, monkeypatch):
    monkeypatch.setattr(fitted, "_scaled", one_sample(fitted))
    mean, std = fitted.predict(table, TIMES, return_std=True)
    noise = fitted.model_.likelihood.noise_std.double().detach().numpy() * fitted.scaler_.scale
    np.testing.assert_allclose(numbers(std), np.broadcast_to(noise, numbers(std).shape), rtol=1e-5)
    for level in (0.05, 0.5, 0.8):
        expected = numbers(mean) + stats.norm.ppf(level) * numbers(std)
        found = numbers(fitted.predict_quantiles(table, TIMES, [level]))
        np.testing.assert_allclose(found, expected, rtol=0, atol=COMPANY)


def one_sample(model):
    """`_scaled` of a model with one posterior sample in place of many."""
    whole = type(model)._scaled
    return lambda table, queries, readout: whole(model, table, queries, readout, 1)


N_SAMPLES = 2000
FIVE_SIGMA = 5 / math.sqrt(N_SAMPLES)


def test_samples_have_the_moments_of_predict(fitted, table):
    df = table[table["id"] < 3]
    drawn = numbers(fitted.sample(df, TIMES, N_SAMPLES)).reshape(N_SAMPLES, -1, 2)
    mean, std = (numbers(answer) for answer in fitted.predict(df, TIMES, return_std=True))
    # 32 quasi-random points of the posterior stand for all of it: some percent of its spread
    assert (np.abs(drawn.mean(0) - mean) < (FIVE_SIGMA + 0.05) * std).all()
    np.testing.assert_allclose(drawn.std(0) / std, 1, atol=0.15)


def test_quantiles_cover_the_samples_as_they_say(fitted, table):
    df = table[table["id"] < 3]
    drawn = numbers(fitted.sample(df, TIMES, N_SAMPLES)).reshape(N_SAMPLES, -1, 2)
    low, high = (numbers(fitted.predict_quantiles(df, TIMES, [level])) for level in (0.1, 0.9))
    inside = ((drawn > low) & (drawn < high)).mean(0)
    np.testing.assert_allclose(inside, 0.8, atol=FIVE_SIGMA / 2 + 0.05)


def test_noise_is_drawn_anew_for_each_observation(fitted, table):
    df = table[table["id"] < 2]
    times = np.linspace(0, 6, 100)
    noisy, clean = (
        numbers(fitted.sample(df, times, 20, noise=noise)).reshape(20, 2, 100, 2) for noise in (True, False)
    )
    noise = noisy - clean
    expected = fitted.model_.likelihood.noise_std.double().detach().numpy() * fitted.scaler_.scale
    np.testing.assert_allclose(noise.std((0, 1, 2)), expected, rtol=5 / math.sqrt(2 * 4000))
    standard = noise / expected
    assert (np.abs(standard.mean((0, 1, 2))) < 5 / math.sqrt(4000)).all()
    neighbours = (standard[:, :, 1:] * standard[:, :, :-1]).mean((0, 1, 2))
    assert (np.abs(neighbours) < 5 / math.sqrt(4000)).all()


def test_trajectories_are_joint_over_time(fitted, table):
    """Without noise a sample is one smooth curve; draws of their own at each time would jump."""
    df = table[table["id"] == 0]
    times = np.linspace(-1, 7, 400)
    curves = numbers(fitted.sample(df, times, 30, noise=False)).reshape(30, 400, 2)
    between = curves.std(0).mean(0)
    jumps = np.abs(np.diff(curves, axis=1))
    assert (jumps.mean((0, 1)) < 0.1 * between).all()


def test_samples_of_different_series_are_independent(fitted, table):
    twins = [table[table["id"] == 0].assign(id=name) for name in (0, 1)]
    drawn = fitted.sample(pd.concat(twins, ignore_index=True), [5.0], 2000, noise=False)
    x = drawn["x"].to_numpy().reshape(2000, 2)
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / math.sqrt(2000)


def test_noise_is_estimated_per_target():
    df = waves(150, end=10.0)
    rng = np.random.default_rng(1)
    df = df.assign(x=np.sin(df["time"]), y=np.cos(df["time"]) + rng.normal(0, 0.7, len(df)))
    df = df.assign(id=np.arange(len(df)) % 10)
    model = small(
        max_epochs=40, lr=0.05, validation_fraction=0, piece_warmup=0, solver="rk4", step_size=0.5
    ).fit(df)
    std = numbers(model.predict(df, [5.0], return_std=True)[1])
    assert (std[:, 1] > std[:, 0]).all()


def test_more_posterior_samples_in_training_keep_the_answers_in_order(table):
    model = small(n_samples=3, max_epochs=10).fit(table)
    mean, std = model.predict(table, TIMES, return_std=True)
    assert np.isfinite(numbers(mean)).all()
    assert (numbers(std) > 0).all()
    assert (model.history_["train_kl"] > 0).all()
