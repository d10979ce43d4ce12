"""Splitters of long tables against splits written down row by row; what they must never let through."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from tables import as_sets, by_hand, dated, ragged

from latentode.exceptions import DataError
from latentode.model_selection import SeriesKFold, SeriesTimeCutSplit, TimeCutSplit

CUTOFFS = [4.0, 6.5]
SPLITTERS = {
    "series": SeriesKFold(3, random_state=0),
    "time": TimeCutSplit(cutoffs=CUTOFFS, horizon=4.0),
    "own clock": TimeCutSplit(2, per_series=True),
    "both": SeriesTimeCutSplit(2, cutoffs=CUTOFFS, random_state=0),
    "both, own clock": SeriesTimeCutSplit(2, cutoffs=[0.3, 0.6], per_series=True, random_state=0),
}
every_splitter = pytest.mark.parametrize("splitter", SPLITTERS.values(), ids=SPLITTERS)


def splits(splitter, df):
    return [as_sets(split) for split in splitter.split(df)]


def keys(df, rows):
    return {(df["id"].iloc[row], df["time"].iloc[row]) for row in rows}


# --- all


@every_splitter
def test_as_many_splits_as_promised(splitter):
    found = list(splitter.split(ragged(), None, groups=None))
    assert len(found) == splitter.get_n_splits() == splitter.get_n_splits(ragged(), None, None)
    for train, test in found:
        assert train.dtype.kind == test.dtype.kind == "i"
        assert len(train)
        assert len(test)


@every_splitter
def test_the_order_of_rows_and_the_index_mean_nothing(splitter):
    df = ragged()
    other = df.sample(frac=1, random_state=5).reset_index(drop=True)
    for one, two in zip(splits(splitter, df), splits(splitter, other)):
        for mine, theirs in zip(one, two):
            assert keys(df, mine) == keys(other, theirs)


@every_splitter
@pytest.mark.parametrize(
    "names",
    [
        lambda ids: ids.astype("category"),
        lambda ids: ids.str[1:].astype(int),
        lambda ids: ids.map({"s0": 0, "s1": "one", "s2": 2.5}).astype(object).where(ids < "s3", ids),
        lambda ids: pd.Series([("a", name) for name in ids], index=ids.index),
    ],
    ids=["categories", "numbers", "mixed", "tuples"],
)
def test_ids_of_any_type(splitter, names):
    df = ragged()
    for train, test in splits(splitter, df.assign(id=names(df["id"]))):
        assert train
        assert test
    if not hasattr(splitter, "shuffle"):  # another order of names is another draw of folds
        assert splits(splitter, df.assign(id=names(df["id"]))) == splits(splitter, df)


@every_splitter
def test_it_shows_its_arguments_and_can_be_copied(splitter):
    assert repr(splitter).startswith(type(splitter).__name__ + "(")
    assert "id_col='id'" in repr(splitter)
    assert splits(copy.deepcopy(splitter), ragged()) == splits(splitter, ragged())


@every_splitter
def test_what_is_no_table_of_series(splitter):
    df = ragged()
    with pytest.raises(TypeError, match="expected a pandas DataFrame in long format"):
        next(splitter.split(df.to_numpy()))
    with pytest.raises(DataError, match="the table is empty"):
        next(splitter.split(df[:0]))
    with pytest.raises(
        DataError, match=r"no id column 'id' \(did you mean 'ids'\?\); the columns are .*id_col="
    ):
        next(splitter.split(df.rename(columns={"id": "ids"})))
    with pytest.raises(DataError, match="missing id"):
        next(splitter.split(df.assign(id=df["id"].where(df["id"] != "s2"))))


@pytest.mark.parametrize("splitter", [TimeCutSplit(), SeriesTimeCutSplit(2)], ids=["time", "both"])
def test_what_is_no_column_of_times(splitter):
    df = ragged()
    with pytest.raises(DataError, match=r"no time column 'time' \(did you mean 'times'\?\); .*time_col="):
        next(splitter.split(df.rename(columns={"time": "times"})))
    with pytest.raises(DataError, match="missing time"):
        next(splitter.split(df.assign(time=df["time"].where(df["time"] > 3))))
    with pytest.raises(DataError, match="infinite time"):
        next(splitter.split(df.assign(time=df["time"].where(df["time"] > 3, np.inf))))
    with pytest.raises(DataError, match="times must be numbers"):
        next(splitter.split(df.assign(time="noon")))


# --- by series


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_series_is_tested_once_and_never_trained_beside(shuffle):
    df = ragged()
    tested = []
    for train, test in splits(SeriesKFold(3, shuffle=shuffle), df):
        assert train | test == set(range(len(df)))
        seen, held_out = (set(df["id"].iloc[list(rows)]) for rows in (train, test))
        assert not seen & held_out
        assert 2 <= len(held_out) <= 3
        tested += held_out
    assert sorted(tested) == sorted(df["id"].unique())


def test_seeds_of_folds():
    df = ragged()
    one, same, other = (splits(SeriesKFold(3, random_state=seed), df) for seed in (1, 1, 2))
    assert one == same != other
    generator = np.random.default_rng(1)  # advances, as everywhere
    assert splits(SeriesKFold(3, random_state=generator), df) == one
    assert splits(SeriesKFold(3, random_state=generator), df) != one


def test_arguments_of_folds():
    with pytest.raises(ValueError, match="SeriesKFold: n_splits must be an int of at least 2; got 1"):
        SeriesKFold(1)
    with pytest.raises(ValueError, match="shuffle must be one of True, False; got 'no'"):
        SeriesKFold(shuffle="no")
    with pytest.raises(ValueError, match="random_state has no effect with shuffle=False"):
        SeriesKFold(shuffle=False, random_state=0)
    with pytest.raises(ValueError, match="random_state must be an int"):
        SeriesKFold(random_state="zero")
    with pytest.raises(DataError, match="8 folds need as many series, the table has 7"):
        next(SeriesKFold(8).split(ragged()))


# --- by time


@pytest.mark.parametrize("horizon", [None, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_cuts_in_time_are_those_written_down_by_hand(horizon, seed):
    df = ragged(seed)
    found = splits(TimeCutSplit(cutoffs=CUTOFFS, horizon=horizon), df)
    assert found == [by_hand(df, cutoff, horizon) for cutoff in CUTOFFS]


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_cuts_in_dates_are_those_in_numbers(zone, unit):
    numbers, df = ragged(), dated(ragged(), zone)
    df["time"] = df["time"].dt.as_unit(unit)
    start = pd.Timestamp("2026-03-28 20:00", tz=zone)
    cutoffs = [start + pd.Timedelta(hours=cutoff) for cutoff in CUTOFFS]
    expected = splits(TimeCutSplit(cutoffs=CUTOFFS, horizon=4.0), numbers)
    assert splits(TimeCutSplit(cutoffs=cutoffs, horizon=pd.Timedelta("4h")), df) == expected
    written = [str(cutoff.tz_localize(None)) for cutoff in cutoffs]  # read in the zone of the column
    assert splits(TimeCutSplit(cutoffs=written, horizon="4h"), df) == expected
    for own in (False, True):
        shape = {"per_series": own, "cutoffs": [0.3, 0.7] if own else None}
        assert splits(TimeCutSplit(2, **shape), df) == splits(TimeCutSplit(2, **shape), numbers)
    assert splits(TimeCutSplit(2, horizon="2h"), df) == splits(TimeCutSplit(2, horizon=2.0), numbers)


def test_default_horizons_fill_the_end():
    df = pd.DataFrame({"id": "a", "time": np.arange(21) / 10})
    cuts = TimeCutSplit(3, horizon=0.4).cuts(df)
    np.testing.assert_allclose(cuts.loc["a"], [0.8, 1.2, 1.6], rtol=1e-12)
    futures = [sorted(test - train) for train, test in splits(TimeCutSplit(3, horizon=0.4), df)]
    assert futures[-1][-1] == 20  # whatever 2.0 - 0.4 + 0.4 is rounded to
    assert {row for future in futures for row in future} >= set(range(10, 21))
    whole = TimeCutSplit(3, horizon=4).cuts(df.assign(time=np.arange(21)))
    assert whole.loc["a"].tolist() == [8, 12, 16]


def test_default_cutoffs_without_a_horizon_are_equally_spaced():
    df = ragged()
    first, last = df["time"].min(), df["time"].max()
    cuts = TimeCutSplit().cuts(df)
    np.testing.assert_allclose(cuts.columns, first + (last - first) * np.array([0.25, 0.5, 0.75]))
    assert splits(TimeCutSplit(), df) == [by_hand(df, cutoff) for cutoff in cuts.columns]


@pytest.mark.parametrize("horizon", [None, 2.0])
def test_each_series_on_its_own_clock(horizon):
    df = ragged()
    shares = [0.25, 0.5, 0.75]
    spans = df.groupby("id")["time"].agg(["min", "max"])
    tiny = 1e-9  # a row at the border belongs to the past
    expected = [
        by_hand(df, (spans["min"] + (share + tiny) * (spans["max"] - spans["min"])).to_dict(), horizon)
        for share in shares
    ]
    found = splits(TimeCutSplit(per_series=True, horizon=horizon), df)
    assert found == splits(TimeCutSplit(cutoffs=shares, per_series=True, horizon=horizon), df)
    assert [train for train, _ in found] == [train for train, _ in expected]
    assert found == expected


def test_a_row_at_its_share_belongs_to_the_past_in_every_unit():
    for unit in (1.0, 0.1, 60.0, 1 / 3):
        df = pd.DataFrame({"id": "a", "time": (np.arange(11) + 7) * unit})
        ((train, _),) = splits(TimeCutSplit(cutoffs=[0.3], per_series=True), df)
        assert train == {0, 1, 2, 3}


def test_cuts_tell_the_border_of_every_series():
    df = ragged()
    for splitter in (TimeCutSplit(cutoffs=CUTOFFS), TimeCutSplit(2, per_series=True), SPLITTERS["both"]):
        table = splitter.cuts(df)
        assert sorted(table.index) == sorted(df["id"].unique())
        assert table.index.name == "id"
        for column, cut in enumerate(table.columns):
            train, _ = by_hand(df, table.iloc[:, column].to_dict())
            seen = [train for train, _ in splits(splitter, df)]
            if isinstance(splitter, TimeCutSplit):
                assert train == seen[column], cut
            else:
                assert seen[2 * column] | seen[2 * column + 1] == train
    assert TimeCutSplit(cutoffs=CUTOFFS).cuts(df).columns.tolist() == CUTOFFS


def test_cuts_keep_the_dtype_of_the_times():
    days = dated(ragged(), "Europe/Zurich")
    assert set(TimeCutSplit(2).cuts(days).dtypes) == {days["time"].dtype}
    assert set(TimeCutSplit(2, per_series=True).cuts(days).dtypes) == {days["time"].dtype}


def test_arguments_of_cuts_in_time():
    with pytest.raises(
        ValueError, match="TimeCutSplit: n_splits must be an int of at least 1, or None; got 0"
    ):
        TimeCutSplit(0)
    with pytest.raises(ValueError, match="per_series must be one of True, False"):
        TimeCutSplit(per_series="yes")
    with pytest.raises(ValueError, match="n_splits=3 and 2 cutoffs do not agree"):
        TimeCutSplit(3, cutoffs=CUTOFFS)
    with pytest.raises(ValueError, match="cutoffs is empty"):
        TimeCutSplit(cutoffs=[])
    with pytest.raises(ValueError, match=r"cutoffs must be a sequence of times, got 3.0: write \[3.0\]"):
        TimeCutSplit(cutoffs=3.0)
    with pytest.raises(
        ValueError, match=r"must be shares of each series' span, numbers in \(0, 1\); got 4.0"
    ):
        TimeCutSplit(cutoffs=CUTOFFS, per_series=True)
    with pytest.raises(ValueError, match=r"cutoffs must increase, got 0.5 after 0.5"):
        TimeCutSplit(cutoffs=[0.5, 0.5], per_series=True)


def refused(splitter, df=None, error=ValueError, match=""):
    with pytest.raises(error, match=match):
        list(splitter.split(ragged() if df is None else df))


def test_cutoffs_and_horizons_that_do_not_fit_the_times():
    days, zoned = dated(ragged()), dated(ragged(), "UTC")
    refused(TimeCutSplit(cutoffs=[6.0, 5.0]), match="cutoffs must increase, got 5.0 after 6.0")
    refused(
        TimeCutSplit(cutoffs=["noon"]), match="cutoffs must be finite numbers, as the times are; got 'noon'"
    )
    refused(TimeCutSplit(cutoffs=[np.nan]), match="cutoffs must be finite numbers")
    refused(TimeCutSplit(cutoffs=[5]), days, match="cutoffs must be datetimes, as the times are .* got 5")
    refused(TimeCutSplit(cutoffs=["noon-ish"]), days, match="cutoffs must be datetimes")
    refused(TimeCutSplit(cutoffs=[pd.NaT]), days, match="cutoffs must be datetimes")
    refused(
        TimeCutSplit(cutoffs=[pd.Timestamp("2026-03-28")]),
        zoned,
        match="does not fit times that have a time zone",
    )
    utc = pd.Timestamp("2026-03-28", tz="UTC")
    refused(TimeCutSplit(cutoffs=[utc]), days, match="does not fit times that have no time zone")
    refused(TimeCutSplit(horizon="2h"), match="horizon must be a positive number, .* got '2h'")
    refused(TimeCutSplit(horizon=-1.0), match="horizon must be a positive number")
    refused(TimeCutSplit(horizon=2), days, match="horizon must be a positive duration")
    refused(TimeCutSplit(horizon="-2h"), days, match="horizon must be a positive duration")
    refused(TimeCutSplit(horizon="soon"), days, match="horizon must be a positive duration")


def test_cuts_that_leave_nothing():
    refused(
        TimeCutSplit(cutoffs=[-1.0]),
        error=DataError,
        match=r"cutoff -1.0 leaves nothing to train: the first time",
    )
    refused(
        TimeCutSplit(cutoffs=[5.0, 99.0]),
        error=DataError,
        match="cutoff 99.0 leaves nothing to test: no series",
    )
    refused(
        TimeCutSplit(cutoffs=[5.0], horizon=1e-3),
        error=DataError,
        match="within a horizon of 0.001; .*longer",
    )
    refused(
        TimeCutSplit(9, horizon=9.0), error=DataError, match="9 horizons of 9.0 do not fit into times from"
    )
    single = pd.DataFrame({"id": ["a", "b"], "time": [1.0, 2.0]})
    refused(
        TimeCutSplit(1, per_series=True),
        single,
        DataError,
        "cutoff 0.5 of each series' span leaves nothing to test",
    )


# --- both


@pytest.mark.parametrize("horizon", [None, 4.0])
def test_the_past_of_some_and_the_future_of_others(horizon):
    df = ragged()
    splitter = SeriesTimeCutSplit(2, cutoffs=CUTOFFS, horizon=horizon, random_state=3)
    found = splits(splitter, df)
    folds = [set(df["id"].iloc[list(test)]) for _, test in splits(SeriesKFold(2, random_state=3), df)]
    assert len(found) == splitter.get_n_splits() == 4
    for place, (train, test) in enumerate(found):
        past, both = by_hand(df, CUTOFFS[place // 2], horizon)
        members = folds[place % 2]
        assert train == {row for row in past if df["id"].iloc[row] not in members}
        assert test == {row for row in both if df["id"].iloc[row] in members}


def test_arguments_of_both():
    with pytest.raises(ValueError, match="n_splits must be an int of at least 2"):
        SeriesTimeCutSplit(1)
    with pytest.raises(
        ValueError, match="SeriesTimeCutSplit: n_cutoffs must be an int of at least 1, or None"
    ):
        SeriesTimeCutSplit(2, n_cutoffs=0)
    with pytest.raises(ValueError, match="n_cutoffs=1 and 2 cutoffs do not agree"):
        SeriesTimeCutSplit(2, n_cutoffs=1, cutoffs=CUTOFFS)
    early, late = pd.DataFrame({"id": "a", "time": [0.0, 1.0]}), pd.DataFrame({"id": "b", "time": [5.0, 6.0]})
    both = pd.concat([early, late])
    refused(
        SeriesTimeCutSplit(2, cutoffs=[5.0]), both, DataError, "in fold ., cutoff 5.0 leaves nothing to test"
    )
    refused(
        SeriesTimeCutSplit(2, cutoffs=[0.5], shuffle=False), both, DataError, "nothing to train in fold 0"
    )
    four = pd.concat([early, early.assign(id="c")])
    refused(
        SeriesTimeCutSplit(2, cutoffs=[0.3, 0.6]),
        four,
        DataError,
        "cutoff 0.6 adds no training row to the one before",
    )
