"""Files of every format version so far load, and answer as they did when they were made."""

from __future__ import annotations

import json
from pathlib import Path

import make_saved_model as made
import numpy as np
import pandas as pd
import pytest
from small_models import small, spirals

from latentode import LatentODEClassifier, LatentODERegressor, storage
from latentode.estimators import saved_model
from latentode.exceptions import ModelFileError
from latentode.storage import Stored

FILES = Path(__file__).parent / "files"
OTHER_MACHINE = 1e-5  # float32 products add in another order on another processor; answers are of order 1
VERSIONS = range(1, saved_model.FORMAT_VERSION + 1)


def assert_answers(found: dict, path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if isinstance(values[0], str):
            assert found[name] == values
        else:
            np.testing.assert_allclose(found[name], values, rtol=OTHER_MACHINE, atol=OTHER_MACHINE)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_regressor_of_an_earlier_version(version):
    path = FILES / f"regressor_version_{version}.latentode"
    model = LatentODERegressor.load(path, device="cpu")
    assert_answers(made.answers_of_regressor(model), path)
    assert model.static_cols == [7]
    assert len(model.history_) == 3


@pytest.mark.parametrize("version", VERSIONS)
def test_a_classifier_of_an_earlier_version(version):
    path = FILES / f"classifier_version_{version}.latentode"
    model = LatentODEClassifier.load(path, device="cpu")
    assert_answers(made.answers_of_classifier(model), path)
    assert model.classes_.tolist() == [False, True]


def test_the_files_are_small():
    assert all(path.stat().st_size < 50_000 for path in FILES.iterdir())


@pytest.fixture
def before_upgrade(tmp_path: Path) -> tuple[LatentODERegressor, Path]:
    """A model, and a file of it in a made-up version 0, where the history was called differently."""
    model = small(max_epochs=1).fit(spirals())
    model.save(tmp_path / "now")
    tensors, header = storage.read(tmp_path / "now")
    header["log"] = header.pop("history")
    storage.write(tmp_path / "old", tensors, {**header, "format_version": 0})
    return model, tmp_path / "old"


def test_an_earlier_version_is_upgraded_step_by_step(before_upgrade, monkeypatch):
    model, path = before_upgrade

    def rename_history(stored: Stored) -> Stored:
        header = dict(stored.header)
        return Stored(stored.tensors, {**header, "history": header.pop("log")})

    monkeypatch.setitem(saved_model.UPGRADES, 0, rename_history)
    back = LatentODERegressor.load(path)
    pd.testing.assert_frame_equal(back.history_, model.history_)


def test_a_version_without_an_upgrade_is_refused(before_upgrade):
    with pytest.raises(ModelFileError, match=r"has version 0, which latentode 0\.\S+ no longer reads"):
        LatentODERegressor.load(before_upgrade[1])


@pytest.mark.parametrize(
    ("version", "message"),
    [(3, "reads versions up to 2: install a later latentode"), ("1", "is no number"), (True, "is no number")],
)
def test_a_later_version_and_no_version(version, message, before_upgrade):
    _, path = before_upgrade
    tensors, header = storage.read(path)
    storage.write(path, tensors, {**header, "format_version": version})
    with pytest.raises(ModelFileError, match=message):
        LatentODERegressor.load(path)


def test_a_parameter_that_came_later_than_the_file_has_its_default(before_upgrade):
    model, path = before_upgrade
    model.save(path)
    tensors, header = storage.read(path)
    del header["parameters"]["patience"]
    storage.write(path, tensors, header)
    assert LatentODERegressor.load(path).patience is None
