"""Data that come with the package: `datasets/` of the checkout, `latentode.datasets.files` once installed."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd


def load_co2() -> pd.DataFrame:
    """Weekly CO2 in the air at Mauna Loa, 1958-2001: one long series with a trend, a season and gaps.

    Good for trying windows, extrapolation and `scaler="series"` on a record that leaves its own past range;
    with a single series there is nothing to share between series.

    Returns
    -------
    DataFrame
        2,284 rows, one a week: `id` ("mauna_loa"), `time` (datetime64[ns], Saturdays, no time zone), `co2`
        (parts per million by volume, the week's mean). The 59 weeks without a measurement are rows with NaN,
        which means "not observed"; `dropna()` makes them gaps in time instead.

    Raises
    ------
    FileNotFoundError
        If the installation lacks its data files.

    References
    ----------
    Keeling, Whorf (2004). Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO
    network. In Trends: A Compendium of Data on Global Change. Public domain; card in `datasets/co2`.

    Examples
    --------
    >>> from latentode.datasets import load_co2
    >>> table = load_co2()
    >>> table.shape, int(table["co2"].isna().sum())
    ((2284, 3), 59)
    """
    with shipped_file("co2", "co2.csv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, dtype={"co2": "float64"})
    # pandas 2 and 3 parse to different units of time; name one
    table["time"] = pd.to_datetime(table["time"], format="%Y-%m-%d").astype("datetime64[ns]")
    table.insert(0, "id", "mauna_loa")
    return table


def shipped_file(*path: str) -> Traversable:
    """A data file by its folder and name, for example `shipped_file("co2", "co2.csv")`."""
    found = _root().joinpath(*path)
    if not found.is_file():
        raise FileNotFoundError(
            f"the data file {'/'.join(path)} is missing from this installation of latentode: install it again"
        )
    return found


def _root() -> Traversable:
    installed = files("latentode.datasets").joinpath("files")
    # a source tree and an editable installation have the folder at the top of the checkout only
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "datasets"
