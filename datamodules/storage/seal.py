"""What `store.json` says so that no byte of a store can change unseen.

The samples of a clip are under the `crc32` in its shard's table. Every other byte of the shard (the header, the table,
the padding between them) is under one checksum in `store.json`, `failures.csv` under another, and `store.json` is under
its own. Where the samples begin and end stands there too, so that a file is known to be whole before HDF5 or numpy
parses any of it.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.storage.index import read_columns, read_layout, read_state
from datamodules.storage.shards import StoreError

FAILURES_FILE = "failures.csv"
_CHUNK = 1 << 20  # bytes read at once


def describe_shard(path: Path) -> dict[str, Any]:
    """A closed shard as `store.json` lists it. Raises StoreError if it is none."""
    layout = read_layout(path)
    pcm_bytes = layout.samples * layout.channels * layout.dtype.itemsize
    return {
        "name": path.name,
        "clips": len(read_columns(path, ("length",))["length"]),
        "samples": layout.samples,
        "offset": layout.offset,
        "pcm_bytes": pcm_bytes,
        "bytes": path.stat().st_size,
        "crc32": frame_checksum(path, offset=layout.offset, pcm_bytes=pcm_bytes),
    }


def shard_files(path: Path) -> list[Path]:
    """The files that make up a shard: an npy shard keeps its table in a second one."""
    return [path, path.with_suffix(".clips.npz")] if path.suffix == ".npy" else [path]


def frame_checksum(path: Path, *, offset: int, pcm_bytes: int) -> int:
    """zlib.crc32 of all bytes of a shard's files that are no samples.

    Args:
        path: of the shard.
        offset: byte at which its samples begin.
        pcm_bytes: length of its samples.
    Raises:
        OSError: if one of the files is missing or cannot be read.
    """
    with path.open("rb") as file:
        crc = checksum(file, offset)
        file.seek(offset + pcm_bytes)
        crc = checksum(file, crc=crc)
    for table in shard_files(path)[1:]:
        crc = file_checksum(table, crc=crc)
    return crc


def file_checksum(path: Path, *, crc: int = 0) -> int:
    """zlib.crc32 of all of a file; goes on from `crc`. Raises OSError if it is missing or cannot be read."""
    with path.open("rb") as file:
        return checksum(file, crc=crc)


def checksum(file: BinaryIO, n_bytes: int | None = None, *, crc: int = 0) -> int:
    """zlib.crc32 of the next bytes of a file, or of what is left of it; goes on from `crc`.

    >>> import io
    >>> hex(checksum(io.BytesIO(b"123456789")))  # the check value that catalogues of CRCs give for it
    '0xcbf43926'
    """
    while data := file.read(_CHUNK if n_bytes is None else min(n_bytes, _CHUNK)):
        crc = zlib.crc32(data, crc)
        n_bytes = None if n_bytes is None else n_bytes - len(data)
    return crc


def seal(state: dict[str, Any]) -> dict[str, Any]:
    """The content of `store.json` with a checksum of itself.

    >>> is_sealed(seal({"sample_rate": 16000}))
    True
    >>> is_sealed(seal({"sample_rate": 16000}) | {"sample_rate": 16001})
    False
    """
    return state | {"crc32": _digest(state)}


def is_sealed(state: dict[str, Any]) -> bool:
    """Whether the content of a `store.json` is what was sealed."""
    return state.get("crc32") == _digest(state)


def read_sealed(path: Path) -> dict[str, Any]:
    """The content of a `store.json`. Raises StoreError if it is foreign, of another version or not what was written."""
    state = read_state(path)
    if not is_sealed(state):
        raise StoreError(f"{path} is not what was written: copy it again, or decode again into a new folder")
    return state


def _digest(state: dict[str, Any]) -> int:
    content = {name: value for name, value in state.items() if name != "crc32"}
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
