"""Scores against closed forms, SciPy and the definition of the CRPS; tables against arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from latentode.exceptions import DataError
from latentode.metrics import (
    crps_gaussian,
    gaussian_log_score,
    interval_coverage,
    interval_width,
    mae,
    mse,
    pinball,
    rmse,
    standardised_mse,
)

ROUNDING = 1e-12  # a mean of a few dozen float64 terms
QUADRATURE = 1e-7  # of scipy.integrate.quad on the smooth halves of the CRPS integrand

# every metric called as f(truth, forecast-like arrays...); the last one has no truth
METRICS = {
    "mse": lambda y, m, s, **k: mse(y, m, **k),
    "rmse": lambda y, m, s, **k: rmse(y, m, **k),
    "mae": lambda y, m, s, **k: mae(y, m, **k),
    "standardised_mse": lambda y, m, s, **k: standardised_mse(y, m, [1.0, 2.0], [2.0, 5.0], **k),
    "interval_coverage": lambda y, m, s, **k: interval_coverage(y, m, s, **k),
    "interval_width": lambda y, m, s, **k: interval_width(m, s, **k),
    "pinball": lambda y, m, s, **k: pinball(y, m, 0.3, **k),
    "gaussian_log_score": lambda y, m, s, **k: gaussian_log_score(y, m, s, **k),
    "crps_gaussian": lambda y, m, s, **k: crps_gaussian(y, m, s, **k),
}
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def arrays(seed=0, rows=12):
    """Truth, mean and a positive third array above the mean (a std or an upper end), each (rows, 2)."""
    rng = np.random.default_rng(seed)
    truth, mean = rng.normal(size=(2, rows, 2))
    return truth, mean, np.abs(mean) + rng.uniform(0.5, 2.0, size=(rows, 2))


def table(values, names=("x", "y")):
    rows = len(values)
    keys = {"id": np.arange(rows) // 4, "time": np.arange(rows) % 4 + 0.5}
    return pd.DataFrame(keys | dict(zip(names, values.T)))


# --- values


def test_point_scores_of_a_case_done_by_hand():
    truth, prediction = np.array([[0.0, 10.0], [1.0, 20.0]]), np.array([[3.0, 10.0], [1.0, 16.0]])
    assert mse(truth, prediction) == (9 + 0 + 0 + 16) / 4
    assert rmse(truth, prediction) == 2.5
    assert mae(truth, prediction) == 7 / 4
    np.testing.assert_array_equal(mse(truth, prediction, per_target=True), [4.5, 8.0])
    np.testing.assert_allclose(rmse(truth, prediction, per_target=True), np.sqrt([4.5, 8.0]), rtol=ROUNDING)
    np.testing.assert_array_equal(
        standardised_mse(truth, prediction, [5.0, 5.0], [3.0, 2.0], per_target=True), [0.5, 2.0]
    )


def test_forecasting_the_training_mean_scores_one_in_training_units():
    truth, _, _ = arrays()
    loc, scale = truth.mean(axis=0), truth.std(axis=0)
    score = standardised_mse(truth, np.broadcast_to(loc, truth.shape), loc, scale, per_target=True)
    np.testing.assert_allclose(score, 1.0, rtol=ROUNDING)


def test_scale_may_name_its_targets_in_any_order():
    truth, mean, _ = map(table, arrays())
    by_position = standardised_mse(truth, mean, [1.0, 2.0], [2.0, 5.0])
    assert standardised_mse(truth, mean, {"y": 2.0, "x": 1.0}, pd.Series({"y": 5.0, "x": 2.0})) == by_position


def test_interval_of_a_normal_covers_what_it_should():
    probability = (np.arange(1000) + 0.5) / 1000  # the truth sits at evenly spread quantiles
    truth = stats.norm.ppf(probability)
    low, high = stats.norm.interval(0.9)
    assert interval_coverage(truth, low, high) == pytest.approx(0.9, rel=ROUNDING)
    assert interval_width(np.full(3, low), np.full(3, high)) == pytest.approx(high - low, rel=ROUNDING)


def test_the_ends_belong_to_the_interval():
    assert interval_coverage(np.array([1.0, 2.0, 3.0, 4.0]), 2.0, 3.0) == 0.5


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_pinball_is_least_at_the_empirical_quantile(q):
    truth = np.random.default_rng(1).gamma(2.0, size=500)
    losses = [pinball(truth, value, q) for value in np.sort(truth)]
    assert int(np.argmin(losses)) + 1 == pytest.approx(q * 500, abs=1)


def test_pinball_at_the_median_is_half_the_absolute_error():
    truth, mean, _ = arrays()
    assert pinball(truth, mean, 0.5) == pytest.approx(mae(truth, mean) / 2, rel=ROUNDING)
    assert pinball(np.array([1.0]), np.array([0.0]), 0.9) == 0.9
    assert pinball(np.array([0.0]), np.array([1.0]), 0.9) == pytest.approx(0.1, rel=ROUNDING)


def test_log_score_is_scipys():
    truth, mean, std = arrays()
    expected = -stats.norm.logpdf(truth, mean, std)
    assert gaussian_log_score(truth, mean, std) == pytest.approx(expected.mean(), rel=ROUNDING)
    np.testing.assert_allclose(
        gaussian_log_score(truth, mean, std, per_target=True), expected.mean(axis=0), rtol=ROUNDING
    )


@pytest.mark.parametrize(("y", "mean", "std"), [(0.3, 0.0, 1.0), (-4.0, 1.0, 0.5), (2.0, 2.0, 3.0)])
def test_crps_is_the_integral_that_defines_it(y, mean, std):
    below, _ = integrate.quad(lambda x: stats.norm.cdf(x, mean, std) ** 2, -np.inf, y)
    above, _ = integrate.quad(lambda x: stats.norm.sf(x, mean, std) ** 2, y, np.inf)
    assert crps_gaussian(np.array([y]), mean, std) == pytest.approx(below + above, rel=QUADRATURE)


def test_crps_is_twice_the_pinball_loss_over_all_quantiles():
    truth, mean, std = 0.7, 0.2, 1.3
    loss = integrate.quad(lambda q: pinball(np.array([truth]), stats.norm.ppf(q, mean, std), q), 0, 1)[0]
    assert crps_gaussian(np.array([truth]), mean, std) == pytest.approx(2 * loss, rel=QUADRATURE)


def test_crps_of_a_sure_forecast_is_the_absolute_error():
    truth, mean, _ = arrays()
    assert crps_gaussian(truth, mean, 1e-12) == pytest.approx(mae(truth, mean), rel=1e-10)


# --- cells that are not scored


@every_metric
def test_a_nan_cell_counts_like_a_dropped_row(metric):
    truth, mean, std = arrays()
    expected = metric(truth[2:], mean[2:], std[2:])
    mean[:2] = np.nan
    truth[0] = 1e30  # beside a NaN, nothing else may matter: neither a huge value nor a scale of 0
    std[1] = 0.0
    assert metric(truth, mean, std) == pytest.approx(expected, rel=ROUNDING)


@every_metric
def test_each_target_is_averaged_over_its_own_cells(metric):
    truth, mean, std = arrays()
    mean[3:, 1] = np.nan
    score = metric(truth, mean, std, per_target=True)
    head, full = (metric(truth[:n], mean[:n], std[:n], per_target=True) for n in (3, len(truth)))
    assert score.shape == (2,)
    np.testing.assert_allclose(score, [full[0], head[1]], rtol=ROUNDING)


def test_a_target_without_a_cell_scores_nan():
    truth, mean, _ = arrays()
    truth[:, 1] = np.nan
    assert np.isnan(rmse(truth, mean, per_target=True)).tolist() == [False, True]


@every_metric
def test_nothing_to_score_is_refused(metric):
    nothing = np.full((3, 2), np.nan)
    with pytest.raises(ValueError, match="nothing to score: every cell is NaN"):
        metric(nothing, nothing, nothing)


def test_leading_axes_do_not_matter():
    flat = arrays()
    deep = [a.reshape(3, 4, 2) for a in flat]
    for metric in METRICS.values():
        score = metric(*deep, per_target=True)
        assert score.shape == (2,)
        np.testing.assert_allclose(score, metric(*flat, per_target=True), rtol=ROUNDING)


# --- tables


@every_metric
def test_tables_score_like_arrays(metric):
    truth, mean, std = arrays()
    tables = table(truth), table(mean)[["y", "time", "x", "id"]].set_index(np.arange(12) + 7), table(std)
    assert metric(*tables) == metric(truth, mean, std)
    score = metric(*tables, per_target=True)
    assert isinstance(score, pd.Series)
    named = dict(zip("xy", metric(truth, mean, std, per_target=True)))
    assert score.to_dict() == pytest.approx(named, rel=ROUNDING)


def test_nullable_numbers_and_strings_as_ids():
    truth = pd.DataFrame({"id": ["a", "b"], "time": [0, 1], "x": pd.array([1, None], dtype="Int64")})
    prediction = pd.DataFrame({"id": pd.Categorical(["a", "b"]), "time": [0.0, 1.0], "x": [3.0, 9.0]})
    assert mae(truth, prediction) == 2.0


def test_keys_of_two_dtypes_are_compared_by_value():
    categories = [pd.CategoricalDtype(["a", "b"]), pd.CategoricalDtype(["b", "a", "c"])]
    left, right = (
        pd.DataFrame({"id": pd.Series(["a", "b"], dtype=dtype), "time": [0, 1], "x": [1.0, 2.0]})
        for dtype in categories
    )
    assert mae(left, right) == 0.0
    with pytest.raises(DataError, match="differ in column 'id' in 2 row"):
        mae(left, right[::-1])


def test_a_missing_time_agrees_with_nothing():
    nullable = table(arrays()[0]).astype({"time": "Float64"})
    with pytest.raises(DataError, match="differ in column 'time' in 1 row"):
        mae(nullable, nullable.assign(time=nullable["time"].where(nullable.index != 3)))


def test_key_columns_have_names():
    truth = pd.DataFrame({"patient": [1, 1], "day": [0.0, 1.0], "x": [1.0, 2.0]})
    assert mae(truth, truth.assign(x=0.0), id_col="patient", time_col="day") == 1.5
    assert mae(truth.drop(columns="patient"), truth[["x", "day"]], id_col=None, time_col="day") == 0.0


def test_time_zones_are_part_of_the_time():
    utc = pd.DataFrame({"id": 1, "time": pd.to_datetime(["2024-01-01"]).tz_localize("UTC"), "x": [1.0]})
    same_instant = utc.assign(time=utc["time"].dt.tz_convert("Europe/Zurich"))
    assert mae(utc, same_instant) == 0.0
    with pytest.raises(DataError, match="differ in column 'time'"):
        mae(utc, utc.assign(time=utc["time"].dt.tz_localize(None)))


# --- bad input


def edited(column, row, value):
    frame = table(arrays()[0])
    return frame.assign(**{column: frame[column].where(frame.index != row, value)})


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (edited("id", 5, 99), r"differ in column 'id' in 1 row\(s\); the first is row 5: .*1.* and .*99"),
        (
            edited("time", 2, 8.25),
            r"differ in column 'time' in 1 row\(s\); the first is row 2: .*2\.5.* and .*8\.25",
        ),
        (edited("time", 2, np.nan), r"differ in column 'time' in 1 row"),
        (edited("time", 2, pd.NA).astype({"time": "Float64"}), r"differ in column 'time' in 1 row"),
        (table(arrays(rows=8)[0]), "truth has 12 rows, prediction has 8: both must hold the same"),
        (
            table(arrays()[0]).rename(columns={"y": "z"}),
            r"truth has target columns \['x', 'y'\], prediction has",
        ),
        (table(arrays()[0]).drop(columns="y"), r"prediction has \['x'\]: both must have the same"),
        (
            table(arrays()[0]).drop(columns="time"),
            r"prediction has no column 'time', only .*name the columns with",
        ),
        (table(arrays()[0])[["id", "time"]], r"prediction has no target column beside \['id', 'time'\]"),
        (table(arrays()[0]).assign(y="high"), "target 'y' of prediction has dtype .*, expected numbers"),
        (
            table(arrays()[0], names=("x", "y"))[["id", "time", "x", "y", "y"]],
            r"column\(s\) \['y'\] more than once",
        ),
    ],
    ids=[
        "id",
        "time",
        "nan-time",
        "missing-time",
        "length",
        "name",
        "missing",
        "no-time",
        "no-target",
        "text",
        "repeated",
    ],
)
def test_tables_that_do_not_match(other, text):
    with pytest.raises(DataError, match=text):
        rmse(table(arrays()[0]), other)


def test_arrays_that_do_not_match():
    truth, mean, std = arrays()
    with pytest.raises(ValueError, match=r"one shape, got truth \(12, 2\), prediction \(12, 1\)"):
        rmse(truth, mean[:, :1])
    with pytest.raises(ValueError, match=r"truth, std given as table\(s\) but mean as array\(s\)"):
        crps_gaussian(table(truth), mean, table(std))
    with pytest.raises(ValueError, match="per_target=True needs tables or arrays of shape"):
        rmse(truth[:, 0], mean[:, 0], per_target=True)


def test_values_that_no_forecast_has():
    truth, mean, std = arrays()
    with pytest.raises(
        ValueError, match=r"lower must not exceed upper: .*swapped\? \(24 cells, .* \(0, 0\)\)"
    ):
        interval_coverage(truth, std, mean)
    with pytest.raises(ValueError, match="lower must not exceed upper"):
        interval_width(table(std), table(mean))
    for score in (gaussian_log_score, crps_gaussian):
        with pytest.raises(ValueError, match=r"std must be positive \(24 cells"):
            score(truth, mean, 0.0)
    for q in (0.0, 1.0, 90, float("nan")):
        with pytest.raises(ValueError, match="q must lie strictly between 0 and 1, got"):
            pinball(truth, mean, q)


def test_scales_that_do_not_fit():
    truth, mean, _ = arrays()
    with pytest.raises(ValueError, match=r"scale must be positive for every target, got \[1.0, 0.0\]"):
        standardised_mse(truth, mean, 0.0, [1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"loc must be one number or one per target, shape \(2,\); got shape \(3,\)"
    ):
        standardised_mse(truth, mean, np.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"scale has no entry for target\(s\) \['y'\]"):
        standardised_mse(table(truth), table(mean), 0.0, {"x": 1.0})
    with pytest.raises(ValueError, match="scale names its targets, which arrays do not"):
        standardised_mse(truth, mean, 0.0, {"x": 1.0, "y": 1.0})
