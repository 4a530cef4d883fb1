"""Store x table x crops -> whole batches.

A data set here is asked for a batch, not for a clip: the sampler says which windows, the samples are copied straight
into one buffer, and nothing is collated. What a batch holds depends only on (seed, epoch, position), so a run killed in
mid-epoch goes on with the very batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.batching.crops import Padding, all_windows, pad_short, padded_length, random_starts
from datamodules.batching.orders import Order
from datamodules.storage.store import Store


class Batch(NamedTuple):
    """Windows of clips.

    Attributes:
        waveform: PCM as stored (int16, if the store is not of another format), shape (batch, channels, time).
        target: class indices, int64 (batch,), or labels in {0, 1}, float32 (batch, num_classes).
        clip: index of each window's clip in the split's table, int64 (batch,).
        length: samples of each window that are the clip's own, int64 (batch,); the rest is padding.
    """

    waveform: Tensor
    target: Tensor
    clip: Tensor
    length: Tensor


class Windows(NamedTuple):
    """Which windows make up a batch.

    Attributes:
        clip: position of each clip in the split's table, int64 (batch,).
        start: first sample of each, int64 (batch,).
        n_samples: length of all of them; what a clip has not is padded.
    """

    clip: NDArray[np.int64]
    start: NDArray[np.int64]
    n_samples: int


@dataclass(frozen=True)
class Clips:
    """One split of a data set, as arrays.

    Attributes:
        store: where the samples are.
        rows: position of each clip in the store, int64 (n_clips,).
        targets: (n_clips,) int64 or (n_clips, num_classes) float32.
    """

    store: Store
    rows: NDArray[np.int64]
    targets: Tensor

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Of the clips, in samples, shape (n_clips,)."""
        return self.store.lengths[self.rows]

    def __len__(self) -> int:
        return len(self.rows)


def new_buffer(shape: tuple[int, int, int], dtype: np.dtype) -> Tensor:
    """Memory for a batch, shape (batch, time, channels), that nobody has used before."""
    return torch.from_numpy(np.empty(shape, dtype))


class ClipDataset(Dataset[Batch]):
    """Batches of windows, read from the store.

    Args:
        clips: the split.
        padding: "zero" puts silence behind a short clip, "repeat" repeats it.
    """

    def __init__(self, clips: Clips, *, padding: Padding = "zero") -> None:
        self.clips = clips
        self.padding: Padding = padding
        self._lengths = clips.lengths

    def __getitem__(self, windows: Windows) -> Batch:
        """Read one batch into memory of its own."""
        return self.read(windows, new_buffer)

    def read(self, windows: Windows, buffer: Callable[[tuple[int, int, int], np.dtype], Tensor]) -> Batch:
        """Read one batch.

        Args:
            windows: which.
            buffer: gives the memory for it, shape (batch, time, channels), of any content.
        """
        store, lengths = self.clips.store, self._own_lengths(windows)
        samples = buffer((len(lengths), windows.n_samples, store.channels), store.dtype)
        store.read_into(samples.numpy(), self.clips.rows[windows.clip], windows.start, lengths)
        waveform, clip = samples.transpose(1, 2), torch.from_numpy(windows.clip)
        pad_short(waveform.numpy(), lengths, self.padding)
        return Batch(waveform, self.clips.targets[clip], clip, torch.from_numpy(lengths))

    def will_need(self, group: list[Windows]) -> None:
        """Have the disk fetch what these batches will read, in the order of the files."""
        clip, start, lengths = group[0].clip, group[0].start, self._own_lengths(group[0])
        if len(group) > 1:
            clip, start = (np.concatenate(column) for column in list(zip(*group, strict=True))[:2])
            lengths = np.concatenate([self._own_lengths(windows) for windows in group])
            order = np.lexsort((start, clip))
            clip, start, lengths = clip[order], start[order], lengths[order]
        self.clips.store.will_need(self.clips.rows[clip], start, lengths)

    def _own_lengths(self, windows: Windows) -> NDArray[np.int64]:
        return np.minimum(self._lengths[windows.clip] - windows.start, windows.n_samples)


class TrainBatches(Sampler[Windows]):
    """One random crop of every clip that the order names, or the whole clip.

    All ranks take the same number of batches; what is left over (fewer clips than one batch on every rank) is not
    seen in that epoch. A split smaller than one batch on every rank makes one batch, each rank's part of the clips.
    The clips of a batch stand in the order of their files.

    Whole clips are put together with others of about their length, out of the next hundred batches, and padded to
    the longest of their batch.

    Args:
        lengths: of the clips, in samples.
        n_samples: length of a crop; None takes clips whole.
        batch_size: clips a batch and rank.
        order: of the clips in an epoch.
        seed: of the crops.
        rank: of this process.
        world_size: number of processes.
    """

    _POOL = 100  # batches among which whole clips find others of their length

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        n_samples: int | None,
        batch_size: int,
        order: Order,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths, self.n_samples, self.order = lengths, n_samples, order
        self.batch_size = min(batch_size, max(len(lengths) // world_size, 1))
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = self.first = 0

    @property
    def together(self) -> int:
        """Batches that are best asked of a disk at once."""
        return -(-self.order.together // (self.batch_size * self.world_size))

    @property
    def most_samples(self) -> int:
        """Of the largest batch, padding included."""
        return self.batch_size * (int(self.lengths.max(initial=0)) if self.n_samples is None else self.n_samples)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch; called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Windows]:
        order = self.order(self.epoch)
        if self.n_samples is None:
            order = self._by_length(order)
        first, self.first = self.first, 0
        for batch in range(first, len(self)):
            begin = (batch * self.world_size + self.rank) * self.batch_size
            yield self._windows(np.sort(order[begin : begin + self.batch_size]).astype(np.int64))

    def _windows(self, clip: NDArray[np.int64]) -> Windows:
        if self.n_samples is None:
            return Windows(clip, np.zeros_like(clip), int(self.lengths[clip].max()))
        start = random_starts(self.lengths[clip], self.n_samples, seed=self.seed, epoch=self.epoch, index=clip)
        return Windows(clip, start, self.n_samples)

    def _by_length(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sort by length within pools of batches, and shuffle the batches of each pool."""
        order, size = order[: len(self) * self.batch_size * self.world_size], self.batch_size * self.world_size
        generator = np.random.default_rng([self.seed, self.epoch, 1])
        pool = self._POOL * size
        for begin in range(0, len(order), pool):
            part = order[begin : begin + pool]
            batches = part[np.argsort(self.lengths[part], kind="stable")].reshape(-1, size)
            order[begin : begin + pool] = generator.permutation(batches).ravel()
        return order


class EvaluationBatches(Sampler[Windows]):
    """Every window of every clip of this rank, once; clips are dealt to the ranks one by one and never padded.

    Whole clips are padded to a multiple of `hop`, and only clips of one padded length share a batch: what a model
    makes of a clip does not depend on its batch.

    Args:
        lengths: of the clips, in samples.
        n_samples: length of a window; None takes clips whole.
        hop: samples from one window to the next.
        batch_size: windows a batch.
        rank: of this process.
        world_size: number of processes.
    """

    together = 1

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        n_samples: int | None,
        hop: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        own = np.arange(rank, len(lengths), world_size)
        if n_samples is None:
            padded = padded_length(lengths[own], hop)
            order = np.argsort(padded, kind="stable")
            self.clip, self.start, sizes = own[order], np.zeros_like(own), padded[order]
        else:
            position, self.start = all_windows(lengths[own], n_samples, hop)
            self.clip, sizes = own[position], np.full(len(position), n_samples)
        # A batch ends where it is full, and where the size changes.
        changes = np.flatnonzero(np.diff(sizes)) + 1
        self._begins = [
            begin
            for first, last in zip([0, *changes.tolist()], [*changes.tolist(), len(sizes)], strict=True)
            for begin in range(first, last, batch_size)
        ]
        self._sizes = sizes

    @property
    def most_samples(self) -> int:
        """Of the largest batch, padding included."""
        counts = np.diff([*self._begins, len(self.clip)])
        return int((counts * self._sizes[self._begins]).max(initial=0))

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[Windows]:
        for begin, end in zip(self._begins, [*self._begins[1:], len(self.clip)], strict=True):
            yield Windows(self.clip[begin:end], self.start[begin:end], int(self._sizes[begin]))
