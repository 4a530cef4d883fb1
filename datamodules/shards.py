"""The format of a PCM shard, stated once: what stands in it and how it comes to be.

A shard is one contiguous little-endian int16 array `pcm` (samples, channels) with its clips end to end, and a table
`clips` of one array a column (`COLUMNS`), all of one length. As HDF5 (`shard-00000.h5`) they are datasets, uncompressed
and without a user block, so that `pcm` can be mapped at its offset; as npy they are `shard-00000.npy` and the arrays of
`shard-00000.clips.npz`, which is published first. Texts are UTF-8, fixed in width, padded with zeros.

While it grows, a shard is a file of samples (`.shard-00000.part`) and a journal of one JSON line a clip, written behind
its samples (`.shard-00000.journal`). A line counts if it is whole and its samples match their checksum; everything from
the first that does not on is dropped. Closing checks every clip again on its way into a temporary file, which is synced
and renamed. So nothing that is visible is partial, whatever was killed when.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamodules.samples import SAMPLE_DTYPES

COLUMNS = {
    "clip_id": "text",
    "start": "<i8",  # samples into `pcm`
    "length": "<i8",  # samples
    "peak": "<f4",  # of full scale 1
    "rms": "<f4",  # likewise
    "crc32": "<u4",  # zlib.crc32 of the clip's bytes
    "source": "text",
    "source_bytes": "<i8",
    "source_mtime": "<f8",  # s since 1970
    "codec": "text",
    "decoder": "text",
    "status": "text",  # ok, short or salvaged
    "note": "text",
    "clipped": "<i8",  # values
    "artist": "text",
    "title": "text",
    "declared_seconds": "<f8",
}
SHARD_FORMATS = {"hdf5": ".h5", "npy": ".npy"}
SAMPLE_DTYPE = SAMPLE_DTYPES["int16"]


class StoreError(ValueError):
    """A store or shard that is missing, unfinished, foreign, damaged, or does not fit what is asked of it."""


def shard_name(number: int, shard_format: str) -> str:
    """File name of a closed shard."""
    return f"shard-{number:05d}{SHARD_FORMATS[shard_format]}"


def closed_shards(folder: Path, shard_format: str) -> list[Path]:
    """Shards that are whole, in the order they were begun."""
    return sorted(folder.glob(f"shard-*{SHARD_FORMATS[shard_format]}"))


def unclosed_shards(folder: Path) -> list[int]:
    """Numbers of the shards that a run has left growing."""
    return sorted({int(path.stem.removeprefix(".shard-")) for path in folder.glob(".shard-*.part")})


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Sync a finished file and give it its name, at once or not at all."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    sync_folder(final.parent)


class ShardWriter:
    """A growing shard; opening one that a killed process has left goes on behind its last good clip.

    Args:
        folder: of the store.
        number: of the shard.
        shard_format: "hdf5" or "npy".
        channels: of every clip.
    """

    def __init__(self, folder: Path, number: int, *, shard_format: str, channels: int) -> None:
        self.folder, self.number, self.shard_format, self.channels = folder, number, shard_format, channels
        self.part, self.journal = folder / f".shard-{number:05d}.part", folder / f".shard-{number:05d}.journal"
        self.rows: list[dict[str, Any]] = []
        self.samples, journal_bytes = 0, 0
        if self.journal.exists():
            journal_bytes = self._recover()
        self._pcm_file = self._open(self.part, self.samples * channels * SAMPLE_DTYPE.itemsize)
        self._journal_file = self._open(self.journal, journal_bytes)

    @property
    def nbytes(self) -> int:
        """Of the samples so far."""
        return self.samples * self.channels * SAMPLE_DTYPE.itemsize

    def add(self, pcm: np.ndarray, **row: Any) -> None:
        """Append a clip, int16 (samples, channels), and what the other columns say of it."""
        data = np.ascontiguousarray(pcm, dtype=SAMPLE_DTYPE).tobytes()
        row |= {"start": self.samples, "length": len(pcm), "crc32": zlib.crc32(data)} | _levels(pcm)
        _write_all(self._pcm_file, data)
        _write_all(self._journal_file, json.dumps(row).encode() + b"\n")
        self.rows.append(row)
        self.samples += len(pcm)

    def close(self) -> Path | None:
        """Turn the part into a shard; None where it holds no clip. Raises StoreError if a clip changed on the disk."""
        os.close(self._pcm_file)
        os.close(self._journal_file)
        final = self.folder / shard_name(self.number, self.shard_format) if self.rows else None
        if final is not None:
            temporary = self.folder / f".shard-{self.number:05d}.tmp"
            write = _write_hdf5 if self.shard_format == "hdf5" else _write_npy
            shape = (self.samples, self.channels)
            write(temporary, final, rows=self.rows, samples=self._checked_samples(), shape=shape)
            publish(temporary, final)
        self.part.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)
        return final

    def _recover(self) -> int:
        """Replay the journal up to its first torn or false line; returns its bytes up to there."""
        good = 0
        with self.journal.open("rb") as lines, self._open_part() as part:
            for line in lines:
                row = _parse(line)
                if row is None or row["start"] != self.samples:
                    break
                data = part.read(row["length"] * self.channels * SAMPLE_DTYPE.itemsize)
                if zlib.crc32(data) != row["crc32"]:
                    break
                self.rows.append(row)
                self.samples += row["length"]
                good += len(line)
        return good

    def _open_part(self) -> Any:
        self.part.touch()
        return self.part.open("rb")

    @staticmethod
    def _open(path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(descriptor, size)
        return descriptor

    def _checked_samples(self) -> Iterator[bytes]:
        with self.part.open("rb") as part:
            for row in self.rows:
                data = part.read(row["length"] * self.channels * SAMPLE_DTYPE.itemsize)
                if zlib.crc32(data) != row["crc32"]:
                    raise StoreError(f"{self.part}: {row['clip_id']} is not what was written: check the disk")
                yield data


def _levels(pcm: np.ndarray) -> dict[str, float]:
    """Peak and root mean square, full scale 1."""
    flat = pcm.astype(np.float32).ravel() / np.float32(32768)
    peak = float(np.abs(flat).max(initial=0.0))
    return {"peak": peak, "rms": float(np.sqrt(flat @ flat / max(1, flat.size)))}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) and row.keys() == COLUMNS.keys() else None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _to_columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    columns = {}
    for name, kind in COLUMNS.items():
        values = [row[name] for row in rows]
        # Width 1 at least: neither format stores a text of no width.
        texts = [str(value).encode("utf-8", "surrogateescape") or b"\0" for value in values] if kind == "text" else []
        columns[name] = np.array(texts) if texts else np.array(values, dtype=kind)
    return columns


def _write_hdf5(
    temporary: Path, _: Path, *, rows: list[dict[str, Any]], samples: Iterator[bytes], shape: tuple[int, int]
) -> None:
    with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every byte is written below, once
        space, dtype = h5py.h5s.create_simple(shape), h5py.h5t.py_create(SAMPLE_DTYPE, logical=True)
        offset = h5py.h5d.create(file.id, b"pcm", dtype, space, dcpl=layout).get_offset()
        for name, values in _to_columns(rows).items():
            if COLUMNS[name] == "text":
                values = values.view(h5py.string_dtype("utf-8", values.dtype.itemsize))
            file.create_dataset(f"clips/{name}", data=values)
    with temporary.open("r+b") as raw:
        raw.seek(offset)
        for data in samples:
            raw.write(data)


def _write_npy(
    temporary: Path, final: Path, *, rows: list[dict[str, Any]], samples: Iterator[bytes], shape: tuple[int, int]
) -> None:
    with temporary.open("wb") as raw:
        header = {"descr": SAMPLE_DTYPE.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(raw, header)
        for data in samples:
            raw.write(data)
    table = temporary.with_suffix(".clips")
    with table.open("wb") as raw:
        np.savez(raw, **_to_columns(rows))  # pyright: ignore[reportArgumentType]
    publish(table, final.with_suffix(".clips.npz"))
