"""Rules by which a table of any form is read, one by one, and what is refused; the way back keeps every dtype."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from table_forms import arrow_of, polars_of

from latentode.exceptions import DataError
from latentode.series import open_table
from latentode.series.foreign import ForeignTable, to_pandas
from latentode.series.key_columns import ONE_SERIES, KeyColumns, find_keys

LONG = pd.DataFrame({"id": ["b", "b", "a"], "time": [2.0, 1.0, 3.0], "x": [0.1, 0.2, 0.3]})
LEVELS = LONG.set_index(["id", "time"])
DAYS = pd.date_range("2024-01-01", periods=3, name="Date")
ALONE = pd.DataFrame({"time": [1.0, 2.0, 3.0], "x": [0.1, 0.2, 0.3]})


def renamed(index: list) -> pd.DataFrame:
    return LEVELS.rename_axis(index)


# (table, id_col, time_col, what is found)
RULES = {
    "columns": (LONG, "id", "time", KeyColumns("id", "time")),
    "columns under other names": (
        LONG.set_axis(["who", "when", "x"], axis=1),
        "who",
        "when",
        KeyColumns("who", "when"),
    ),
    "columns before levels of the same name": (
        LONG.set_index("id", drop=False),
        "id",
        "time",
        KeyColumns("id", "time"),
    ),
    "levels": (LEVELS, "id", "time", KeyColumns("id", "time", 0, 1)),
    "levels the other way": (LEVELS.swaplevel(), "id", "time", KeyColumns("id", "time", 1, 0)),
    "one of three levels": (
        LONG.assign(visit=1).set_index(["visit", "time", "id"]),
        "id",
        "time",
        KeyColumns("id", "time", 2, 1),
    ),
    "id as index": (LONG.set_index("id"), "id", "time", KeyColumns("id", "time", 0)),
    "time as index": (LONG.set_index("time"), "id", "time", KeyColumns("id", "time", None, 0)),
    "levels without names": (renamed([None, None]), "who", "when", KeyColumns("who", "when", 0, 1)),
    "levels under the names of sktime": (
        renamed(["instances", "timepoints"]),
        "id",
        "time",
        KeyColumns("instances", "timepoints", 0, 1),
    ),
    "one level known, the other not": (
        renamed(["time", "patient"]),
        "id",
        "time",
        KeyColumns("patient", "time", 1, 0),
    ),
    "the other one known": (renamed(["hour", "id"]), "id", "time", KeyColumns("id", "hour", 1, 0)),
    "Nixtla": (
        LONG.set_axis(["unique_id", "ds", "y"], axis=1),
        "id",
        "time",
        KeyColumns("unique_id", "ds", is_nixtla=True),
    ),
    "Nixtla as levels": (
        renamed(["unique_id", "ds"]),
        "id",
        "time",
        KeyColumns("unique_id", "ds", 0, 1, is_nixtla=True),
    ),
    "Nixtla named one by one": (
        LONG.set_axis(["unique_id", "ds", "y"], axis=1),
        "unique_id",
        "ds",
        KeyColumns("unique_id", "ds"),
    ),
    "Prophet": (
        ALONE.set_axis(["ds", "y"], axis=1),
        "id",
        "time",
        KeyColumns("id", "ds", single=True, is_nixtla=True),
    ),
    "id beside an index of datetimes": (
        LONG.drop(columns="time").set_index(DAYS),
        "id",
        "time",
        KeyColumns("id", "Date", None, 0),
    ),
    "one series": (ALONE, "id", "time", KeyColumns("id", "time", single=True)),
    "one series, time as index": (
        ALONE.set_index("time"),
        "id",
        "time",
        KeyColumns("id", "time", None, 0, single=True),
    ),
    "one series, index of datetimes": (
        ALONE[["x"]].set_index(DAYS),
        "id",
        "time",
        KeyColumns("id", "Date", None, 0, single=True),
    ),
    "one series, index of periods": (
        ALONE[["x"]].set_index(DAYS.to_period("D")),
        "id",
        "time",
        KeyColumns("id", "Date", None, 0, single=True),
    ),
    "one series, index without name": (
        ALONE[["x"]].set_index(DAYS.rename(None)),
        "id",
        "when",
        KeyColumns("id", "when", None, 0, single=True),
    ),
    "one series, said so, in any order": (
        ALONE[::-1].assign(patient="p"),
        ONE_SERIES,
        "time",
        KeyColumns(ONE_SERIES, "time", single=True),
    ),
    "one series, said so, with a column id": (
        LONG,
        ONE_SERIES,
        "time",
        KeyColumns(ONE_SERIES, "time", single=True),
    ),
    "one series with a text that has a role": (
        ALONE.assign(kind="k"),
        "id",
        "time",
        KeyColumns("id", "time", single=True),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_keys_are_found(rule):
    df, id_col, time_col, expected = RULES[rule]
    assert find_keys(df, id_col, time_col, roles={"kind"}) == expected


@pytest.mark.parametrize("rule", RULES)
def test_what_is_found_is_in_the_long_table_and_goes_back(rule):
    df, id_col, time_col, keys = RULES[rule]
    form, frame = open_table(df, None if id_col == ONE_SERIES else id_col, time_col, roles={"kind"})
    whole = df.reset_index() if keys.levels else df
    names = dict(zip(keys.levels, keys.levels.values()))
    whole = whole.rename(columns={"index": "when", "level_0": names.get(0), "level_1": names.get(1)})
    assert frame[keys.time_col].tolist() == whole[keys.time_col].tolist()
    assert frame[keys.id_col].tolist() == ([0] * 3 if keys.single else whole[keys.id_col].tolist())
    answer = frame[[keys.id_col, keys.time_col]].assign(z=[7.0, 8.0, 9.0])
    written = form.write(answer, at_rows=True)
    assert written.index.equals(df.index)
    assert written.index.names == df.index.names
    expected = [name for name in (keys.id_col, keys.time_col) if name in df.columns]
    assert list(written) == [*(name for name in expected if not (keys.single and name == keys.id_col)), "z"]
    elsewhere = form.write(answer.reset_index(drop=True), at_rows=False)
    if df.index.nlevels == len(keys.levels):
        assert elsewhere.index.equals(df.index)
        assert elsewhere.index.names == df.index.names


REFUSED = {
    "no time": (
        ALONE[["x"]],
        "id",
        "time",
        "no time column 'time'; the columns are ['x']: name it with time_col=",
    ),
    "two levels of one series": (
        LEVELS[["x"]].rename_axis([None, None]),
        None,
        "time",
        "no time column 'time'",
    ),
    "times of floats as an index without name": (
        ALONE[["x"]].set_index(np.array([1.0, 2.0, 3.0])),
        "id",
        "time",
        "or name the index with df.rename_axis('time') if it holds the times",
    ),
    "another name for the index of times": (
        ALONE[["x"]].set_index(DAYS),
        "id",
        "date",
        "no time column 'date' (did you mean 'Date'?)",
    ),
    "other names for levels": (renamed(["who", "when"]), "id", "hour", "no time column 'hour'"),
    "another name for the id": (
        LONG,
        "patient",
        "time",
        "no id column 'patient'; the columns are ['id', 'time', 'x']",
    ),
    "another name for the level of the id": (
        LONG.set_index("id").rename_axis("who"),
        "patient",
        "time",
        "use id_col=None in fit (the index has ['who'])",
    ),
    "two names for the id": (
        LONG.set_axis(["id", "ds", "y"], axis=1).assign(unique_id=1),
        "id",
        "time",
        "the table has the columns 'id' and 'unique_id', and no 'time': say which one names the series",
    ),
    "times that start again": (
        pd.concat([ALONE, ALONE], ignore_index=True),
        "id",
        "time",
        "for one series pass id_col=None (without an id, times must increase from row to row; row 3 is not after",
    ),
    "two rows at one time": (
        ALONE.assign(time=[1.0, 2.0, 2.0]),
        "id",
        "time",
        "row 2 is not after the one before",
    ),
    "a column of texts": (
        ALONE.assign(patient="p"),
        "id",
        "time",
        "pass id_col=None (the column 'patient' may be meant as the id)",
    ),
    "a column of categories": (
        ALONE.assign(who=pd.Categorical(["p"] * 3)),
        "id",
        "time",
        "(the column 'who' may be meant as the id)",
    ),
    "a number with the name of an id": (
        ALONE.assign(patient_id=[1, 1, 2]),
        "id",
        "time",
        "(the column 'patient_id' may be meant as the id)",
    ),
    "a level with the name of a column": (
        LONG.assign(who=1.0).set_index(["id", "time"]).rename_axis(["who", "time"]),
        "id",
        "time",
        "'who' is both a column and a level of the index: rename one of them",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_meant_otherwise_is_refused(case):
    df, id_col, time_col, text = REFUSED[case]
    with pytest.raises(DataError, match=re.escape(text)):
        open_table(df, id_col, time_col)


@pytest.mark.parametrize(
    ("name", "suspect"),
    [
        ("id2", False),
        ("humid", False),
        ("PatientId", True),
        ("patient-ID", True),
        ("series", True),
        ("fluid", False),
    ],
)
def test_names_like_an_id(name, suspect):
    df = ALONE.assign(**{name: 1.0})
    if suspect:
        with pytest.raises(DataError, match="may be meant as the id"):
            open_table(df, "id", "time")
    else:
        assert open_table(df, "id", "time").form.single


@pytest.mark.parametrize(
    "table", [None, {"id": [1]}, [[1]], np.ones((2, 2)), pd.Series([1.0]), pl.Series([1.0])]
)
def test_only_tables_are_tables(table):
    with pytest.raises(
        TypeError, match=f"expected a pandas DataFrame in long format .* got {type(table).__name__}"
    ):
        open_table(table, "id", "time")


def test_lazy_and_empty_tables_are_refused():
    with pytest.raises(
        TypeError, match=re.escape("the table is lazy (LazyFrame): its rows are not there yet, call")
    ):
        open_table(polars_of(LONG).lazy(), "id", "time")
    for table in (LONG[:0], polars_of(LONG).head(0), arrow_of(LONG)[:0]):
        with pytest.raises(DataError, match="the table is empty"):
            open_table(table, "id", "time")


# --- columns of other libraries

DAY = datetime.date(2024, 5, 1)
NOON = datetime.datetime(2024, 5, 1, 12)
COLUMNS = {  # (polars column, pandas dtype, a value)
    "whole": (pl.Series([1, 2], dtype=pl.UInt16), "uint16", 1),
    "whole with a gap": (pl.Series([2**60 + 1, None]), "Int64", 2**60 + 1),
    "float with a gap": (pl.Series([1.5, None], dtype=pl.Float32), "float32", 1.5),
    "truth": (pl.Series([True, False]), "bool", True),
    "truth with a gap": (pl.Series([True, None]), "boolean", True),
    "date": (pl.Series([DAY, None]), None, pd.Timestamp(DAY)),
    "zone": (
        pl.Series([NOON, None]).dt.replace_time_zone("Europe/Berlin"),
        "datetime64[us, Europe/Berlin]",
        pd.Timestamp(NOON, tz="Europe/Berlin"),
    ),
    "milliseconds": (pl.Series([NOON, None], dtype=pl.Datetime("ms")), "datetime64[ms]", pd.Timestamp(NOON)),
    "duration": (pl.Series([datetime.timedelta(1), None]), "timedelta64[us]", pd.Timedelta("1D")),
    "enum": (
        pl.Series(["b", None], dtype=pl.Enum(["b", "a"])),
        pd.CategoricalDtype(["b", "a"], ordered=True),
        "b",
    ),
    "decimal": (pl.Series(["1.25", None]).cast(pl.Decimal(10, 2)), "float64", 1.25),
    "text": (pl.Series(["a", None]), None, "a"),
    "nothing": (pl.Series([None, None]), "float64", None),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_columns_come_as_what_they_are(kind, library):
    column, dtype, first = COLUMNS[kind]
    table = pl.DataFrame({"c": column})
    if library == "pyarrow":
        if kind == "enum":
            pytest.skip("pyarrow has none")
        table = table.to_arrow()
    found = ForeignTable.of(table).to_pandas()["c"]
    if dtype is not None:
        assert found.dtype == dtype
    assert found.isna().tolist() == column.is_null().to_list()
    assert first is None or found[0] == first


@pytest.mark.parametrize("kind", COLUMNS)
def test_keys_of_every_dtype_come_back(kind):
    column = COLUMNS[kind][0]
    if kind == "nothing":
        return
    column = pl.concat([column.head(1), column.head(1)])
    table = pl.DataFrame({"id": column, "time": [1.0, 2.0], "x": [1.0, 2.0]})
    for given, equal in ((table, lambda a, b: a.equals(b)), (table.to_arrow(), lambda a, b: a.equals(b))):
        form, frame = open_table(given, "id", "time")
        rows = form.write(frame[["id", "time"]].assign(x=frame["x"]), at_rows=True)
        assert equal(rows, given)
        elsewhere = form.write(frame[["id", "time"]].assign(x=frame["x"]), at_rows=False)
        assert equal(elsewhere, given)


def test_the_dictionary_of_pyarrow_is_a_category():
    import narwhals as nw

    column = pa.chunked_array([pa.array(["u", None, "v"]).dictionary_encode()])
    found = to_pandas(nw.from_native(column, series_only=True))
    assert isinstance(found.dtype, pd.CategoricalDtype)
    assert found.tolist()[::2] == ["u", "v"]


def test_neither_polars_nor_pyarrow_is_needed():
    """Both blocked: pandas tables are read, and what is no table is refused as ever."""
    code = (
        "import sys; sys.modules['polars'] = None; sys.modules['pyarrow'] = None\n"
        "import pandas as pd; from latentode.series import open_table\n"
        "form, frame = open_table(pd.DataFrame({'id': [1], 'time': [1.0], 'x': [2.0]}), 'id', 'time')\n"
        "assert form.write(frame, at_rows=True).equals(frame)\n"
        "try:\n    open_table({}, 'id', 'time')\nexcept TypeError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "refused", done.stderr
