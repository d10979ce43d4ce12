"""Whether a shared library's file is whole: the system maps one that was cut off, and ends the process at first use."""

from __future__ import annotations

import struct
from pathlib import Path

_LOAD = 1  # the type of a segment that is mapped
_HEADERS = {
    1: ("IIIHHHHH", 28),
    2: ("QQIHHHHH", 32),
}  # by the class of an ELF file, of 32 or 64 bits: from e_phoff on
_SEGMENTS = {1: "I I 8x I", 2: "I 4x Q 16x Q"}  # type, offset and size in the file


def missing_bytes(file: Path) -> int:
    """How many bytes an ELF file at least lacks at its end; 0 for whole ones and for other formats.

    Read are the tables of segments and sections alone: what happened to the bytes between is not seen.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    content = file.read_bytes()
    if content[:4] != b"\x7fELF":
        return 0
    try:
        return max(0, _end(content) - len(content))
    except (struct.error, KeyError):  # not even the tables
        return 1


def _end(content: bytes) -> int:
    """Where the last segment or section table ends, as the file says."""
    kind, order = content[4], "<" if content[5] == 1 else ">"
    form, place = _HEADERS[kind]
    segments, sections, _, _, segment_size, n_segments, section_size, n_sections = struct.unpack_from(
        order + form, content, place
    )
    ends = [sections + section_size * n_sections, segments + segment_size * n_segments]
    for i in range(n_segments):
        type_, offset, size = struct.unpack_from(
            order + _SEGMENTS[kind], content, segments + i * segment_size
        )
        ends.append(offset + size if type_ == _LOAD else 0)
    return max(ends)
