"""Store x table x crops -> whole batches, and a loader that can be left and resumed anywhere.

A data set here is asked for a batch, not for a clip: the sampler says which windows, the samples are copied straight
into one int16 buffer, and nothing is collated. What a batch holds depends only on (seed, epoch, position), so a run
killed in mid-epoch goes on with the very batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.crops import Padding, all_windows, pad_short, random_starts
from datamodules.store import Store


class Batch(NamedTuple):
    """Windows of clips.

    Attributes:
        waveform: int16 PCM as stored, shape (batch, channels, time).
        target: class indices, int64 (batch,), or labels in {0, 1}, float32 (batch, num_classes).
        clip: index of each window's clip in the split's table, int64 (batch,).
        length: samples of each window that are the clip's own, int64 (batch,); the rest is padding.
    """

    waveform: Tensor
    target: Tensor
    clip: Tensor
    length: Tensor


class Windows(NamedTuple):
    """Which windows make up a batch: position of the clip in the split's table, and first sample."""

    clip: NDArray[np.int64]
    start: NDArray[np.int64]


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

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of the clips, in samples, shape (n_clips,)."""
        return self.store.lengths[self.rows]

    def __len__(self) -> int:
        return len(self.rows)


class ClipDataset(Dataset[Batch]):
    """Batches of windows of `n_samples`, read from the store.

    Args:
        clips: the split.
        n_samples: length of every window; shorter clips are padded.
        padding: "zero" puts silence behind a short clip, "repeat" repeats it.
    """

    def __init__(self, clips: Clips, *, n_samples: int, padding: Padding = "zero") -> None:
        self.clips = clips
        self.n_samples = n_samples
        self.padding: Padding = padding

    def __getitem__(self, windows: Windows) -> Batch:
        """Read one batch."""
        rows = self.clips.rows[windows.clip]
        lengths = np.minimum(self.clips.lengths[windows.clip] - windows.start, self.n_samples)
        buffer = np.zeros((len(rows), self.clips.store.channels, self.n_samples), dtype=np.int16)
        self.clips.store.read_into(buffer, rows, windows.start, lengths)
        pad_short(buffer, lengths, self.padding)
        clip = torch.from_numpy(windows.clip)
        return Batch(torch.from_numpy(buffer), self.clips.targets[clip], clip, torch.from_numpy(lengths))


class TrainBatches(Sampler[Windows]):
    """One random crop of every clip an epoch, in an order that is a function of (seed, epoch) alone.

    All ranks take the same number of batches; what is left over (fewer clips than one batch on every rank) is not
    seen in that epoch. A split smaller than one batch on every rank makes one batch, each rank's part of the clips.

    Args:
        lengths: of the clips, in samples.
        n_samples: length of a crop.
        batch_size: clips a batch and rank.
        seed: of the run.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        n_samples: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths, self.n_samples = lengths, n_samples
        self.batch_size = min(batch_size, max(len(lengths) // world_size, 1))
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = self.first = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch; called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Windows]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.lengths))
        first, self.first = self.first, 0
        for batch in range(first, len(self)):
            begin = (batch * self.world_size + self.rank) * self.batch_size
            clip = order[begin : begin + self.batch_size].astype(np.int64)
            start = random_starts(self.lengths[clip], self.n_samples, seed=self.seed, epoch=self.epoch, index=clip)
            yield Windows(clip, start)


class EvaluationBatches(Sampler[Windows]):
    """Every window of every clip of this rank, once; clips are dealt to the ranks one by one and never padded.

    Args:
        lengths: of the clips, in samples.
        n_samples: length of a window.
        hop: samples from one window to the next.
        batch_size: windows a batch.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        n_samples: int,
        hop: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        own = np.arange(rank, len(lengths), world_size)
        position, self.start = all_windows(lengths[own], n_samples, hop)
        self.clip = own[position]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.clip) // self.batch_size)

    def __iter__(self) -> Iterator[Windows]:
        for begin in range(0, len(self.clip), self.batch_size):
            part = slice(begin, begin + self.batch_size)
            yield Windows(self.clip[part], self.start[part])


class ResumableLoader(DataLoader[Batch]):
    """A loader whose place in the epoch is saved in the checkpoint and found again.

    Lightning calls `state_dict` and `load_state_dict` of any loader that has them. The place is the number of batches
    that were handed out, which with workers is less than the number that were prepared.

    Args:
        dataset: gives a batch for the windows the sampler names.
        batches: the sampler.
        num_workers: processes that read; 0 reads in this one, which is the quickest for mapped shards.
        pin_memory: page-locked buffers, for a GPU.
    """

    def __init__(
        self, dataset: ClipDataset, batches: TrainBatches, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__(
            dataset,
            sampler=batches,
            batch_size=None,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
        )
        self.batches = batches
        self._handed_out = 0

    def __iter__(self) -> Iterator[Batch]:
        self._handed_out = self.batches.first
        for batch in super().__iter__():
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Place in the epoch, with what it depends on."""
        return {"epoch": self.batches.epoch, "batches": self._handed_out, **self._shape()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the saved place.

        Raises:
            ValueError: in mid-epoch, if the batch size, the number of processes or of clips is another than it was.
        """
        if state["batches"] >= len(self.batches):  # the epoch was over: the next one starts at its beginning
            return
        changed = [
            f"{key} was {state[key]} and is {value}" for key, value in self._shape().items() if state[key] != value
        ]
        if changed:
            raise ValueError(
                f"the checkpoint stands in mid-epoch and {'; '.join(changed)}: go on with the old setting, or from a "
                f"checkpoint at an epoch's end"
            )
        self.batches.set_epoch(state["epoch"])
        self.batches.first = state["batches"]

    def _shape(self) -> dict[str, int]:
        batches = self.batches
        return {"batch_size": batches.batch_size, "world_size": batches.world_size, "n_clips": len(batches.lengths)}
