"""Reads the log of an offline W&B run: LevelDB's log format, a protobuf record each.

A block is 32 KiB; a chunk in it has a header of 7 bytes (CRC-32, length, kind) and a record is one whole chunk or a
first, middle and last one (LevelDB, doc/log_format.md). The file begins with 7 bytes of W&B's own.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK, HEADER = 32768, 7
FULL, LAST = 1, 4


@dataclass
class OfflineRun:
    """What an offline run holds: rows of history, configuration, summary, files and the exit status."""

    folder: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    project: str = ""
    group: str = ""
    run_id: str = ""
    tags: list[str] = field(default_factory=list)

    def values(self, key: str) -> list[Any]:
        """The history of one key, in order."""
        return [row[key] for row in self.history if key in row]

    def media(self, pattern: str) -> list[Path]:
        """Media files whose path matches a pattern."""
        return sorted((self.folder / "files" / "media").glob(pattern))


def read_offline_run(save_dir: Path, *, seconds: float = 10) -> OfflineRun:
    """The one offline run under `save_dir`/wandb, once it is finished.

    W&B's own process may still be writing the file when `finish` has returned: the exit status is its last record.
    """
    (path,) = (save_dir / "wandb").glob("offline-run-*/run-*.wandb")
    end = time.monotonic() + seconds
    while True:
        try:
            run = _read(path)
        except ValueError:
            if time.monotonic() > end:
                raise
        else:
            if run.exit_code is not None or time.monotonic() > end:
                return run
        time.sleep(0.05)


def _read(path: Path) -> OfflineRun:
    run = OfflineRun(path.parent)
    for raw in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "config":
            run.config |= _items(record.config.update)
        elif kind == "run":
            run.config |= _items(record.run.config.update)
            run.project, run.group, run.run_id = record.run.project, record.run.run_group, record.run.run_id
            run.tags = list(record.run.tags)
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    if data[:4] != b":W&B":
        raise ValueError(f"not a W&B log: begins with {data[:4]!r}")
    position, record = HEADER, b""
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        if kind == 0:  # the rest of the block is padding
            position += left
            continue
        chunk = data[position + HEADER : position + HEADER + length]
        if zlib.crc32(data[position + HEADER - 1 : position + HEADER] + chunk) != checksum:
            raise ValueError(f"chunk at byte {position} is damaged or not whole")
        position += HEADER + length
        record += chunk
        if kind in (FULL, LAST):
            yield record
            record = b""
