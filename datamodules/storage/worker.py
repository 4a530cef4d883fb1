"""One process that decodes: a slice of the plan at a time, file by file, into a shard and its journal.

A decoder may crash in C or hang, and takes its process with it; `pool.py` watches over that. A process that
takes a slice over goes on where the journal ends, and notes there what the clip died of that its forerunner was at.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.decoding.decode import Decoded, DecodeError
from datamodules.samples import SAMPLE_DTYPES, SampleFormat
from datamodules.storage.changes import look, take_stamp
from datamodules.storage.locks import lock_slice
from datamodules.storage.plan import Slice
from datamodules.storage.shards import FAILURE_COLUMNS, ShardWriter, StoreError, disk_error

IDLE = "idle"  # what a worker says when it wants a slice

Decoder = Callable[..., Decoded]


class Outcome(NamedTuple):
    """What became of one file.

    Args:
        clip_id: of the file.
        source: its path.
        outcome: "ok", "short", "salvaged" or "failed"; "gone" where a stored clip's file no longer exists.
        codec: by content; "unknown" where it was not recognised.
        reason: one line; empty where the outcome is "ok".
        seconds: of audio stored.
    """

    clip_id: str
    source: str
    outcome: str
    codec: str
    reason: str
    seconds: float = 0.0


class Settings(NamedTuple):
    """What a store is begun with and every run of it must agree to; stands in `store.json`.

    Args:
        sample_rate: of the PCM, in Hz.
        channels: of the PCM.
        exact_channels: whether a file with another number of channels fails, instead of being mixed or copied.
        sample_format: see `datamodules.samples`.
        max_seconds: of a clip that are kept; all of it where None.
        shard_format: "hdf5" or "npy".
    """

    sample_rate: int
    channels: int
    exact_channels: bool
    sample_format: SampleFormat
    max_seconds: float | None
    shard_format: str

    @property
    def bytes_per_second(self) -> int:
        """Of the PCM."""
        return self.sample_rate * self.channels * SAMPLE_DTYPES[self.sample_format].itemsize

    @classmethod
    def of(cls, state: dict[str, Any]) -> Settings:
        """Those that stand in a `store.json`."""
        return cls(**{name: state[name] for name in cls._fields})


class Work(NamedTuple):
    """What every worker must know; picklable.

    Args:
        folder: of the store.
        settings: of the store.
        decoder: called as `datamodules.decoding.decode.decode` is.
    """

    folder: Path
    settings: Settings
    decoder: Decoder

    def open_shard(self, number: int) -> ShardWriter:
        """Begin a shard, or go on with the one of that number."""
        return ShardWriter(
            self.folder,
            number,
            shard_format=self.settings.shard_format,
            channels=self.settings.channels,
            sample_format=self.settings.sample_format,
        )

    def decode(self, path: Path) -> Decoded:
        """A file as the store wants it."""
        return self.decoder(
            path,
            sample_rate=self.settings.sample_rate,
            channels=self.settings.channels,
            exact_channels=self.settings.exact_channels,
            sample_format=self.settings.sample_format,
            max_seconds=self.settings.max_seconds,
        )


class Task(NamedTuple):
    """A slice as it is handed to a worker: new, or after the death of another.

    Args:
        slice: to make a shard of.
        told: how many of its clips the parent knows about; None where it does not know.
        blame: what happened to the worker that was at the next; empty where nothing did.
    """

    slice: Slice
    told: int | None
    blame: str


def run_worker(pipe: connection.Connection, work: Work) -> None:
    """Make shards of the slices that come through the pipe until None comes or the parent has gone.

    What goes back: `IDLE`, then for every slice how many of its files are known about, an `Outcome` for each of the
    others, and `IDLE` again; or a `StoreError`, and no more.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _silence_libraries()
    try:
        pipe.send(IDLE)
        while (task := pipe.recv()) is not None:
            with lock_slice(work.folder, task.slice.number):
                write_slice(task, work, pipe.send)
            pipe.send(IDLE)
    except (EOFError, BrokenPipeError):
        return  # the parent has gone: the part and its journal are for the next run
    except OSError as error:  # a full disk
        pipe.send(disk_error(work.folder, error))
    except StoreError as error:
        pipe.send(error)


def write_slice(task: Task, work: Work, send: Callable[[int | Outcome], None]) -> None:
    """Decode what the shard's journal does not tell of yet, and close the shard; `send` tells of every file."""
    shard = work.open_shard(task.slice.number)
    told = len(shard.entries) if task.told is None else task.told
    send(told)
    if task.blame and len(shard.entries) == told:  # else the clip was safe before its worker died
        clip_id, path = task.slice.clips[told]
        shard.fail(_failure(clip_id, path, "unknown", task.blame))
    for entry in shard.entries[told:]:
        send(_outcome(entry, work.settings.sample_rate))
    for clip_id, path in task.slice.clips[len(shard.entries) :]:
        _decode_into(shard, clip_id, path, work)
        send(_outcome(shard.entries[-1], work.settings.sample_rate))
    shard.close()


def _decode_into(shard: ShardWriter, clip_id: str, path: str, work: Work) -> None:
    source, before = Path(path), None
    try:
        with contextlib.suppress(OSError):  # decoding says best what is wrong with it
            before = look(source)
        decoded = work.decode(source)
        stamp = take_stamp(source)
    except DecodeError as error:
        shard.fail(_failure(clip_id, path, error.codec, error.reason))
    except Exception as error:  # noqa: BLE001 - whatever one file does to a library must not end the run
        shard.fail(_failure(clip_id, path, "unknown", " ".join(f"{type(error).__name__}: {error}".split())))
    else:
        if before != (stamp.source_bytes, stamp.source_mtime):
            shard.fail(_failure(clip_id, path, decoded.codec, "it changed while it was decoded: run again"))
            return
        fields = {name: value for name, value in decoded._asdict().items() if name != "pcm"}
        shard.add(decoded.pcm, {"clip_id": clip_id, "source": path} | stamp._asdict() | fields)


def _failure(clip_id: str, path: str, codec: str, reason: str) -> dict[str, str]:
    return dict(zip(FAILURE_COLUMNS, (clip_id, path, "failed", codec, reason), strict=True))


def _outcome(entry: dict[str, Any], sample_rate: int) -> Outcome:
    """A line of the journal as the parent wants it."""
    if "reason" in entry:
        return Outcome(**entry)
    seconds = entry["length"] / sample_rate
    return Outcome(entry["clip_id"], entry["source"], entry["status"], entry["codec"], entry["note"], seconds)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, also in the middle of a clip."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _silence_libraries() -> None:
    """libmpg123 writes its complaints to fd 2 from C; Python keeps a copy of the real one.

    On a full disk h5py says of every object that it lets go what the first error has said.
    """
    sys.unraisablehook = lambda _: None
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
