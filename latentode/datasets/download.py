"""The data home, and files that are downloaded into it once and checked each time they are used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pooch

from latentode.exceptions import DataError

T = TypeVar("T")

HOME_VARIABLE = "LATENTODE_DATA_HOME"


def data_home(path: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the downloaded data: `path`, else $LATENTODE_DATA_HOME, else the user's cache folder."""
    chosen = path or os.environ.get(HOME_VARIABLE) or pooch.os_cache("latentode")
    return Path(chosen).expanduser()


def fetch(path: Path, url: str | Sequence[str], read: Callable[[Path], T]) -> T:
    """Read a file of the data home, downloading it first if it is not there.

    Parameters
    ----------
    path : Path
        Where the file is or will be. A file that is already there is used and never changed or deleted.
    url : str, or sequence of str
        Where it comes from; of several mirrors, the first that delivers a good file.
    read : callable
        Gets a path, returns what the file holds, and raises :class:`DataError` with the reason if that is not
        what it should be. A download is read before it gets its name, so a bad one never enters the folder.

    Returns
    -------
    object
        What `read` returned.

    Raises
    ------
    DataError
        If the file's content is not what it should be.
    OSError
        If the file is not there and cannot be downloaded: no network, or a folder that cannot be written.
    """
    urls = (url,) if isinstance(url, str) else tuple(url)
    if not path.exists():
        _download(path, urls, read)
    try:
        return read(path)
    except DataError as error:
        raise DataError(
            f"{path} is not usable: {error}. Delete it to have it downloaded again, or replace it by a good "
            f"copy of {urls[0]}"
        ) from error


def _download(path: Path, urls: Sequence[str], read: Callable[[Path], T]) -> None:
    failures: list[tuple[str, Exception]] = []
    for url in urls:
        try:
            return _download_from(url, path, read)
        except (
            DataError,
            OSError,
        ) as error:  # of the file; of the network (all of requests are) or of the disk
            failures.append((url, error))
    raise _undelivered(path, failures) from failures[-1][1]


def _download_from(url: str, path: Path, read: Callable[[Path], T]) -> None:
    def download_and_read(url: str, output_file: str, caller: pooch.Pooch) -> None:
        pooch.HTTPDownloader(progressbar=True)(url, output_file, caller)
        read(Path(output_file))

    source = pooch.create(path.parent, base_url="", registry={path.name: None}, urls={path.name: url})
    # pooch writes to a temporary file, and moves it only when the downloader has returned
    source.fetch(path.name, downloader=download_and_read)


def _undelivered(path: Path, failures: Sequence[tuple[str, Exception]]) -> DataError | OSError:
    if all(isinstance(error, DataError) for _, error in failures):
        bad = "; that of ".join(f"{url} is not usable: {error}" for url, error in failures)
        return DataError(f"the download of {bad}. Nothing was kept; try again, or put a good copy at {path}")
    tried = ", nor from ".join(f"{url} ({error})" for url, error in failures)
    return OSError(
        f"{path.name} could not be downloaded from {tried}. Get it by other means and put it in "
        f"the folder {path.parent}, or point data_home= or ${HOME_VARIABLE} to a folder that holds "
        f"{path.parent.name}/{path.name}"
    )
