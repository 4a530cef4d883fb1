"""Batches ahead of training: threads that fill reused buffers, and a place in the epoch that is found again.

Fresh memory costs several times what copying into it costs, handing a batch over from another process ten times as
much; so batches are filled in this process, by threads that hold Python's lock only between copies, into buffers that
come back once nothing views them any more. Worker processes are a choice for storage that answers slowly.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.batching.dataset import Batch, ClipDataset, EvaluationBatches, TrainBatches, Windows

_READY = 2  # batches that wait filled while the threads are at the next ones
_PREFETCHED = 2  # batches of each process that wait or are being filled
_ANNOUNCED = 2  # groups of batches that the disk is told of before the threads come to them


class Ring:
    """Buffers for batches, each handed out again only when no tensor and no array views it any more.

    It grows with what is kept, so `list(loader)` is safe, and otherwise holds as many as are under way.

    Args:
        pinned: whether buffers are page-locked, for copies to a GPU that need not be waited for. Those are kept and
            handed out again by torch, which also knows of the copies that are still under way.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self.pinned = pinned
        self._free: deque[np.ndarray] = deque()

    def __call__(self, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Tensor:
        """A buffer of this shape, of any content."""
        if self.pinned:
            return torch.empty(shape, dtype=torch.from_numpy(np.empty(0, dtype)).dtype, pin_memory=True)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        memory = self._take(nbytes)
        view = memory[:nbytes].view(dtype).reshape(shape)
        # A tensor made of an array keeps just that array alive, whatever views are made of the tensor.
        weakref.finalize(view, self._free.append, memory).atexit = False
        return torch.from_numpy(view)

    def _take(self, nbytes: int) -> np.ndarray:
        try:
            memory = self._free.pop()
        except IndexError:
            return np.empty(nbytes, dtype=np.uint8)
        return memory if len(memory) >= nbytes else np.empty(nbytes, dtype=np.uint8)


def batches_under_way(*, threads: int, num_workers: int) -> int:
    """Most batches that a loader holds at once, the one that is handed out included."""
    return 1 + (_PREFETCHED * num_workers if num_workers else threads + _READY)


class BatchLoader:
    """The batches that a sampler names, read ahead.

    Args:
        dataset: reads the windows that the sampler names.
        sampler: names the windows of each batch; Lightning calls its `set_epoch`, if it has one.
        threads: that fill batches ahead; while one waits for Python's lock the other copies.
        num_workers: processes that read in place of threads.
        pinned: whether batches stand in page-locked memory, for a GPU.
    """

    batch_sampler = None  # Lightning asks for it; torch's own loader has none either where a sampler names batches

    def __init__(
        self,
        dataset: ClipDataset,
        sampler: TrainBatches | EvaluationBatches,
        *,
        threads: int = 2,
        num_workers: int = 0,
        pinned: bool = False,
    ) -> None:
        self.dataset, self.sampler = dataset, sampler
        self.threads, self.num_workers, self.pinned = threads, num_workers, pinned
        self._ring = Ring(pinned=pinned)
        self._processes: DataLoader[Batch] | None = None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        return self._from_processes() if self.num_workers else self._from_threads()

    def _from_threads(self) -> Iterator[Batch]:
        with _one_thread_each(self.threads) as pool:
            reading = (pool.submit(self.dataset.read, windows, self._ring) for windows in self._announced(pool))
            under_way: deque[Future[Batch]] = deque(islice(reading, self.threads + _READY))
            try:
                while under_way:
                    batch = under_way.popleft().result()
                    under_way.extend(islice(reading, 1))
                    yield batch
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _announced(self, pool: ThreadPoolExecutor) -> Iterator[Windows]:
        """The batches to read, each some time after the disk has been told of it."""
        batches, announced = iter(self.sampler), deque[list[Windows]]()
        while group := list(islice(batches, self.sampler.together)):
            pool.submit(self.dataset.will_need, group)
            announced.append(group)
            if len(announced) > _ANNOUNCED:
                yield from announced.popleft()
        for group in announced:
            yield from group

    def _from_processes(self) -> Iterator[Batch]:
        if self._processes is None:
            self._processes = DataLoader(
                self.dataset,
                sampler=self.sampler,
                batch_size=None,
                num_workers=self.num_workers,
                prefetch_factor=_PREFETCHED,
                pin_memory=self.pinned,
                persistent_workers=True,
            )
        return iter(self._processes)


@contextmanager
def _one_thread_each(n: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads, in each of which torch uses that thread alone: a copy gains nothing from more.

    torch takes a thread's setting for that of all threads to come as well, so it is taken back once all have set it.
    """
    others, all_set = torch.get_num_threads(), Barrier(n + 1)

    def start() -> None:
        torch.set_num_threads(1)
        all_set.wait()

    with ThreadPoolExecutor(n, "batches", initializer=start) as pool:
        for _ in range(n):
            pool.submit(int)  # starts a thread, since those before it are still waiting
        all_set.wait()
        torch.set_num_threads(others)
        yield pool


class ResumableLoader(BatchLoader):
    """A loader for training, whose place in the epoch is saved in the checkpoint and found again.

    Lightning calls `state_dict` and `load_state_dict` of any loader that has them. The place is the number of batches
    that were handed out, which is less than the number that were prepared. Arguments are those of `BatchLoader`.
    """

    sampler: TrainBatches
    _handed_out = 0

    def __iter__(self) -> Iterator[Batch]:
        self._handed_out = self.sampler.first
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Place in the epoch, with what it depends on."""
        return {"epoch": self.sampler.epoch, "batches": self._handed_out, **self._shape()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the saved place.

        Raises:
            ValueError: in mid-epoch, if the batch size, the order, its seed, the number of processes or of clips is
                another than it was.
        """
        # The epoch was over, as long as it then was: the next one starts at its beginning, with whatever settings.
        if state["batches"] >= state["n_clips"] // (state["batch_size"] * state["world_size"]):
            return
        shape = self._shape()
        saved = shape | {key: state[key] for key in shape.keys() & state.keys()}  # the seed came later than the others
        changed = [f"{key} was {saved[key]} and is {shape[key]}" for key in shape if saved[key] != shape[key]]
        if changed:
            raise ValueError(
                f"the checkpoint stands in mid-epoch and {'; '.join(changed)}: go on with the old setting, or from a "
                f"checkpoint at an epoch's end"
            )
        self.sampler.set_epoch(state["epoch"])
        self.sampler.first = state["batches"]

    def _shape(self) -> dict[str, Any]:
        """What a place in the epoch depends on."""
        sampler = self.sampler
        return {
            "batch_size": sampler.batch_size,
            "world_size": sampler.world_size,
            "n_clips": len(sampler.lengths),
            "n_samples": sampler.n_samples,
            "order": type(sampler.order).__name__,
            "seed": sampler.seed,
        }
