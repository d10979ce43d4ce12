"""Tensors and a JSON header in one file: written whole or not at all, and checked before anything in it is used.

The file is a safetensors file whose metadata hold the header as JSON text and a SHA-256 sum over header and tensors.
Nothing in it can run: there is no pickle, and no name in it is imported. The sum finds accidents, not malice: who can
write the file can also write the sum, so readers still check what a header says.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of_bytes
from safetensors.torch import save as bytes_of_tensors
from torch import Tensor

from latentode.exceptions import ModelFileError

FORMAT = "latentode"
CONTAINER_VERSION = "1"  # of what this module writes around a header; the header has a version of its own
LARGEST_HEADER = 32 * 2**20  # bytes: of JSON, before it is parsed
UNFINISHED = ".unfinished"  # how the name of a file ends while it is written
_LENGTH = 8  # bytes at the start of a safetensors file: the length of its header
_ANCESTRY = {  # how files of other kinds begin
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"{": "JSON or other text",
    b"\x1f\x8b": "a gzip archive",
    b"\x89HDF": "an HDF5 file",
}


class Stored(NamedTuple):
    """What a file held."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a file in place of any that has this name; whatever fails, that one stays as it was.

    Parameters
    ----------
    path : str or PathLike
        Its folder must exist. A link is followed; `~` is not expanded.
    tensors : mapping of str to Tensor
        On any device, of any layout; they may share memory.
    header : mapping
        What JSON can hold, with finite numbers.

    Raises
    ------
    ValueError
        For a header that JSON cannot hold, or one too large to be read again.
    OSError
        When the file cannot be written; the message says that nothing is lost in memory.
    """
    text = _json_text(header)
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "container": CONTAINER_VERSION, "header": text}
    try:
        data = bytes_of_tensors(own, {**metadata, "sha256": _checksum(own, text)})
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"the tensors cannot be written as safetensors: {error}") from error
    if int.from_bytes(data[:_LENGTH], "little") > LARGEST_HEADER:
        raise ValueError(
            f"names, roles and labels come to {len(text):,} bytes of JSON; a file holds up to {LARGEST_HEADER:,}"
        )
    with _explained(path):
        _replace(_target(path), data)


def read(path: str | os.PathLike[str]) -> Stored:
    """Tensors, on the CPU, and header of a file that `write` made.

    Raises
    ------
    ModelFileError
        For a file that is cut off or altered, of another kind, or of a later version.
    OSError
        When there is no such file, or it cannot be read.
    """
    data = _bytes(path)
    metadata = _metadata(path, data)
    if metadata.get("format") != FORMAT:
        refuse(path, "it is a safetensors file, but none of latentode", "give a file that `save` has written")
    if metadata.get("container") != CONTAINER_VERSION:
        refuse(
            path,
            f"its container has version {metadata.get('container')!r}, and this latentode reads {CONTAINER_VERSION!r}",
            "load it with the version of latentode that wrote it, or a later one",
        )
    text = metadata.get("header", "")
    try:
        tensors = tensors_of_bytes(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RuntimeError) as error:
        _refuse_damaged(path, f"its tensors cannot be read ({error})")
    if metadata.get("sha256") != _checksum(tensors, text):
        _refuse_damaged(path, "its content does not agree with its checksum")
    return Stored(tensors, _json_object(path, text, "header"))


def refuse(path: str | os.PathLike[str], found: str, repair: str) -> NoReturn:
    """Raise a `ModelFileError` that says what was found in a file and what to do."""
    error = ModelFileError(f"{os.fspath(path)!r} cannot be loaded: {found}; {repair}")
    error.found = found
    raise error


def _refuse_damaged(path: str | os.PathLike[str], found: str) -> NoReturn:
    refuse(path, f"{found}: it was cut off or altered", "copy it again, or save the model again")


def _json_text(header: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(header), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the header cannot be written as JSON: {error}") from error


def _json_object(path: str | os.PathLike[str], text: str, what: str) -> dict[str, Any]:
    """A JSON object without repeated keys and without numbers that are not finite."""
    try:
        found = json.loads(
            text, object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_no_constant
        )
    except (ValueError, RecursionError, MemoryError) as error:
        _refuse_damaged(path, f"its {what} is no valid JSON ({str(error)[:200]})")
    if not isinstance(found, dict):
        _refuse_damaged(path, f"its {what} is no JSON object")
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _bytes(path: str | os.PathLike[str]) -> bytes:
    """All of a file; what is no file, such as a pipe that never ends, is not opened."""
    _check_path(path)
    if not stat.S_ISREG(os.stat(path).st_mode):
        code = errno.EISDIR if os.path.isdir(path) else errno.EINVAL
        raise OSError(code, "this is no file: give the name of one that `save` has written", os.fspath(path))
    return Path(path).read_bytes()


def _metadata(path: str | os.PathLike[str], data: bytes) -> dict[str, str]:
    """The text fields of a safetensors header, read with our limits."""
    if not data:
        refuse(path, "it is empty", "copy it again, or save the model again")
    length = int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH or length > min(len(data) - _LENGTH, LARGEST_HEADER) or data[_LENGTH:][:1] != b"{":
        for beginning, kind in _ANCESTRY.items():
            if data.startswith(beginning):
                refuse(path, f"it is {kind}, and no file of latentode", "give a file that `save` has written")
        _refuse_damaged(path, f"its {len(data):,} bytes are no complete safetensors file")
    try:
        text = data[_LENGTH : _LENGTH + length].decode()
    except UnicodeDecodeError:
        _refuse_damaged(path, "its header is no text")
    metadata = _json_object(path, text, "safetensors header").get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse_damaged(path, "its metadata are no texts")
    return metadata


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 of the header and of names, dtypes, shapes and bytes of all tensors; every part with its length."""
    digest = hashlib.sha256()
    for part in _parts(tensors, text):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _parts(tensors: Mapping[str, Tensor], text: str) -> Iterator[bytes | memoryview]:
    yield CONTAINER_VERSION.encode()
    yield text.encode()
    for name in sorted(tensors):
        tensor = tensors[name]
        yield json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
        yield tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_path(path: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be the name of a file, a str or a pathlib.Path; got {path!r}")


def _target(path: str | os.PathLike[str]) -> Path:
    """Where the file will be: what a link leads to, which must be a file we may write or nothing yet."""
    _check_path(path)
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {os.fspath(target.parent)!r}", os.fspath(path)
        )
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder: give the name of a file", os.fspath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "this exists and is no file", os.fspath(path))
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "this file is write-protected", os.fspath(path))
    return target


def _replace(target: Path, data: bytes) -> None:
    """Write beside the target, make sure that it is on the disk, and only then give it the name."""
    beside = target.parent / f"{_beginning(target)}{secrets.token_hex(8)}{UNFINISHED}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(beside, flags, 0o666), "wb") as file:  # 0o666 less the umask, as `open` has it
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(beside, stat.S_IMODE(target.stat().st_mode))
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what writers of this file have left that were killed; nobody else may be writing it."""
    target = Path(path)
    with suppress(OSError):
        for rest in target.parent.glob(f"{glob.escape(_beginning(target))}*{UNFINISHED}"):
            rest.unlink(missing_ok=True)


def _beginning(target: Path) -> str:
    return f".{target.name[:100]}."


def _sync_folder(folder: Path) -> None:
    """The new name on the disk, too, where the system can do that; the file itself is there already."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems
        pass
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system with the path and with what it means for the caller's data."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        note = "nothing was saved, what was to be saved is still in memory; save it under another path"
        raise OSError(error.errno or errno.EIO, f"{reason}: {note}", os.fspath(path)) from error
