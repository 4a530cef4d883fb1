"""The format of a PCM shard, stated once: what stands in it and how it comes to be.

A shard is one contiguous little-endian array `pcm` (samples, channels) with its clips end to end, in the sample format
of its store, and a table `clips` of one array a column (`COLUMNS`), all of one length. As HDF5 (`shard-00000.h5`) they
are datasets, uncompressed and without a user block, so that `pcm` can be mapped at its offset; as npy they are
`shard-00000.npy` and the arrays of `shard-00000.clips.npz`, which is published first. Texts are UTF-8, fixed in width,
padded with zeros. The same clips in the same order are the same file, byte for byte.

While it grows, a shard is a file of samples (`.shard-00000.part`) and a journal of one JSON line a file
(`.shard-00000.journal`): a clip's row, written behind its samples, or the reason why there is none. A line counts if it
is whole and its samples match their checksum; everything from the first that does not on is dropped. Samples stand from
the first where the shard will have them. Closing checks every clip again, writes what stands around them, syncs and
renames the file, and last says that the shard is whole and what failed on the way (`.shard-00000.done`): so also where
all failed, and there is no shard. Nothing that is visible is partial, whatever was killed when.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from datamodules.samples import SAMPLE_DTYPES, SampleFormat, to_float

COLUMNS = {
    "clip_id": "text",
    "start": "<i8",  # samples into `pcm`
    "length": "<i8",  # samples
    "peak": "<f4",  # of full scale 1
    "rms": "<f4",  # likewise
    "dc": "<f4",  # likewise: the mean of all values
    "crc32": "<u4",  # zlib.crc32 of the clip's bytes
    "source": "text",
    "source_bytes": "<i8",
    "source_mtime": "<f8",  # s since 1970
    "source_crc32": "<u4",  # zlib.crc32 of the file's bytes
    "codec": "text",
    "decoder": "text",
    "status": "text",  # ok, short or salvaged
    "note": "text",
    "clipped": "<i8",  # values
    "artist": "text",
    "title": "text",
    "declared_seconds": "<f8",
}
FAILURE_COLUMNS = ("clip_id", "source", "outcome", "codec", "reason")
SHARD_FORMATS = {"hdf5": ".h5", "npy": ".npy"}
_PCM_BEGINS = {"hdf5": 2048, "npy": 128}  # bytes that HDF5 and numpy put before the first array of a file


class StoreError(ValueError):
    """A store or shard that is missing, unfinished, foreign, damaged, or does not fit what is asked of it."""


def disk_error(folder: Path, error: OSError) -> StoreError:
    """What to say where a store cannot be written: a full disk, a quota, a folder that was taken away."""
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return StoreError(f"{folder}: {what or error}; the same command goes on where it stopped")


def shard_name(number: int, shard_format: str) -> str:
    """File name of a closed shard."""
    return f"shard-{number:05d}{SHARD_FORMATS[shard_format]}"


def shard_number(path: Path | str) -> int:
    """Number of a closed or growing shard by the name of any of its files; -1 for other names.

    >>> shard_number("shard-00012.h5"), shard_number(".shard-00003.done"), shard_number("failures.csv")
    (12, 3, -1)
    """
    match = re.fullmatch(r"\.?shard-(\d{5,})\..*", Path(path).name)
    return int(match[1]) if match else -1


def closed_shards(folder: Path, shard_format: str) -> list[Path]:
    """Shards that are whole, in the order of their numbers."""
    shards = (path for path in folder.glob(f"shard-*{SHARD_FORMATS[shard_format]}") if shard_number(path) >= 0)
    return sorted(shards, key=shard_number)


def read_done(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """What failed in each shard that is marked as whole, by number; of a store under way."""
    done = {shard_number(path): json.loads(path.read_bytes()) for path in folder.glob(".shard-*.done")}
    return {number: done[number]["failures"] for number in sorted(done)}


def read_journal(folder: Path, number: int) -> tuple[int, int]:
    """How many clips and how many failures a growing shard's journal tells of."""
    path = folder / f".shard-{number:05d}.journal"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    clips = [_is_row(entry) for line in lines if (entry := _parse(line))]
    return sum(clips), len(clips) - sum(clips)


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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Publish a JSON file, indented for people."""
    temporary = path.with_name(f".{path.name.strip('.')}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    publish(temporary, path)


class ShardWriter:
    """A growing shard; opening one that a killed process has left goes on behind its last good line.

    Args:
        folder: of the store.
        number: of the shard.
        shard_format: "hdf5" or "npy".
        channels: of every clip.
        sample_format: of every clip.

    Attributes:
        entries: the journal, in order: a row for each clip, `FAILURE_COLUMNS` for each file that failed.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        *,
        shard_format: str,
        channels: int,
        sample_format: SampleFormat = "int16",
    ) -> None:
        self.folder, self.number, self.shard_format, self.channels = folder, number, shard_format, channels
        self.dtype = SAMPLE_DTYPES[sample_format]
        self.part, self.journal = folder / f".shard-{number:05d}.part", folder / f".shard-{number:05d}.journal"
        self.final = folder / shard_name(number, shard_format)
        self.entries: list[dict[str, Any]] = []
        self.samples = 0
        self._begin = _PCM_BEGINS[shard_format]
        # A run that was killed has published the shard and not said so yet: nothing but that is left to do.
        self.published = self.final.exists() and self.journal.exists() and not self.part.exists()
        journal_bytes = self._recover() if self.journal.exists() else 0
        self._journal_file = self._open(self.journal, journal_bytes)
        self._pcm_file = -1 if self.published else self._open(self.part, self._begin + self._nbytes(self.samples))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of the clips so far."""
        return [entry for entry in self.entries if _is_row(entry)]

    def add(self, pcm: np.ndarray, row: dict[str, Any]) -> None:
        """Append a clip (samples, channels) in the store's sample format, and what the other columns say of it."""
        if pcm.dtype != self.dtype or pcm.shape[1:] != (self.channels,):
            raise ValueError(f"pcm must be {self.dtype} (samples, {self.channels}), got {pcm.dtype} {pcm.shape}")
        data = np.ascontiguousarray(pcm).data.cast("B")
        _write_all(self._pcm_file, data)
        self._write_down(row | {"start": self.samples, "length": len(pcm), "crc32": zlib.crc32(data)} | _levels(pcm))
        self.samples += len(pcm)

    def fail(self, failure: dict[str, str]) -> None:
        """Note a file that gave no clip, and why."""
        self._write_down(failure)

    def close(self) -> Path | None:
        """Turn the part into a shard, marked as whole; None where it holds no clip.

        Raises:
            StoreError: if a clip changed on the disk.
        """
        os.close(self._journal_file)
        rows = self.rows
        if not self.published:
            os.close(self._pcm_file)
            if rows:
                self._check_samples(rows)
                frame = _hdf5_frame if self.shard_format == "hdf5" else _npy_frame
                head, tail = frame(
                    self.part, self.final, rows=rows, shape=(self.samples, self.channels), dtype=self.dtype
                )
                assert len(head) == self._begin, "HDF5 and numpy put samples where they have put them up to now"
                with self.part.open("r+b") as file:
                    file.write(head)
                    file.seek(0, os.SEEK_END)
                    file.write(tail)
                publish(self.part, self.final)
        failures = [entry for entry in self.entries if not _is_row(entry)]
        write_json(self.part.with_suffix(".done"), {"clips": len(rows), "failures": failures})
        self.part.unlink(missing_ok=True)
        self.journal.unlink()
        return self.final if rows else None

    def _recover(self) -> int:
        """Replay the journal up to its first torn or false line; returns its bytes up to there."""
        good = 0
        if not self.published:
            self.part.touch()
        with self.journal.open("rb") as lines, (self.final if self.published else self.part).open("rb") as samples:
            samples.seek(self._begin)
            for line in lines:
                entry = _parse(line)
                if entry is None or not self._is_there(entry, samples):
                    break
                self.entries.append(entry)
                self.samples += entry.get("length", 0)
                good += len(line)
        return good

    def _is_there(self, entry: dict[str, Any], part: IO[bytes]) -> bool:
        if not _is_row(entry):
            return True
        return entry["start"] == self.samples and zlib.crc32(part.read(self._nbytes(entry["length"]))) == entry["crc32"]

    def _write_down(self, entry: dict[str, Any]) -> None:
        _write_all(self._journal_file, json.dumps(entry).encode() + b"\n")
        self.entries.append(entry)

    def _nbytes(self, samples: int) -> int:
        return samples * self.channels * self.dtype.itemsize

    @staticmethod
    def _open(path: Path, size: int) -> int:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.ftruncate(descriptor, size)
        return descriptor

    def _check_samples(self, rows: list[dict[str, Any]]) -> None:
        with self.part.open("rb") as part:
            part.seek(self._begin)
            for row in rows:
                if zlib.crc32(part.read(self._nbytes(row["length"]))) != row["crc32"]:
                    raise StoreError(f"{self.part}: {row['clip_id']} is not what was written: check the disk")


def _levels(pcm: np.ndarray) -> dict[str, float]:
    """Peak, root mean square and mean, full scale 1."""
    flat = to_float(pcm).ravel()
    size = max(1, flat.size)
    peak = float(np.abs(flat).max(initial=0.0))
    return {"peak": peak, "rms": float(np.sqrt(flat @ flat / size)), "dc": float(flat.sum() / size)}


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    known = (COLUMNS.keys(), dict.fromkeys(FAILURE_COLUMNS).keys())
    return entry if isinstance(entry, dict) and entry.keys() in known else None


def _is_row(entry: dict[str, Any]) -> bool:
    return "crc32" in entry


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
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


def _lay_out_hdf5(temporary: Path, rows: list[dict[str, Any]], shape: tuple[int, int], dtype: np.dtype) -> int:
    """All of a shard but its samples; returns the byte at which they begin."""
    with h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_layout(h5py.h5d.CONTIGUOUS)
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every byte is written below, once
        layout.set_obj_track_times(False)  # else it notes when it was made, and no two are equal
        space, stored = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype, logical=True)
        offset = h5py.h5d.create(file.id, b"pcm", stored, space, dcpl=layout).get_offset()
        for name, values in _to_columns(rows).items():
            if COLUMNS[name] == "text":
                values = values.view(h5py.string_dtype("utf-8", values.dtype.itemsize))
            file.create_dataset(f"clips/{name}", data=values)
    return offset


def _hdf5_frame(
    part: Path, _: Path, *, rows: list[dict[str, Any]], shape: tuple[int, int], dtype: np.dtype
) -> tuple[bytes, bytes]:
    """What stands before the samples of a shard, and behind them."""
    temporary = part.with_suffix(".tmp")  # as long as the shard, but a hole where its samples would be
    try:
        offset = _lay_out_hdf5(temporary, rows, shape, dtype)
    except (OSError, RuntimeError) as error:  # HDF5 hides the reason in its text, and raises this when it closes
        code = re.search(r"errno = (\d+)", str(error))
        raise (OSError(int(code[1]), os.strerror(int(code[1]))) if code else error) from None
    with temporary.open("rb") as file:
        head = file.read(offset)
        file.seek(offset + shape[0] * shape[1] * dtype.itemsize)
        tail = file.read()
    temporary.unlink()
    return head, tail


def _npy_frame(
    part: Path, final: Path, *, rows: list[dict[str, Any]], shape: tuple[int, int], dtype: np.dtype
) -> tuple[bytes, bytes]:
    """What stands before the samples of a shard, and behind them: nothing, the table is a file of its own."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    table = part.with_suffix(".clips")
    with table.open("wb") as file:
        np.savez(file, **_to_columns(rows))  # pyright: ignore[reportArgumentType]
    publish(table, final.with_suffix(".clips.npz"))
    return header.getvalue(), b""
