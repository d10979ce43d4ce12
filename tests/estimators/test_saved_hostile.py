"""Damaged, altered and hostile files: none loads silently wrong, none takes much memory, none runs anything."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from small_models import small, spirals
from torch import Tensor

from latentode import LatentODEClassifier, LatentODERegressor, storage
from latentode.exceptions import ModelFileError, SolverError

TIMES = [0.5, 9.0]


@pytest.fixture(scope="module")
def df() -> pd.DataFrame:
    return spirals(6, 6)


@pytest.fixture(scope="module")
def good(df: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a model with a category and event times, so that its header has every part."""
    df = df.assign(c=df["x"] > 0)
    model = small(
        max_epochs=1,
        latent_dim=2,
        hidden_dim=4,
        likelihood={"c": "categorical"},
        target_cols=["x", "c"],
        static_cols=["y"],
        event_times="poisson",
    ).fit(df.assign(y=df["id"] % 2))
    path = tmp_path_factory.mktemp("good") / "model.latentode"
    model.save(path)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return tmp_path / "bad.latentode"


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def with_a_flipped_bit(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def with_noise(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.randrange(1, 200)
    return data[:at] + rng.randbytes(n) + data[at + n :]


def with_a_gap(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 200) :]


def with_an_insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randrange(1, 200)) + data[at:]


def with_swapped_pieces(data: bytes, rng: random.Random) -> bytes:
    n = rng.randrange(1, 64)
    a, b = sorted(rng.sample(range(0, len(data) - n, n), 2))
    return data[:a] + data[b : b + n] + data[a + n : b] + data[a : a + n] + data[b + n :]


def with_another_digit(data: bytes, rng: random.Random) -> bytes:
    """The damage that is hardest to see: a number of the header, still a number."""
    digits = [i for i, byte in enumerate(data) if byte in b"0123456789" and i > 8]
    at = rng.choice(digits)
    other = (int(chr(data[at])) + rng.randrange(1, 10)) % 10
    return data[:at] + str(other).encode() + data[at + 1 :]


DAMAGE = [
    truncated,
    with_a_flipped_bit,
    with_noise,
    with_a_gap,
    with_an_insert,
    with_swapped_pieces,
    with_another_digit,
]
EACH = 75


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_no_damaged_file_loads_silently_wrong(damage, good, bad, df):
    """525 files: each is refused, or the damage hit nothing and the model is the same bit by bit."""
    rng = random.Random(damage.__name__)
    data = good.read_bytes()
    answer = _answer(LatentODERegressor.load(good), df)
    refused = 0
    for _ in range(EACH):
        bad.write_bytes(damage(data, rng))
        try:
            model = LatentODERegressor.load(bad)
        except ModelFileError:
            refused += 1
        else:
            pd.testing.assert_frame_equal(_answer(model, df), answer, check_exact=True)
    assert refused > 0.8 * EACH  # the others: blanks, pieces that are equal


def _answer(model: LatentODERegressor, df: pd.DataFrame) -> pd.DataFrame:
    return model.predict(df.assign(c=df["x"] > 0, y=df["id"] % 2), times=TIMES)


# Headers that somebody made, with a checksum that fits.

Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


def blueprint(name: str, value: Any) -> Change:
    return lambda header, _: header["learned"]["blueprint"].update({name: value})


def learned(part: str, name: str, value: Any) -> Change:
    return lambda header, _: header["learned"][part].update({name: value})


def top(name: str, value: Any) -> Change:
    return lambda header, _: header.update({name: value})


def parameter(name: str, value: Any) -> Change:
    return lambda header, _: header["parameters"].update({name: value})


HOSTILE: dict[str, tuple[Change, str]] = {
    "a huge width": (blueprint("hidden_dim", 10**9), "the model needs"),
    "a width beyond all memory": (blueprint("hidden_dim", 10**18), "cannot be loaded"),
    "a width beyond all integers": (blueprint("latent_dim", 10**30), "cannot be loaded"),
    "a huge encoder": (blueprint("encoder_dim", 10**7), "the model needs"),
    "a huge state": (blueprint("latent_dim", 10**7), "the model needs"),
    "a negative state": (blueprint("latent_dim", -1), "latent_dim must be an int of at least 1; got -1"),
    "a state of text": (blueprint("latent_dim", "8"), "latent_dim must be an int"),
    "a state of yes": (blueprint("latent_dim", True), "latent_dim must be an int"),
    "a huge depth": (blueprint("depth", 10**9), "more than 10,000 layers cannot be loaded"),
    "a large depth": (blueprint("depth", 1000), "has no tensor"),
    "another depth": (blueprint("depth", 1), "has an unknown tensor|the model needs"),
    "inputs of any number": (blueprint("n_static", 10**9), "inputs of the field differ in number"),
    "categories of any number": (
        blueprint("target_facts", [[0.0, 2], [0.5, 10**9]]),
        "the labels of a category differ in number",
    ),
    "a level of text": (
        blueprint("target_facts", [["x", 2], [0.5, 2]]),
        "the level of a target is no number",
    ),
    "too few facts": (blueprint("target_facts", [[0.0, 2]]), "targets and likelihoods differ in number"),
    "an unknown likelihood": (
        blueprint("likelihoods", ["gaussian", "os.system"]),
        "unknown likelihood 'os.system'",
    ),
    "a category without labels": (blueprint("likelihoods", ["categorical"] * 2), "a category has no labels"),
    "an encoder by its module": (blueprint("encoder", "os.system"), "encoder must be one of"),
    "a field of a list": (blueprint("field", ["mlp"]), "field must be one of"),
    "another direction": (blueprint("backwards", True), "anchor and direction of the encoder disagree"),
    "no event rates": (blueprint("event_rates", []), "event_times and the number of event rates disagree"),
    "negative event rates": (blueprint("event_rates", [-1.0]), "event rates must be positive"),
    "an unknown solver": (learned("blueprint", "options", {"solver": "eval"}), "solver must be one of"),
    "an unknown option": (learned("blueprint", "options", {"x": 1}), "TypeError"),
    "a missing part": (lambda header, _: header["learned"].pop("layout"), "KeyError: 'layout'"),
    "a part of the wrong type": (top("learned", [1, 2]), "cannot be loaded"),
    "an unknown field": (blueprint("surprise", 1), "TypeError"),
    "an unknown scaler": (learned("scaler", "kind", "eval"), "unknown scaler 'eval'"),
    "scales of another number": (learned("scaler", "scale", [1.0]), "expected 2 scales"),
    "scales of two axes": (learned("scaler", "scale", [[1.0, 2.0]]), "expected 2 scales"),
    "scales of text": (learned("scaler", "scale", ["1.0", "1.0"]), "values of wrong types"),
    "scales of zero": (learned("scaler", "scale", [1.0, 0.0]), "scales must be positive"),
    "scales beyond float": (learned("scaler", "scale", [1.0, 10**400]), "OverflowError"),
    "scaled categories": (learned("scaler", "scaled", [True, True]), "scaled targets differ"),
    "a time unit of zero": (learned("time_scale", "unit", 0.0), "unit must be a number greater than 0"),
    "a time unit of text": (learned("time_scale", "unit", "1"), "unit must be a number greater than 0"),
    "statics of another number": (learned("covariates", "static_loc", [1.0, 2.0]), "expected 1 scales"),
    "flags of another number": (learned("covariates", "flagged", []), "static columns differ in number"),
    "statics of another name": (learned("covariates", "columns", ["z"]), "static columns differ in name"),
    "one column for all": (learned("layout", "id_col", "time"), "id_col and time_col must differ"),
    "a column that is a list": (learned("layout", "id_col", ["id"]), "TypeError"),
    "no id column": (learned("layout", "id_col", None), "id and time column have no name"),
    "errors of no target": (
        learned("layout", "error_cols", {"mapping": [["z", "s"]]}),
        "error_cols names a column that is no target",
    ),
    "categories of no target": (
        lambda header, _: header["learned"]["layout"]["categories"][0].__setitem__(0, "z"),
        "categories name a column that is no target",
    ),
    "labels that repeat": (
        lambda header, _: header["learned"]["layout"]["categories"][0][1].update(labels=[True, True]),
        "too few or repeated labels",
    ),
    "a way between controls": (
        learned("layout", "control_interpolation", "eval"),
        "control_interpolation must be one of",
    ),
    "a type of times": (
        lambda header, _: header["learned"]["layout"]["clock"].update(dtype="object"),
        "times must be numbers",
    ),
    "a type of times by a path": (
        lambda header, _: header["learned"]["layout"]["clock"].update(
            dtype="datetime64[ns, dateutil//etc/passwd]", kind="datetime", aware=True
        ),
        "is no dtype of times",
    ),
    "times of another kind": (
        lambda header, _: header["learned"]["layout"]["clock"].update(kind="datetime"),
        "is no dtype of datetime times",
    ),
    "an epoch beyond integers": (
        lambda header, _: header["learned"]["layout"]["clock"].update(epoch=10**30),
        "the epoch is no number of seconds",
    ),
    "an anchor": (lambda header, _: header["learned"].update(anchor="middle"), "anchor must be one of"),
    "a window": (lambda header, _: header["learned"].update(window=-1.0), "window must be a number greater"),
    "an unknown parameter": (parameter("__class__", "x"), "unknown parameter '__class__'"),
    "a parameter out of range": (
        parameter("batch_size", 0),
        "batch_size must be an int of at least 1; got 0",
    ),
    "a parameter of an unknown type": (parameter("id_col", {"code": "x"}), "expected one key of"),
    "parameters of a list": (top("parameters", ["lr"]), "cannot be loaded"),
    "a best epoch": (top("best_epoch", "first"), "best_epoch is no epoch"),
    "a history of text": (top("history", "abc"), "cannot be loaded"),
    "a shorter history": (
        lambda header, _: header["history"].pop(),
        "columns of the history and their names",
    ),
    "a history of one name": (
        lambda header, _: header["history"].__setitem__(1, ["epoch", None]),
        "columns of the history and their names",
    ),
    "a history of several lengths": (
        lambda _, tensors: tensors.update({"history.1": torch.zeros(7, dtype=torch.float64)}),
        "cannot be loaded",
    ),
    "a history of two axes": (
        lambda _, tensors: tensors.update({"history.1": torch.zeros(1, 1, dtype=torch.float64)}),
        "a column of wrong type",
    ),
    "a readout of a list": (top("readout", []), "readout must be an object"),
    "a readout": (top("readout", {"classes": [1, 2]}), "readout must be empty"),
    "another kind": (top("kind", "os.system"), "it holds no LatentODERegressor, but 'os.system'"),
    "no kind": (lambda header, _: header.pop("kind"), "it holds no LatentODERegressor, but 'None'"),
    "no version": (lambda header, _: header.pop("format_version"), "which is no number"),
    "a weight of NaN": (lambda _, tensors: next(_weights(tensors)).fill_(torch.nan), "are not finite"),
    "a weight of infinity": (lambda _, tensors: next(_weights(tensors)).fill_(torch.inf), "are not finite"),
    "a weight of another type": (
        lambda _, tensors: tensors.update(
            {name: t.double() for name, t in tensors.items() if "field" in name}
        ),
        "the model needs",
    ),
    "a weight too many": (
        lambda _, tensors: tensors.update({"weights.posix.system": torch.zeros(1)}),
        "has an unknown tensor 'weights.posix.system'",
    ),
    "a weight too few": (
        lambda _, tensors: tensors.pop(next(name for name in tensors if "field" in name)),
        "has no tensor 'weights.field",
    ),
    "no weights": (lambda _, tensors: tensors.clear(), "cannot be loaded"),
}


def _weights(tensors: dict[str, Tensor]) -> Iterator[Tensor]:
    return (tensor for name, tensor in tensors.items() if name.startswith("weights."))


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_header_is_refused(case, good, bad):
    change, message = HOSTILE[case]
    tensors, header = storage.read(good)
    change(header, tensors)
    storage.write(bad, tensors, header)
    before = _peak_memory()
    with pytest.raises(ModelFileError, match=message):
        LatentODERegressor.load(bad)
    assert _peak_memory() - before < 200 * 2**20


def _peak_memory() -> int:
    resource = pytest.importorskip("resource")  # of Unix
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


VALUES = [
    None,
    True,
    -1,
    0,
    7,
    10**9,
    10**30,
    1e308,
    -0.5,
    "",
    "x" * 1000,
    [],
    [[]],
    {},
    {"tuple": []},
    {"a": 1},
]


def _places(of: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
    for key, part in parts:
        yield (*path, key)
        yield from _places(part, (*path, key))


def test_any_change_of_any_value_is_refused_or_leaves_a_model(good, bad, df):
    """A changed value that is as good as the old one makes another model; it must then work, or say why not."""
    rng = random.Random(0)
    text = json.dumps(storage.read(good).header)
    places = [path for path in _places(json.loads(text)) if path[0] != "metrics"]
    refused = 0
    for _ in range(150):
        tensors, header = storage.read(good)
        *way, last = rng.choice(places)
        at = header
        for key in way:
            at = at[key]
        at[last] = rng.choice(VALUES)
        storage.write(bad, tensors, header)
        try:
            model = LatentODERegressor.load(bad)
        except ModelFileError:
            refused += 1
            continue
        assert model.model_.state_dict().keys() == LatentODERegressor.load(good).model_.state_dict().keys()
        if way[:1] == ["learned"]:
            _works_or_says_why(model, df)
    assert refused > 75


def _works_or_says_why(model: LatentODERegressor, df: pd.DataFrame) -> None:
    with contextlib.suppress(ValueError, SolverError), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scales of 1e308 overflow
        _answer(model, df)


def test_a_parameter_deeper_than_any_stack_is_refused(good, bad):
    tensors, header = storage.read(good)
    text = json.dumps(header).replace(
        '"window": null', '"window": ' + '{"tuple": [' * 50_000 + "]}" * 50_000, 1
    )
    metadata = {"format": storage.FORMAT, "container": storage.CONTAINER_VERSION, "header": text}
    save_file(tensors, bad, {**metadata, "sha256": storage._checksum(tensors, text)})
    with pytest.raises(ModelFileError, match="recursion"):
        LatentODERegressor.load(bad)


def test_the_tensors_of_another_model_do_not_fit(good, bad, df):
    other = small(max_epochs=1, latent_dim=3, hidden_dim=5).fit(df)
    other.save(bad)
    header = storage.read(good).header
    storage.write(bad, storage.read(bad).tensors, header)
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        LatentODERegressor.load(bad)


CLASSES = {"array": {"dtype": "<i8", "values": [1, 2]}}


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        ({"classes": {"array": {"dtype": "<i8", "values": [2, 1]}}}, "two or more, in increasing order"),
        ({"classes": {"array": {"dtype": "<i8", "values": [1]}}}, "two or more, in increasing order"),
        ({"classes": [1, 2]}, "two or more, in increasing order"),
        ({"classes": {"array": {"dtype": "<i8", "values": [1, 2, 3]}}}, "the model needs"),
        ({"classes": {"array": {"dtype": "V9999999999", "values": [1, 2]}}}, "unknown dtype"),
        ({"classes": CLASSES, "label_weight": -1.0}, "label_weight must be a number greater than 0"),
        ({"classes": CLASSES, "per_row": "yes"}, "per_row must be one of"),
    ],
)
def test_hostile_classes_are_refused(readout, message, bad, df):
    model = LatentODEClassifier(max_epochs=1, latent_dim=2, hidden_dim=4, verbose=0, random_state=0)
    model.fit(df, {i: 1 + i % 2 for i in df["id"].unique()}).save(bad)
    tensors, header = storage.read(bad)
    storage.write(bad, tensors, {**header, "readout": {**header["readout"], **readout}})
    with pytest.raises(ModelFileError, match=message):
        LatentODEClassifier.load(bad)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def _zip_of(payload: Payload) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))
    return file.getvalue()


def _of_torch(payload: Payload) -> bytes:
    file = io.BytesIO()
    torch.save({"model": payload}, file)
    return file.getvalue()


def _of_joblib(payload: Payload) -> bytes:
    file = io.BytesIO()
    joblib.dump(payload, file)
    return file.getvalue()


@pytest.mark.parametrize(
    "pack",
    [pickle.dumps, lambda payload: pickle.dumps(payload, protocol=0), _zip_of, _of_torch, _of_joblib],
    ids=["pickle", "pickle of protocol 0", "zip", "torch", "joblib"],
)
def test_a_file_with_a_payload_is_refused_and_runs_nothing(pack, bad, tmp_path):
    marker = tmp_path / "marker"
    bad.write_bytes(pack(Payload(marker)))
    with pytest.raises(ModelFileError, match=r"give a file that `save` has written|copy it again"):
        LatentODERegressor.load(bad)
    assert not marker.exists()
    if pack is pickle.dumps:  # it would have worked
        pickle.loads(bad.read_bytes())
        assert marker.exists()


def test_a_payload_as_a_tensor_runs_nothing(good, bad, tmp_path):
    tensors, header = storage.read(good)
    payload = torch.frombuffer(bytearray(pickle.dumps(Payload(tmp_path / "marker"))), dtype=torch.uint8)
    storage.write(bad, {**tensors, "weights.__reduce__": payload}, header)
    with pytest.raises(ModelFileError, match="has an unknown tensor"):
        LatentODERegressor.load(bad)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b'{"kind": "LatentODERegressor"}', b"id,time,x\n1,2,3\n"]
)
def test_other_content_is_refused(content, bad):
    bad.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"bad\.latentode"):
        LatentODERegressor.load(bad)


def test_a_file_of_weights_alone_is_refused(bad):
    save_file({"weights.x": torch.zeros(3)}, bad)
    with pytest.raises(ModelFileError, match="a safetensors file, but none of latentode"):
        LatentODERegressor.load(bad)


PACKAGE = Path(__file__).resolve().parents[2] / "latentode"
CODE_FROM_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("pd", "read_pickle")}


def runs_data(source: str) -> list[str]:
    """What in a source could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in CODE_FROM_DATA]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in CODE_FROM_DATA:
            found.append(str(node.module))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.append(node.func.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [node.attr] if (node.value.id, node.attr) in ATTRIBUTES else []
    return found


def test_nothing_in_the_package_runs_what_a_file_says():
    assert {
        str(path): found for path in PACKAGE.rglob("*.py") if (found := runs_data(path.read_text()))
    } == {}


@pytest.mark.parametrize("source", ["import pickle", "from joblib import load", "eval(x)", "torch.load(p)"])
def test_the_search_bites(source):
    assert runs_data(source)
