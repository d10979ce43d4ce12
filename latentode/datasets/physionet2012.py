"""The intensive-care stays of the PhysioNet/Computing in Cardiology Challenge 2012."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from latentode.datasets.download import data_home as data_home_folder
from latentode.datasets.download import fetch
from latentode.exceptions import DataError

URL = "https://physionet.org/files/challenge-2012/1.0.0/"
FOLDER = "physionet2012"
DIGESTS = {  # sha256 over the records in the order of their names, each as name + NUL + content
    "a": "dc1deb9244ed0caf0189f8e4e8c771ff2431cf1988569cc00aaba1fb203aac97",
    "b": "76c6685f4220e3ec380546cf02d54519d3674223ef70bf5b354c74a92f4b3d18",
    "c": "7b76881bf30eb39b2bbdf0aeebf541c58b5a546fa4e700efa10b1442abd62932",
}
N_RECORDS = 4000  # in every set

# fmt: off
PHYSIONET2012_CHANNELS = (
    "Albumin", "ALP", "ALT", "AST", "Bilirubin", "BUN", "Cholesterol", "Creatinine", "DiasABP", "FiO2",
    "GCS", "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "Mg", "MAP", "MechVent", "Na", "NIDiasABP",
    "NIMAP", "NISysABP", "PaCO2", "PaO2", "pH", "Platelets", "RespRate", "SaO2", "SysABP", "Temp",
    "TroponinI", "TroponinT", "Urine", "WBC", "Weight",
)
# fmt: on
DESCRIPTORS = ("Age", "Gender", "Height", "ICUType", "Weight")  # of the stay, written at 00:00; -1 is missing
OUTCOMES = ("SAPS-I", "SOFA", "Length_of_stay", "Survival", "In-hospital_death")


class PhysioNet2012(NamedTuple):
    """Intensive-care stays as tables; `id` is the RecordID in all of them.

    Attributes
    ----------
    data : DataFrame
        Long table `id` (int), `time` (hours since admission, at 1 minute), the 37 channels (float, NaN = not
        measured); sorted by time within a stay. A parameter with several values in one minute has
        several rows at that time. Stays without any measurement have no row.
    outcomes : DataFrame
        One row per stay, as published: `id`, `SAPS-I`, `SOFA`, `Length_of_stay` (days), `Survival` (days
        until death; -1 = no death on record), `In-hospital_death` (0 or 1). Elsewhere -1 = unknown.
    descriptors : DataFrame
        One row per stay: `id`, `Age` (years), `Gender` (0 female, 1 male), `Height` (cm), `ICUType`
        (1 coronary, 2 cardiac surgery recovery, 3 medical, 4 surgical), `Weight` (kg, the first one at
        00:00); NaN = unknown.
    unnamed : DataFrame
        The values that carry no parameter name (2,403 in set c, none in a and b): `id`, `time`, `value`.
    """

    data: pd.DataFrame
    outcomes: pd.DataFrame
    descriptors: pd.DataFrame
    unnamed: pd.DataFrame


def fetch_physionet2012(
    sets: str | Sequence[str] = ("a", "b"),
    *,
    data_home: str | os.PathLike[str] | None = None,
    descriptors_as_series: bool = False,
) -> PhysioNet2012:
    """The first 48 hours of 4,000 to 12,000 intensive-care stays: sparse, irregular, 37 channels.

    The usual real-data test of models for irregular series. The values are as recorded: physically impossible
    ones exist (pH 735, Temp -17.8, DiasABP -1 in set c), and limits for them are the reader's choice. Each
    set is about 7 MB to download, once; afterwards, and if the files are already in the data home, no network
    is needed. Every call verifies the content.

    Parameters
    ----------
    sets : sequence of str
        Any of "a", "b", "c", in the order wanted.
    data_home : path, optional
        Folder that holds, or will hold, `physionet2012/set-a.tar.gz`, `physionet2012/Outcomes-a.txt` and so
        on. By default the environment variable LATENTODE_DATA_HOME, else the user's cache folder.
    descriptors_as_series : bool
        Whether `data` gets Age, Gender, Height and ICUType as four more columns, observed at time 0 (the 41
        attributes of the latent-ODE papers). Weight is a channel in both cases; its -1 at 00:00 stands for
        missing and is no observation.

    Returns
    -------
    PhysioNet2012
        The tables `data`, `outcomes`, `descriptors` and `unnamed`. With all sets, a handful of stays have
        outcomes and descriptors but no measurement, and so no rows in `data`.

    Raises
    ------
    ValueError
        If `sets` names no set, an unknown one, or one twice.
    DataError
        If a file is corrupt, cut short or not the published one. A bad download is not kept.
    OSError
        If a file is missing and cannot be downloaded; the message says where to put it by hand.

    References
    ----------
    Silva, Moody, Scott, Celi, Mark (2012). Predicting in-hospital mortality of ICU patients: the
    PhysioNet/Computing in Cardiology Challenge 2012. Goldberger et al. (2000). PhysioBank, PhysioToolkit, and
    PhysioNet. The data are under the Open Data Commons Attribution License 1.0.
    """
    sets = _checked_sets(sets)
    folder = data_home_folder(data_home) / FOLDER
    records: list[bytes] = []
    outcomes = []
    for name in sets:
        of_set = _fetch_records(folder, name)
        outcomes.append(_fetch_outcomes(folder, name, list(of_set)))
        records += of_set.values()
    stays, rows = parse_records(records)
    columns = PHYSIONET2012_CHANNELS + (DESCRIPTORS[:4] if descriptors_as_series else ())
    return PhysioNet2012(
        data=series_table(stays, rows, columns),
        outcomes=pd.concat(outcomes, ignore_index=True),
        descriptors=_descriptor_table(stays, rows),
        unnamed=_unnamed_table(stays, rows),
    )


def parse_records(records: list[bytes]) -> tuple[np.ndarray, pd.DataFrame]:
    """RecordIDs (N,) and all measurements as rows `stay` (0 to N-1), `minute`, `parameter`, `value`."""
    body = b"".join(record.partition(b"\n")[2] for record in records)
    rows = pd.read_csv(
        BytesIO(body),
        header=None,
        names=["time", "parameter", "value"],
        dtype="category",  # few distinct texts, each read once; and floats exact in every version of pandas
        keep_default_na=False,  # an empty parameter name is a name here
    )
    clock = rows["time"].cat.categories.str
    minutes = clock[:2].astype("int64") * 60 + clock[3:].astype("int64")
    starts = (rows["parameter"] == "RecordID").to_numpy()  # the first line of every record
    rows["stay"] = np.cumsum(starts) - 1
    rows["minute"] = minutes.to_numpy()[rows["time"].cat.codes]
    rows["value"] = rows["value"].cat.categories.astype("float64").to_numpy()[rows["value"].cat.codes]
    stays = rows["value"].to_numpy()[starts].astype("int64")
    return stays, rows.loc[~starts, ["stay", "minute", "parameter", "value"]]


def series_table(stays: np.ndarray, rows: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The long table of `columns`; the k-th value of a parameter in a minute is in its k-th row."""
    parameters = rows["parameter"].cat
    column = pd.Index(columns).get_indexer(parameters.categories)[parameters.codes]
    kept = (column >= 0) & ~_missing(rows)
    minutes = rows["minute"].to_numpy()[kept]
    n_minutes = minutes.max(initial=0) + 1
    moment = rows["stay"].to_numpy()[kept] * n_minutes + minutes
    column, value = column[kept], rows["value"].to_numpy()[kept]
    repeat = _occurrence(moment * len(columns) + column)
    n_repeats = repeat.max(initial=0) + 1
    keys, row = np.unique(moment * n_repeats + repeat, return_inverse=True)
    cells = np.full((len(keys), len(columns)), np.nan)
    cells[row, column] = value
    stay, minute = np.divmod(keys // n_repeats, n_minutes)
    table = pd.DataFrame(cells, columns=list(columns))
    table.insert(0, "id", stays[stay])
    table.insert(1, "time", minute / 60.0)
    return table


def _occurrence(key: np.ndarray) -> np.ndarray:
    """How many equal keys stand before each one."""
    order = np.argsort(key, kind="stable")
    position = np.arange(len(key))
    is_first = np.diff(key[order], prepend=-1) != 0
    occurrence = np.empty_like(position)
    occurrence[order] = position - np.maximum.accumulate(np.where(is_first, position, 0))
    return occurrence


def _missing(rows: pd.DataFrame) -> np.ndarray:
    return ((rows["value"] == -1) & (rows["minute"] == 0) & rows["parameter"].isin(DESCRIPTORS)).to_numpy()


def _descriptor_table(stays: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    at_admission = rows[(rows["minute"] == 0) & rows["parameter"].isin(DESCRIPTORS) & ~_missing(rows)]
    first = at_admission.drop_duplicates(["stay", "parameter"]).astype({"parameter": object})
    table = first.pivot(index="stay", columns="parameter", values="value")
    table = table.reindex(index=range(len(stays)), columns=list(DESCRIPTORS)).rename_axis(None, axis=1)
    table.insert(0, "id", stays)
    return table.reset_index(drop=True)


def _unnamed_table(stays: np.ndarray, rows: pd.DataFrame) -> pd.DataFrame:
    unnamed = rows[rows["parameter"] == ""]
    return pd.DataFrame(
        {
            "id": stays[unnamed["stay"]],
            "time": unnamed["minute"].to_numpy() / 60.0,
            "value": unnamed["value"].to_numpy(),
        }
    )


def _fetch_records(folder: Path, name: str) -> dict[int, bytes]:
    """Content of every stay of a set, by RecordID in increasing order."""
    archive = f"set-{name}.tar.gz"
    return fetch(folder / archive, URL + archive, lambda path: read_records(path, DIGESTS[name]))


def _fetch_outcomes(folder: Path, name: str, ids: list[int]) -> pd.DataFrame:
    file = f"Outcomes-{name}.txt"
    return fetch(folder / file, URL + file, lambda path: read_outcomes(path, ids))


def read_records(path: Path, digest: str) -> dict[int, bytes]:
    """The `<RecordID>.txt` members of an archive, whose content must have the given digest."""
    try:
        # unpacked as a whole, because gzip's check sum stands at the end, which tarfile does not read
        with tarfile.open(fileobj=BytesIO(gzip.decompress(path.read_bytes())), mode="r:") as archive:
            found = {
                Path(member.name).name: archive.extractfile(member).read()  # type: ignore[union-attr]
                for member in archive
                if member.isfile() and member.name.endswith(".txt")
            }
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"it is corrupt or cut short ({error})") from error
    if len(found) != N_RECORDS:
        raise DataError(f"it holds {len(found)} records (*.txt) where the published set has {N_RECORDS}")
    records = dict(sorted(found.items()))
    if _digest(records) != digest:
        raise DataError(
            f"its content differs from the published set (sha256 {_digest(records)}, expected {digest})"
        )
    return {int(name.removesuffix(".txt")): content for name, content in records.items()}


def _digest(records: dict[str, bytes]) -> str:
    digest = sha256()
    for name, content in records.items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def read_outcomes(path: Path, ids: list[int]) -> pd.DataFrame:
    """The outcomes of the stays `ids`, which must be exactly those of the file."""
    header = ["RecordID", *OUTCOMES]
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"it is not a table of outcomes ({error})") from error
    if list(table.columns) != header:
        raise DataError(
            f"its first line should be {','.join(header)}; it is {','.join(map(str, table.columns))}"
        )
    if not all(pd.api.types.is_integer_dtype(kind) for kind in table.dtypes):
        raise DataError("it has missing or non-integer outcomes, so it is corrupt or cut short")
    if sorted(table["RecordID"]) != ids:
        known = set(table["RecordID"])
        absent = [i for i in ids if i not in known]
        raise DataError(
            f"it has {len(table)} rows where the set has {len(ids)} stays"
            + (f"; stay {absent[0]} is missing" if absent else "; some are not of this set or repeated")
        )
    return table.set_index("RecordID").loc[ids].reset_index(names="id")


def _checked_sets(sets: str | Sequence[str]) -> tuple[str, ...]:
    names = (sets,) if isinstance(sets, str) else tuple(sets)
    if not names or len(set(names)) != len(names) or not set(names) <= set(DIGESTS):
        raise ValueError(f"sets must name one or more of {', '.join(DIGESTS)}, each once; got {sets!r}")
    return names
