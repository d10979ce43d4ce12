"""The sequential visits of the Mayo Clinic trial in primary biliary cholangitis."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pandas as pd

from latentode.datasets.download import data_home as data_home_folder
from latentode.datasets.download import fetch
from latentode.exceptions import DataError

URL = "https://vincentarelbundock.github.io/Rdatasets/csv/survival/pbcseq.csv"
FILE = Path("pbc") / "pbcseq.csv"
DIGEST = "03aca2f2e449c388b14ec130383654a09d91240f85f935ce364d206c8e848aed"


def fetch_pbc(*, data_home: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """312 patients with a liver disease, 1,945 visits over up to 14 years, laboratory values with gaps.

    A small clinical data set in its usual shape: few visits, at irregular times, values that are skewed (take
    logarithms of `bili`, `chol`, `alk.phos`, `ast`) and sometimes missing. The file of 150 kB is downloaded once; if it
    is already in the data home, no network is needed. Every call verifies it.

    Parameters
    ----------
    data_home : path, optional
        Folder that holds, or will hold, `pbc/pbcseq.csv`. By default the environment variable LATENTODE_DATA_HOME, else
        the user's cache folder.

    Returns
    -------
    DataFrame
        Long table, one row per visit: `id` (1 to 312), `time` (days since the first visit), then as published
        `ascites`, `hepato`, `spiders` (0 or 1), `edema` (0, 0.5 or 1), `bili` [mg/dl], `chol` [mg/dl], `albumin`
        [g/dl], `alk.phos` [U/l], `ast` [U/ml], `platelet` [per nl/1000], `protime` [s], `stage` (1 to 4), and of each
        patient `trt` (1 D-penicillamine, 2 placebo), `age` [years], `sex` ("f", "m"), `futime` [days from the first
        visit to the end of watching] and `status` (then: 0 alive, 1 transplanted, 2 dead). NaN = not known.

    Raises
    ------
    DataError
        If the file is not the published one. A bad download is not kept.
    OSError
        If the file is missing and cannot be downloaded; the message says where to put it by hand.

    References
    ----------
    Fleming and Harrington (1991), "Counting processes and survival analysis"; Therneau, R package survival (`pbcseq`);
    as distributed by Rdatasets.
    """
    visits = fetch(data_home_folder(data_home) / FILE, URL, _read)
    return visits.drop(columns="rownames").rename(columns={"day": "time"})[_order(visits)]


def _order(visits: pd.DataFrame) -> list[str]:
    of_patients = ["trt", "age", "sex", "futime", "status"]
    known = {"rownames", "id", "day", *of_patients}
    return ["id", "time", *(name for name in visits.columns if name not in known), *of_patients]


def _read(path: Path) -> pd.DataFrame:
    found = sha256(path.read_bytes()).hexdigest()
    if found != DIGEST:
        raise DataError(f"its sha256 is {found}, that of the published file is {DIGEST}")
    return pd.read_csv(path)
