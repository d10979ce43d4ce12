"""Compiles the kernels' own sources, with drivers of the tests, as setup.py does but for the flags a test adds.

What was compiled once stays until a source, a header, the flags or the compiler changes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
KERNELS = ROOT / "latentode" / "native" / "kernels"
PLATFORM = sysconfig.get_platform()
QUICK = ("-O1", "-g")  # to compile; come after the -O3 of the build
SANITIZERS = {
    "address,undefined": (
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ),
    "thread": ("-fsanitize=thread", "-fno-omit-frame-pointer"),
}
DAYS_KEPT = 7


class CompileError(AssertionError):
    """The compiler refused; the message is what it said."""


@cache
def compiler() -> str | None:
    """The C++ compiler that builds the package here, if there is one."""
    return shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")


@cache
def setup_py() -> ModuleType:
    """setup.py as a module: its flags and sources are those of the package."""
    spec = importlib.util.spec_from_file_location("latentode_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kernel_sources() -> list[Path]:
    """All sources of the shared library on this machine."""
    return setup_py().kernel_sources(PLATFORM)


def compiled(
    folder: Path, sources: Iterable[Path], flags: Sequence[str] = QUICK, *, shared: bool = False
) -> Path:
    """The program (or shared library) of these sources, made in `folder` unless it is there already.

    Parameters
    ----------
    folder : Path
        Where finished files are kept.
    sources : iterable of Path
        C++ files; each is compiled with the flags that setup.py gives it.
    flags : sequence of str, default QUICK
        Further flags, for all of them and for the linker.
    shared : bool, default False
        A library for ctypes instead of a program.
    """
    sources = list(sources)
    flags = [*flags, "-fPIC", f"-I{KERNELS}"]
    made = folder / f"{sources[-1].stem}-{_digest(sources, [*flags, str(shared)])}"
    if not made.exists():
        _remove_old(folder)
        work = folder / f"{made.name}-{os.getpid()}"
        work.mkdir()
        try:
            _build(sources, flags, shared, work)
            (work / "made").replace(made)  # whole or not at all: others may look for it
        finally:
            shutil.rmtree(work)
    return made


def _build(sources: list[Path], flags: list[str], shared: bool, work: Path) -> None:
    build = setup_py()

    def compile_one(source: Path) -> str:
        made = str(work / f"{source.stem}.o")
        own = build.source_flags(source, PLATFORM)
        _call([*build.COMPILE_FLAGS, *own, *flags, "-c", str(source), "-o", made])
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    kind = ["-shared"] if shared else []
    _call([*kind, *flags, *objects, *build.LINK_FLAGS, "-o", str(work / "made")])


def _call(arguments: list[str]) -> None:
    result = subprocess.run([compiler(), *arguments], capture_output=True, text=True)
    if result.returncode:
        raise CompileError(f"{' '.join([compiler(), *arguments])}\n{result.stderr}")


def _digest(sources: list[Path], flags: list[str]) -> str:
    told = hashlib.sha256(repr((compiler(), _compiler_version(), flags, setup_py().COMPILE_FLAGS)).encode())
    headers = [path for folder in (KERNELS, HERE) for path in sorted(folder.glob("*.[hi]*"))]
    for path in [*sources, *headers, ROOT / "setup.py"]:
        told.update(path.name.encode() + b"\0" + path.read_bytes())
    return told.hexdigest()[:16]


@cache
def _compiler_version() -> str:
    return subprocess.run([compiler(), "--version"], capture_output=True, text=True, check=True).stdout


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and time.time() - path.stat().st_mtime > DAYS_KEPT * 86400:
            path.unlink(missing_ok=True)
