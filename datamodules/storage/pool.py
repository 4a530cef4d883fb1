"""Decoding in several processes, each at one slice of the plan, none able to take the others down.

The parent watches them: one that dies or takes too long at a file is ended and replaced, the file has failed, and the
replacement goes on behind it. Workers that lose their parent end by themselves.
"""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any

from datamodules.processes import start_process
from datamodules.storage.plan import Slice
from datamodules.storage.shards import StoreError
from datamodules.storage.worker import IDLE, Outcome, Task, Work, run_worker


class _Slot:
    """One worker process at a time, and the slice that it has been handed."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.slice: Slice | None = None
        self.told: int | None = None  # clips of the slice that it has told of
        self.start()

    def start(self, blame: str = "") -> None:
        """Start a worker process, in place of one that has ended and why."""
        self.process, self.pipe = start_process(run_worker, self.work)
        self.blame, self.finished = blame, False
        self.since = math.inf  # a clip's time runs from when the worker is at it

    def hand(self, waiting: deque[Slice]) -> None:
        """Give an idle worker the slice that its forerunner died at, or another, or let it leave."""
        if not self.blame:
            self.slice, self.told = (waiting.popleft() if waiting else None), None
        self.finished = self.slice is None
        task = None if self.slice is None else Task(self.slice, self.told, self.blame)
        self.blame, self.told = "", None
        with contextlib.suppress(OSError):  # it has died: the closed pipe says so at the next look
            self.pipe.send(task)

    def note(self, told: int) -> None:
        """The worker has told of so many clips of its slice and is at the next, or closes the shard."""
        assert self.slice is not None
        self.told = told
        self.since = time.monotonic() if told < len(self.slice.clips) else math.inf

    def end(self) -> None:
        """Kill the worker, if it still runs."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def write_slices(slices: list[Slice], work: Work, *, workers: int, clip_timeout: float) -> Iterator[Outcome]:
    """Make shards of slices; yields what became of each file, as it is known.

    Args:
        slices: that nobody else works on, those begun before included.
        work: settings.
        workers: number of processes.
        clip_timeout: seconds after which a clip is given up.
    Raises:
        StoreError: if a worker cannot start or cannot write.
    """
    waiting = deque(slices)
    slots = [_Slot(work) for _ in range(min(workers, len(slices)))]
    try:
        while slots:
            for slot, message in _listen(slots, clip_timeout):
                if isinstance(message, StoreError):
                    raise message
                if isinstance(message, Outcome):
                    slot.note((slot.told or 0) + 1)
                    yield message
                elif isinstance(message, int):
                    slot.note(message)
                elif message == IDLE:
                    slot.hand(waiting)
                else:
                    _bury(slot, slots, clip_timeout)
    finally:
        for slot in slots:
            slot.end()


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


def _bury(slot: _Slot, slots: list[_Slot], clip_timeout: float) -> None:
    """Take leave of a worker that has finished, or replace it and blame the clip that it died of."""
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
    if slot.since == math.inf:
        what = "start" if slot.slice is None else f"open or close shard {slot.slice.number}"
        raise StoreError(f"{slot.work.folder}: a worker could not {what}: {how}")
    slot.start(f"took longer than {clip_timeout:g} s" if late else how)
