"""The idx format of the MNIST files: a header that tells kind and shape, then the numbers."""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from latentode.exceptions import DataError

UNSIGNED_BYTE = 0x08  # the only kind of number in the MNIST files


def unpacked(content: bytes) -> bytes:
    """What a gzip file holds.

    Raises
    ------
    DataError
        If it is no gzip file, cut short, or contradicts its own check sum.
    """
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"it is corrupt or cut short ({error})") from error


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """The array of unsigned bytes in an idx file, read-only.

    The file begins with two bytes 0, the kind of number and the number of dimensions; then comes the size of each
    dimension as a big-endian 32-bit integer, then the numbers, the last dimension running fastest.

    Raises
    ------
    DataError
        If the magic number is another one, or the length is not what the header says.
    """
    if len(content) < 4:
        raise DataError(f"it has {len(content)} bytes, fewer than the magic number of an idx file")
    zero, kind, n_dims = struct.unpack_from(">HBB", content)
    if zero != 0 or kind != UNSIGNED_BYTE or n_dims == 0:
        raise DataError(
            f"its magic number is 0x{content[:4].hex()}; an idx file of unsigned bytes begins with 0x000008 and "
            "the number of its dimensions"
        )
    start = 4 + 4 * n_dims
    if len(content) < start:
        raise DataError(f"it ends within its header, after {len(content)} bytes of {start}")
    shape = struct.unpack_from(f">{n_dims}I", content, 4)
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"it has {len(content)} bytes where its header announces {expected}, for an array of shape {shape}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
