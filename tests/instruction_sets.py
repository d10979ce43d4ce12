"""The native library once for every set of instructions that this processor runs."""

from __future__ import annotations

import ctypes
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from latentode.native.library import FILE, library

NAMES = ("portable", "avx2", "avx512")


@cache
def libraries() -> dict[str, ctypes.CDLL]:
    """Copies of the library by what they run; each copy chooses once, by the environment, when it is first asked."""
    found = {}
    if library() is None:
        return found
    with TemporaryDirectory() as folder:
        for name in NAMES:
            copy = ctypes.CDLL(shutil.copy(FILE, Path(folder, f"{name}{FILE.suffix}")))
            copy.latentode_isa.restype = ctypes.c_char_p
            with mock.patch.dict(os.environ, LATENTODE_ISA=name):
                if copy.latentode_isa().decode() == name:
                    found[name] = copy
    return found
