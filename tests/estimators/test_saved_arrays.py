"""Estimators on arrays in files: what was saved comes back bit by bit, and no other content is taken for a model."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from small_models import assert_same_weights, small, spirals
from small_nets import BLOCKS, TINY, classifier, clouds, line, regressor, stripes
from test_persistence import assert_same_model
from test_saved_hostile import DAMAGE, VALUES, Payload, _peak_memory, _places
from torch import Tensor, nn

from latentode import LatentODEClassifier, LatentODERegressor, ODENetClassifier, ODENetRegressor, storage
from latentode.checks import OneOf, That, Whole
from latentode.estimators.array_estimator import ArrayEstimator
from latentode.estimators.row_batches import Rows
from latentode.estimators.saved_file import KINDS
from latentode.exceptions import ModelFileError, SolverError
from latentode.models.row_loss import RowLoss

ROOT = str(Path(__file__).resolve().parents[2])
every_block = pytest.mark.parametrize("block", BLOCKS)


def through_file(model: Any, folder: Path, **options: Any) -> Any:
    model.save(folder / "model.latentode")
    return type(model).load(folder / "model.latentode", **options)


@pytest.fixture(scope="module")
def fitted() -> ODENetClassifier:
    return classifier(block="ode", max_epochs=1).fit(*clouds())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return tmp_path / "bad.latentode"


# --- there and back


@every_block
def test_a_loaded_classifier_is_the_one_that_was_saved(block, tmp_path):
    X, y = clouds()
    model = classifier(block=block, max_epochs=1).fit(X, y)
    back = through_file(model, tmp_path, device="cpu")
    assert_same_model(model.set_params(device="cpu"), back)
    for name in ("predict", "predict_proba", "decision_function", "evaluations"):
        np.testing.assert_array_equal(getattr(back, name)(X), getattr(model, name)(X))


@every_block
@pytest.mark.parametrize("shape", [(6, 6), (2, 4, 8)], ids=str)
def test_images_too(shape, block, tmp_path):
    X, y = stripes(shape=shape)
    model = classifier(block=block, augment_dim=1, max_epochs=1).fit(X, y)
    back = through_file(model, tmp_path)
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ValueError, match="images like those of fit"):
        back.predict(X[0])


@every_block
@pytest.mark.parametrize("n_targets", [0, 1, 3])
def test_a_loaded_regressor_is_the_one_that_was_saved(n_targets, block, tmp_path):
    X, y = line()
    targets = 1e6 + (np.stack([y] * n_targets, axis=1) if n_targets else y)
    model = regressor(block=block, max_epochs=1).fit(X, targets)
    back = through_file(model, tmp_path)
    assert_same_model(model, back)
    assert back.predict(X).shape == targets.shape
    np.testing.assert_array_equal(back.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "tsit5", "gradient": "adjoint", "tolerance": 0.1},
        {"solver": "rk4", "step_size": 0.2},
        {"block": "rk", "solver": "heun2", "activation": "silu", "depth": 3},
        {"augment_dim": np.int64(2), "hidden_dim": np.int32(4), "random_state": np.int64(3)},
        {"validation_fraction": 0, "class_weight": {0: 1.0, 1: 2.0}},
        {"class_weight": "balanced", "early_stopping": False},
    ],
    ids=str,
)
def test_parameters_come_back(params, tmp_path):
    X, y = clouds()
    model = classifier(**{"block": "ode", "max_epochs": 1, "batch_size": 48, **params}).fit(X, y)
    back = through_file(model, tmp_path)
    assert back.get_params() == model.get_params()
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "names",
    [
        (False, True),
        ("left", "right"),
        (3, 7),
        (-1.0, 1.0),
        np.array(["a", "longer"], dtype=object),
        ("é", "ü"),
    ],
    ids=str,
)
def test_classes_come_back_in_their_types(names, tmp_path):
    X, y = clouds()
    model = classifier(max_epochs=1).fit(X, np.asarray(names)[y])
    back = through_file(model, tmp_path)
    assert back.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(back.classes_, model.classes_)
    np.testing.assert_array_equal(back.predict(X), model.predict(X))


def test_names_of_features_come_back(tmp_path):
    X, y = clouds()
    df = pd.DataFrame(X, columns=["a", "b"])
    back = through_file(classifier(max_epochs=1).fit(df, y), tmp_path)
    assert back.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="feature names should match"):
        back.predict(df[["b", "a"]])


@pytest.mark.slow
def test_answers_in_another_process(fitted, tmp_path):
    X = clouds(seed=1).X
    fitted.save(tmp_path / "m")
    np.save(tmp_path / "X.npy", X)
    script = (
        "import sys, torch, numpy as np; from latentode import ODENetClassifier\n"
        "folder = sys.argv[1]; torch.set_num_threads(1)\n"
        "model = ODENetClassifier.load(folder + '/m', device='cpu')\n"
        "np.save(folder + '/answer.npy', model.predict_proba(np.load(folder + '/X.npy')))\n"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=environment)
    np.testing.assert_array_equal(np.load(tmp_path / "answer.npy"), fitted.predict_proba(X))


def test_a_loaded_model_is_used_as_any_other(fitted, tmp_path):
    X, y = clouds()
    back = through_file(fitted, tmp_path)
    assert clone(back).get_params() == fitted.get_params()
    assert_same_model(through_file(back, tmp_path), fitted)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(back)).predict(X), fitted.predict(X))
    assert_same_weights(
        back.set_params(max_epochs=1).fit(X, y), classifier(block="ode", max_epochs=1).fit(X, y)
    )
    back.plot_history().figure.clear()


def test_parameters_that_are_set_after_fit_change_no_answer(fitted, tmp_path):
    X = clouds().X
    model = copy.deepcopy(fitted).set_params(hidden_dim=5, block="resnet", tolerance=0.5)
    back = through_file(model, tmp_path)
    assert back.get_params() == model.get_params()
    np.testing.assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))


def test_what_no_file_holds_is_none_afterwards(tmp_path):
    given = {
        "callbacks": [print],
        "random_state": np.random.default_rng(0),
        "checkpoint_dir": tmp_path / "runs",
    }
    with contextlib.redirect_stdout(None):
        back = through_file(classifier(max_epochs=1, **given).fit(*clouds()), tmp_path)
    assert [getattr(back, name) for name in given] == [None, None, None]


def test_the_device_is_the_one_asked_for(fitted, tmp_path):
    model = copy.deepcopy(fitted).set_params(device="cuda")  # as of a training on another machine
    assert through_file(model, tmp_path, device="cpu").device == "cpu"
    assert ODENetClassifier.load(tmp_path / "model.latentode").device == "auto"
    with pytest.raises(ValueError, match="device must be 'auto' or one that torch has"):
        ODENetClassifier.load(tmp_path / "model.latentode", device="abacus")


def test_a_reader_finds_the_metrics_of_the_kept_epoch(fitted, tmp_path):
    fitted.save(tmp_path / "m")
    header = storage.read(tmp_path / "m").header
    kept = fitted.history_[fitted.history_["epoch"] == fitted.best_epoch_].iloc[0]
    assert header["metrics"]["validation_loss"] == kept["validation_loss"]
    assert header["kind"] == "ODENetClassifier"
    assert set(header["versions"]) == {"latentode", "torch", "numpy", "pandas", "python"}


class Extended(ODENetRegressor):
    """A subclass, which a file calls by the name of its base."""


def test_a_subclass_loads_as_itself(tmp_path):
    X, y = line()
    model = Extended(**TINY).fit(X, y)
    assert type(through_file(model, tmp_path)) is Extended
    assert ODENetRegressor.load(tmp_path / "model.latentode").predict(X).shape == (40,)


def test_the_class_of_a_file_is_named(fitted, tmp_path):
    fitted.save(tmp_path / "net")
    small(max_epochs=1).fit(spirals(6, 6)).save(tmp_path / "table")
    text = r"it holds an ODENetClassifier: load it with ODENetClassifier\.load"
    for other in (ODENetRegressor, LatentODERegressor, LatentODEClassifier):
        with pytest.raises(ModelFileError, match=text):
            other.load(tmp_path / "net")
    with pytest.raises(ModelFileError, match=r"load it with LatentODERegressor\.load"):
        ODENetClassifier.load(tmp_path / "table")


def test_every_estimator_that_saves_is_known_by_name():
    """So that each names the class of each other's files."""
    import latentode

    saving = {name for name in latentode.__all__ if hasattr(getattr(latentode, name), "save")}
    assert saving <= set(KINDS)
    assert {"ODENetClassifier", "ODENetRegressor", "LatentODERegressor", "LatentODEClassifier"} <= saving


# --- saving that fails


def test_an_unfitted_model_has_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        classifier().save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.set_params(lr=-1.0), "lr must be a number greater than 0; got -1.0"),
        (
            lambda m: m.set_params(class_weight={b"a": 1.0}),
            "the parameter class_weight cannot be saved: b'a'",
        ),
        (lambda m: setattr(m, "classes_", np.array([1j, 2j])), "the learned classes cannot be saved: "),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(change, message, fitted, tmp_path):
    model = copy.deepcopy(fitted)
    change(model)
    with pytest.raises(ValueError, match=message):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_neither_the_model_nor_the_old_file(fitted, tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    fitted.save(tmp_path / "m")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: nothing was saved, .* still in memory"):
        copy.deepcopy(fitted).set_params(lr=0.5).save(tmp_path / "m")
    monkeypatch.undo()
    assert ODENetClassifier.load(tmp_path / "m").lr == fitted.lr


# --- damaged files


@pytest.fixture(scope="module")
def good(fitted: ODENetClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "model.latentode"
    fitted.save(path)
    return path


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_no_damaged_file_loads_silently_wrong(damage, good, bad, fitted):
    """Each of 210 is refused, or the damage hit nothing."""
    rng, data, X = random.Random(damage.__name__), good.read_bytes(), clouds().X
    answer, refused = fitted.decision_function(X), 0
    for _ in range(30):
        bad.write_bytes(damage(data, rng))
        try:
            model = ODENetClassifier.load(bad)
        except ModelFileError:
            refused += 1
        else:
            np.testing.assert_array_equal(model.decision_function(X), answer)
    assert refused > 24


# --- headers that somebody made, with a checksum that fits

Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


def plan(name: str, value: Any) -> Change:
    return lambda header, _: header["plan"].update({name: value})


def fact(name: str, value: Any) -> Change:
    return lambda header, _: header["facts"].update({name: value})


def top(name: str, value: Any) -> Change:
    return lambda header, _: header.update({name: value})


def parameter(name: str, value: Any) -> Change:
    return lambda header, _: header["parameters"].update({name: value})


def both(*changes: Change) -> Change:
    return lambda header, tensors: [change(header, tensors) for change in changes]


def names(*values: Any, dtype: str = "|O") -> dict[str, Any]:
    return {"array": {"dtype": dtype, "values": list(values)}}


HOSTILE: dict[str, tuple[Change, str]] = {
    "a huge width": (plan("hidden_dim", 10**9), "the model needs"),
    "a width beyond all memory": (plan("hidden_dim", 10**18), "cannot be loaded"),
    "a width of text": (plan("hidden_dim", "8"), "plan: hidden_dim must be an int of at least 1; got '8'"),
    "a negative width": (plan("hidden_dim", -1), "hidden_dim must be an int of at least 1; got -1"),
    "a huge room": (plan("augment_dim", 10**12), "cannot be loaded"),
    "a huge depth": (plan("depth", 10**9), "more than 10,000 layers cannot be loaded"),
    "another depth": (plan("depth", 2), "has no tensor|the model needs"),
    "many blocks of many layers": (
        both(plan("block", "resnet"), plan("n_blocks", 5000), plan("depth", 5000)),
        "more than 10,000 layers",
    ),
    "another block": (plan("block", "resnet"), "has no tensor|has an unknown tensor"),
    "an unknown block": (
        plan("block", "os.system"),
        "block must be one of 'ode', 'rk', 'resnet'; got 'os.system'",
    ),
    "an unknown solver": (plan("solver", "eval"), "solver must be one of"),
    "an unknown gradient": (plan("gradient", "eval"), "gradient must be one of"),
    "an unknown activation": (plan("activation", "eval"), "activation must be one of"),
    "fixed steps of no size": (plan("solver", "rk4"), "fixed steps have no step_size"),
    "steps of 0": (plan("step_size", 0.0), "step_size must be a number greater than 0, or None"),
    "a tolerance of 0": (plan("tolerance", 0), "tolerance must be a number greater than 0"),
    "a shape of text": (plan("shape", "2"), "shape must be the shape of an input"),
    "a shape of two axes": (plan("shape", [2, 2]), "shape must be the shape of an input"),
    "a shape of nothing": (plan("shape", [0]), "shape must be the shape of an input"),
    "another shape": (plan("shape", [1, 2, 2]), "inputs and their scales differ in number"),
    "a huge shape": (plan("shape", [10**9]), "inputs and their scales differ in number"),
    "outputs of any number": (plan("n_outputs", 10**9), "outputs and their scales differ in number"),
    "scales of another number": (plan("mean", [1.0]), "inputs and their scales differ in number"),
    "scales of text": (plan("mean", ["1", "2"]), "mean must be a list of finite numbers"),
    "scales of 0": (plan("std", [0.0, 1.0]), "std must be a list of positive numbers"),
    "scales beyond float": (plan("mean", [10**400, 1.0]), "OverflowError|mean must be"),
    "scales of yes": (plan("std", [True, True]), "std must be a list of positive numbers"),
    "negative target scales": (
        plan("target_std", [-1.0, 1.0]),
        "target_std must be a list of positive numbers",
    ),
    "an entry too many": (plan("surprise", 1), "the plan has entries"),
    "an entry too few": (lambda header, _: header["plan"].pop("depth"), "the plan has entries"),
    "a plan of a list": (top("plan", [1]), "cannot be loaded"),
    "no plan": (lambda header, _: header.pop("plan"), "KeyError: 'plan'"),
    "an entry of an unknown type": (plan("depth", {"code": "x"}), "expected one key of"),
    "facts of a list": (top("facts", []), "cannot be loaded"),
    "a fact too many": (fact("surprise", 1), "values of wrong types, or unknown ones"),
    "a fact too few": (lambda header, _: header["facts"].pop("classes"), "KeyError: 'classes'"),
    "one class": (fact("classes", names(1, dtype="<i8")), "two or more, in increasing order"),
    "classes in disorder": (fact("classes", names(2, 1, dtype="<i8")), "two or more, in increasing order"),
    "classes of a list": (fact("classes", [1, 2]), "two or more, in increasing order"),
    "three classes": (
        fact("classes", names(1, 2, 3, dtype="<i8")),
        "classes and the outputs differ in number",
    ),
    "classes that do not compare": (fact("classes", names(1, "a")), "TypeError"),
    "classes of an unknown dtype": (fact("classes", names(1, 2, dtype="V99999999")), "unknown dtype"),
    "features of any number": (fact("n_features_in", 10**9), "input_shape is no shape of an input"),
    "features of text": (fact("n_features_in", "2"), "n_features_in is no number of features"),
    "names of another number": (
        fact("feature_names_in", names("a")),
        "features and their names differ in number",
    ),
    "names that are numbers": (
        fact("feature_names_in", names(1, 2)),
        "the names of the features are no texts",
    ),
    "names of a list": (fact("feature_names_in", ["a", "b"]), "the names of the features are no texts"),
    "inputs of another shape": (fact("input_shape", [2, 1]), "input_shape is not the one of the plan"),
    "inputs of text": (fact("input_shape", "2"), "input_shape is no shape of an input"),
    "inputs of four axes": (fact("input_shape", [2, 1, 1, 1]), "input_shape is no shape of an input"),
    "an unknown parameter": (parameter("__class__", "x"), "unknown parameter '__class__'"),
    "a parameter out of range": (
        parameter("batch_size", 0),
        "batch_size must be an int of at least 1; got 0",
    ),
    "a parameter of the class out of range": (parameter("block", "x"), "block must be one of"),
    "parameters of a list": (top("parameters", ["lr"]), "cannot be loaded"),
    "a best epoch": (top("best_epoch", "first"), "best_epoch is no epoch"),
    "a reason": (top("stop_reason", 1), "stop_reason is no text"),
    "a history of text": (top("history", "abc"), "cannot be loaded"),
    "a shorter history": (
        lambda header, _: header["history"].pop(),
        "columns of the history and their names",
    ),
    "another kind": (top("kind", "os.system"), "it holds no ODENetClassifier, but 'os.system'"),
    "no kind": (lambda header, _: header.pop("kind"), "it holds no ODENetClassifier, but 'None'"),
    "the kind of its sister": (top("kind", "ODENetRegressor"), r"load it with ODENetRegressor\.load"),
    "no version": (lambda header, _: header.pop("format_version"), "which is no number"),
    "a later version": (top("format_version", 999), "install a later latentode"),
    "a version before there were any": (top("format_version", 1), "cannot be loaded"),
    "a weight of NaN": (lambda _, tensors: _first(tensors).fill_(torch.nan), "are not finite"),
    "a weight of infinity": (lambda _, tensors: _first(tensors).fill_(torch.inf), "are not finite"),
    "weights of another type": (
        lambda _, tensors: tensors.update(
            {n: t.double() for n, t in tensors.items() if n.startswith("weights.")}
        ),
        "the model needs",
    ),
    "a weight too many": (
        lambda _, tensors: tensors.update({"weights.posix.system": torch.zeros(1)}),
        "has an unknown tensor 'weights.posix.system'",
    ),
    "a weight too few": (
        lambda _, tensors: tensors.pop("weights.head.bias"),
        "has no tensor 'weights.head.bias'",
    ),
    "no tensors": (lambda _, tensors: tensors.clear(), "cannot be loaded"),
}


def _first(tensors: Mapping[str, Tensor]) -> Tensor:
    return next(tensor for name, tensor in tensors.items() if name.startswith("weights."))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused(case, good, bad):
    change, message = HOSTILE[case]
    tensors, header = storage.read(good)
    change(header, tensors)
    storage.write(bad, tensors, header)
    before = _peak_memory()
    with pytest.raises(ModelFileError, match=message):
        ODENetClassifier.load(bad)
    assert _peak_memory() - before < 200 * 2**20


@pytest.mark.parametrize("single", [None, 1, "yes", True], ids=str)
def test_hostile_facts_of_a_regressor(single, bad):
    X, y = line()
    regressor(max_epochs=1).fit(X, np.stack([y, y], axis=1)).save(bad)
    tensors, header = storage.read(bad)
    header["facts"]["single"] = single
    storage.write(bad, tensors, header)
    with pytest.raises(ModelFileError, match="single is not what the outputs say"):
        ODENetRegressor.load(bad)


def test_any_change_of_any_value_is_refused_or_leaves_a_model(good, bad):
    """A changed value that is as good as the old one makes another model; it must then work, or say why not."""
    rng, refused = random.Random(0), 0
    text = json.dumps(storage.read(good).header)
    places = [path for path in _places(json.loads(text)) if path[0] not in ("metrics", "versions")]
    for _ in range(120):
        tensors, header = storage.read(good)
        *way, last = rng.choice(places)
        at = header
        for key in way:
            at = at[key]
        at[last] = rng.choice(VALUES)
        storage.write(bad, tensors, header)
        try:
            model = ODENetClassifier.load(bad)
        except ModelFileError:
            refused += 1
            continue
        if way[:1] in (["plan"], ["facts"]):
            with contextlib.suppress(ValueError, SolverError), np.errstate(all="ignore"):
                assert model.predict_proba(clouds().X).shape == (48, 2)
    assert refused > 60


def test_a_pickle_runs_nothing(bad, tmp_path):
    bad.write_bytes(pickle.dumps(Payload(tmp_path / "marker")))
    with pytest.raises(ModelFileError, match="it is a pickle"):
        ODENetClassifier.load(bad)
    assert not (tmp_path / "marker").exists()


# --- modules of a user


class Line(nn.Module):
    """x -> field(x), for the estimator below."""

    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field


class LineFit(ArrayEstimator):
    """The smallest estimator whose module may have a part of the user's."""

    _constraints = {  # noqa: RUF012
        "field": (OneOf(["linear"]), That(lambda value: isinstance(value, nn.Module), "a module"))
    }
    _plan_constraints = {"field": (OneOf(["linear"]),), "width": (Whole(1),)}  # noqa: RUF012
    _own_parts = ("field",)

    def __init__(
        self, *, field: str | nn.Module = "linear", max_epochs: int = 1, batch_size: int = 10, lr: float = 0.1,
        early_stopping: bool = True, patience: int | None = None, callbacks: Any = None, checkpoint_dir: Any = None,
        device: str = "cpu", random_state: Any = 0, verbose: int = 0,
    ) -> None:  # fmt: skip
        self.field = field
        self.max_epochs, self.batch_size, self.lr = max_epochs, batch_size, lr
        self.early_stopping, self.patience, self.callbacks = early_stopping, patience, callbacks
        self.checkpoint_dir, self.device, self.random_state = checkpoint_dir, device, random_state
        self.verbose = verbose

    @staticmethod
    def _build(plan: Mapping[str, Any], generator: torch.Generator) -> nn.Module:
        own = plan["field"]
        return Line(nn.Linear(plan["width"], 1) if own == "linear" else copy.deepcopy(own))

    def fit(self, X: Any) -> LineFit:
        self._check_parameters()
        self.n_features_in_ = X.shape[1]

        def loss(module: nn.Module, batch: Rows, generator: torch.Generator) -> RowLoss:
            return RowLoss(module.field(batch[0]).square().mean(), {}, len(batch[0]))

        rows = (torch.as_tensor(X, dtype=torch.float32),)
        self._train({"field": self.field, "width": X.shape[1]}, loss, rows, None, self._beginning([X]))
        return self


def own_field(width: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(width, 3), nn.Tanh(), nn.Linear(3, 1))


def test_a_field_of_ones_own_is_given_again_and_takes_the_weights(tmp_path):
    model, field = LineFit(field=own_field()).fit(clouds().X), own_field()
    before = copy.deepcopy(field.state_dict())
    back = through_file(model, tmp_path, device="cpu", field=field)
    assert back.field is field
    assert_same_weights(back, model)
    assert all(torch.equal(value, before[name]) for name, value in field.state_dict().items())
    assert_same_weights(through_file(back, tmp_path, field=field), model)


def test_fields_that_are_missing_or_not_needed_or_do_not_fit(tmp_path):
    LineFit(field=own_field()).fit(clouds().X).save(tmp_path / "own")
    LineFit().fit(clouds().X).save(tmp_path / "named")
    assert LineFit.load(tmp_path / "named").field == "linear"
    with pytest.raises(ValueError, match=r"fitted with field= a module of your own.*load\(path, field="):
        LineFit.load(tmp_path / "own")
    with pytest.raises(ValueError, match="has no field of your own: leave field= out"):
        LineFit.load(tmp_path / "named", field=own_field())
    with pytest.raises(ValueError, match=r"field must be an nn\.Module; got str"):
        LineFit.load(tmp_path / "own", field="linear")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="the field given is not the one of the training: the file has"
    ) as caught:
        LineFit.load(tmp_path / "own", field=own_field(3))
    assert not isinstance(caught.value, ModelFileError)  # the file is good


def test_parts_that_a_class_does_not_have(good):
    with pytest.raises(
        TypeError, match=r"ODENetClassifier\.load has no parameter 'field'; its parameters are path"
    ):
        ODENetClassifier.load(good, field=own_field())
    with pytest.raises(TypeError, match=r"has no parameter 'devise' \(did you mean 'device'\?\)"):
        ODENetClassifier.load(good, devise="cpu")  # type: ignore[arg-type]


class Unchecked(LineFit):
    """Whose author forgot what a plan allows: nothing of a file would be checked, so no file is made."""

    _plan_constraints = {}  # noqa: RUF012


def test_a_plan_without_constraints_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"the plan has entries \['field', 'width'\], and needs \[\]"):
        Unchecked().fit(clouds().X).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())
