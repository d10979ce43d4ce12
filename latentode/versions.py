"""What a report of a problem should say: versions, machine, and which engine runs."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from latentode.native.library import instruction_set, library, why_absent
from latentode.version import __version__

PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "matplotlib",
    "safetensors",
    "tqdm",
    "pooch",
    "narwhals",
    "typer",
)


def show_versions() -> None:
    """Print the versions of latentode, Python and its libraries, the machine, and the engine that runs.

    For reports of problems, and to see whether the native kernels were built.

    Examples
    --------
    >>> import latentode
    >>> latentode.show_versions()  # doctest: +ELLIPSIS
    latentode: 0...
    """
    import torch

    lines = {
        "latentode": __version__,
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "torch threads": torch.get_num_threads(),
        "CUDA available": "yes" if torch.cuda.is_available() else "no",
    }
    print("\n".join([*(f"{name}: {value}" for name, value in lines.items()), engine_line()]))


def engine_line() -> str:
    """Which engine runs, in one line: "engine: native (avx512, 2 threads)" or "engine: torch (and why)"."""
    try:
        found = library()
    except ValueError as error:  # a report of problems shows them
        return f"engine: not decided ({error})"
    if found is None:
        return f"engine: torch (no native kernels: {why_absent()})"
    import torch  # takes seconds: only once it is needed

    n_threads = torch.get_num_threads()
    return f"engine: native ({instruction_set()}, {n_threads} thread{'s' if n_threads > 1 else ''})"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
