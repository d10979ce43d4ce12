"""The MNIST images of handwritten digits."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from latentode.checks import Constraint, OneOf, check_parameters
from latentode.datasets.download import fetch
from latentode.datasets.download import data_home as data_home_folder
from latentode.datasets.idx import parse_idx, unpacked
from latentode.exceptions import DataError, warn_user

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FOLDER = "mnist"


class File(NamedTuple):
    """A published file: its name, the shape of its array, and the sha256 of the idx file within the gzip file."""

    name: str
    shape: tuple[int, ...]
    digest: str


# The digests are of what is published, not of how it is packed: copies that somebody unpacked and packed again are as
# good as the originals, and gzip has a check sum of its own for the bytes on the way.
IMAGES = {
    "train": File(
        "train-images-idx3-ubyte.gz",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "test": File(
        "t10k-images-idx3-ubyte.gz",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
}
LABELS = {
    "train": File(
        "train-labels-idx1-ubyte.gz",
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "test": File(
        "t10k-labels-idx1-ubyte.gz",
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


class LabelledImages(NamedTuple):
    """Images and the digits they show.

    Attributes
    ----------
    images : ndarray (n, 28, 28) of uint8
        Grey values, 0 (paper) to 255 (ink).
    labels : ndarray (n,) of int64
        0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class MNIST(NamedTuple):
    """The two parts of MNIST; None for one that was not asked for, or that could not be had.

    Attributes
    ----------
    train : LabelledImages or None
        60,000 images.
    test : LabelledImages or None
        10,000 images by other writers.
    """

    train: LabelledImages | None
    test: LabelledImages | None


def fetch_mnist(
    *, subset: Literal["all", "train", "test"] = "all", data_home: str | os.PathLike[str] | None = None
) -> MNIST:
    """70,000 handwritten digits of 28 × 28 pixels, in the split of the original publication.

    The usual first test of a classifier of images. An easy one: small convolutional networks err on less than 1 % of
    the test images, so good models differ by a few images, and several seeds are needed to tell them apart. The files
    (10 MB for training, 1.7 MB for testing) are downloaded once; if they are already in the data home, no network is
    needed. Every call verifies them: what they hold, not how it is packed.

    Parameters
    ----------
    subset : {"all", "train", "test"}, default "all"
        The parts wanted. Files of other parts are neither read nor downloaded. With "all", one part is enough: if the
        other is not there and cannot be downloaded, it is None, and a warning says where to put it.
    data_home : path, optional
        Folder that holds, or will hold, `mnist/train-images-idx3-ubyte.gz`, `mnist/train-labels-idx1-ubyte.gz`,
        `mnist/t10k-images-idx3-ubyte.gz`, `mnist/t10k-labels-idx1-ubyte.gz`. By default the environment variable
        LATENTODE_DATA_HOME, else the user's cache folder.

    Returns
    -------
    MNIST
        `train` and `test`, each with `images` (n, 28, 28) and `labels` (n,) in the order of the files, or None.

    Raises
    ------
    ValueError
        For another `subset`.
    DataError
        If a file is corrupt, cut short or not the published one. A bad download is not kept.
    OSError
        If files are missing and cannot be downloaded, so that no part is complete; the message says where to put them.

    Warns
    -----
    LatentODEWarning
        If only one of the two parts could be had.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner (1998). Gradient-based learning applied to document recognition.
    """
    check_parameters("fetch_mnist", {"subset": subset}, _CONSTRAINTS)
    folder = data_home_folder(data_home) / FOLDER
    found: dict[str, LabelledImages] = {}
    missing: dict[str, OSError] = {}
    for part in ("train", "test") if subset == "all" else (subset,):
        try:
            found[part] = _fetch_part(folder, part)
        except OSError as error:
            if not _absent(folder, part):  # but it cannot be read
                raise
            missing[part] = error
    if not found:
        raise next(iter(missing.values()))
    for part, error in missing.items():
        warn_user(_announcement(folder, part, error))
    return MNIST(found.get("train"), found.get("test"))


def _fetch_part(folder: Path, part: str) -> LabelledImages:
    labels = _fetch_file(folder, LABELS[part])  # first: of a part that cannot be had, the small file tells it
    return LabelledImages(_fetch_file(folder, IMAGES[part]), labels.astype(np.int64))


def _fetch_file(folder: Path, file: File) -> NDArray[np.uint8]:
    return fetch(
        folder / file.name, [mirror + file.name for mirror in MIRRORS], lambda path: _read(path, file)
    )


def _read(path: Path, file: File) -> NDArray[np.uint8]:
    content = unpacked(path.read_bytes())
    array = parse_idx(content)
    if array.shape != file.shape:
        raise DataError(f"it holds an array of shape {array.shape}, the published file one of {file.shape}")
    found = sha256(content).hexdigest()
    if found != file.digest:
        raise DataError(
            f"the sha256 of what it holds is {found}, that of the published file is {file.digest}"
        )
    return array.copy()  # that of the parser looks into the file's bytes, which cannot be written to


def _absent(folder: Path, part: str) -> list[str]:
    return [file.name for file in (IMAGES[part], LABELS[part]) if not (folder / file.name).exists()]


def _announcement(folder: Path, part: str, error: OSError) -> str:
    there = "test" if part == "train" else "train"
    return (
        f"only the {there} part of MNIST ({IMAGES[there].shape[0]:,} images) is there, and {part} is None: {error}. "
        f'It needs {" and ".join(_absent(folder, part))}. With subset="{there}" nothing more is looked for'
    )


_CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {"subset": (OneOf(("all", "train", "test")),)}
