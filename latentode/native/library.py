"""Finds and loads the shared library of the native kernels, or says why there is none."""

from __future__ import annotations

import ctypes
import os
import sysconfig
from functools import cache
from pathlib import Path
from typing import NamedTuple

from latentode.checks import did_you_mean
from latentode.native.shared_object import missing_bytes

ABI_VERSION = 3  # of the entry points, as `latentode_abi_version()` in dispatch.cpp says it
FILE = Path(__file__).with_name(f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}")
REPAIR = (
    "install a C++17 compiler (GCC or Clang), then install latentode again from its source with pip's options "
    "--force-reinstall --no-deps --no-cache-dir"
)
CHOICES = ("auto", "torch")  # of the environment variable LATENTODE_ENGINE, where it is set
SWITCHED_OFF = "the environment variable LATENTODE_ENGINE=torch turns them off: unset it to use them"


class _Loaded(NamedTuple):
    library: ctypes.CDLL | None
    why_absent: str | None


def library() -> ctypes.CDLL | None:
    """The loaded library, or None where the torch engine has to serve.

    It is looked for once per process; the environment variable `LATENTODE_ENGINE=torch`, which hides it, counts at each
    call ("auto", or nothing, does not hide it).

    Returns
    -------
    CDLL or None
        Functions called on it release Python's lock.

    Raises
    ------
    ValueError
        If `LATENTODE_ENGINE` has another value, and for nothing else.
    """
    return None if _switched_off() else _loaded().library


def why_absent() -> str | None:
    """Why `library()` is None, and the repair; None where it is there; raises as it does."""
    return SWITCHED_OFF if _switched_off() else _loaded().why_absent


def instruction_set() -> str:
    """Which kernels run on this machine.

    Returns
    -------
    str
        "avx512", "avx2" or "portable".

    Raises
    ------
    RuntimeError
        Where there is no library.
    """
    found = library()
    if found is None:
        raise RuntimeError(f"there are no native kernels to ask: {why_absent()}")
    found.latentode_isa.restype = ctypes.c_char_p
    return bytes(found.latentode_isa()).decode()


def _switched_off() -> bool:
    given = os.environ.get("LATENTODE_ENGINE")
    if not given:
        return False
    choice = given.strip().lower()
    if choice and choice not in CHOICES:
        raise ValueError(_unknown(given, choice))
    return choice == "torch"


def _unknown(given: str, choice: str) -> str:
    if choice == "native":
        repair = "it can only hide the kernels; to insist on them, solve with engine='native'"
    else:
        repair = "set it so, or unset it"
    return (
        f"the environment variable LATENTODE_ENGINE must be 'torch', which hides the native kernels, or 'auto'; got "
        f"{given!r}{did_you_mean(choice, CHOICES)}: {repair}"
    )


@cache
def _loaded() -> _Loaded:
    return _load(FILE)


def _load(file: Path) -> _Loaded:
    if not file.exists():
        built = "latentode was installed without a C++ compiler, or with LATENTODE_NATIVE=0"
        return _Loaded(None, f"{file.name} was not built ({built}): {REPAIR}")
    try:
        if missing_bytes(file):
            return _Loaded(None, f"{file} is cut off, as by a full disk or a broken copy: {REPAIR}")
        found = ctypes.CDLL(str(file))
        version = found.latentode_abi_version()
    except (OSError, AttributeError) as error:
        return _Loaded(None, f"{file} does not load ({error}): {REPAIR}")
    if version != ABI_VERSION:
        other = (
            f"{file} is of another version of latentode (its interface is {version}, wanted is {ABI_VERSION})"
        )
        return _Loaded(None, f"{other}: {REPAIR}")
    _share_threads(found)
    return _Loaded(found, None)


def _share_threads(found: ctypes.CDLL) -> None:
    """Let the kernels run on torch's own threads, where torch brings GNU's OpenMP."""
    import torch  # takes seconds: only once there are kernels

    for file in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            entry = ctypes.CDLL(str(file)).GOMP_parallel  # the one that torch has loaded
        except (OSError, AttributeError):
            continue
        found.latentode_share_threads(ctypes.cast(entry, ctypes.c_void_p))
        return
