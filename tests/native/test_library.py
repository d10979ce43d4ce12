"""The loader: the library, or a sentence that says why there is none and what to do."""

from __future__ import annotations

import ctypes

import pytest
from kernel_build import kernel_sources

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


def test_the_library_of_the_package(compiled, place, monkeypatch):
    place(compiled(kernel_sources(), shared=True))
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
