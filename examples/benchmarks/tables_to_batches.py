"""Seconds from a long table to padded batches: 8,000 intensive-care stays, 600,000 rows, 37 targets."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from latentode.series import SeriesLoader, TableLayout, TimeScale, ValueScaler, scale_table


def make_stays(n_stays: int, n_rows: int, n_targets: int, rng: np.random.Generator) -> pd.DataFrame:
    """Stays of 48 hours with rows in random order; four in five cells were not observed."""
    values = rng.normal(size=(n_rows, n_targets))
    values[rng.random(values.shape) < 0.8] = np.nan
    df = pd.DataFrame(values, columns=[f"x{i}" for i in range(n_targets)])
    df.insert(0, "time", np.round(rng.uniform(0, 48, n_rows), 2))
    df.insert(0, "id", rng.permutation(np.arange(n_rows) % n_stays))
    return df


def main(quick: bool = False) -> float:
    """Time the way from the table to the last batch of one epoch; returns the seconds in total."""
    n_stays, n_rows = (80, 6_000) if quick else (8_000, 600_000)
    rng = np.random.default_rng(0)
    df = make_stays(n_stays, n_rows, 37, rng)
    begin = time.perf_counter()
    table = TableLayout.infer(df).read(df, require_observed=True)
    read = time.perf_counter()
    scaled = scale_table(table, TimeScale.fit(table), ValueScaler.fit(table, "standard"))
    scale = time.perf_counter()
    n_cells = sum(int(batch.mask.sum()) for _, batch in SeriesLoader(scaled, 50, rng=rng))
    end = time.perf_counter()
    print(f"{n_stays} stays, {n_rows} rows, {n_cells} observed cells")
    print(f"read {read - begin:.2f} s, scale {scale - read:.2f} s, batches {end - scale:.2f} s")
    print(f"total {end - begin:.2f} s")
    return end - begin


if __name__ == "__main__":
    main()
