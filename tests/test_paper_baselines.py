"""The recurrent baselines keep the contract of the estimators, read nothing hidden, and learn."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from latentode.series import SeriesBatch, TableLayout, pad

PATH = Path(__file__).resolve().parents[1] / "examples" / "paper" / "baselines.py"
ROUNDING = 1e-5  # float32 networks on values of order 1, batched differently


def load():
    spec = importlib.util.spec_from_file_location("example_baselines", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


baselines = load()
NAMES = list(baselines.BASELINES)


def waves(n_series, n_obs=25, span=6.0, seed=0):
    """sin and cos of a shared frequency, each series with its own phase: easy for anything that keeps a state."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, span, (n_series, n_obs)), axis=1).ravel()
    phase = np.repeat(rng.uniform(0, 2 * np.pi, n_series), n_obs)
    ids = np.repeat([f"s{n}" for n in range(n_series)], n_obs)
    return pd.DataFrame({"id": ids, "time": time, "a": 10 + np.sin(time + phase), "b": np.cos(time + phase)})


@pytest.fixture(scope="module", params=NAMES)
def fitted(request):
    return baselines.Baseline(request.param, max_epochs=2, hidden_dim=8).fit(waves(12))


@pytest.fixture(scope="module")
def context():
    table = waves(5, 9, seed=1)
    table.loc[::4, "b"] = np.nan
    return table


def test_answers_are_rows_of_the_question(fitted, context):
    question = context[["id", "time"]].sample(frac=0.6, random_state=0)
    answer = fitted.predict(context, question)
    assert list(answer.columns) == ["id", "time", "a", "b"]
    np.testing.assert_array_equal(answer["id"], question["id"])
    np.testing.assert_array_equal(answer["time"], question["time"])
    assert np.isfinite(answer[["a", "b"]]).all(axis=None)
    sequence = fitted.predict(context, [7.0, 0.5])
    assert list(sequence["time"]) == [7.0, 0.5] * 5


def test_the_order_of_rows_and_of_series_does_not_matter(fitted, context):
    times = [2.0, 8.0]
    expected = fitted.predict(context, times).sort_values(["id", "time"], ignore_index=True)
    shuffled = fitted.predict(context.sample(frac=1, random_state=1), times[::-1])
    found = shuffled.sort_values(["id", "time"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_a_series_does_not_depend_on_its_company(fitted, context):
    one = context[context["id"] == "s3"]
    together = fitted.predict(context, [2.0, 8.0]).query("id == 's3'").reset_index(drop=True)
    pd.testing.assert_frame_equal(fitted.predict(one, [2.0, 8.0]), together, rtol=ROUNDING, atol=ROUNDING)


def test_means_come_back_in_the_unit_of_the_table(fitted, context):
    answer = fitted.predict(context, [3.0])
    assert answer["a"].between(7, 13).all()  # 10 ± a few standard deviations of 0.7
    assert answer["b"].between(-3, 3).all()


def test_same_seed_same_numbers_and_the_global_generator_is_left_alone(fitted, context):
    before = torch.get_rng_state()
    again = baselines.Baseline(fitted.name, max_epochs=2, hidden_dim=8).fit(waves(12))
    assert torch.equal(torch.get_rng_state(), before)
    pd.testing.assert_frame_equal(again.predict(context, [3.0]), fitted.predict(context, [3.0]))


@pytest.mark.parametrize("name", NAMES)
def test_hidden_cells_reach_no_prediction(name):
    torch.manual_seed(0)
    table = waves(4, 8)
    batch = pad(TableLayout.infer(table).read(table))
    network = baselines.BASELINES[name](2, 6)
    seen = baselines.show_a_part(batch) & (torch.rand(batch.mask.shape) < 0.7)  # single cells too
    rubbish = torch.where(seen, batch.values, 1e6)
    other = SeriesBatch(batch.times, rubbish, batch.mask, batch.lengths)
    assert torch.equal(network(batch, seen), network(other, seen))
    assert not torch.equal(network(batch, seen), network(batch, batch.mask))


@pytest.mark.parametrize("name", ["RNN-Δt", "GRU-D"])
def test_networks_that_go_from_row_to_row_do_not_look_ahead(name):
    torch.manual_seed(0)
    table = waves(4, 8)
    batch = pad(TableLayout.infer(table).read(table))
    network = baselines.BASELINES[name](2, 6)
    values = batch.values.clone().requires_grad_()
    means = network(SeriesBatch(batch.times, values, batch.mask, batch.lengths), batch.mask)
    (gradient,) = torch.autograd.grad(means[:, 5].sum(), values)
    assert (gradient[:, 5:] == 0).all()
    assert (gradient[:, 4] != 0).any()


def test_a_part_is_shown_and_never_nothing():
    table = waves(300, 8)
    batch = pad(TableLayout.infer(table).read(table))
    shown = baselines.show_a_part(batch)
    rows = shown.any(-1)
    assert (shown <= batch.mask).all()
    assert rows.any(1).all()
    assert 0.2 < rows.float().mean() < 0.5  # a cut at half on average, of what is before it 0.7
    assert rows[:, -1].any()


def test_empty_rows_leave_the_observations_as_they_are():
    torch.manual_seed(1)
    table = pd.concat([waves(4, 8), waves(1, 3, seed=5).assign(id="short")])
    batch = pad(TableLayout.infer(table).read(table))
    more = baselines.with_empty_rows(batch)
    n_empty = more.times.shape[1] - batch.times.shape[1]
    assert n_empty > 0
    assert torch.equal(more.lengths, batch.lengths + n_empty)
    for n in range(5):
        rows = more.mask[n].any(-1)
        assert torch.equal(more.times[n][rows], batch.times[n][: batch.lengths[n]])
        assert torch.equal(more.values[n][rows], batch.values[n][: batch.lengths[n]])
        assert (more.values[n][~rows] == 0).all()
        assert more.times[n].min() == batch.times[n].min()
        assert more.times[n].max() == batch.times[n].max()


@pytest.mark.parametrize(
    ("name", "n_series", "settings"),
    [
        ("RNN-Δt", 100, {"max_epochs": 40, "lr": 2e-2}),
        ("GRU-D", 60, {"max_epochs": 40, "lr": 3e-2}),
        ("RNN-VAE", 60, {"max_epochs": 80, "lr": 3e-2}),
    ],
    ids=NAMES,
)
def test_it_learns_waves(name, n_series, settings):
    model = baselines.Baseline(name, batch_size=20, hidden_dim=16, **settings).fit(waves(n_series, 12))
    test = waves(20, 12, seed=2)
    known, rest = test[test["time"] < 4], test[test["time"] >= 4].reset_index(drop=True)
    between = [rest.assign(time=rest["time"] - shift) for shift in (0.05, 0.1)]
    for question in (
        rest,
        pd.concat([rest, *between], ignore_index=True),
    ):  # however many times are asked for
        answer = model.predict(known, question).iloc[: len(rest)]
        error = (answer[["a", "b"]] - rest[["a", "b"]]).to_numpy()
        # the mean alone misses by 0.71; the wave goes on for two units of time after the last observation
        assert np.sqrt((error**2).mean()) < 0.5


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    table = waves(20)
    batch = pad(TableLayout.infer(table).read(table))
    network = baselines.BASELINES[name](2, 6)
    network.loss(batch, baselines.show_a_part(batch), 1.0).backward()
    assert [
        which for which, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ] == []
