"""Bins of the time since each series' last known row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latentode.exceptions import DataError
from latentode.metrics import horizon_bins, mae

TRUTH = pd.DataFrame(
    {"id": ["a", "b", "a", "b", "a", "b"], "time": [5.0, 12.0, 4.0, 11.0, 7.0, 30.0], "x": np.arange(6.0)}
)
CONTEXTS = pd.DataFrame({"id": ["b", "a", "b", "a"], "time": [10.0, 4.0, 3.0, 1.0]})
# elapsed: 1, 2, 0, 1, 3, 20
EXPECTED = [0, 0, -1, 0, 1, -1]


@pytest.mark.parametrize(
    "since",
    [
        CONTEXTS,
        {"a": 4.0, "b": 10.0},
        pd.Series({"b": 10.0, "a": 4.0, "z": 0.0}),
        CONTEXTS.astype({"id": "category"}),
    ],
    ids=["contexts", "mapping", "series", "categories"],
)
def test_bins_hold_their_upper_end(since):
    bins = horizon_bins(TRUTH, since, [0, 2, 5])
    assert bins.codes.tolist() == EXPECTED
    assert bins.ordered
    assert list(bins.categories) == [pd.Interval(0, 2), pd.Interval(2, 5)]


@pytest.mark.parametrize("zone", [None, "Europe/Zurich"])
@pytest.mark.parametrize("unit", ["s", "ns"])
def test_datetimes(zone, unit):
    def dated(table):
        hours = pd.to_timedelta(table["time"], unit="h")
        return table.assign(
            time=(pd.Timestamp("2026-03-28", tz=zone) + hours).astype(f"datetime64[{unit}{zoned}]")
        )

    zoned = f", {zone}" if zone else ""
    for edges in ([pd.Timedelta(0), pd.Timedelta("2h"), pd.Timedelta("5h")], ["0h", "2h", "5h"]):
        bins = horizon_bins(dated(TRUTH), dated(CONTEXTS), edges)
        assert bins.codes.tolist() == EXPECTED
        assert bins.categories[1] == pd.Interval(pd.Timedelta("2h"), pd.Timedelta("5h"))


def test_a_score_per_horizon():
    found = mae(TRUTH, TRUTH.assign(x=0.0), by=horizon_bins(TRUTH, CONTEXTS, [0, 2, 5]))
    assert found.tolist() == [(0 + 1 + 3) / 3, 4.0]
    assert found.index[0] == pd.Interval(0, 2)


def test_other_names_an_open_end_and_nullable_numbers():
    named = {"id": "patient", "time": "hour"}
    bins = horizon_bins(
        TRUTH.rename(columns=named).astype({"hour": "Float64"}),
        CONTEXTS.rename(columns=named),
        [0, 2, np.inf],
        id_col="patient",
        time_col="hour",
    )
    assert bins.codes.tolist() == [0, 0, -1, 0, 1, 1]


def test_what_does_not_fit():
    with pytest.raises(DataError, match="since has no time for series 'b'"):
        horizon_bins(TRUTH, {"a": 1.0}, [0, 1])
    with pytest.raises(DataError, match="since has more than one time for a series"):
        horizon_bins(TRUTH, pd.Series([1.0, 2.0, 3.0], index=["a", "a", "b"]), [0, 1])
    with pytest.raises(DataError, match=r"table has no column 'day', only .* id_col= and time_col="):
        horizon_bins(TRUTH, CONTEXTS, [0, 1], time_col="day")
    with pytest.raises(DataError, match="of two kinds"):
        horizon_bins(TRUTH, {"a": pd.Timestamp("2026-01-01"), "b": pd.Timestamp("2026-01-01")}, [0, 1])
    with pytest.raises(ValueError, match="edges must be numbers, as the times are; got"):
        horizon_bins(TRUTH, CONTEXTS, ["0h", "1h"])
    days = TRUTH.assign(time=pd.Timestamp("2026-01-01"))
    with pytest.raises(ValueError, match="edges must be durations"):
        horizon_bins(days, days, [0, 1])
    for edges in ([1], [2, 1], [0, 0], [0, np.nan]):
        with pytest.raises(ValueError, match="two borders at least, increasing"):
            horizon_bins(TRUTH, CONTEXTS, edges)
