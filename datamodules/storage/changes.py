"""Whether a file is still the one that was decoded.

Its size and time say so at the cost of a look. Where only the time differs, as after a copy, its checksum decides.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.decoding.sources import Source
from datamodules.storage.index import Index, find_rows
from datamodules.storage.seal import checksum

STAMP_COLUMNS = ("source_bytes", "source_mtime", "source_crc32")


class Stamp(NamedTuple):
    """By what a file is known again; the fields are columns of the store."""

    source_bytes: int
    source_mtime: float
    source_crc32: int


def take_stamp(path: Path) -> Stamp:
    """Of a regular file. Raises OSError if it cannot be read."""
    size, mtime = look(path)
    with path.open("rb") as file:
        return Stamp(size, mtime, checksum(file))


def look(path: Path) -> tuple[int, float]:
    """Size in bytes and time of the last change in s. Raises OSError if there is no such file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime


def are_stored(sources: list[Source], index: Index) -> NDArray[np.bool_]:
    """Which of the files are in the store as they are now; one that has gone since it was decoded has not changed.

    Args:
        sources: the files.
        index: of the store, with `STAMP_COLUMNS`.
    """
    rows = find_rows(index.clip_id, [source.clip_id for source in sources])
    known = np.flatnonzero(rows >= 0)
    columns = (index.columns[name][rows[known]].tolist() for name in STAMP_COLUMNS)
    stored = np.zeros(len(sources), dtype=bool)
    stored[known] = [
        _is_same(sources[i].path, Stamp(*stamp)) for i, *stamp in zip(known.tolist(), *columns, strict=True)
    ]
    return stored


def _is_same(path: Path, stamp: Stamp) -> bool:
    try:
        size, mtime = look(path)
        if size != stamp.source_bytes or mtime == stamp.source_mtime:
            return size == stamp.source_bytes
        return take_stamp(path).source_crc32 == stamp.source_crc32
    except FileNotFoundError:
        return True
    except OSError:
        return False
