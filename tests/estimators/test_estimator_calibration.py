"""`calibrate=True`: intervals that hold what they promise, and one distribution behind all answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate
from small_models import assert_same_weights, numbers, small, spirals, waves

from latentode.estimators.calibration import (
    CELLS_PER_BIN,
    COVERAGE,
    FEWEST_CELLS,
    Calibration,
    _by_horizon,
    horizons_of,
)
from latentode.exceptions import DataError, LatentODEWarning

TIMES = [2.0, 4.0, 6.0, 9.0]


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return spirals(n_series=40)


@pytest.fixture(scope="module")
def calibrated(many):
    return small(calibrate=True, validation_fraction=0.4, max_epochs=8).fit(many)


@pytest.fixture(scope="module")
def plain(calibrated):
    """The same model without its calibration."""
    model = small().set_params(**calibrated.get_params())
    model._adopt(replace(calibrated._learned, calibration=None), calibrated.model_)
    return model


def with_factors(plain, *factors: float):
    """The same model with these factors of its targets, at every horizon."""
    found = Calibration((np.zeros(1),) * len(factors), tuple(np.array([factor]) for factor in factors))
    model = small().set_params(**plain.get_params())
    model._adopt(replace(plain._learned, calibration=found), plain.model_)
    return model


def test_it_changes_no_weight(many, calibrated):
    assert_same_weights(small(validation_fraction=0.4, max_epochs=8).fit(many), calibrated)


@pytest.mark.parametrize("n_cells", [FEWEST_CELLS, 200, 1003])
def test_factors_are_the_conformal_quantile_of_the_ratios(n_cells):
    """Ratios |error| / half-width of exchangeable cells: the (n + 1) · 0.9 smallest, by its definition."""
    rng = np.random.default_rng(n_cells)
    ratios = rng.gamma(2.0, size=(n_cells, 1))
    found = _by_horizon(np.zeros(n_cells), ratios, [True])
    (factor,) = found.factors[0]
    rank = np.ceil((n_cells + 1) * COVERAGE)
    assert (ratios <= factor).sum() == min(rank, n_cells)


def test_factors_follow_the_horizon():
    """Ratios that grow with the horizon, as 1 + h, have factors that do."""
    rng = np.random.default_rng(0)
    horizons = np.r_[np.zeros(500), rng.uniform(0, 4, 20_000)]
    ratios = (rng.uniform(size=len(horizons)) * (1 + horizons))[:, None]
    found = _by_horizon(horizons, ratios, [True])
    asked = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    # the 0.9 quantile of (1 + h) U is 0.9 (1 + h); bins of half a unit blur it, and few cells move it by some percent
    np.testing.assert_allclose(found.at(asked)[:, 0], 0.9 * (1 + asked), rtol=0.08)
    assert found.at(np.array([100.0]))[0, 0] == found.factors[0][-1]


@pytest.mark.parametrize("n_far", [FEWEST_CELLS - 1, FEWEST_CELLS, 2 * CELLS_PER_BIN - 1])
def test_horizons_are_told_apart_only_by_enough_cells(n_far):
    """Fewer far cells than fill two bins have one factor, whatever their horizons; too few have that of the gaps."""
    rng = np.random.default_rng(1)
    horizons = np.r_[np.zeros(CELLS_PER_BIN), rng.uniform(1, 4, n_far)]
    found = _by_horizon(horizons, rng.gamma(2.0, size=(len(horizons), 1)), [True])
    far = found.at(np.array([np.median(horizons[horizons > 0]), 4.0]))
    assert far[0] == far[1]
    assert len(found.factors[0]) == (2 if n_far >= FEWEST_CELLS else 1)


def test_missing_cells_and_targets_without_a_spread_do_not_count():
    rng = np.random.default_rng(0)
    ratios = rng.uniform(size=(400, 3))
    ratios[200:, 0] = np.nan
    found = _by_horizon(np.zeros(400), ratios, [True, False, True])
    alone = _by_horizon(np.zeros(200), ratios[:200, :1], [True])
    assert found.factors[0] == alone.factors[0]
    assert found.factors[1] == [1.0]
    assert found.uncalibrated == [1]


def test_the_intervals_of_new_series_hold_nine_tenths(calibrated, plain):
    """An untrained-looking model far from the truth: its own intervals do not hold what they promise."""
    new = spirals(n_series=150, seed=5)
    begin, end = new.groupby("id")["time"].transform("min"), new.groupby("id")["time"].transform("max")
    known = new["time"] <= begin + 0.5 * (end - begin)
    rest = new[~known]

    def coverage(model) -> float:
        interval = model.predict_interval(new[known], rest[["id", "time"]])
        inside = [
            (interval[f"{name}_lower"].to_numpy() <= rest[name])
            & (rest[name] <= interval[f"{name}_upper"].to_numpy())
            for name in ("x", "y")
        ]
        return float(np.mean(inside))

    # 16 validation series of 12 rows: the coverage of so few varies by some percent
    assert 0.8 < coverage(calibrated) < 0.97
    assert abs(coverage(calibrated) - 0.9) <= abs(coverage(plain) - 0.9)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_all_answers_are_of_one_stretched_distribution(plain, many, factor):
    """All go with y = m + k (x - m), m the median; the other target stays."""
    wide = with_factors(plain, factor, 1.0)
    median = plain.predict_quantiles(many, TIMES, quantiles=[0.5])["x"].to_numpy()
    _, std = plain.predict(many, TIMES, return_std=True)
    _, wide_std = wide.predict(many, TIMES, return_std=True)
    np.testing.assert_allclose(wide_std["x"], factor * std["x"], rtol=1e-6)
    pd.testing.assert_series_equal(wide_std["y"], std["y"])
    for ask in (
        lambda model: model.predict(many, TIMES),
        lambda model: model.predict_quantiles(many, TIMES, quantiles=[0.05, 0.5, 0.99]),
        lambda model: model.sample(many, TIMES, n_samples=5),
    ):
        before, after = ask(plain), ask(wide)
        centre = np.tile(median, len(before) // len(median))
        np.testing.assert_allclose(after["x"] - centre, factor * (before["x"] - centre), rtol=1e-4, atol=1e-4)
        pd.testing.assert_series_equal(after["y"], before["y"])
    smooth = wide.sample(many, TIMES, n_samples=5, noise=False)
    pd.testing.assert_frame_equal(smooth, plain.sample(many, TIMES, n_samples=5, noise=False))


def test_the_log_density_is_that_of_the_stretched_distribution(plain, many):
    """It integrates to 1, and its integral between two quantiles is the difference of their levels."""
    wide = with_factors(plain, 2.5, 0.7)
    one = many[many["id"] == 0].sort_values("time")
    known, last = one.iloc[:6], one.iloc[[-1]]
    low, high = wide.predict_quantiles(known, last[["id", "time"]], [0.2, 0.7])["x"]

    def density(x: float) -> float:
        truth = pd.concat([known, last.assign(x=x, y=np.nan)])
        # only the last row comes after the first part
        share = replace(wide._learned, context=0.999)
        model = small().set_params(**wide.get_params())
        model._adopt(share, wide.model_)
        return float(np.exp(model.log_likelihood(truth)))

    grid = np.linspace(low, high, 41)
    total = integrate.simpson([density(x) for x in grid], x=grid)
    assert total == pytest.approx(0.5, abs=2e-3)


def test_horizons_count_from_the_nearest_observation(calibrated):
    table = pd.DataFrame({"id": ["a"] * 4, "time": [1.0, 2.0, 4.0, 9.0], "x": [1, 1, 1, np.nan], "y": np.nan})
    known = calibrated.layout_.read(table)
    queries = calibrated.layout_.read_queries([0.0, 1.0, 3.0, 4.0, 6.5], known)
    np.testing.assert_array_equal(horizons_of(known, queries), [1.0, 0.0, 0.0, 0.0, 2.5])


def test_windows_are_calibrated_too():
    wave = waves(n_rows=400, end=100.0)
    model = small(window=16.0, scaler="series", calibrate=True, validation_fraction=0.3, max_epochs=4).fit(
        wave
    )
    assert not model._learned.calibration.uncalibrated
    assert np.isfinite(numbers(model.predict_interval(wave, [101.0]), ["x_lower", "x_upper"])).all()


def test_counts_and_classes_keep_their_spread(many):
    table = many.assign(n=(many["x"].abs() * 3).round(), up=(many["y"] > 0).astype(float))
    model = small(
        calibrate=True,
        validation_fraction=0.3,
        likelihood={"n": "poisson", "up": "bernoulli"},
    ).fit(table)
    assert [list(model.layout_.target_cols)[d] for d in model._learned.calibration.uncalibrated] == [
        "n",
        "up",
    ]


def test_without_validation_series_it_is_refused(many):
    with pytest.raises(
        DataError, match=r"calibrate=True needs validation series.*set validation_fraction > 0"
    ):
        small(calibrate=True, validation_fraction=0).fit(many)


def test_too_few_cells_are_said_so(many):
    few = many.groupby("id").head(2)
    with pytest.warns(
        LatentODEWarning, match="too few observations in the 2 validation series to calibrate 'x', 'y'"
    ):
        model = small(calibrate=True, validation_fraction=0.05).fit(few)
    assert model._learned.calibration.uncalibrated == [0, 1]


def test_its_state_is_plain(calibrated):
    found = calibrated._learned.calibration
    again = Calibration.from_state(found.state())
    for mine, other in zip(found.factors + found.horizons, again.factors + again.horizons):
        np.testing.assert_array_equal(mine, other)
    assert torch.is_tensor(calibrated._factors(*_asked(calibrated)))


def _asked(model):
    table = model.layout_.read(spirals(2))
    return table, model.layout_.read_queries([1.0], table)


def test_measurement_errors_are_not_counted_twice(many):
    """Observations with errors far above the noise need no wider model: the errors explain them."""
    rng = np.random.default_rng(0)
    sigma = 5.0
    noisy = many.assign(**{name: many[name] + sigma * rng.normal(size=len(many)) for name in ("x", "y")})
    errors = noisy.assign(sx=sigma, sy=sigma)
    options = {"calibrate": True, "validation_fraction": 0.4, "max_epochs": 8}
    model = small(error_cols={"x": "sx", "y": "sy"}, **options).fit(errors)
    ignorant = small(**options).fit(noisy)
    width, blind = (
        (found["x_upper"] - found["x_lower"]).mean()
        for found in (each.predict_interval(noisy, [5.0]) for each in (model, ignorant))
    )
    # beside errors of variance 25, the spread of the spirals is that of their own
    assert width < 0.75 * blind


def test_one_wild_posterior_sample_moves_no_interval_away(plain, many):
    """Stretched about the mean, an interval may leave what it stands for; about the median it contains it."""
    wide = with_factors(plain, 4.0, 4.0)
    median = wide.predict_quantiles(many, TIMES, quantiles=[0.5])
    interval = wide.predict_interval(many, TIMES, coverage=0.2)
    for name in ("x", "y"):
        assert (interval[f"{name}_lower"] <= median[name] + 1e-6).all()
        assert (median[name] <= interval[f"{name}_upper"] + 1e-6).all()


def test_ctrl_c_while_calibrating_keeps_the_trained_model(many, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("latentode.estimators.base.calibrate", interrupted)
    with pytest.warns(LatentODEWarning, match="interrupted while calibrating: the model is trained, but"):
        model = small(calibrate=True, max_epochs=2).fit(many)
    assert model._learned.calibration is None
    assert_same_weights(model, small(max_epochs=2).fit(many))
    assert len(model.seen_until_) == 40
