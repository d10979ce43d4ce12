"""One file of tensors and a JSON header: what comes back, what is refused, and what a failure leaves behind."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from latentode import storage
from latentode.exceptions import ModelFileError

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b.c": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4, dtype=torch.float64),
    "scalar": torch.tensor(7, dtype=torch.int64),
    "half": torch.tensor([0.1, 0.2], dtype=torch.bfloat16),
}
HEADER = {"kind": "test", "numbers": [1, 0.1, None, True], "nested": {"é": {"x": []}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a file that was written."""
    storage.write(tmp_path / "file", TENSORS, HEADER)
    return tmp_path / "file"


def test_what_went_in_comes_back(path):
    tensors, header = storage.read(path)
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_views_and_shared_memory_are_stored_by_value(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    storage.write(str(tmp_path / "f"), {"t": base.T, "row": base[1], "same": base[1]}, {})
    tensors = storage.read(str(tmp_path / "f")).tensors
    assert torch.equal(tensors["t"], base.T)
    assert torch.equal(tensors["row"], base[1])
    assert torch.equal(tensors["same"], base[1])


def test_it_is_a_safetensors_file_for_everybody_else(path):
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(TENSORS)
        assert json.loads(file.metadata()["header"]) == HEADER


@pytest.mark.parametrize("header", [{"x": float("nan")}, {"x": float("inf")}, {"x": object()}, {"x": {1, 2}}])
def test_a_header_that_json_cannot_hold_is_refused(header, tmp_path):
    with pytest.raises(ValueError, match="the header cannot be written as JSON"):
        storage.write(tmp_path / "f", {}, header)
    assert not list(tmp_path.iterdir())


def test_a_header_too_large_to_be_read_again_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST_HEADER", 1000)
    with pytest.raises(ValueError, match=r"come to 1,0\d\d bytes of JSON; a file holds up to 1,000"):
        storage.write(tmp_path / "f", {}, {"x": "y" * 1000})
    assert not list(tmp_path.iterdir())


def test_a_tensor_that_safetensors_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the tensors cannot be written as safetensors"):
        storage.write(tmp_path / "f", {"q": torch.zeros(2, dtype=torch.complex128)}, {})


def refused(path: Path, match: str) -> None:
    with pytest.raises(ModelFileError, match=match) as caught:
        storage.read(path)
    assert str(path) in str(caught.value)


def test_an_empty_file(tmp_path):
    (tmp_path / "f").touch()
    refused(tmp_path / "f", "it is empty; copy it again")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04 and more than eight bytes", "a zip archive, as torch.save writes it"),
        (b"\x80\x04\x95 and more than eight bytes", "a pickle"),
        (b'{"parameters": {"latent_dim": 8}}', "JSON or other text"),
        (b"\x1f\x8b and more than eight bytes", "a gzip archive"),
    ],
)
def test_files_of_other_kinds_are_named(content, kind, tmp_path):
    (tmp_path / "f").write_bytes(content)
    refused(tmp_path / "f", f"it is {kind}, and no file of latentode; give a file that `save` has written")


@pytest.mark.parametrize("content", [b"abc", b"id,time,x\n1,2,3\n", bytes(100), b"\xff" * 100])
def test_any_other_content(content, tmp_path):
    (tmp_path / "f").write_bytes(content)
    refused(tmp_path / "f", "no complete safetensors file: it was cut off or altered; copy it again")


def test_a_safetensors_file_of_somebody_else(tmp_path):
    save_file({"w": torch.zeros(3)}, tmp_path / "f")
    refused(tmp_path / "f", "it is a safetensors file, but none of latentode")


def test_a_later_container(path, monkeypatch):
    monkeypatch.setattr(storage, "CONTAINER_VERSION", "0")
    refused(path, "its container has version '1', and this latentode reads '0'; load it with the version")


def rewritten(
    path: Path, header: str | None = None, *, checksum: bool = True, **tensors: torch.Tensor
) -> None:
    """The file with another header text or other tensors, with a checksum that fits or the old one."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        found = {name: file.get_tensor(name) for name in list(file.keys())} | tensors
    text = metadata["header"] if header is None else header
    sha256 = storage._checksum(found, text) if checksum else metadata["sha256"]
    save_file(found, path, {**metadata, "header": text, "sha256": sha256})


def test_other_content_under_the_old_checksum(path):
    rewritten(path, json.dumps({**HEADER, "kind": "other"}), checksum=False)
    refused(path, "its content does not agree with its checksum")


def test_another_tensor_under_the_old_checksum(path):
    rewritten(path, checksum=False, a=TENSORS["a"] + 1)
    refused(path, "its content does not agree with its checksum")


def test_the_checksum_sees_names_shapes_and_dtypes():
    data = torch.zeros(4)
    forms = [{"x": data}, {"y": data}, {"x": data.reshape(2, 2)}, {"x": data.view(torch.int32)}]
    assert len({storage._checksum(form, "{}") for form in forms}) == len(forms)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "a key comes twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": -Infinity}', "-Infinity is no number of JSON"),
        ('{"a": 1e999}', "the number 1e999 is too large"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is no valid JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "is no valid JSON"),
        ("[1, 2]", "its header is no JSON object"),
        ("", "its header is no valid JSON"),
    ],
    ids=["twice", "nan", "infinity", "overflow", "deep", "long", "list", "nothing"],
)
def test_hostile_json_with_a_checksum_that_fits(text, reason, path):
    rewritten(path, text)
    refused(path, reason)


def test_a_header_length_beyond_the_limit_is_not_parsed(path, monkeypatch):
    monkeypatch.setattr(storage, "LARGEST_HEADER", 100)
    refused(path, "no complete safetensors file")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="this is no file"):
        storage.read(tmp_path / "pipe")  # opening it would wait for ever
    with pytest.raises(IsADirectoryError, match="this is no file"):
        storage.read(tmp_path)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        storage.read(tmp_path / "missing")


STILL = "nothing was saved, what was to be saved is still in memory"


def test_a_missing_folder_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder .*no.*: {STILL}"):
        storage.write(tmp_path / "no" / "f", TENSORS, HEADER)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="this is a folder: give the name of a file"):
        storage.write(tmp_path, TENSORS, HEADER)


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="this exists and is no file"):
        storage.write(tmp_path / "pipe", TENSORS, HEADER)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_write_protected_file_is_kept(path, monkeypatch):
    monkeypatch.setattr(
        os, "access", lambda *_: False
    )  # the user who runs the tests may be allowed everything
    with pytest.raises(PermissionError, match="this file is write-protected"):
        storage.write(path, {}, {})


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failure_leaves_the_old_file_and_nothing_else(call, code, path, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(OSError, match=f"{os.strerror(code)}: {STILL}") as caught:
            storage.write(path, {"a": torch.zeros(100)}, {})
    assert caught.value.errno == code
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupt_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage.write(path, {}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_name_changes_hands_only_when_all_is_on_the_disk(path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(Path(a).stat().st_size), replace(a, b)))
    storage.write(path, TENSORS, HEADER)
    assert done == ["fsync", path.stat().st_size, "fsync"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    mask = os.umask(0o027)
    try:
        storage.write(tmp_path / "new", {}, {})
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_an_overwritten_file_keeps_its_permissions(path):
    path.chmod(0o600)
    storage.write(path, {}, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed(path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(path)
    storage.write(link, {}, {"new": True})
    assert link.is_symlink()
    assert storage.read(path).header == {"new": True}
