"""A model that was saved and loaded is the model that was saved: attribute by attribute, bit by bit."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small_models import small, spirals, waves
from torch import Tensor, nn

from latentode import LatentODEClassifier, LatentODERegressor, storage
from latentode.exceptions import ModelFileError
from latentode.nn.encoders import ENCODERS
from latentode.nn.fields import FIELDS
from latentode.nn.normal import Normal


def assert_same(one: Any, other: Any, where: str) -> None:
    """Equality in type and value, deep into modules, tables and objects of ours."""
    assert type(one) is type(other), where
    if isinstance(one, nn.Module):
        assert str(one) == str(other), where
        assert one.training == other.training, where
        assert_same(dict(one.state_dict()), dict(other.state_dict()), where)
        plain = [{k: v for k, v in vars(m).items() if not k.startswith("_")} for m in (one, other)]
        assert_same(*plain, where)
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype, where
        assert one.device == other.device, where
        assert torch.equal(one, other), where
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
    elif isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for name in one:
            assert_same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for position, parts in enumerate(zip(one, other)):
            assert_same(*parts, f"{where}[{position}]")
    elif is_dataclass(one):
        assert_same(vars(one), vars(other), where)
    else:
        assert one == other, where


NOT_IN_FILES = {"seen_until_", "_roles"}  # ids of the training, which may be patients


def assert_same_model(one: Any, other: Any) -> None:
    """Whatever `fit` leaves is there again; an attribute that a file does not hold fails here."""
    mine, theirs = vars(one), vars(other)
    mine, theirs = ({n: value for n, value in of.items() if n not in NOT_IN_FILES} for of in (mine, theirs))
    assert set(mine) == set(theirs)
    for name in mine:
        assert_same(mine[name], theirs[name], name)


def through_file(model: Any, folder: Path, **options: Any) -> Any:
    model.save(folder / "model.latentode")
    return type(model).load(folder / "model.latentode", **options)


def rich_table() -> pd.DataFrame:
    """Targets of every kind, a static column with a gap, a control, and measurement errors."""
    df = spirals()
    df = df.assign(
        label=np.where(df["x"] > 0, "a", "b"),
        count=df["y"].abs().round(),
        flag=df["x"] > 0,
        age=(df["id"] % 3).astype(float),
        drive=np.sin(df["time"]),
        sigma=0.1,
    )
    df.loc[df["id"] == 2, "age"] = np.nan
    return df


def typed_names() -> pd.DataFrame:
    return spirals().rename(columns={"x": ("pos", 1), "y": 2, "id": 0})


def datetimes(zone: str | None, unit: str) -> pd.DataFrame:
    df = spirals()
    return df.assign(
        time=(pd.Timestamp("2020-03-28", tz=zone) + pd.to_timedelta(df["time"], unit="D")).dt.as_unit(unit)
    )


TARGETS = ["x", "label", "count", "flag"]
KINDS = {"label": "categorical", "count": "negative_binomial", "flag": "bernoulli"}
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    **{
        f"{encoder} {field}": ({"encoder": encoder, "field": field}, spirals)
        for encoder in ENCODERS
        for field in FIELDS
    },
    "gaussian, errors": ({"target_cols": ["x", "y"], "error_cols": {"x": "sigma"}}, rich_table),
    "student_t": ({"likelihood": "student_t", "anchor": "start"}, spirals),
    "heteroscedastic": ({"likelihood": "gaussian_heteroscedastic", "depth": 1}, spirals),
    "mixed": ({"target_cols": TARGETS, "likelihood": KINDS}, rich_table),
    "static and controls": (
        {"target_cols": ("x", "y"), "static_cols": ["age"], "control_cols": pd.Index(["drive"])},
        rich_table,
    ),
    "events": ({"event_times": "poisson_per_target", "time_dependent": True}, spirals),
    "windows": ({"window": 16.0, "scaler": "series"}, waves),
    "robust, no validation": ({"scaler": "robust", "validation_fraction": 0, "context": 0.5}, spirals),
    "time zone": ({"window": pd.Timedelta("2D")}, lambda: datetimes("Europe/Berlin", "ns")),
    "datetimes": ({"window": "2D"}, lambda: datetimes(None, "s")),
    "typed names": ({"id_col": 0, "likelihood": {("pos", 1): "student_t"}}, typed_names),
    "numpy numbers": (
        {"latent_dim": np.int64(2), "rtol": np.float64(1e-2), "random_state": np.int64(3)},
        spirals,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loaded_regressor_is_the_one_that_was_saved(case, tmp_path):
    params, make = CASES[case]
    df = make()
    model = small(**{"max_epochs": 1, **params}).fit(df)
    back = through_file(model, tmp_path)
    if case != "numpy numbers":  # which are Python's afterwards
        assert_same_model(model, back)
    pd.testing.assert_frame_equal(back.predict(df), model.predict(df), check_exact=True)
    kept = [name for name, kind in model.likelihoods_.items() if kind not in ("categorical",)]
    if len(kept) == len(model.likelihoods_):
        pd.testing.assert_frame_equal(
            back.predict_quantiles(df), model.predict_quantiles(df), check_exact=True
        )


@pytest.mark.parametrize("labels_per", ["series", "row"])
@pytest.mark.parametrize("names", [(False, True), ("left", "right"), (3, 7), (-0.5, 0.5)], ids=str)
def test_a_loaded_classifier_is_the_one_that_was_saved(names, labels_per, tmp_path):
    df = spirals()
    value = df.groupby("id")["x"].mean() if labels_per == "series" else df["x"]
    labels = (value > value.median()).map({False: names[0], True: names[1]})
    shared = LatentODEClassifier().get_params().keys() & small().get_params().keys()
    model = LatentODEClassifier(
        labels_per=labels_per,
        class_weight="balanced" if isinstance(names[0], float) else {names[0]: 2.0, names[1]: 1.0},
        **{name: small(max_epochs=1).get_params()[name] for name in shared} | {"context": "all"},
    ).fit(df, labels)
    back = through_file(model, tmp_path)
    assert_same_model(model, back)
    pd.testing.assert_frame_equal(back.predict_proba(df), model.predict_proba(df), check_exact=True)
    pd.testing.assert_series_equal(back.predict(df), model.predict(df))


def test_predictions_in_another_process(fitted, table, tmp_path):
    fitted.save(tmp_path / "m")
    np.save(tmp_path / "table.npy", table.to_numpy(dtype=np.float64))
    script = (
        "import sys, torch, numpy as np, pandas as pd; from latentode import LatentODERegressor\n"
        "folder = sys.argv[1]; torch.set_num_threads(1)\n"
        "df = pd.DataFrame(np.load(folder + '/table.npy'), columns=['id', 'time', 'x', 'y'])\n"
        "model = LatentODERegressor.load(folder + '/m', device='cpu')\n"
        "np.save(folder + '/answer.npy', model.predict(df, times=[0.5, 30.0]).to_numpy())\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, env={**os.environ, "PYTHONPATH": ROOT}
    )
    expected = fitted.predict(table, times=[0.5, 30.0]).to_numpy(dtype=np.float64)
    np.testing.assert_array_equal(np.load(tmp_path / "answer.npy"), expected)


ROOT = str(Path(__file__).resolve().parents[2])


def test_a_loaded_model_is_used_as_any_other(fitted, table, tmp_path):
    back = through_file(fitted, tmp_path)
    assert back.get_params() == fitted.get_params()
    assert clone(back).get_params() == fitted.get_params()
    again = through_file(back, tmp_path)
    assert_same_model(again, fitted)
    refitted, fresh = (
        back.set_params(max_epochs=1).fit(table),
        small(lr=0.03, piece_warmup=0, max_epochs=1).fit(table),
    )
    pd.testing.assert_frame_equal(refitted.predict(table), fresh.predict(table), check_exact=True)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: joblib.load(_dumped(model)),
    ],
    ids=["deepcopy", "pickle", "joblib"],
)
def test_other_ways_to_copy_keep_working(copied, fitted, table):
    pd.testing.assert_frame_equal(copied(fitted).predict(table), fitted.predict(table), check_exact=True)


def _dumped(model: Any) -> Any:
    import io

    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return file


def test_parameters_that_are_set_after_fit_are_kept_and_change_no_prediction(fitted, table, tmp_path):
    model = copy.deepcopy(fitted).set_params(latent_dim=5, anchor="start", encoder="odernn", lr=0.5)
    back = through_file(model, tmp_path)
    assert back.get_params() == model.get_params()
    pd.testing.assert_frame_equal(back.predict(table), fitted.predict(table), check_exact=True)


def test_what_no_file_holds_is_none_afterwards(table, tmp_path):
    model = small(max_epochs=1, callbacks=[lambda record: None], random_state=np.random.default_rng(0)).fit(
        table
    )
    back = through_file(model, tmp_path)
    assert back.callbacks is None
    assert back.random_state is None
    pd.testing.assert_frame_equal(back.predict(table), model.predict(table), check_exact=True)


def test_the_device_is_the_one_asked_for(fitted, table, tmp_path):
    model = copy.deepcopy(fitted).set_params(device="cuda")  # as of a training on another machine
    back = through_file(model, tmp_path, device="cpu")
    assert back.device == "cpu"
    assert next(back.model_.parameters()).device.type == "cpu"
    assert LatentODERegressor.load(tmp_path / "model.latentode").device == "auto"
    with pytest.raises(ValueError, match="device must be 'auto' or one that torch has"):
        LatentODERegressor.load(tmp_path / "model.latentode", device="abacus")


def test_a_history_of_any_length_and_odd_columns(fitted, tmp_path):
    model = copy.deepcopy(fitted)
    n = 20_000
    model.history_ = pd.DataFrame(
        {
            "epoch": np.arange(n),
            "loss": np.full(n, np.nan),
            "stage": ["a", None] * (n // 2),
            "good": [True] * n,
        }
    )
    back = through_file(model, tmp_path)
    pd.testing.assert_frame_equal(back.history_, model.history_)


def test_a_reader_finds_the_metrics_of_the_kept_epoch(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    header = storage.read(tmp_path / "m").header
    kept = fitted.history_[fitted.history_["epoch"] == fitted.best_epoch_].iloc[0]
    assert header["metrics"]["validation_loss"] == kept["validation_loss"]
    assert set(header["versions"]) == {"latentode", "torch", "numpy", "pandas", "python"}


class OwnEncoder(nn.Module):
    """The mean of what was observed, and a linear layer; two of its parts share a weight, one is a mask."""

    def __init__(self, n_features: int, latent_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, latent_dim)
        self.same = self.layer
        self.register_buffer("mask", torch.tensor([-torch.inf, 0.0]))

    def forward(self, times: Tensor, values: Tensor, mask: Tensor, lengths: Tensor) -> Normal:
        mean = self.layer(values.sum(1) / mask.sum(1).clamp(min=1))
        return Normal(mean, torch.ones_like(mean))


class OwnField(nn.Module):
    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(latent_dim, latent_dim)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.layer(z)) - z


@pytest.fixture
def own(table: pd.DataFrame) -> LatentODERegressor:
    """Fitted with an encoder and a field of a user."""
    return small(max_epochs=2, encoder=OwnEncoder(2, 3), field=OwnField(3)).fit(table)


def test_own_parts_are_given_again_and_take_the_weights(own, table, tmp_path):
    encoder, field = OwnEncoder(2, 3), OwnField(3)
    before = copy.deepcopy(encoder.state_dict())
    back = through_file(own, tmp_path, encoder=encoder, field=field)
    pd.testing.assert_frame_equal(back.predict(table), own.predict(table), check_exact=True)
    assert back.encoder is encoder
    assert back.field is field
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert back.model_.encoder.same is back.model_.encoder.layer


def test_own_parts_that_are_missing_or_not_needed(own, fitted, tmp_path):
    own.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"fitted with encoder= a module of your own.*load\(path, encoder="):
        LatentODERegressor.load(tmp_path / "m", field=OwnField(3))
    with pytest.raises(ValueError, match=r"encoder must be an nn\.Module; got str"):
        LatentODERegressor.load(tmp_path / "m", field=OwnField(3), encoder="gru")  # type: ignore[arg-type]
    fitted.save(tmp_path / "m")
    with pytest.raises(ValueError, match="has no field of your own: leave field= out"):
        LatentODERegressor.load(tmp_path / "m", field=OwnField(3))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (
            lambda: OwnField(4),
            r"the field given is not the one.*layer.bias' of shape \(3,\) torch.float32, and the",
        ),
        (lambda: OwnField(3).double(), r"the field given is not the one.*needs \(3,\) torch.float64"),
        (
            lambda: nn.Identity(),
            "the field given is not the one of the training: the file has an unknown tensor",
        ),
        (lambda: nn.Sequential(OwnField(3)), "the field given is not the one of the training"),
    ],
    ids=["shape", "dtype", "without", "names"],
)
def test_own_parts_that_do_not_fit(field, message, own, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        through_file(own, tmp_path, encoder=OwnEncoder(2, 3), field=field())
    assert not isinstance(caught.value, ModelFileError)  # the file is good


def test_an_own_part_with_a_state_that_is_no_tensor(own, tmp_path):
    own.model_.field.get_extra_state = lambda: {"a": 1}
    type(own.model_.field).get_extra_state = lambda self: {"a": 1}
    try:
        with pytest.raises(ValueError, match=r"'field\._extra_state' of a module is no tensor, but dict"):
            own.save(tmp_path / "m")
    finally:
        del type(own.model_.field).get_extra_state
    assert not list(tmp_path.iterdir())


class Extended(LatentODERegressor):
    """A subclass, which a file calls by the name of its base."""


def test_a_subclass_loads_as_itself(table, tmp_path):
    model = Extended(**small(max_epochs=1).get_params()).fit(table)
    assert type(through_file(model, tmp_path)) is Extended


def test_the_class_of_a_file_is_named(fitted, table, tmp_path):
    fitted.save(tmp_path / "m")
    with pytest.raises(
        ModelFileError, match=r"it holds a LatentODERegressor: load it with LatentODERegressor\.load"
    ):
        LatentODEClassifier.load(tmp_path / "m")


def test_an_unfitted_model_has_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        small().save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"id_col": b"id"},
            "the parameter id_col cannot be saved: b'id', of type bytes, has no form in a file",
        ),
        ({"lr": -1.0}, "lr must be a number greater than 0; got -1.0"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(params, message, fitted, tmp_path):
    with pytest.raises(ValueError, match=message):
        copy.deepcopy(fitted).set_params(**params).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_neither_the_model_nor_the_old_file(fitted, table, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    answer = fitted.predict(table)
    fitted.save(tmp_path / "m")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: nothing was saved, .* still in memory"):
        copy.deepcopy(fitted).set_params(lr=0.5).save(tmp_path / "m")
    monkeypatch.undo()
    pd.testing.assert_frame_equal(fitted.predict(table), answer, check_exact=True)
    assert LatentODERegressor.load(tmp_path / "m").lr == fitted.lr


def test_any_name_is_good_and_a_tilde_is_not_expanded(fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~").mkdir()
    for name in ("model", "~/model.latentode", "ünïcode model.bin"):
        fitted.save(name)
        assert (tmp_path / name).is_file()
        assert LatentODERegressor.load(name).latent_dim == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_trained_on_a_gpu_and_loaded_without(table, tmp_path):
    model = small(max_epochs=2, device="cuda").fit(table)
    on_gpu = through_file(model, tmp_path, device="cuda")
    pd.testing.assert_frame_equal(on_gpu.predict(table), model.predict(table), check_exact=True)
    script = "import sys, torch; from latentode import LatentODERegressor; m = LatentODERegressor.load(sys.argv[1])\n"
    script += "assert not torch.cuda.is_available() and next(m.model_.parameters()).device.type == 'cpu'"
    env = {**os.environ, "PYTHONPATH": ROOT, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "model.latentode")], check=True, env=env)
    on_cpu = through_file(model, tmp_path, device="cpu")
    for name, weight in on_cpu.model_.state_dict().items():
        assert torch.equal(weight, model.model_.state_dict()[name].cpu())


def test_folders_of_this_machine_stay_on_it(table, tmp_path):
    model = small(max_epochs=1, checkpoint_dir=tmp_path / "runs").fit(table)
    assert through_file(model, tmp_path).checkpoint_dir is None
