"""Set a of PhysioNet 2012 against a plain line-by-line reading of its files, where they are at hand."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from latentode.datasets import PHYSIONET2012_CHANNELS, fetch_physionet2012

HOME = Path(os.environ.get("LATENTODE_DATA_HOME") or "/nonexistent")
ARCHIVE = HOME / "physionet2012" / "set-a.tar.gz"

pytestmark = pytest.mark.skipif(
    not ARCHIVE.exists(), reason="LATENTODE_DATA_HOME is not set, or has no physionet2012/set-a.tar.gz"
)


@pytest.fixture(scope="module")
def stays():
    return fetch_physionet2012(sets=("a",), descriptors_as_series=True)


@pytest.fixture(scope="module")
def texts():
    with tarfile.open(ARCHIVE) as archive:
        return {int(Path(m.name).stem): archive.extractfile(m).read().decode() for m in archive if m.isfile()}


UNKNOWN = re.compile(r"^00:00,\w+,-1$", re.MULTILINE)


def measurements(stay: int, text: str) -> list[tuple[int, int, str, float]]:
    """Every line of a stay as (stay, minute, parameter, value), but for its number and what is unknown."""
    found = []
    for line in UNKNOWN.sub("", text).splitlines()[2:]:
        if line:
            clock, parameter, value = line.split(",")
            found.append((stay, int(clock[:2]) * 60 + int(clock[3:]), parameter, float(value)))
    return found


def test_every_measurement_of_every_tenth_stay_is_in_its_place(stays, texts):
    chosen = list(texts)[::10]
    wanted = sorted(cell for stay in chosen for cell in measurements(stay, texts[stay]))
    data = stays.data[stays.data["id"].isin(chosen)]
    row, column = np.nonzero(data.iloc[:, 2:].notna().to_numpy())
    found = zip(
        data["id"].to_numpy()[row].tolist(),
        np.rint(data["time"].to_numpy()[row] * 60).astype(int).tolist(),
        np.array(data.columns[2:])[column].tolist(),
        data.iloc[:, 2:].to_numpy()[row, column].tolist(),
        strict=True,
    )
    assert sorted(found) == wanted


def test_every_stay_has_as_many_cells_as_its_file_has_measurements(stays, texts):
    wanted = {stay: text.count("\n") - 2 - len(UNKNOWN.findall(text)) for stay, text in texts.items()}
    cells = stays.data.iloc[:, 2:].notna().sum(axis=1)
    assert cells.groupby(stays.data["id"]).sum().to_dict() == wanted


def test_times_lie_in_48_hours_at_whole_minutes_and_do_not_decrease(stays):
    data = stays.data
    assert data["time"].between(0, 48).all()
    np.testing.assert_allclose(data["time"] * 60, np.rint(data["time"] * 60), atol=1e-9)
    assert data.groupby("id", sort=False)["time"].is_monotonic_increasing.all()
    assert data["id"].is_monotonic_increasing


def test_counts_of_the_published_description(stays):
    assert len(stays.outcomes) == len(stays.descriptors) == 4000
    assert stays.outcomes["id"].equals(stays.descriptors["id"])
    assert len(stays.unnamed) == 0
    assert set(stays.data["id"]) == set(stays.outcomes["id"])  # descriptors are known for every stay
    assert stays.outcomes["In-hospital_death"].sum() == 554
    measured = stays.data[list(PHYSIONET2012_CHANNELS)].notna().any(axis=1)
    assert 3 <= 4000 - stays.data.loc[measured, "id"].nunique() <= 6


def test_descriptors_have_no_marker_of_missing_values_left(stays):
    descriptors = stays.descriptors.drop(columns="id")
    assert (descriptors >= 0).to_numpy().sum() == descriptors.notna().to_numpy().sum()
    assert descriptors["Age"].between(15, 90).all()
    assert set(descriptors["ICUType"]) == {1, 2, 3, 4}
