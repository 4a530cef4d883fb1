"""Audio files to a PCM store: any number of processes, killed and started again at any moment, one result.

A store under way is its folder without `store.json`: closed shards, growing ones, and `.begun.json` with the settings.
A start keeps the clips of closed shards whose file still has its size and time, closes what a killed run has left
growing, and decodes the rest: going on, adding files later and decoding what has changed are the same thing. Files that
failed are tried again. A file that has changed is decoded into a new shard, and its old samples are no longer read; if
it now fails, `store.json` withdraws them.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.decode import RESAMPLER, decode, versions
from datamodules.index import STORE_KIND, STORE_VERSION, read_columns, read_index, read_layout, read_state, to_text
from datamodules.pool import Decoder, Outcome, Work, decode_all
from datamodules.shards import (
    SHARD_FORMATS,
    StoreError,
    closed_shards,
    publish,
    unclosed_shards,
)
from datamodules.sources import Source

MEBIBYTE = 1 << 20


class Summary(NamedTuple):
    """What a run has done and what the store now holds.

    Args:
        clips: in the store.
        seconds: of audio in the store.
        nbytes: of the shards on disk.
        kept: clips that were there before.
        decoded: seconds of audio that this run decoded.
        failures: one for each file that failed, in order of `clip_id`.
        short: clips in the store cut short.
        salvaged: clips in the store with parts lost.
    """

    clips: int
    seconds: float
    nbytes: int
    kept: int
    decoded: float
    failures: list[Outcome]
    short: int
    salvaged: int


def write_store(
    sources: list[Source],
    folder: Path,
    *,
    sample_rate: int,
    channels: int = 1,
    shard_format: str = "hdf5",
    shard_bytes: int = 512 * MEBIBYTE,
    workers: int = 1,
    clip_timeout: float = 300.0,
    on_start: Callable[[int, int], None] | None = None,
    on_clip: Callable[[Outcome], None] | None = None,
    decoder: Decoder = decode,
) -> Summary:
    """Decode files into a store, or go on with one that was begun with the same settings.

    Args:
        sources: the files.
        folder: of the store; made if it is missing.
        sample_rate: of the stored PCM, in Hz.
        channels: of the stored PCM.
        shard_format: "hdf5" or "npy".
        shard_bytes: samples after which a shard is closed, in bytes.
        workers: number of processes.
        clip_timeout: seconds after which a clip is given up as failed.
        on_start: called once with the numbers of clips that are there and that are to be decoded.
        on_clip: called after every file.
        decoder: stands in for `datamodules.decode.decode`; must be importable by the workers.
    Raises:
        ValueError: for settings out of range.
        StoreError: if the folder holds something else or other settings, is in use, or cannot be written.
    """
    _check(sample_rate, channels, shard_format, shard_bytes, workers, clip_timeout)
    folder = Path(folder)
    work = Work(folder, sample_rate, channels, shard_format, decoder)
    with _locked(folder):
        state = _begin(work)
        _close_leftovers(work)
        done = _read_done(work)
        todo = [source for source in sources if not _is_done(source, done)]
        if on_start is not None:
            on_start(len(sources) - len(todo), len(todo))
        if todo:
            _write_json(folder / ".begun.json", state)
            (folder / "store.json").unlink(missing_ok=True)
        outcomes = []
        first = 1 + max((int(path.stem[6:11]) for path in closed_shards(folder, shard_format)), default=-1)
        for outcome in decode_all(
            todo,
            work,
            workers=workers,
            numbers=itertools.count(first),
            shard_bytes=shard_bytes,
            clip_timeout=clip_timeout,
        ):
            outcomes.append(outcome)
            if on_clip is not None:
                on_clip(outcome)
        _close_leftovers(work)
        kept = len(sources) - len(todo)
        return _finish(work, state, sources=sources, outcomes=outcomes, kept=kept)


def _check(
    sample_rate: int, channels: int, shard_format: str, shard_bytes: int, workers: int, clip_timeout: float
) -> None:
    for name, value in (("sample_rate", sample_rate), ("channels", channels), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if shard_format not in SHARD_FORMATS:
        raise ValueError(f"shard_format must be one of {', '.join(SHARD_FORMATS)}, got {shard_format!r}")
    if shard_bytes < 1:
        raise ValueError(f"shard_bytes must be at least 1, got {shard_bytes}")
    if not clip_timeout > 0:
        raise ValueError(f"clip_timeout must be above 0 s, got {clip_timeout}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer a store."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written to ({error.strerror}): give another folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{folder} is being written by another run: wait for its end, or stop it") from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        except OSError as error:
            raise StoreError(f"{folder}: {error}") from error
        finally:
            (folder / ".lock").unlink(missing_ok=True)


# Beginning ----------------------------------------------------------------------------------------------------------


def _begin(work: Work) -> dict[str, Any]:
    """The store's settings, checked against those that it was begun with."""
    state = {
        "format": STORE_KIND,
        "version": STORE_VERSION,
        "sample_rate": work.sample_rate,
        "channels": work.channels,
        "shard_format": work.shard_format,
    }
    known = next((path for name in ("store.json", ".begun.json") if (path := work.folder / name).exists()), None)
    if known is None:
        strange = sorted(path.name for path in work.folder.iterdir() if path.name[0] != ".")
        if strange:
            raise StoreError(f"{work.folder} holds {strange[0]!r} and is no PCM store: give a new folder")
        return state | {"withdrawn": []}
    begun = read_state(known)
    different = [name for name in ("sample_rate", "channels", "shard_format") if begun[name] != state[name]]
    if different:
        options = {"sample_rate": "--sample-rate", "channels": "--channels", "shard_format": "--format"}
        here = " ".join(f"{options[name]} {begun[name]}" for name in different)
        asked = " ".join(f"{options[name]} {state[name]}" for name in different)
        raise StoreError(
            f"{work.folder} was begun with {here}, not {asked}: type {here}, or give another folder as --out"
        )
    return state | {"withdrawn": begun.get("withdrawn", [])}


def _close_leftovers(work: Work) -> None:
    """Close what killed processes have left growing, and clear away what they left half written."""
    shards = {path.stem for path in closed_shards(work.folder, work.shard_format)}
    for number in unclosed_shards(work.folder):
        if f"shard-{number:05d}" not in shards:  # else it was published, and only its part not yet cleared away
            work.open_shard(number).close()
    for path in work.folder.glob(".shard-*"):
        path.unlink()


def _read_done(work: Work) -> dict[str, tuple[int, float]]:
    index = read_index(closed_shards(work.folder, work.shard_format), ("source_bytes", "source_mtime"))
    sizes, times = (index.columns[name].tolist() for name in ("source_bytes", "source_mtime"))
    return dict(zip(to_text(index.clip_id).tolist(), zip(sizes, times, strict=True), strict=True))


def _is_done(source: Source, done: dict[str, tuple[int, float]]) -> bool:
    """Whether a shard holds the clip as its file is now; a file that has gone since it was decoded has not changed."""
    if source.clip_id not in done:
        return False
    try:
        status = source.path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return (status.st_size, status.st_mtime) == done[source.clip_id]


# Ending -------------------------------------------------------------------------------------------------------------


def _finish(work: Work, state: dict[str, Any], *, sources: list[Source], outcomes: list[Outcome], kept: int) -> Summary:
    """Write `failures.csv`, and last of all `store.json`."""
    shards = closed_shards(work.folder, work.shard_format)
    done = _read_done(work)
    listed = {source.clip_id for source in sources}
    # A worker may die with a clip already safe in its journal: that one has not failed.
    failures = sorted(
        outcome
        for outcome in outcomes
        if outcome.outcome == "failed" and not _is_done(Source(outcome.clip_id, Path(outcome.source)), done)
    )
    failed = {outcome.clip_id for outcome in failures}
    state["withdrawn"] = sorted((set(state["withdrawn"]) - listed) | (failed & done.keys()))
    index = read_index(shards, ("length", "status", "note", "codec", "source"), withdrawn=state["withdrawn"])
    damaged = np.flatnonzero(index.columns["status"] != b"ok")
    texts = [to_text(values[damaged]).tolist() for values in (index.clip_id, *_of(index.columns, _REPORTED))]
    partial = [Outcome(*row) for row in zip(*texts, strict=True)]
    _write_failures(work.folder / "failures.csv", failures + sorted(partial))
    samples = int(index.columns["length"].sum())
    described = [_describe_shard(path) for path in shards]
    totals = {"clips": len(index.clip_id), "samples": samples, "failed": len(failures)}
    library = {"decoder": versions(), "resampler": RESAMPLER}
    _write_json(work.folder / "store.json", state | library | totals | {"shards": described})
    (work.folder / ".begun.json").unlink(missing_ok=True)
    return Summary(
        clips=len(index.clip_id),
        seconds=samples / work.sample_rate,
        nbytes=sum(shard["bytes"] for shard in described),
        kept=kept,
        decoded=sum(outcome.seconds for outcome in outcomes),
        failures=failures,
        short=sum(outcome.outcome == "short" for outcome in partial),
        salvaged=sum(outcome.outcome == "salvaged" for outcome in partial),
    )


_REPORTED = ("source", "status", "codec", "note")


def _of(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> list[np.ndarray]:
    return [columns[name] for name in names]


def _describe_shard(path: Path) -> dict[str, Any]:
    checksums = read_columns(path, ("crc32",))["crc32"]
    return {
        "name": path.name,
        "clips": len(checksums),
        "samples": read_layout(path).samples,
        "bytes": path.stat().st_size,
        "crc32": zlib.crc32(checksums.astype("<u4").tobytes()),  # of the clips' own
    }


def _write_failures(path: Path, rows: list[Outcome]) -> None:
    temporary = path.with_name(".failures.tmp")
    with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("clip_id", "source", "outcome", "codec", "reason"))
        writer.writerows(row[:5] for row in rows)
    publish(temporary, path)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name.strip('.')}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    publish(temporary, path)
