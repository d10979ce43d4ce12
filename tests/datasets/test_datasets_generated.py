"""What all generators with a truth at any time have in common."""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest

from latentode.datasets import (
    make_damped_oscillators,
    make_driven_pendulum,
    make_event_times,
    make_lotka_volterra,
)
from latentode.exceptions import DataError

MAKERS = {
    "oscillators": (make_damped_oscillators, ["x", "v"], ["stiffness"]),
    "lotka-volterra": (make_lotka_volterra, ["prey", "predator"], []),
    "pendulum": (make_driven_pendulum, ["angle"], ["torque"]),
    "events": (make_event_times, ["mark"], []),
}
SAME = 1e-8  # two solves at 1e-10 that stop at different times


@pytest.fixture(params=MAKERS)
def maker(request):
    return MAKERS[request.param]


def few(make, **arguments):
    known = inspect.signature(make).parameters
    arguments = {"n_series": 6, "n_obs": 15, "random_state": 3, **arguments}
    return make(**{name: value for name, value in arguments.items() if name in known})


def observed(data, targets):
    return data.dropna(subset=targets).reset_index(drop=True)


def test_table_is_long_sorted_and_typed(maker):
    make, targets, others = maker
    data = few(make)
    assert list(data.columns) == ["id", "time", *targets, *others]
    assert [data[column].dtype.kind for column in data] == ["i"] + ["f"] * (len(data.columns) - 1)
    assert list(data["id"].unique()) == list(range(6))
    assert not data.duplicated(["id", "time"]).any()
    pd.testing.assert_frame_equal(data, data.sort_values(["id", "time"], ignore_index=True))


def test_times_are_irregular_and_fill_the_span(maker):
    make, targets, _ = maker
    data = observed(few(make, n_series=50, n_obs=50, span=4.0), targets)
    assert data["time"].is_unique
    # some 600 or more uniform times: none in the first or last fiftieth with probability 5e-6
    assert 0 < data["time"].min() < 0.08
    assert 3.92 < data["time"].max() < 4.0
    if make is not make_event_times:
        assert (data.groupby("id").size() == 50).all()


def test_noise_hides_the_truth_and_nothing_else(maker):
    make, targets, _ = maker
    clean = few(make, noise=0.0, return_truth=True)
    rows = observed(clean.data, targets)
    np.testing.assert_allclose(rows[targets], clean.truth_at(rows)[targets], rtol=SAME, atol=SAME)
    noisy = few(make, n_series=100, n_obs=50, noise=0.2, return_truth=True)
    rows = observed(noisy.data, targets)
    seen, truth = rows[targets].to_numpy(), noisy.truth_at(rows)[targets].to_numpy()
    error = (np.log(seen / truth) if make is make_lotka_volterra else seen - truth) / 0.2
    # mean and standard deviation within six standard errors of 0 and 1
    assert abs(error.mean()) < 6 / np.sqrt(error.size)
    assert abs(error.std() - 1) < 6 / np.sqrt(2 * error.size)


def test_same_seed_same_table_other_seed_another(maker):
    make, _, _ = maker
    pd.testing.assert_frame_equal(few(make), few(make))
    pd.testing.assert_frame_equal(few(make), few(make, random_state=np.random.default_rng(3)))
    pd.testing.assert_frame_equal(few(make), few(make, return_truth=True).data)
    assert not few(make).equals(few(make, random_state=4))


def test_curves_of_a_seed_do_not_depend_on_what_is_observed(maker):
    make, _, _ = maker
    times = [0.0, 1.3, 7.7]
    first, other = few(make, return_truth=True), few(make, n_obs=40, noise=1.0, return_truth=True)
    pd.testing.assert_frame_equal(first.truth_at(times), other.truth_at(times))


def test_truth_at_a_table_keeps_its_rows_and_agrees_with_the_sequence(maker):
    make, targets, _ = maker
    made = few(make, return_truth=True)
    times = [6.0, 0.0, 0.5, 12.5]  # in any order, beyond the span too
    everywhere = made.truth_at(times)
    assert list(everywhere["id"]) == list(np.repeat(range(6), 4))
    assert list(everywhere["time"]) == times * 6
    asked = everywhere.sample(n=10, random_state=0)  # some rows, some series never
    found = made.truth_at(asked[["time", "id"]])
    assert list(found.index) == list(range(10))
    np.testing.assert_array_equal(found[["id", "time"]], asked[["id", "time"]])
    np.testing.assert_allclose(found[targets], asked[targets], rtol=SAME, atol=SAME)
    assert len(made.truth_at(asked.iloc[:0])) == len(made.truth_at([])) == 0


def test_series_do_not_depend_on_their_company(maker):
    make, targets, _ = maker
    made = few(make, return_truth=True)
    alone = made.truth_at(pd.DataFrame({"id": 4, "time": [2.0, 9.0]}))
    together = made.truth_at([2.0, 9.0]).query("id == 4")
    np.testing.assert_allclose(alone[targets], together[targets], rtol=SAME, atol=SAME)


def test_global_random_state_is_left_alone(maker):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    few(maker[0])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([1.0, np.nan], "times must be finite; got nan"),
        (pd.DataFrame({"id": [6], "time": [1.0]}), "there is no series 6; the series are 0 to 5"),
        (
            pd.DataFrame({"id": [0], "t": [1.0]}),
            r"no column 'time' in the table of times; its columns are \['id', 't'\]",
        ),
    ],
    ids=["not finite", "unknown series", "no time"],
)
def test_questions_without_an_answer_are_refused(maker, times, text):
    made = few(maker[0], return_truth=True)
    with pytest.raises(DataError, match=text):
        made.truth_at(times)


@pytest.mark.parametrize(
    "make", [make_lotka_volterra, make_driven_pendulum], ids=["lotka-volterra", "pendulum"]
)
def test_solved_series_have_no_past(make):
    with pytest.raises(DataError, match="times must be at least 0, where the series begin; got -1"):
        few(make, return_truth=True).truth_at([2.0, -1.0])


WRONG = [
    (make_damped_oscillators, {"n_series": 0}, "n_series must be an int of at least 1; got 0"),
    (make_damped_oscillators, {"n_obs": 2.5}, "n_obs must be an int of at least 1; got 2.5"),
    (make_damped_oscillators, {"span": 0}, "span must be a number greater than 0; got 0"),
    (make_damped_oscillators, {"noise": -1}, "noise must be a number of at least 0; got -1"),
    (make_damped_oscillators, {"stiffness": (2, 1)}, r"stiffness must be two numbers .* got \(2, 1\)"),
    (make_damped_oscillators, {"stiffness": (0, 1)}, r"stiffness must be two numbers .* got \(0, 1\)"),
    (make_damped_oscillators, {"damping": 2.0}, r"above damping² / 4 = 1; got stiffness=\(1.0, 9.0\)"),
    (make_lotka_volterra, {"n_series": True}, "n_series must be an int of at least 1; got True"),
    (make_lotka_volterra, {"initial": 1.0}, "initial must be two numbers .* got 1.0"),
    (make_driven_pendulum, {"horizon": -1}, "horizon must be a number of at least 0; got -1"),
    (make_driven_pendulum, {"knot_gap": 0}, "knot_gap must be a number greater than 0; got 0"),
    (make_driven_pendulum, {"torque": np.inf}, "torque must be a number of at least 0; got inf"),
    (make_driven_pendulum, {"damping": "low"}, "damping must be a number of at least 0; got 'low'"),
    (make_event_times, {"amplitude": 1.5}, r"amplitude must be a number in \[0, 1\]; got 1.5"),
    (make_event_times, {"base": 0}, "base must be a number greater than 0; got 0"),
    (make_event_times, {"period": (4, np.nan)}, r"period must be two numbers .* got \(4, nan\)"),
    (make_event_times, {"phase": (1, 0)}, r"phase must be two numbers .* got \(1, 0\)"),
    (make_event_times, {"random_state": "seed"}, "random_state must be an int"),
]


@pytest.mark.parametrize(
    ("make", "arguments", "text"),
    WRONG,
    ids=[f"{m.__name__} {name}={v}" for m, a, _ in WRONG for name, v in a.items()],
)
def test_bad_arguments_are_refused(make, arguments, text):
    with pytest.raises(ValueError, match=text):
        make(**arguments)
