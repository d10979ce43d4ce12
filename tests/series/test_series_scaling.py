"""Scaling against NumPy, its invariances, and the way back."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from latentode.series import SCALERS, SeriesTable, TableLayout, TimeScale, ValueScaler, pad, scale_table
from latentode.series.scaling import LONGEST_SPAN, PRIOR_CELLS, SPAN, UNITS_PER_TURN
from latentode.series.variogram import turning_time

ROUNDING = 1e-12  # a few operations in float64
SINGLE = 1e-5  # the same in float32, on values of order 1 to 10


def random_table(seed: int = 0, n_series: int = 12) -> SeriesTable:
    rng = np.random.default_rng(seed)
    n_rows = 40 * n_series
    values = rng.normal([3.0, -100.0, 0.0], [0.1, 50.0, 1e-3], size=(n_rows, 3))
    values[rng.random(values.shape) < 0.4] = np.nan
    df = pd.DataFrame(values, columns=["a", "b", "c"])
    df["id"], df["time"] = rng.integers(n_series, size=n_rows), rng.uniform(5, 25, n_rows)
    return TableLayout.infer(df).read(df)


def columns(table: SeriesTable) -> list[np.ndarray]:
    return [column[~np.isnan(column)] for column in table.values.T]


def table_with(values: list[float], ids: list[int] | None = None) -> SeriesTable:
    df = pd.DataFrame({"id": ids or 0, "time": range(len(values)), "x": values})
    return TableLayout.infer(df).read(df)


def test_time_starts_at_the_smallest_time_and_a_typical_series_lasts_the_span():
    table = random_table()
    scale = TimeScale.fit(table)
    spans = [np.ptp(table.times[a:b]) for a, b in zip(table.offsets[:-1], table.offsets[1:])]
    assert scale.origin == table.times.min()
    np.testing.assert_allclose(np.median(spans) / scale.unit, SPAN, rtol=ROUNDING)
    np.testing.assert_allclose(scale.from_model(scale.to_model(table.times)), table.times, rtol=ROUNDING)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 1e4), (86400.0, 0.0), (1e-3, -7.0)])
def test_model_times_do_not_depend_on_unit_and_origin(factor, shift):
    table = random_table()
    other = SeriesTable(table.ids, table.offsets, table.times * factor + shift, table.values, table.rows)
    ours = TimeScale.fit(table).to_model(table.times)
    theirs = TimeScale.fit(other).to_model(other.times)
    lost = np.finfo(float).eps * (1 + abs(shift) / (20 * factor)) * 100  # digits that the shift itself costs
    np.testing.assert_allclose(theirs, ours, atol=lost)


def sines(period: float, *, n_series: int, span: float, noise: float = 0.0) -> SeriesTable:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, span, (n_series, 80)), axis=1)
    phase = rng.uniform(0, 2 * np.pi, (n_series, 1))
    x = np.sin(2 * np.pi * times / period + phase) + noise * rng.normal(size=times.shape)
    df = pd.DataFrame({"id": np.repeat(range(n_series), 80), "time": times.ravel(), "x": x.ravel()})
    return TableLayout.infer(df).read(df)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_the_unit_follows_the_period_of_sines(noise):
    # 1 - cos(2πτ/T) reaches half of its mean, 1/2, at τ = T/6: the unit is half of that
    scale = TimeScale.fit(sines(3.0, n_series=40, span=12.0, noise=noise))
    assert scale.unit == pytest.approx(3.0 / 6 / UNITS_PER_TURN, rel=0.25)  # the span is finite


def test_a_typical_series_lasts_neither_too_short_nor_too_long():
    fast, slow = sines(1.0, n_series=40, span=12.0), sines(1000.0, n_series=40, span=12.0)
    assert np.median(fast.spans) / TimeScale.fit(fast).unit == pytest.approx(LONGEST_SPAN)
    assert SPAN <= np.median(slow.spans) / TimeScale.fit(slow).unit < 1.2 * SPAN


def test_noise_constants_and_few_rows_have_no_turning_time():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"id": np.repeat(range(30), 60), "time": rng.uniform(0, 5, 1800)})
    assert turning_time(TableLayout.infer(d := df.assign(x=rng.normal(size=1800))).read(d)) is None
    assert turning_time(TableLayout.infer(d := df.assign(x=1.0)).read(d)) is None
    assert turning_time(table_with([1.0, 2.0, 4.0])) is None


def test_gross_outliers_and_targets_without_dynamics_leave_the_turning_time():
    table = sines(3.0, n_series=40, span=12.0)
    rng = np.random.default_rng(1)
    values = table.values.copy()
    values[rng.choice(len(values), 5), 0] = 1e6
    outliers = SeriesTable(table.ids, table.offsets, table.times, values, table.rows)
    assert turning_time(outliers) == pytest.approx(turning_time(table), rel=0.3)


def test_series_without_two_times_do_not_set_the_unit():
    assert TimeScale.fit(table_with([1.0, 2.0], ids=[0, 1])).unit == 1.0
    df = pd.DataFrame({"id": [0, 1, 1, 2], "time": [9, 2, 4, 9], "x": 1.0})
    assert TimeScale.fit(TableLayout.infer(df).read(df)) == TimeScale(2.0, 2.0 / SPAN)


def test_standard_is_mean_and_standard_deviation_of_observed_cells():
    table = random_table()
    scaler = ValueScaler.fit(table, "standard")
    np.testing.assert_allclose(scaler.loc, [x.mean() for x in columns(table)], rtol=ROUNDING)
    np.testing.assert_allclose(scaler.scale, [x.std() for x in columns(table)], rtol=ROUNDING)


def test_robust_is_median_and_interquartile_range_of_a_normal():
    table = random_table()
    scaler = ValueScaler.fit(table, "robust")
    np.testing.assert_allclose(scaler.loc, [np.median(x) for x in columns(table)], rtol=ROUNDING)
    expected = [stats.iqr(x, scale="normal") for x in columns(table)]
    np.testing.assert_allclose(scaler.scale, expected, rtol=ROUNDING)


def test_robust_falls_back_where_most_values_are_equal():
    values = [0.0] * 9 + [1.0]
    assert ValueScaler.fit(table_with(values), "robust").scale == pytest.approx([np.std(values)])


def test_minmax_brings_the_training_range_to_0_and_1():
    table = random_table()
    scaled = columns(scale_table(table, TimeScale.fit(table), ValueScaler.fit(table, "minmax")))
    assert [(x.min(), x.max()) for x in scaled] == [(0.0, 1.0)] * 3


@pytest.mark.parametrize("kind", SCALERS)
@pytest.mark.parametrize("values", [[0.1] * 7, [5.0], [np.nan, np.nan]])
def test_targets_that_never_vary_keep_their_unit(kind, values):
    scaler = ValueScaler.fit(table_with(values), kind)
    assert scaler.scale.tolist() == [1.0]
    assert scaler.within.tolist() == [1.0]
    np.testing.assert_array_equal(scaler.to_model(np.array([values]).T), 0 * np.array([values]).T)


@pytest.mark.parametrize("kind", SCALERS)
def test_values_and_spreads_come_back(kind):
    table = random_table()
    scaler = ValueScaler.fit(table, kind)
    back = scaler.from_model(scaler.to_model(table.values))
    np.testing.assert_allclose(back, table.values, rtol=ROUNDING, atol=ROUNDING)
    np.testing.assert_allclose(scaler.std_from_model(np.ones((2, 3), "float32")), [scaler.scale] * 2)


def test_the_way_back_is_in_double_even_from_single():
    scaler = ValueScaler("standard", np.array([1.0]), np.array([0.3]), np.ones(1), np.array([True]))
    third = np.float32(1 / 3)
    assert scaler.from_model(np.array([third]))[0] == float(third) * 0.3 + 1.0
    assert scaler.std_from_model(np.array([third]))[0] == float(third) * 0.3


@pytest.mark.parametrize("kind", SCALERS)
def test_model_values_do_not_depend_on_the_unit(kind):
    table = random_table()
    other = SeriesTable(table.ids, table.offsets, table.times, table.values * 1e3 - 2e5, table.rows)
    ours = ValueScaler.fit(table, kind).to_model(table.values)
    theirs = ValueScaler.fit(other, kind).to_model(other.values)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)  # the shift costs 8 of 16 digits of column c


@pytest.mark.parametrize("kind", SCALERS)
def test_only_observed_cells_count(kind):
    table = table_with([1.0, np.nan, 2.0, 4.0])
    dense = table_with([1.0, 2.0, 4.0])
    one, other = ValueScaler.fit(table, kind), ValueScaler.fit(dense, kind)
    assert one.state() == other.state()


def test_spread_within_is_pooled_over_series():
    table = random_table()
    scaler = ValueScaler.fit(table, "series")
    frame = pd.DataFrame(scaler.to_model(table.values)).groupby(table.series)
    freedom = (frame.count() - 1).clip(lower=0)
    expected = np.sqrt((frame.var() * freedom).sum() / freedom.sum())
    np.testing.assert_allclose(scaler.within, expected, rtol=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_series_takes_level_and_spread_from_the_context(dtype):
    table = random_table()
    scaler = ValueScaler.fit(table, "series")
    scaled = scale_table(table, TimeScale.fit(table), scaler)
    affine = scaler.affine(pad(scaled, dtype=dtype))
    frame = pd.DataFrame(scaled.values).groupby(scaled.series)
    n = frame.count()
    spread = np.sqrt((n * frame.var(ddof=0) + PRIOR_CELLS * scaler.within**2) / (n + PRIOR_CELLS))
    assert affine.loc.dtype == affine.scale.dtype == dtype
    np.testing.assert_allclose(affine.loc, frame.mean(), atol=SINGLE)
    np.testing.assert_allclose(affine.scale, spread, rtol=SINGLE)


def test_series_moves_with_a_drifting_series():
    table = random_table()
    scaler = ValueScaler.fit(table, "series")
    batch = pad(scale_table(table, TimeScale.fit(table), scaler), dtype=torch.float64)
    lower = ValueScaler("series", scaler.loc - 1e3, scaler.scale, scaler.within, scaler.scaled)
    drifted = pad(scale_table(table, TimeScale.fit(table), lower), dtype=torch.float64)
    ours, theirs = scaler.affine(batch).apply(batch), scaler.affine(drifted).apply(drifted)
    np.testing.assert_allclose(theirs.values, ours.values, atol=1e-6)  # 1e3 / 1e-3 leaves ten digits


def test_nothing_observed_gives_level_0_and_the_typical_spread():
    scaler = ValueScaler.fit(random_table(), "series")
    table = random_table().take([0])
    blind = SeriesTable(table.ids, table.offsets, table.times, np.full_like(table.values, np.nan), table.rows)
    affine = scaler.affine(pad(blind, dtype=torch.float64))
    np.testing.assert_array_equal(affine.loc, np.zeros((1, 3)))
    np.testing.assert_allclose(affine.scale, scaler.within[None], rtol=ROUNDING)


@pytest.mark.parametrize("kind", [kind for kind in SCALERS if kind != "series"])
def test_the_other_kinds_have_no_affine(kind):
    table = random_table()
    affine = ValueScaler.fit(table, kind).affine(pad(table))
    assert (affine.loc == 0).all()
    assert (affine.scale == 1).all()
    assert affine.loc.shape == affine.scale.shape == (len(table), 3)


def test_affine_comes_back_and_leaves_unobserved_cells_alone():
    table = random_table()
    scaler = ValueScaler.fit(table, "series")
    batch = pad(scale_table(table, TimeScale.fit(table), scaler))
    affine = scaler.affine(batch)
    applied = affine.apply(batch)
    assert (applied.values[~batch.mask] == 0).all()
    assert not torch.equal(applied.values, batch.values)
    samples = affine.invert(applied.values.expand(4, *batch.values.shape))  # (K, N, T, D)
    for back in (affine.invert(applied.values), samples[3]):
        np.testing.assert_allclose(back[batch.mask], batch.values[batch.mask], atol=SINGLE)


@pytest.mark.parametrize("kind", SCALERS)
def test_state_survives_json(kind):
    table = random_table()
    scaler, time_scale = ValueScaler.fit(table, kind), TimeScale.fit(table)
    again = ValueScaler.from_state(json.loads(json.dumps(scaler.state())))
    assert again.kind == kind
    np.testing.assert_array_equal(again.to_model(table.values), scaler.to_model(table.values))
    np.testing.assert_array_equal(again.within, scaler.within)
    assert TimeScale.from_state(json.loads(json.dumps(time_scale.state()))) == time_scale


def test_an_unknown_scaler_is_refused():
    with pytest.raises(ValueError, match=r"scaler must be one of \('standard', .*\), got 'zscore'"):
        ValueScaler.fit(random_table(), "zscore")


@pytest.mark.parametrize(("factor", "shift"), [(0.1, 0.0), (1 / 24, 0.0), (86400.0, 0.0), (1.0, 1 / 3)])
def test_the_unit_of_a_regular_grid_does_not_depend_on_rounding(factor, shift):
    rng = np.random.default_rng(0)
    times = np.tile(np.arange(48.0), 12)
    x = np.sin(0.3 * times + np.repeat(range(12), 48)) + 0.1 * rng.normal(size=len(times))
    df = pd.DataFrame({"id": np.repeat(range(12), 48), "time": times, "x": x})
    other = df.assign(time=df["time"] * factor + shift)
    ours = TimeScale.fit(TableLayout.infer(df).read(df)).unit
    theirs = TimeScale.fit(TableLayout.infer(other).read(other)).unit
    assert theirs == pytest.approx(factor * ours, rel=1e-6)
