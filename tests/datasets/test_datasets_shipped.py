"""The CO2 record against its card and its source, and the way the data files travel."""

from __future__ import annotations

import doctest
import runpy
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from latentode.datasets import load_co2, shipped

ROOT = Path(__file__).resolve().parents[2]


def test_co2_has_one_row_a_week():
    table = load_co2()
    assert list(table.columns) == ["id", "time", "co2"]
    assert set(table["id"]) == {"mauna_loa"}
    assert table["time"].dtype == np.dtype("datetime64[ns]")
    assert table["co2"].dtype == np.float64
    weeks = pd.date_range("1958-03-29", "2001-12-29", freq="7D")
    np.testing.assert_array_equal(table["time"], weeks)


def test_co2_values_and_gaps():
    table = load_co2()
    gaps = table["co2"].isna()
    assert gaps.sum() == 59
    assert not gaps.iloc[[0, -1]].any()
    assert table["co2"].between(310, 375).sum() == len(table) - 59
    by_year = table.set_index("time")["co2"].resample("YE").mean()
    assert 0.5 < by_year.diff().mean() < 2  # published growth of those decades: 0.7 to 1.7 ppm a year


def test_co2_equals_its_source():
    source = pytest.importorskip(
        "statsmodels.datasets", reason="statsmodels is needed only for this comparison"
    )
    expected = source.co2.load_pandas().data
    table = load_co2()
    np.testing.assert_array_equal(table["time"], expected.index)
    np.testing.assert_array_equal(table["co2"], expected["co2"])


def test_co2_script_writes_the_same_bytes(tmp_path):
    pytest.importorskip("statsmodels", reason="statsmodels is needed only to make the file again")
    script = shutil.copy(ROOT / "datasets/co2/make.py", tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "co2.csv").read_bytes() == (ROOT / "datasets/co2/co2.csv").read_bytes()


def test_every_data_folder_has_a_card_and_a_script():
    folders = [path for path in (ROOT / "datasets").iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        card = (folder / "README.md").read_text()
        assert all(f"**{fact}**" in card for fact in ("Source", "Licence", "Made by")), folder
        assert (folder / "make.py").exists()


def test_missing_file_says_what_to_do():
    with pytest.raises(
        FileNotFoundError, match=r"co2/absent\.csv is missing from this installation of latentode"
    ):
        shipped.shipped_file("co2", "absent.csv")


def test_installed_files_come_before_those_of_a_checkout(tmp_path, monkeypatch):
    (tmp_path / "files" / "co2").mkdir(parents=True)
    (tmp_path / "files" / "co2" / "co2.csv").write_text("time,co2\n2000-01-01,1.5\n")
    monkeypatch.setattr(shipped, "files", lambda package: tmp_path)
    assert load_co2()["co2"].tolist() == [1.5]


def test_packages_of_the_wheel_are_those_of_the_tree():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "latentode").rglob("*.py")}
    in_tree = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    listed = set(setuptools["packages"])
    assert listed == in_tree | {"latentode.datasets.files"}, (
        "list every package of the tree in pyproject.toml"
    )
    assert setuptools["package-dir"] == {"latentode.datasets.files": "datasets"}
    shipped_globs = setuptools["package-data"]["latentode.datasets.files"]
    for path in (ROOT / "datasets").rglob("*"):
        if path.is_file() and path.suffix not in {".py", ".pyc"}:
            relative = path.relative_to(ROOT / "datasets")
            assert any(relative.match(glob) for glob in shipped_globs), (
                f"{relative} would not reach the wheel"
            )


def test_examples_in_the_docstring():
    result = doctest.testmod(shipped)
    assert result.attempted > 0
    assert result.failed == 0
