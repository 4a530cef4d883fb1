"""Decoding in several processes, each at one file and one growing shard, none able to take the others down.

A decoder may crash in C or hang, so every clip is decoded in a worker process that the parent watches: one that dies or
takes too long is ended and replaced, and the clip that it was at is reported as failed. The replacement goes on with
the same shard, whose journal keeps what the dead worker had finished. Workers that lose their parent end by themselves.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing import connection, get_context, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.decode import Decoded, DecodeError
from datamodules.shards import ShardWriter, StoreError
from datamodules.sources import Source

_AHEAD = 2  # clips handed to a worker: the one it is at, and the next, so that it never waits for the parent
_READY, _CLOSING, _CLOSED = "ready", "closing", "closed"

Decoder = Callable[..., Decoded]


class Outcome(NamedTuple):
    """What became of one file.

    Args:
        clip_id: of the file.
        source: its path.
        outcome: "ok", "short", "salvaged" or "failed".
        codec: by content; "unknown" where it was not recognised.
        reason: one line; empty where the outcome is "ok".
        seconds: of audio stored.
        shard_bytes: samples in the worker's growing shard, in bytes.
    """

    clip_id: str
    source: str
    outcome: str
    codec: str
    reason: str
    seconds: float = 0.0
    shard_bytes: int = 0


class Work(NamedTuple):
    """What every worker must know; picklable.

    Args:
        folder: of the store.
        sample_rate: of the result, in Hz.
        channels: of the result.
        shard_format: "hdf5" or "npy".
        decoder: called as `datamodules.decode.decode` is.
    """

    folder: Path
    sample_rate: int
    channels: int
    shard_format: str
    decoder: Decoder

    def open_shard(self, number: int) -> ShardWriter:
        """Begin a shard, or go on with the one of that number."""
        return ShardWriter(self.folder, number, shard_format=self.shard_format, channels=self.channels)


# In the worker ------------------------------------------------------------------------------------------------------


def _run_worker(pipe: connection.Connection, work: Work) -> None:
    _silence_libraries()
    pipe.send(_READY)
    shard: ShardWriter | None = None
    try:
        while (task := pipe.recv()) is not None:
            source, number = task
            if shard is not None and shard.number != number:
                _close(shard, pipe)
                shard = None
            shard = shard or work.open_shard(number)
            pipe.send(_decode_into(shard, source, work))
        if shard is not None:
            _close(shard, pipe)
    except (EOFError, BrokenPipeError):
        return  # the parent has gone: the part and its journal are for the next run
    except OSError as error:  # a full disk
        pipe.send(StoreError(f"{work.folder}: {error.strerror}; the same command goes on where it stopped"))
    except StoreError as error:
        pipe.send(error)


def _close(shard: ShardWriter, pipe: connection.Connection) -> None:
    pipe.send(_CLOSING)
    shard.close()
    pipe.send(_CLOSED)


def _decode_into(shard: ShardWriter, source: Source, work: Work) -> Outcome:
    path = os.path.abspath(source.path)
    try:
        decoded = work.decoder(source.path, sample_rate=work.sample_rate, channels=work.channels)
        status = source.path.stat()
    except DecodeError as error:
        return Outcome(source.clip_id, path, "failed", error.codec, error.reason, shard_bytes=shard.nbytes)
    except Exception as error:  # noqa: BLE001 - whatever one file does to a library must not end the run
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Outcome(source.clip_id, path, "failed", "unknown", reason, shard_bytes=shard.nbytes)
    shard.add(
        decoded.pcm,
        clip_id=source.clip_id,
        source=path,
        source_bytes=status.st_size,
        source_mtime=status.st_mtime,
        **{name: value for name, value in decoded._asdict().items() if name != "pcm"},
    )
    seconds = len(decoded.pcm) / work.sample_rate
    return Outcome(source.clip_id, path, decoded.status, decoded.codec, decoded.note, seconds, shard.nbytes)


def _silence_libraries() -> None:
    """libmpg123 writes its complaints to fd 2 from C; Python keeps a copy of the real one."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


# In the parent ------------------------------------------------------------------------------------------------------


class _Slot:
    """One worker process at a time, and what it has been handed."""

    def __init__(self, work: Work, number: int) -> None:
        self.work, self.number = work, number
        self.pending: deque[Source] = deque()
        self.start()

    def start(self) -> None:
        """Start a worker process, in place of one that has ended."""
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_run_worker, args=(theirs, self.work), daemon=True)
        # A worker is born deaf to Ctrl-C, which reaches the whole group, also before it can say so itself.
        resource_tracker.ensure_running()  # its own start would let Ctrl-C through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.state, self.finished = "", False
        self.since = math.inf  # a clip's time runs from when the worker is at it

    def hand(self, source: Source) -> None:
        """Give the worker another file."""
        self.pending.append(source)
        self._send((source, self.number))
        if len(self.pending) == 1 and self.state == _READY:
            self.since = time.monotonic()

    def finish(self) -> None:
        """Let the worker close its shard and leave once it has done what it was handed."""
        self._send(None)
        self.finished = True

    def _send(self, task: Any) -> None:
        with contextlib.suppress(OSError):  # it has died: the closed pipe says so at the next look
            self.pipe.send(task)

    def note(self, message: str) -> None:
        """Take notice of a message that is no outcome."""
        closing = message == _CLOSING
        self.state = _CLOSING if closing else _READY
        self.since = math.inf if closing or not self.pending else time.monotonic()

    def end(self) -> None:
        """Kill the worker, if it still runs."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def decode_all(
    sources: list[Source],
    work: Work,
    *,
    workers: int,
    numbers: Iterator[int],
    shard_bytes: int,
    clip_timeout: float,
) -> Iterator[Outcome]:
    """Decode files into shards, which are closed when the iterator ends; yields what became of each, as it is known.

    Args:
        sources: files to decode.
        work: settings.
        workers: number of processes.
        numbers: of the shards to write, none of them in use.
        shard_bytes: samples in a shard at which the next is begun.
        clip_timeout: seconds after which a clip is given up.
    Raises:
        StoreError: if a worker cannot start or cannot write.
    """
    waiting = deque(sources)
    slots = [_Slot(work, next(numbers)) for _ in range(min(workers, len(sources)))]
    try:
        while slots:
            for slot in list(slots):
                _feed(slot, waiting)
            for slot, message in _listen(slots, clip_timeout):
                if isinstance(message, StoreError):
                    raise message
                if isinstance(message, Outcome):
                    slot.pending.popleft()
                    slot.note(_READY)
                    if message.shard_bytes >= shard_bytes:
                        slot.number = next(numbers)
                    yield message
                elif message is None:
                    yield from _bury(slot, slots, waiting, clip_timeout)
                else:
                    slot.note(message)
    finally:
        for slot in slots:
            slot.end()


def _feed(slot: _Slot, waiting: deque[Source]) -> None:
    if slot.finished:
        return
    while waiting and len(slot.pending) < _AHEAD:
        slot.hand(waiting.popleft())
    if not slot.pending and slot.state == _READY:
        slot.finish()


def _listen(slots: list[_Slot], clip_timeout: float) -> Iterator[tuple[_Slot, Any]]:
    """What the workers say; None from one that has died or used up its time."""
    deadline = min(slot.since for slot in slots) + clip_timeout
    patience = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    spoken = connection.wait([slot.pipe for slot in slots], patience)
    for slot in list(slots):
        if slot.pipe in spoken:
            try:
                yield slot, slot.pipe.recv()
            except (EOFError, ConnectionError):
                yield slot, None
        elif time.monotonic() - slot.since > clip_timeout:
            yield slot, None


def _bury(slot: _Slot, slots: list[_Slot], waiting: deque[Source], clip_timeout: float) -> Iterator[Outcome]:
    """Take leave of a worker that has finished, or blame the clip that it died of and replace it."""
    late = time.monotonic() - slot.since > clip_timeout
    if not late:
        slot.process.join(10)
    code = slot.process.exitcode
    slot.end()
    if slot.finished and code == 0:
        slots.remove(slot)
        return
    how = f"the decoder left with {code}"
    if code is not None and code < 0:
        how = f"the decoder was ended by {signal.Signals(-code).name}"
    if slot.state != _READY or not slot.pending:
        what = "close its shard" if slot.state else "start"
        raise StoreError(f"{slot.work.folder}: a worker could not {what}: {how}")
    source = slot.pending.popleft()
    waiting.extendleft(reversed(slot.pending))
    slot.pending.clear()
    slot.start()
    reason = f"took longer than {clip_timeout:g} s" if late else how
    yield Outcome(source.clip_id, os.path.abspath(source.path), "failed", "unknown", reason)
