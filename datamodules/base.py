"""AudioDataModule: a clip table joined to a PCM store, as loaders for training and evaluation.

A data set is a subclass that says which clips it has (`sources`) and what they are (`read_table`); everything else is
here once. Labels are read when they are needed and joined by `clip_id`: another split, another labelling or another
task needs no decoding. No padding of epochs, no duplicated clips: all ranks train on equal numbers of batches, and
evaluation visits every window of every clip exactly once.

Subclasses hand the settings of loading through as `**loading`, so that they stand, with their defaults and meaning,
in one place; the command line reads them from here.
"""

from __future__ import annotations

import logging
import math
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.batching.crops import Padding
from datamodules.batching.dataset import Batch, ClipDataset, Clips, EvaluationBatches, TrainBatches
from datamodules.batching.loader import BatchLoader, ResumableLoader, batches_under_way
from datamodules.batching.orders import BalancedOrder, BlockedOrder, Order, OrderName, RandomOrder, rarest_class
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of, printable
from datamodules.processes import memory_limit, return_memory
from datamodules.releases import Release
from datamodules.samples import from_float, to_float
from datamodules.splits import SPLITS, Task, check_table, class_indices, labels_of
from datamodules.storage.store import Store

log = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]
Loader = TypeVar("Loader", bound=BatchLoader)
_MOST_PADDED = 100  # times the longest clip


class AudioDataModule(pl.LightningDataModule):
    """Crops for training, whole clips for validation and test.

    Args:
        store: folder written by tools/decode_to_hdf.py.
        root: folder (or table) of the data set itself, for what the store does not hold.
        clip_seconds: length of training crops and evaluation windows, in seconds; None (null) takes clips whole, those
            of about one length together.
        sample_rate: rate that the store must have, in Hz; left out, the store's own is taken.
        hop_seconds: from one evaluation window to the next; left out, `clip_seconds`. Whole clips are padded to a
            multiple of it, left out of 1 s.
        padding: "zero" puts silence behind clips shorter than `clip_seconds`, "repeat" repeats them.
        batch_size: crops (or windows) a batch on each process.
        order: of training: "random" visits every clip once an epoch; "balanced" every class equally often, by the
            rarest of a clip's labels; "blocked" every clip once, in runs of neighbours, for disks that seek.
        seed: of the order of clips and of the crops.
        threads: that fill batches ahead of training; more where the disk is slower than the training.
        num_workers: processes that read in place of threads.
        mapped: whether shards are mapped into memory; false reads with system calls, for network file systems on which
            mapped files are slow or fail.
        allow_missing: clips of the table that may be absent from the store without ending the run.
        train_on_validation: whether the clips for validation are trained on as well, once everything is chosen. Then
            nothing is validated, the last epoch is the one that is kept, and tags get no thresholds of their own.
    Raises:
        ValueError: for settings out of range, a store at another rate, or clips missing from the store.
    """

    task: Task = "multiclass"
    releases: ClassVar[Mapping[str, Release]] = {}
    """What its publisher offers, by the name of the version or subset; the first is downloaded unless another is
    named."""
    known_bad: ClassVar[Mapping[str, str]] = {}
    """Clips of the release that hold no or too little audio: `clip_id` to what is wrong. They are expected to fail."""
    known_shared: ClassVar[frozenset[str]] = frozenset()
    """Groups that the release itself has on two sides of its official split."""
    official_classes: tuple[str, ...] | None = None
    """Names of the targets in the order of publication; None where they are sorted by name."""
    drawn_shares: Mapping[str, float] = {}
    """Share of the clips that is drawn for each split but train; none where the split is given."""

    def __init__(
        self,
        store: str,
        root: str | None = None,
        *,
        clip_seconds: float | None,
        sample_rate: int | None = None,
        hop_seconds: float | None = None,
        padding: Padding = "zero",
        batch_size: int = 64,
        order: OrderName = "random",
        seed: int = 0,
        threads: int = 2,
        num_workers: int = 0,
        mapped: bool = True,
        allow_missing: int = 0,
        train_on_validation: bool = False,
    ) -> None:
        super().__init__()
        for name, seconds in (("clip_seconds", clip_seconds), ("hop_seconds", hop_seconds)):
            if seconds is not None and not 0 < seconds < math.inf:
                raise ValueError(f"{name} must be a time above 0 s, such as 2.0, or null, got {seconds}")
        one_of("padding", padding, get_args(Padding))
        one_of("order", order, get_args(OrderName))
        counts = {"batch_size": (batch_size, 1), "threads": (threads, 1), "num_workers": (num_workers, 0)}
        for name, (number, least) in counts.items():
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        self.store_path = Path(store)
        self.root = Path(root) if root is not None else None
        self.clip_seconds, self.hop_seconds = clip_seconds, hop_seconds or clip_seconds or 1.0
        self.padding: Padding = padding
        self.batch_size, self.order, self.seed = batch_size, order, seed
        self.threads, self.num_workers, self.mapped = threads, num_workers, mapped
        self.allow_missing = allow_missing
        self.train_on_validation = train_on_validation
        self._copies: torch.cuda.Stream | None = None
        self.expected_sample_rate = sample_rate

    # --- what a data set says ---

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The audio files of the data set under `root`, for the decoder: every file, unless a data set knows better."""
        return find_sources(root)

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """Ids of all clips that the release's own tables name, there or not; None where no table says.

        The decoder compares them with `sources`, so that a half-unpacked archive is noticed before training.
        """
        return None

    @abstractmethod
    def read_table(self) -> pd.DataFrame:
        """The data set's own table: columns `clip_id`, `label`, `split`, perhaps `group` and `fold`, and whatever else
        it says of a clip; see `datamodules.splits`."""

    def known_clip_ids(self) -> list[str]:
        """Ids of the data set's clips: the files under `root`, or where none is given what the store was made of."""
        if self.root is not None:
            return [source.clip_id for source in self.sources(self.root)]
        return self.decoded_clip_ids()

    def decoded_clip_ids(self) -> list[str]:
        """Ids of what the store was made of, decoded or failed, but for clips that are gone."""
        clip_ids = pd.Series(sorted({*self.store.clip_ids.tolist(), *self.store.failures["clip_id"].tolist()}))
        return clip_ids[~self._are_gone(clip_ids)].tolist()

    def _are_gone(self, clip_ids: pd.Series) -> NDArray[np.bool_]:
        """Which clips no longer had a file when the store was last decoded into; they are said, to be left out.

        A file that was moved is there under its new name: the recording would be there twice.
        """
        failures = self.store.failures
        gone = clip_ids.isin(failures["clip_id"][failures["outcome"] == "gone"]).to_numpy()
        if gone.any():
            log.warning(
                "%d clips in %s are left out, such as %s: their files were moved or deleted before it was last decoded "
                "into; put them back and decode again",
                gone.sum(), self.store_path, printable(clip_ids[gone].iloc[0]),
            )  # fmt: skip
        return gone

    # --- what the model is told ---

    @cached_property
    def store(self) -> Store:
        """The opened PCM store."""
        store = Store(self.store_path, mapped=self.mapped)
        if self.expected_sample_rate not in (None, store.sample_rate):
            raise ValueError(
                f"{self.store_path} holds {store.sample_rate} Hz audio but the configuration asks for "
                f"{self.expected_sample_rate} Hz: decode again with --sample-rate {self.expected_sample_rate} into "
                f"another folder, or set data.sample_rate to {store.sample_rate}"
            )
        return store

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz."""
        return self.store.sample_rate

    @property
    def class_names(self) -> list[str]:
        """In the order of the targets."""
        return self._classes

    @property
    def num_classes(self) -> int:
        """Length of `class_names`."""
        return len(self._classes)

    @property
    def folds(self) -> list[int]:
        """The published folds, any of which can be the test; none where the data set has no folds."""
        return sorted(self.table["fold"].unique().tolist()) if "fold" in self.table else []

    @cached_property
    def _classes(self) -> list[str]:
        if self.official_classes is None:
            return sorted(labels_of(self.table).unique())
        if self.task != "regression":
            strange = sorted(set(labels_of(self.table).unique()) - set(self.official_classes))
            if strange:
                raise ValueError(
                    f"label {strange[0]!r} is none of {type(self).__name__}'s ({', '.join(self.official_classes)}): "
                    f"the table is of another release"
                )
        return list(self.official_classes)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The clips that are both in the data set's table and in the store, checked, ordered by `clip_id`."""
        return self._joined[0]

    @cached_property
    def _joined(self) -> tuple[pd.DataFrame, NDArray[np.int64]]:
        """The table, and the row of the store that each of its clips is: one search, however many ask."""
        written = self.read_table()
        written = written[~self._are_gone(written["clip_id"])]
        rows = self.store.rows(written["clip_id"].to_numpy())
        if (rows < 0).any():
            self._count_absent(written["clip_id"], rows < 0)
        order = np.argsort(rows, kind="stable")  # the store is in the order of `clip_id`
        order = order[(rows < 0).sum() :]
        in_order = len(order) == len(rows) and bool((order[1:] > order[:-1]).all())
        table = written if in_order else written.take(order)
        table = table.reset_index(drop=True)
        check_table(table, task=self.task, known_shared=self.known_shared)
        if self.train_on_validation:
            table.loc[table["split"] == "validation", "split"] = "train"
        del written
        return_memory()  # what a million rows took on their way is as much again as what is kept
        return table, rows[order]

    def _count_absent(self, clip_ids: pd.Series, absent: NDArray[np.bool_]) -> None:
        """Count and name what the store does not hold; past `allow_missing` it is an error."""
        total, clip_ids = len(clip_ids), clip_ids[absent]
        failures = self.store.failures
        failed = clip_ids.isin(failures["clip_id"][failures["outcome"] == "failed"])
        known = failed & clip_ids.isin(list(self.known_bad))
        if known.any():
            log.info("%d clips that the release itself has without audio are left out, as expected", known.sum())
        lost = clip_ids[failed & ~known]
        if len(lost):
            log.warning(
                "%d of %d clips could not be decoded and are left out, such as %s: see %s",
                len(lost), total, printable(lost.iloc[0]), self.store_path / "failures.csv",
            )  # fmt: skip
        missing = clip_ids[~failed]
        if len(missing) > self.allow_missing:
            way_out = f"decode them into it with tools/decode_to_hdf.py, or set data.allow_missing to {len(missing)}"
            if len(missing) == total:
                way_out = (
                    "it is the store of other clips; set data.store to the one of these, or decode them with "
                    "tools/decode_to_hdf.py"
                )
            raise ValueError(
                f"{len(missing)} of {total} clips are not in {self.store_path}, such as {_named(missing)}: {way_out}"
            )
        if len(missing):
            log.warning("%d of %d clips are not in %s and are left out", len(missing), total, self.store_path)

    # --- what reports ask for ---

    def clip_ids(self, split: Split) -> Sequence[str]:
        """Names of the clips of a split; `Batch.clip` counts in this order."""
        return self._part(split)["clip_id"].tolist()

    def groups(self, split: Split) -> Sequence[str | None] | None:
        """What each clip of a split belongs to, in the same order, None for one alone; None without groups."""
        if "group" not in self.table:
            return None
        groups = self._part(split)["group"].astype(object)
        return groups.where(groups.notna(), None).tolist()

    def audio(self, split: Split, clip: int) -> np.ndarray:
        """Samples of one clip, int16 whatever the store's format, (samples, channels)."""
        return from_float(to_float(self.store.read(int(self.clips(split).rows[clip]))))[0]

    def clips(self, split: Split) -> Clips:
        """A split as arrays."""
        inside = self._inside(split)
        return Clips(self.store, self._joined[1][inside], self._targets(self.table["label"][inside]))

    def _part(self, split: Split) -> pd.DataFrame:
        return self.table[self._inside(split)]

    def _inside(self, split: Split) -> NDArray[np.bool_]:
        one_of("split", split, SPLITS)
        return (self.table["split"] == split).to_numpy()

    def _targets(self, labels: pd.Series) -> Tensor:
        names = self.class_names
        if self.task == "regression":
            return torch.tensor(labels.tolist(), dtype=torch.float32).reshape(len(labels), len(names))
        if self.task == "multiclass":
            return torch.from_numpy(class_indices(labels, names))
        targets = torch.zeros(len(labels), len(names))
        clip = np.repeat(np.arange(len(labels)), [len(tags) for tags in labels])
        targets[clip, class_indices(pd.Series([*chain.from_iterable(labels)], dtype=object), names)] = 1
        return targets

    # --- loaders ---

    @property
    def clip_samples(self) -> int | None:
        """Length of a crop or window, in samples; None where clips are taken whole.

        Raises:
            ValueError: if it is less than a sample, or out of all proportion to the store's clips.
        """
        if self.clip_seconds is None:
            return None
        longest = int(self.store.lengths.max(initial=1)) / self.sample_rate
        # Short clips are padded to a model's window as a matter of course, to many times their length; no model gains
        # from windows of which a hundredth is sound: milliseconds or samples were taken for seconds.
        if self.clip_seconds > _MOST_PADDED * longest:
            raise ValueError(
                f"clip_seconds must be at most {_MOST_PADDED} times the longest clip of {self.store_path}, "
                f"{longest:.3g} s, got {self.clip_seconds:g} s: set data.clip_seconds to what the model is to hear at "
                f"once, or to null for whole clips"
            )
        return self._samples("clip_seconds", self.clip_seconds)

    @property
    def hop_samples(self) -> int:
        """From one evaluation window to the next; what whole clips are padded to a multiple of."""
        return self._samples("hop_seconds", self.hop_seconds)

    def _samples(self, name: str, seconds: float) -> int:
        if round(seconds * self.sample_rate) < 1:
            raise ValueError(
                f"{name} must be at least a sample, {1 / self.sample_rate:.3g} s at {self.sample_rate} Hz, "
                f"got {seconds:g}"
            )
        return round(seconds * self.sample_rate)

    def setup(self, stage: str) -> None:
        """Read and check the table, so that whatever is wrong is said before the first step."""
        counts = self.table["split"].value_counts()
        log.info("%s: %s", type(self).__name__, ", ".join(f"{counts.get(name, 0)} {name}" for name in SPLITS))

    def batches_per_epoch(self, *, world_size: int = 1) -> int:
        """Training batches of each process in an epoch."""
        return len(self._train_batches(self.clips("train"), rank=0, world_size=world_size))

    def train_dataloader(self) -> ResumableLoader:
        """Random crops, a pure function of (seed, epoch, index)."""
        rank, world_size = self._rank()
        clips = self.clips("train")
        batches = self._train_batches(clips, rank=rank, world_size=world_size)
        return self._loader(ResumableLoader, clips, batches)

    def val_dataloader(self) -> BatchLoader:
        """Every window of every validation clip."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> BatchLoader:
        """Every window of every test clip."""
        return self._evaluation_loader("test")

    def _train_batches(self, clips: Clips, *, rank: int, world_size: int) -> TrainBatches:
        _check_processes("train", len(clips), world_size)
        return TrainBatches(
            clips.lengths,
            n_samples=self.clip_samples,
            batch_size=self.batch_size,
            order=self._order(clips),
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

    def _order(self, clips: Clips) -> Order:
        if self.order == "balanced" and self.task == "regression":
            raise ValueError("order 'balanced' draws classes equally often, and regression has none: use 'random'")
        if self.order == "balanced":
            return BalancedOrder(rarest_class(clips.targets.numpy()), self.seed)
        return (BlockedOrder if self.order == "blocked" else RandomOrder)(len(clips), self.seed)

    def _evaluation_loader(self, split: Split) -> BatchLoader:
        rank, world_size = self._rank()
        clips = self.clips(split)
        if not len(clips) and split == "validation" and self.train_on_validation:
            raise ValueError(
                "nothing is left to validate: data.train_on_validation trains on it; validate a run that was trained "
                "without, or set trainer.limit_val_batches to 0"
            )
        if not len(clips):
            way_out = ", of every class if it can be"
            if self.drawn_shares.get(split) == 0:
                way_out = f": raise data.{split} above 0"
            if split == "validation":
                way_out += ", or set data.train_on_validation to true, and the last epoch is kept"
            raise ValueError(f"no clip has the split {split!r}: give it to some clips{way_out}")
        _check_processes(split, len(clips), world_size)
        batches = EvaluationBatches(
            clips.lengths,
            n_samples=self.clip_samples,
            hop=self.hop_samples,
            batch_size=self.batch_size,
            rank=rank,
            world_size=world_size,
        )
        return self._loader(BatchLoader, clips, batches)

    def _loader(self, kind: type[Loader], clips: Clips, batches: TrainBatches | EvaluationBatches) -> Loader:
        samples, n_bytes = batches.most_samples, batches.most_samples * self.store.channels * self.store.dtype.itemsize
        under_way = batches_under_way(threads=self.threads, num_workers=self.num_workers)
        if under_way * n_bytes > memory_limit():
            raise ValueError(
                f"{under_way} batches are under way at once, and at {n_bytes / 1e9:.3g} GB the largest "
                f"({samples / self.sample_rate:.3g} s of audio) does not fit into the {memory_limit() / 1e9:.3g} GB of "
                f"memory: lower data.batch_size ({self.batch_size}) or data.clip_seconds "
                f"({'null' if self.clip_seconds is None else f'{self.clip_seconds:g}'})"
            )
        return kind(
            ClipDataset(clips, padding=self.padding),
            batches,
            threads=self.threads,
            num_workers=self.num_workers,
            pinned=torch.cuda.is_available(),
        )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    # --- checkpoint ---

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: which clips were trained on, as one number."""
        return {"trained_on": self._trained_on}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Say so where other clips were trained on: scores of clips that the model has heard are worth nothing."""
        if state_dict["trained_on"] != self._trained_on:
            log.warning(
                "the checkpoint was trained on other clips than the training split has now, and those that are scored "
                "may be among them: take fold, split_seed and train_on_validation of its run, unless these are other "
                "recordings"
            )

    @cached_property
    def _trained_on(self) -> int:
        return zlib.crc32("\n".join(self.clip_ids("train")).encode(errors="surrogateescape"))

    # --- to the device ---

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch on a stream of its own, beside the step that the device is still at."""
        if device.type != "cuda":
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        if self._copies is None:
            self._copies = torch.cuda.Stream(device)
        step = torch.cuda.current_stream(device)
        with torch.cuda.stream(self._copies):
            moved = Batch(*(part.to(device, non_blocking=True) for part in batch))
        step.wait_stream(self._copies)
        for part in moved:  # else its memory might be given away while the step still reads it
            part.record_stream(step)
        return moved


def _check_processes(split: Split, n_clips: int, world_size: int) -> None:
    if n_clips < world_size:
        raise ValueError(
            f"split {split!r} has {n_clips} clips for {world_size} processes: each needs one; use "
            f"--trainer.devices {n_clips} or give the split more clips"
        )


def _named(clip_ids: pd.Series, most: int = 3) -> str:
    """The first few, as one writes them."""
    return ", ".join(repr(clip_id) for clip_id in clip_ids.iloc[:most])
