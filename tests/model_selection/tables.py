"""Small long tables for splitters, and what a splitter should do with them, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def ragged(seed: int = 0, n_series: int = 7) -> pd.DataFrame:
    """Series of different lengths, begins and ends, one with a single row, in random order of rows, ties included."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in range(n_series):
        n_rows = 1 if name == 3 else int(rng.integers(4, 15))
        time = np.round(rng.uniform(0, 3) + np.sort(rng.uniform(0, 10, n_rows)), 1)
        parts.append(pd.DataFrame({"id": f"s{name}", "time": time, "x": np.sin(time), "y": np.cos(time)}))
    return pd.concat(parts).sample(frac=1, random_state=seed)


def dated(df: pd.DataFrame, zone: str | None = None) -> pd.DataFrame:
    """The same table with an hour as the unit of time."""
    start = pd.Timestamp("2026-03-28 20:00", tz=zone)  # in Zurich, clocks skip an hour in that night
    return df.assign(time=start + pd.to_timedelta(np.round(df["time"] * 3600), unit="s"))


def as_sets(split: tuple[Any, Any]) -> tuple[set[int], set[int]]:
    """Rows of both parts, each of which holds a row once."""
    train, test = (part.tolist() for part in split)
    assert len(set(train)) == len(train)
    assert len(set(test)) == len(test)
    return set(train), set(test)


def by_hand(df: pd.DataFrame, cut: Any, horizon: Any = None) -> tuple[set[int], set[int]]:
    """Training and test rows of a cut in time (a time, or one per id), written down row by row."""
    cut_of = cut if isinstance(cut, dict) else dict.fromkeys(df["id"], cut)
    past, future = set(), set()
    for row, (name, time) in enumerate(zip(df["id"], df["time"])):
        if time <= cut_of[name]:
            past.add(row)
        elif horizon is None or time <= cut_of[name] + horizon:
            future.add(row)
    ids = df["id"].tolist()
    tested = {ids[row] for row in past} & {ids[row] for row in future}
    return past, {row for row in past | future if ids[row] in tested}
