"""The loader: the library, or a sentence that says why there is none and what to do."""

from __future__ import annotations

import ctypes
import struct
import sys

import pytest

from latentode.native import library as module
from latentode.native.library import (
    ABI_VERSION,
    REPAIR,
    SWITCHED_OFF,
    _loaded,
    instruction_set,
    library,
    why_absent,
)
from latentode.native.shared_object import missing_bytes

EXPORT = 'extern "C" __attribute__((visibility("default"))) int'


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("LATENTODE_ENGINE", raising=False)
    _loaded.cache_clear()
    yield
    _loaded.cache_clear()


@pytest.fixture
def place(monkeypatch):
    """Puts another file in the library's place."""

    def put(file):
        monkeypatch.setattr(module, "FILE", file)

    return put


def source(tmp_path, text):
    path = tmp_path / "source.cpp"
    path.write_text(text)
    return [path]


def is_absent(*words: str) -> bool:
    """No library, and a reason with these words and the repair; twice, as the answer is kept."""
    reasons = [why_absent() for _ in range(2) if library() is None]
    return len(reasons) == 2 and all(word in reason for reason in reasons for word in (*words, REPAIR))


def test_the_library_of_the_package(package_library, place, monkeypatch):
    place(package_library)
    assert isinstance(library(), ctypes.CDLL)
    assert library() is library()
    assert why_absent() is None
    assert instruction_set() in {"avx512", "avx2", "portable"}
    monkeypatch.setenv("LATENTODE_ENGINE", " Torch ")
    assert library() is None
    assert why_absent() == SWITCHED_OFF
    monkeypatch.setenv("LATENTODE_ENGINE", "auto")
    assert library() is not None


def test_one_that_was_not_built(place, tmp_path):
    place(tmp_path / "_kernels.so")
    assert is_absent("_kernels.so was not built", "without a C++ compiler, or with LATENTODE_NATIVE=0")


def test_one_that_does_not_load(place, tmp_path):
    (tmp_path / "_kernels.so").write_text("no library")
    place(tmp_path / "_kernels.so")
    assert is_absent("_kernels.so does not load")


@pytest.mark.skipif(sys.platform != "linux", reason="files of other systems are checked by their loaders")
def test_one_that_was_cut_off(place, package_library, tmp_path):
    """It would load, and end the process with SIGBUS at the first page that is not there."""
    assert missing_bytes(package_library) == 0
    content = package_library.read_bytes()
    for kept in (len(content) - 1, len(content) // 2, 4096, 100, 20):
        (tmp_path / "_kernels.so").write_bytes(content[:kept])
        _loaded.cache_clear()
        place(tmp_path / "_kernels.so")
        assert is_absent("_kernels.so is cut off, as by a full disk or a broken copy")
    assert missing_bytes(tmp_path / "_kernels.so") > 0


def elf(kind: int, order: str, *, segments: int = 0, sections: int = 0, reaches: int = 0) -> bytes:
    """An ELF file of 200 bytes by hand: tables of one entry at these places, and a segment that reaches so far."""
    form, entry = {1: ("IIIHHHHH", "I I 8x I"), 2: ("QQIHHHHH", "I 4x Q 16x Q")}[kind]
    content = bytearray(200)
    content[:6] = b"\x7fELF" + bytes([kind, 1 if order == "<" else 2])
    size = struct.calcsize(order + entry)
    header = (segments, sections, 0, 0, size, int(segments > 0), 40, int(sections > 0))
    struct.pack_into(order + form, content, 28 if kind == 1 else 32, *header)
    if segments:
        struct.pack_into(order + entry, content, segments, 1, 50, max(reaches - 50, 0))
    return bytes(content)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 2], ids=["32 bits", "64 bits"])
def test_bytes_that_a_file_lacks(kind, order, tmp_path):
    file = tmp_path / "some.so"

    def lacking(content: bytes) -> int:
        file.write_bytes(content)
        return missing_bytes(file)

    assert lacking(elf(kind, order, segments=100, sections=160, reaches=200)) == 0
    assert lacking(elf(kind, order, sections=163)) == 3
    assert lacking(elf(kind, order, segments=100, sections=160, reaches=207)) == 7
    assert lacking(elf(kind, order, segments=100)[:110]) > 0
    assert lacking(b"\x7fELF\x07\x01" + bytes(60)) > 0
    assert lacking(b"\xcf\xfa\xed\xfe of another system") == 0
    assert lacking(b"") == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("toch", r"got 'toch' \(did you mean 'torch'\?\): set it so, or unset it"),
        ("0", "got '0': set it so, or unset it"),
        ("native", "got 'native': it can only hide the kernels; .* solve with engine='native'"),
    ],
)
@pytest.mark.parametrize("asked", [library, why_absent, instruction_set])
def test_an_unknown_choice_is_refused(asked, value, said, monkeypatch):
    monkeypatch.setenv("LATENTODE_ENGINE", value)
    with pytest.raises(ValueError, match=f"(?s)LATENTODE_ENGINE must be 'torch', .* or 'auto'; {said}"):
        asked()


@pytest.mark.parametrize("value", ["", " ", "auto", "AUTO"])
def test_choices_that_hide_nothing(value, monkeypatch):
    expected = why_absent()
    monkeypatch.setenv("LATENTODE_ENGINE", value)
    assert why_absent() == expected


def test_one_without_the_entries(place, compiled, tmp_path):
    place(compiled(source(tmp_path, f"{EXPORT} something_else() {{ return 1; }}"), shared=True))
    assert is_absent("does not load", "latentode_abi_version")


def test_one_of_another_version(place, compiled, tmp_path):
    other = ABI_VERSION + 1
    place(compiled(source(tmp_path, f"{EXPORT} latentode_abi_version() {{ return {other}; }}"), shared=True))
    assert is_absent(
        "is of another version of latentode", f"its interface is {other}, wanted is {ABI_VERSION}"
    )


def test_the_instruction_set_of_no_library_is_refused(place, tmp_path):
    place(tmp_path / "_kernels.so")
    with pytest.raises(RuntimeError, match=r"no native kernels to ask: _kernels\.so was not built"):
        instruction_set()


def test_here_it_is_there_or_says_why_not():
    assert (library() is None) == (why_absent() is not None)
