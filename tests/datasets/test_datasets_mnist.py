"""`fetch_mnist`: invented images that count as published, and the real test images where they are at hand."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pooch
import pytest

from latentode.datasets import download, fetch_mnist, mnist
from latentode.datasets.idx import parse_idx
from latentode.exceptions import DataError, LatentODEWarning

HOME = os.environ.get("LATENTODE_DATA_HOME")
REAL = [mnist.IMAGES["test"], mnist.LABELS["test"]]
needs_data = pytest.mark.skipif(
    HOME is None or not all((Path(HOME) / "mnist" / file.name).exists() for file in REAL),
    reason="no mnist/t10k-*-ubyte.gz in LATENTODE_DATA_HOME",
)

N = {"train": 5, "test": 3}
RNG = np.random.default_rng(0)
ARRAYS = {
    f"{name}-{kind}-ubyte.gz": RNG.integers(0, high, size=(N[part], *shape), dtype=np.uint8)
    for part, name in (("train", "train"), ("test", "t10k"))
    for kind, high, shape in (("images-idx3", 256, (28, 28)), ("labels-idx1", 10, ()))
}
TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")


def idx(array: np.ndarray) -> bytes:
    return b"\0\0\x08" + struct.pack(f">B{array.ndim}I", array.ndim, *array.shape) + array.tobytes()


def packed(name: str) -> bytes:
    return gzip.compress(idx(ARRAYS[name]))


def write(folder: Path, *names: str) -> Path:
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / "mnist" / name).write_bytes(packed(name))
    return folder


@pytest.fixture
def invented(monkeypatch):
    """Small arrays count as published."""
    for table in (mnist.IMAGES, mnist.LABELS):
        for part, file in table.items():
            array = ARRAYS[file.name]
            digest = hashlib.sha256(idx(array)).hexdigest()
            monkeypatch.setitem(table, part, mnist.File(file.name, array.shape, digest))
    monkeypatch.delenv(download.HOME_VARIABLE, raising=False)


@pytest.fixture
def asked(monkeypatch, invented):
    """What was asked of the network, which is not there."""
    urls = []

    def refuse(self, url, output_file, caller):
        urls.append(url)
        Path(output_file).write_bytes(b"half a fi")
        raise OSError("Network is unreachable")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    return urls


@pytest.fixture
def mirrors(monkeypatch, invented):
    """Two mirrors: what each delivers by name (an error is raised), and what was asked of them."""
    shelves = {url: {name: packed(name) for name in ARRAYS} for url in mnist.MIRRORS}
    urls = []

    def deliver(self, url, output_file, caller):
        urls.append(url)
        mirror, _, name = url.rpartition("/")
        content = shelves[mirror + "/"][name]
        if isinstance(content, Exception):
            raise content
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", deliver)
    return shelves, urls


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def assert_part(part, images, labels):
    np.testing.assert_array_equal(part.images, ARRAYS[images])
    np.testing.assert_array_equal(part.labels, ARRAYS[labels])
    assert part.images.dtype == np.uint8
    assert part.labels.dtype == np.int64
    assert part.images.flags.writeable


# --- files in the data home


def test_both_parts_are_what_the_files_hold(tmp_path, asked):
    found = fetch_mnist(data_home=write(tmp_path, *TRAIN, *TEST))
    assert_part(found.train, *TRAIN)
    assert_part(found.test, *TEST)
    assert asked == []


@pytest.mark.parametrize(("subset", "files", "other"), [("train", TRAIN, "test"), ("test", TEST, "train")])
def test_a_subset_asks_only_for_its_own_files(subset, files, other, tmp_path, asked):
    found = fetch_mnist(subset=subset, data_home=write(tmp_path, *files))
    assert_part(getattr(found, subset), *files)
    assert getattr(found, other) is None
    assert asked == []


def test_the_variable_names_the_data_home(tmp_path, asked, monkeypatch):
    monkeypatch.setenv(download.HOME_VARIABLE, str(write(tmp_path, *TEST)))
    assert_part(fetch_mnist(subset="test").test, *TEST)


def test_a_copy_that_was_packed_again_is_as_good(tmp_path, asked):
    write(tmp_path, *TEST)
    for name in TEST:
        (tmp_path / "mnist" / name).write_bytes(gzip.compress(idx(ARRAYS[name]), compresslevel=1, mtime=1))
    assert_part(fetch_mnist(subset="test", data_home=tmp_path).test, *TEST)


@pytest.mark.parametrize(
    ("there", "missing", "files", "absent"), [("test", "train", TEST, TRAIN), ("train", "test", TRAIN, TEST)]
)
def test_one_part_is_usable_and_says_so(there, missing, files, absent, tmp_path, asked):
    home = write(tmp_path, *files)
    with pytest.warns(LatentODEWarning) as caught:
        found = fetch_mnist(data_home=home)
    assert_part(getattr(found, there), *files)
    assert getattr(found, missing) is None
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for text in (
        f"only the {there} part of MNIST ({N[there]} images) is there, and {missing} is None",
        "Network is unreachable",
        f"put it in the folder {home / 'mnist'}",
        f"It needs {' and '.join(absent)}",
        f'subset="{there}"',
    ):
        assert text in str(caught[0].message)
    assert files_in(home) == set(files)


def test_a_part_with_one_of_its_files_is_missing_and_the_other_named(tmp_path, asked):
    home = write(tmp_path, *TEST, TRAIN[1])
    with pytest.warns(LatentODEWarning, match=r"train is None: .*It needs train-images-idx3-ubyte\.gz\. "):
        assert fetch_mnist(data_home=home).train is None


@pytest.mark.parametrize("subset", ["all", "train", "test"])
def test_nothing_at_all_is_an_error_that_says_where_to_put_the_files(subset, tmp_path, asked):
    name = "t10k-labels-idx1-ubyte.gz" if subset == "test" else "train-labels-idx1-ubyte.gz"
    with pytest.raises(OSError) as caught:
        fetch_mnist(subset=subset, data_home=tmp_path)
    for text in (
        f"{name} could not be downloaded from {mnist.MIRRORS[0]}{name} (Network is unreachable), nor from "
        f"{mnist.MIRRORS[1]}{name} (Network is unreachable)",
        f"put it in the folder {tmp_path / 'mnist'}",
        "$LATENTODE_DATA_HOME",
    ):
        assert text in str(caught.value)
    assert files_in(tmp_path) == set()


def test_a_file_that_is_there_but_cannot_be_read_is_no_missing_part(tmp_path, asked):
    home = write(tmp_path, *TEST, TRAIN[1])
    (home / "mnist" / TRAIN[0]).mkdir()
    with pytest.raises(IsADirectoryError):
        fetch_mnist(data_home=home)


@pytest.mark.parametrize("subset", ["al", None, ("train",)])
def test_other_subsets_are_refused(subset):
    with pytest.raises(ValueError, match=r"subset must be one of 'all', 'train', 'test'; got"):
        fetch_mnist(subset=subset)


# --- bad files


def other_value(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


SPOILT = {  # of the unpacked labels
    "altered": (other_value, "sha256 of what it holds is .*, that of the published file is"),
    "truncated": (
        lambda c: c[:-1],
        r"has 10 bytes where its header announces 11, for an array of shape \(3,\)",
    ),
    "padded": (lambda c: c + b"\0", "has 12 bytes where its header announces 11"),
    "of another size": (
        lambda c: idx(np.zeros(4, np.uint8)),
        r"array of shape \(4,\), the published file one of \(3,\)",
    ),
    "of images": (
        lambda c: idx(np.zeros((3, 28, 28), np.uint8)),
        r"array of shape \(3, 28, 28\), the published",
    ),
    "of floats": (
        lambda c: b"\0\0\x0d" + c[3:],
        "magic number is 0x00000d01; an idx file of unsigned bytes begins",
    ),
    "no idx file": (lambda c: b"\x01" + c[1:], "magic number is 0x01000801"),
    "without dimensions": (lambda c: b"\0\0\x08\0", "magic number is 0x00000800"),
    "ended in the header": (lambda c: c[:6], "ends within its header, after 6 bytes of 8"),
    "ended in the magic number": (lambda c: c[:3], "has 3 bytes, fewer than the magic number"),
    "empty": (lambda c: b"", "has 0 bytes, fewer than the magic number"),
}
BAD = {
    f"content {name}": (lambda c, f=f: gzip.compress(f(gzip.decompress(c))), text)
    for name, (f, text) in SPOILT.items()
}
BAD |= {
    "cut": (lambda c: c[: len(c) * 2 // 3], "corrupt or cut short"),
    "check sum": (lambda c: c[:-8] + bytes([c[-8] ^ 1]) + c[-7:], "corrupt or cut short"),
    "page": (lambda c: b"<html>come back later</html>", "corrupt or cut short"),
    "stream": (lambda c: c[:10] + b"\xff" + c[11:], "corrupt or cut short"),
    "nothing": (lambda c: b"", "has 0 bytes, fewer than the magic number"),
}
every_bad_file = pytest.mark.parametrize(("spoil", "text"), BAD.values(), ids=BAD.keys())


@every_bad_file
def test_a_bad_file_of_the_user_is_named_and_kept(spoil, text, tmp_path, asked):
    path = write(tmp_path, *TRAIN, *TEST) / "mnist" / TEST[1]
    path.write_bytes(spoil(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(
        DataError, match=rf"{TEST[1]} is not usable: .*{text}.*Delete it .* good copy of https://"
    ):
        fetch_mnist(data_home=tmp_path)
    assert path.read_bytes() == before


def test_idx_arrays_of_any_number_of_dimensions():
    for shape in ((4,), (2, 3), (2, 0, 3), (1, 2, 3, 4)):
        array = RNG.integers(0, 256, size=shape, dtype=np.uint8)
        np.testing.assert_array_equal(parse_idx(idx(array)), array)


# --- downloads


def test_files_are_downloaded_once(tmp_path, mirrors):
    _, urls = mirrors
    for _ in range(2):
        found = fetch_mnist(data_home=tmp_path)
        assert_part(found.train, *TRAIN)
        assert_part(found.test, *TEST)
    assert sorted(urls) == sorted(mnist.MIRRORS[0] + name for name in ARRAYS)
    assert files_in(tmp_path) == set(ARRAYS)


@pytest.mark.parametrize("failure", [OSError("404"), b"<html>come back later</html>"])
def test_the_second_mirror_takes_over(failure, tmp_path, mirrors):
    shelves, urls = mirrors
    shelves[mnist.MIRRORS[0]][TEST[0]] = failure
    assert_part(fetch_mnist(subset="test", data_home=tmp_path).test, *TEST)
    assert urls == [mnist.MIRRORS[0] + TEST[1], *(mirror + TEST[0] for mirror in mnist.MIRRORS)]


@every_bad_file
def test_a_bad_download_from_all_mirrors_leaves_nothing_behind(spoil, text, tmp_path, mirrors):
    shelves, _ = mirrors
    for mirror in mnist.MIRRORS:
        shelves[mirror][TEST[1]] = spoil(shelves[mirror][TEST[1]])
    first, second = (mirror + TEST[1] for mirror in mnist.MIRRORS)
    both = f"download of {first} is not usable: .*{text}.*; that of {second} is not usable: .*{text}"
    with pytest.raises(DataError, match=f"{both}.*Nothing was kept"):
        fetch_mnist(subset="test", data_home=tmp_path)
    assert files_in(tmp_path) == set()


def test_a_bad_mirror_and_one_out_of_reach_are_a_missing_file(tmp_path, mirrors):
    shelves, _ = mirrors
    shelves[mnist.MIRRORS[0]][TEST[1]] = b""
    shelves[mnist.MIRRORS[1]][TEST[1]] = OSError("out of reach")
    with pytest.raises(
        OSError, match=r"could not be downloaded from .*magic number.*, nor from .*out of reach"
    ):
        fetch_mnist(subset="test", data_home=tmp_path)


# --- the real images


@needs_data
def test_the_real_test_images():
    """Counts per digit and first labels as published with the data; md5 sums of the files as torchvision has them."""
    with warnings.catch_warnings(action="error"):
        found = fetch_mnist(subset="test")
    assert found.train is None
    assert found.test.images.shape == (10000, 28, 28)
    assert np.bincount(found.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert found.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # the digits are centred, ink on empty paper
    assert not found.test.images[:, 0, 0].any()
    assert found.test.images[:, 10:18, 10:18].mean() > 80


@needs_data
@pytest.mark.parametrize(
    ("file", "md5"),
    [(REAL[0], "9fb629c4189551a2d022fa330f9573f3"), (REAL[1], "ec29112dd5afa0611ce80d1b7f02629c")],
)
def test_the_digest_is_that_of_the_original_files(file, md5):
    content = (Path(HOME) / "mnist" / file.name).read_bytes()
    if hashlib.md5(content).hexdigest() != md5:
        pytest.skip("this copy was packed again")
    assert hashlib.sha256(gzip.decompress(content)).hexdigest() == file.digest
