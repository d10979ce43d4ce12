"""Static covariates, controls, measurement errors and categories: from a data frame to what a model reads."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from latentode.exceptions import DataError
from latentode.series import (
    BatchSource,
    Categories,
    CovariateScaler,
    TableLayout,
    TimeScale,
    ValueScaler,
    scale_table,
)

FRAME = pd.DataFrame(
    {
        "id": ["b", "a", "a", "b", "a"],
        "time": [2.0, 1.0, 3.0, 0.0, 2.0],
        "x": [1.0, 2.0, np.nan, 4.0, 5.0],
        "mass": [np.nan, 3.0, 3.0, 7.0, np.nan],
        "dose": [10.0, 0.0, 8.0, np.nan, np.nan],
        "x_err": [0.1, 0.2, np.nan, 0.0, 0.5],
        "state": ["ill", "well", None, "well", "ill"],
    }
)
ROLES = {
    "static_cols": ["mass"],
    "control_cols": ["dose"],
    "error_cols": {"x": "x_err"},
    "categorical": ["state"],
}


def layout(df: pd.DataFrame = FRAME, **changes) -> TableLayout:
    return TableLayout.infer(df, **(ROLES | changes))


def test_columns_with_a_role_are_no_targets_and_categories_are():
    found = layout()
    assert found.target_cols == ("x", "state")
    assert found.categories["state"].labels == ("ill", "well")


def test_a_table_holds_what_the_columns_say_in_the_order_of_its_series():
    table = layout().read(FRAME)
    assert list(table.ids) == ["b", "a"]
    np.testing.assert_array_equal(table.static, [[7.0], [3.0]])
    np.testing.assert_array_equal(table.values[:, 1], [1, 0, 1, 0, np.nan])  # b at 0 and 2, a at 1, 2 and 3
    np.testing.assert_array_equal(table.errors[:, 0], [0.0, 0.1, 0.2, 0.5, 0.0])
    np.testing.assert_array_equal(table.errors[:, 1], 0.0)
    at = torch.tensor([0.0, 2.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    dose = table.paths.at(torch.tensor([0, 0, 1, 1, 1]), at)[:, 0]
    np.testing.assert_array_equal(dose, [10.0, 10.0, 0.0, 4.0, 8.0])  # the gap of a at 2 lies on its line


def test_step_controls_keep_the_last_value_over_a_gap():
    table = layout(control_interpolation="step").read(FRAME)
    dose = table.paths.at(torch.tensor([1, 1, 1]), torch.tensor([1.9, 2.0, 3.0], dtype=torch.float64))[:, 0]
    np.testing.assert_array_equal(dose, [0.0, 0.0, 8.0])


def test_controls_of_the_queries_count_and_win_at_the_same_time():
    times = pd.DataFrame({"id": ["a", "a", "b"], "time": [3.0, 9.0, 1.0], "dose": [6.0, 0.0, 5.0]})
    table = layout().read(FRAME, times=times)
    at = torch.tensor([3.0, 6.0, 20.0, 1.0], dtype=torch.float64)
    dose = table.paths.at(torch.tensor([1, 1, 1, 0]), at)[:, 0]
    np.testing.assert_array_equal(dose, [6.0, 3.0, 0.0, 5.0])
    without = layout().read(FRAME, times=times[["id", "time"]])
    assert float(without.paths.at(torch.tensor([1]), torch.tensor([20.0], dtype=torch.float64))) == 8.0


def test_taking_series_takes_their_covariates_along():
    table = layout().read(FRAME)
    turned = table.take([1, 0, 1])
    np.testing.assert_array_equal(turned.static, [[3.0], [7.0], [3.0]])
    assert len(turned.paths) == 3
    np.testing.assert_array_equal(turned.errors[:3, 0], [0.2, 0.5, 0.0])
    some = table.take_rows(table.times > 0.5)
    np.testing.assert_array_equal(some.errors[:, 0], [0.1, 0.2, 0.5, 0.0])
    np.testing.assert_array_equal(some.static, table.static)


def test_a_batch_carries_covariates_errors_and_labels_through_selection():
    table = layout().read(FRAME)
    table = replace(table, labels=np.array([1, 0]), row_labels=np.array([3, 4, 5, 6, 7]))
    batch = BatchSource(table).batch([1, 0])
    assert batch.labels.tolist() == [0, 1]
    assert batch.row_labels.tolist() == [[5, 6, 7], [3, 4, -1]]
    assert batch.errors[1, 2].tolist() == [0.0, 0.0]
    one = batch.select(torch.tensor([1]))
    assert one.row_labels.tolist() == [[3, 4]]
    assert one.static.tolist() == [[7.0]]
    assert float(one.paths.at(torch.tensor([0]), torch.tensor([2.0]))) == 10.0
    rows = batch.rows(torch.tensor([1, 0]), torch.tensor([3, 1]))
    assert rows.row_labels.tolist() == [[6, 7], [3, -1]]
    assert rows.errors[0, 0, 0] == 0.5


def test_scaling_standardises_covariates_controls_and_errors_alike():
    table = layout().read(FRAME)
    covariates = CovariateScaler.fit(table, ["mass"])
    values = ValueScaler(
        "standard", np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.ones(2), np.array([True, False])
    )
    scaled = scale_table(table, TimeScale(1.0, 0.5), values, covariates)
    np.testing.assert_allclose(scaled.static[:, 0], [1.0, -1.0])
    np.testing.assert_allclose(scaled.errors[:, 0], table.errors[:, 0] / 2)
    knots = np.array([10.0, 10.0, 0.0, 4.0, 8.0])
    at = torch.tensor([2.0], dtype=torch.float64)  # time 2 of series a, in model time
    expected = (4.0 - knots.mean()) / knots.std()
    assert float(scaled.paths.at(torch.tensor([1]), at)) == pytest.approx(expected)


def test_a_missing_covariate_becomes_a_flag_where_the_training_had_such_series():
    some = FRAME.assign(mass=np.where(FRAME["id"] == "a", np.nan, 7.0))
    found = layout(some)
    table = found.read(some)
    scaler = CovariateScaler.fit(table, ["mass"])
    scaled = scaler.apply(table, lambda times: times)
    assert scaler.n_static == 2
    np.testing.assert_array_equal(scaled.static, [[0.0, 0.0], [0.0, 1.0]])
    complete = CovariateScaler.fit(found.read(FRAME), ["mass"])
    with pytest.raises(
        DataError, match="series 'a' has no value of the static column 'mass', which every series"
    ):
        complete.apply(table, lambda times: times)


def test_statistics_of_controls_are_those_of_the_training_series():
    table = layout().read(FRAME)
    scaler = CovariateScaler.fit(table.take([1]), ["mass"])
    assert scaler.control_loc.tolist() == [4.0]
    assert scaler.static_loc.tolist() == [3.0]
    assert scaler.static_scale.tolist() == [1.0]  # one series never varies


def test_layout_and_scaler_survive_their_states():
    found = layout(FRAME.assign(state=FRAME["state"].astype("category")))
    assert TableLayout.from_state(found.state()) == found
    scaler = CovariateScaler.fit(found.read(FRAME), ["mass"])
    again = CovariateScaler.from_state(scaler.state())
    assert again.state() == scaler.state()


@pytest.mark.parametrize("ordered", [False, True])
def test_categories_come_back_as_they_were(ordered):
    dtype = pd.CategoricalDtype(["low", "middle", "high"], ordered=ordered)
    column = pd.Series(["high", None, "low"], dtype=dtype)
    categories = Categories.learn(column)
    codes = categories.codes(column, str)
    np.testing.assert_array_equal(codes, [2, np.nan, 0])
    assert pd.Series(categories.decode([2, 0])).dtype == dtype
    numbers = Categories.learn(pd.Series([3, 7, 3]))
    assert numbers.decode([1, 0]).tolist() == [7, 3]
    mixed = Categories.learn(pd.Series([True, "a", True], dtype=object))
    assert set(mixed.labels) == {True, "a"}


BAD = {
    "covariate that changes": (
        lambda df: df.assign(mass=[1.0, 3.0, 4.0, 1.0, 3.0]),
        {},
        "static column 'mass' changes within series 'a': 4 at row 2, 3 elsewhere",
    ),
    "covariate as text": (
        lambda df: df.assign(mass="heavy"),
        {},
        "column 'mass', named in static_cols, is not numeric",
    ),
    "control never given": (
        lambda df: df.assign(dose=np.where(df["id"] == "a", np.nan, 1.0)),
        {},
        "series 'a' has no value of the control 'dose'",
    ),
    "infinite control": (
        lambda df: df.assign(dose=np.inf),
        {},
        "infinite value in column 'dose' at series 'b', row 0",
    ),
    "missing column": (lambda df: df.drop(columns="dose"), {}, "no column 'dose', named in control_cols"),
    "negative error": (
        lambda df: df.assign(x_err=-1.0),
        {},
        "measurement error 'x_err' of target 'x' is -1.0 at series 'b', row 0",
    ),
    "error not given": (
        lambda df: df.assign(x_err=np.nan),
        {},
        "measurement error 'x_err' of target 'x' is nan at series 'b', row 0",
    ),
    "one label": (lambda df: df.assign(state="ill"), {}, "categorical target 'state' has the labels ['ill']"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_refused(case):
    spoil, changes, message = BAD[case]
    df = spoil(FRAME.copy())
    with pytest.raises(DataError, match=re.escape(message)):
        layout(df, **changes).read(df)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            {"control_cols": ["mass"]},
            "column 'mass' is named in static_cols and in control_cols: it can have one role",
        ),
        ({"static_cols": ["id"]}, "column 'id' is named in id_col and in static_cols"),
        ({"target_cols": ["x", "mass", "state"]}, "column 'mass' is named in target_cols and in static_cols"),
        ({"error_cols": {"y": "x_err"}}, "error_cols names 'y', which is no target"),
        ({"target_cols": ["x"]}, "likelihood names 'state', which is no target; the targets are 'x'"),
    ],
    ids=[
        "two roles",
        "id as covariate",
        "covariate as target",
        "error of no target",
        "category is no target",
    ],
)
def test_roles_that_do_not_fit_together_are_refused(roles, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layout(**roles)


def test_an_unknown_label_is_refused_with_those_that_are_known():
    found = layout()
    with pytest.raises(
        DataError,
        match=re.escape(
            "unknown label 'dead' of the categorical target 'state' at series 'b', row 0: the training had ['ill"
        ),
    ):
        found.read(FRAME.assign(state="dead"))
