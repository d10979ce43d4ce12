"""`fetch_pbc`: the published visits, verified."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentode.datasets import fetch_pbc
from latentode.datasets.pbc import FILE
from latentode.exceptions import DataError

HOME = os.environ.get("LATENTODE_DATA_HOME")
needs_data = pytest.mark.skipif(
    HOME is None or not (Path(HOME) / FILE).exists(), reason="no pbc/pbcseq.csv in LATENTODE_DATA_HOME"
)


@needs_data
def test_it_is_what_was_published():
    """Counts of Fleming and Harrington, appendix D, and of the help page of R's `pbcseq`."""
    visits = fetch_pbc()
    assert visits["id"].nunique() == 312
    assert len(visits) == 1945
    patients = visits.groupby("id").first()
    assert (patients["status"] == 2).sum() == 140
    assert (patients["trt"] == 1).sum() == 158
    assert (visits.groupby("id")["time"].min() == 0).all()
    assert visits.groupby("id")[["trt", "age", "sex", "futime", "status"]].nunique().max().max() == 1


@needs_data
def test_its_columns():
    visits = fetch_pbc()
    assert list(visits.columns[:2]) == ["id", "time"]
    assert set(np.unique(visits["edema"])) == {0.0, 0.5, 1.0}
    assert visits["chol"].isna().any()
    assert visits.select_dtypes("number").shape[1] == 18


@needs_data
def test_the_data_home_may_be_named(tmp_path):
    (tmp_path / "pbc").mkdir()
    (tmp_path / FILE).write_bytes((Path(HOME) / FILE).read_bytes())
    pd.testing.assert_frame_equal(fetch_pbc(data_home=tmp_path), fetch_pbc())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "pbc").mkdir()
    (tmp_path / FILE).write_text("id,day\n1,0\n")
    with pytest.raises(
        DataError, match=r"pbcseq\.csv is not usable: its sha256 is .*Delete it to have it downloaded"
    ):
        fetch_pbc(data_home=tmp_path)
