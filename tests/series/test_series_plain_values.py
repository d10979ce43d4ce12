"""Values of a caller as JSON and back: equal, of the same type, with the same hash."""

from __future__ import annotations

import datetime
import json
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentode.series import Categories, CovariateScaler, TableLayout
from latentode.series.plain_values import as_plain, from_plain


def through_json(value: Any) -> Any:
    return from_plain(json.loads(json.dumps(as_plain(value), allow_nan=False)))


EXACT = [
    None,
    True,
    3,
    10**30,
    2.5,
    5e-324,
    float("inf"),
    "é",
    ("x", (1, None)),
    [1, ("a",), [2.0]],
    {1: "a", ("x", 2): (3,), None: []},
    pd.Timestamp("2020-01-01 10:00:00.123456789"),
    pd.Timestamp("2020-10-25 02:30", tz="UTC").tz_convert("Europe/Berlin"),  # this hour comes twice
    pd.Timestamp("1200-01-01").as_unit("s"),
    pd.Timestamp("2020-01-01", tz=datetime.timezone(datetime.timedelta(hours=2))),
    datetime.datetime(2020, 1, 1, 3),
    datetime.datetime(2020, 1, 1, 3, tzinfo=ZoneInfo("Asia/Tokyo")),
    datetime.date(2020, 1, 2),
    np.datetime64("2020-01-01T00:00:00.000000001"),
    np.datetime64("2020-01"),
    np.timedelta64(3, "D"),
    pd.Timedelta("3650D"),
    pd.Timedelta(1, "ns"),
    datetime.timedelta(days=3, microseconds=1),
    pd.Interval(0.5, 2, closed="left"),
    pd.Interval(pd.Timestamp("2020"), pd.Timestamp("2021")),
]


@pytest.mark.parametrize("value", EXACT, ids=repr)
def test_values_come_back_in_their_types(value):
    back = through_json(value)
    assert type(back) is type(value)
    assert back == value
    assert getattr(back, "unit", None) == getattr(value, "unit", None)
    if not isinstance(value, (list, dict)):
        assert hash(back) == hash(value)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)
)
def test_nested_values_come_back(value):
    assert repr(through_json(value)) == repr(value)


@pytest.mark.parametrize("value", [np.bool_(True), np.int32(4), np.float32(0.1), np.str_("s")], ids=repr)
def test_numpy_scalars_come_back_as_their_equals_of_python(value):
    back = through_json(value)
    assert back == value
    assert hash(back) == hash(value)
    assert type(back) in (bool, int, float, str)


def test_nan_comes_back():
    assert np.isnan(through_json(float("nan")))


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2], dtype=np.int32),
        np.array(["a", "bcd"]),
        np.array(["a", "b"], dtype=object),
        np.array([True, False]),
        np.array([0.5, np.nan]),
        np.array(["2020", "2021"], dtype="M8[ns]"),
        np.array([], dtype=np.float64),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_come_back_in_their_dtypes(array):
    back = through_json(array)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "index", [pd.Index([1, 2]), pd.Index(["a", "b"]), pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])]
)
def test_indexes_come_back(index):
    pd.testing.assert_index_equal(through_json(index), index)


@pytest.mark.parametrize(
    "value", [b"x", object(), pd.NaT, 1j, {1}, np.datetime64(3, "7D")], ids=lambda value: type(value).__name__
)
def test_what_has_no_form_is_refused(value):
    with pytest.raises(ValueError, match=r"has no form in a file|convert it to one such as 'ns'"):
        as_plain(value)


def test_arrays_of_more_dimensions_are_refused():
    with pytest.raises(ValueError, match="an array must have one dimension; got 2"):
        as_plain(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"code": "1"}, "expected one key of"),
        ({"tuple": [], "index": []}, "expected one key of"),
        ({}, "expected one key of"),
        ({"array": {"dtype": "V1000000000", "values": []}}, "unknown dtype"),
        ({"array": {"dtype": "U", "values": ["x" * 10**6] * 1000}}, "an array of texts is too large"),
        ({"mapping": [[1, 2], [1, 3]]}, "a key comes twice"),
        ({"timestamp": ["2020-01-01T00:00+00:00", "ns", "dateutil//etc/localtime"]}, "unknown time zone"),
        ({"timestamp": ["2020-01-01T00:00+00:00", "ns", "../../etc/localtime"]}, "unknown time zone"),
    ],
)
def test_hostile_objects_are_refused(plain, message):
    with pytest.raises(ValueError, match=message):
        from_plain(plain)


NAMES = [
    1,
    True,
    2.5,
    ("a", 1),
    ("a", None),
    "1",
    pd.Timestamp("2020-01-01", tz="Asia/Tokyo"),
    datetime.date(2020, 1, 1),
]


def test_column_names_of_any_type_come_back_in_a_layout():
    names = [0, *(name for name in NAMES if name is not True)]
    df = pd.DataFrame({name: [0.0, 1.0] for name in names})
    layout = TableLayout.infer(
        df, id_col=0, time_col=1, static_cols=[("a", 1)], control_cols=["1"], error_cols={2.5: ("a", None)}
    )
    back = TableLayout.from_state(json.loads(json.dumps(layout.state())))
    assert back == layout
    assert repr(back) == repr(layout)  # with types: 1 == 1.0 == True


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, 1]),
        pd.Series([True, False]),
        pd.Series([1.5, 2.0]),
        pd.Series(["1", "b"]),
        pd.Series([1, "1"], dtype=object),
        pd.Series(pd.to_datetime(["2020-01-01", "2021-01-01"])).dt.tz_localize("Europe/Berlin"),
        pd.Series(pd.cut([0.1, 1.5, 2.5], [0, 1, 2, 3])),
        pd.Series(["lo", "hi"], dtype=pd.CategoricalDtype(["lo", "hi"], ordered=True)),
    ],
    ids=lambda column: str(column.dtype),
)
def test_labels_of_any_type_come_back(column):
    labels = Categories.learn(column)
    back = Categories.from_state(json.loads(json.dumps(labels.state())))
    assert back == labels
    codes = labels.codes(column, str)
    answers = pd.Series(back.decode(codes)), pd.Series(labels.decode(codes))
    pd.testing.assert_series_equal(*answers)


def test_names_of_covariates_come_back():
    scaler = CovariateScaler(*[np.ones(2)] * 2, np.array([True, False]), *[np.ones(1)] * 2, (("a", 1), 7))
    back = CovariateScaler.from_state(json.loads(json.dumps(scaler.state())))
    assert back.columns == scaler.columns
