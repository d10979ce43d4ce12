"""Builds the optional native kernels; everything else about the package stands in pyproject.toml.

The kernels become one shared library beside `latentode/native/library.py`, which loads it with ctypes: it needs neither
Python's headers nor torch's. Where it cannot be built (no C++ compiler, one that knows no vector extensions, a compiler
error) the installation succeeds all the same and the torch engine serves; `latentode.show_versions()` says which runs.
`LATENTODE_NATIVE=0 pip install .` leaves the kernels out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, __version__, setup
from setuptools.command.build_ext import build_ext

try:
    from setuptools.modified import newer_group
except ImportError:
    raise SystemExit(
        f"latentode is built with setuptools 77 or newer, found {__version__}: leave out pip's option "
        "--no-build-isolation, or run pip install -U setuptools"
    ) from None

ROOT = Path(__file__).resolve().parent
KERNELS = ROOT / "latentode" / "native" / "kernels"

COMPILE_FLAGS = [
    "-O3",
    "-g0",
    "-fno-wrapv",  # Python's own flags have -g and -fwrapv
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-pthread",
    "-Wall",
    "-Wextra",
]
LINK_FLAGS = ["-pthread"]
X86_MACRO = "-DLATENTODE_X86"
# a source for one instruction set has flags of its own; it runs only where `dispatch.cpp` has found these instructions
X86_SOURCES = {
    "avx2.cpp": ["-mavx2", "-mfma"],
    "avx512.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"],
}


def is_x86_64(platform: str) -> bool:
    """Whether objects for this platform of setuptools (`linux-x86_64`, `win-amd64`) are for x86-64 alone."""
    return platform.endswith(("x86_64", "amd64"))


def kernel_sources(platform: str) -> list[Path]:
    """The sources to compile for a platform; those of x86-64 only there."""
    sources = sorted(KERNELS.glob("*.cpp"))
    return [source for source in sources if is_x86_64(platform) or source.name not in X86_SOURCES]


def source_flags(source: str | Path, platform: str) -> list[str]:
    """What one source is compiled with, beyond `COMPILE_FLAGS`."""
    if not is_x86_64(platform):
        return []
    return [X86_MACRO, *X86_SOURCES.get(Path(source).name, [])]


class BuildKernels(build_ext):
    """`build_ext` in which each source has its own flags, and which fails with a warning only."""

    def run(self) -> None:
        inplace = self.inplace
        try:
            if os.environ.get("LATENTODE_NATIVE") == "0":
                raise RuntimeError("LATENTODE_NATIVE=0 leaves them out")
            super().run()
        except Exception as error:  # whatever it is, there is another engine
            self.inplace = inplace  # setuptools changes it for the time of its run
            self._remove_libraries()
            self.warn(f"no native kernels, the torch engine will serve: {' '.join(str(error).split())}")

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            raise RuntimeError("MSVC has no vector extensions; GCC and Clang have")
        library = self.get_ext_fullpath(ext.name)
        sources = [path.relative_to(ROOT).as_posix() for path in kernel_sources(self.plat_name)]
        if not self.force and not newer_group([*sources, *ext.depends], library):
            return
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(self._compiled, sources))
        self.compiler.link_shared_object(
            objects, library, extra_postargs=LINK_FLAGS, build_temp=self.build_temp, target_lang="c++"
        )

    def _compiled(self, source: str) -> str:
        flags = [*COMPILE_FLAGS, *source_flags(source, self.plat_name)]
        (made,) = self.compiler.compile([source], output_dir=self.build_temp, extra_postargs=flags)
        return made

    def _remove_libraries(self) -> None:
        """No library of an earlier build may pass for one of these sources."""
        build_py = self.get_finalized_command("build_py")
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(self.get_ext_fullname(ext.name)))
            built.unlink(missing_ok=True)
            if self.inplace:
                Path(build_py.get_package_dir(ext.name.rpartition(".")[0]), built.name).unlink(
                    missing_ok=True
                )


if __name__ == "__main__":
    kernels = Extension(
        "latentode.native._kernels",
        sources=[path.relative_to(ROOT).as_posix() for path in sorted(KERNELS.glob("*.cpp"))],
        depends=[
            path.relative_to(ROOT).as_posix()
            for path in sorted([*KERNELS.glob("*.[hi]*"), ROOT / "setup.py"])
        ],
        language="c++",
    )
    setup(ext_modules=[kernels], cmdclass={"build_ext": BuildKernels})
