"""Audio files to a PCM store: any number of processes and machines, killed and started again at any moment, one result.

A store under way is its folder without `store.json`: `.begun.json` with its settings, `.plan` with the files of every
shard (see `plan.py`), shards that are growing (see `shards.py`) and shards that are whole. A start
follows the plan that it finds. Files that the plan does not have and the store does not hold, or holds as they were
before they changed, become further shards of it: going on, adding files and decoding what has changed are the same
thing. What failed is tried again once the store was finished. A file that has changed is decoded into a new shard, and
its old samples are no longer read; if it now fails, `store.json` withdraws them.

Of several machines each is a rank, and has the shards whose number leaves its rank when divided by `world_size`. Who
finds all shards whole writes `failures.csv` and, last of all, `store.json`; then the plan and all that hangs on it go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from datamodules.decoding.decode import check_pcm, decode
from datamodules.decoding.sources import Source
from datamodules.messages import one_of
from datamodules.samples import SampleFormat
from datamodules.storage.begin import begin, plan_rest
from datamodules.storage.finish import Summary, finish
from datamodules.storage.locks import lock_plan, lock_store
from datamodules.storage.pool import write_slices
from datamodules.storage.shards import SHARD_FORMATS, StoreError, read_journal
from datamodules.storage.worker import Decoder, Outcome, Settings, Work

__all__ = ["Outcome", "Summary", "write_store"]

MEBIBYTE = 1 << 20


def write_store(
    sources: list[Source],
    folder: Path,
    *,
    sample_rate: int,
    channels: int | None = 1,
    sample_format: SampleFormat = "int16",
    max_seconds: float | None = None,
    shard_format: str = "hdf5",
    shard_bytes: int = 512 * MEBIBYTE,
    workers: int = 1,
    rank: int = 0,
    world_size: int = 1,
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
        channels: of the stored PCM; None takes the number that most files have, and files with another fail.
        sample_format: of the stored PCM: "int16", "int32", "float32" or "mulaw".
        max_seconds: of each clip that are kept, from its beginning; all of it where None.
        shard_format: "hdf5" or "npy".
        shard_bytes: samples to expect of a shard, in bytes; less where workers would have none to write.
        workers: number of processes.
        rank: which of the machines this is, from 0; they need one another neither to begin nor to end.
        world_size: number of machines; another number may go on with what these have left.
        clip_timeout: seconds after which a clip is given up as failed.
        on_start: called once with the numbers of clips that are there and that are to be decoded here.
        on_clip: called after every file.
        decoder: stands in for `datamodules.decoding.decode.decode`; must be importable by the workers.
    Raises:
        ValueError: for settings out of range, or two files of one `clip_id`.
        StoreError: if the folder holds something else or other settings, is in use, or cannot be written.
    """
    seconds = None if max_seconds is None else float(max_seconds)
    asked = Settings(sample_rate, channels or 0, channels is None, sample_format, seconds, shard_format)
    check_settings(asked)
    _check_run(shard_bytes=shard_bytes, workers=workers, clip_timeout=clip_timeout, rank=rank, world_size=world_size)
    folder, sources = Path(folder), _sort(sources)
    check_folder(folder)
    with lock_store(folder, rank=rank, world_size=world_size):
        with lock_plan(folder):
            state = begin(folder, asked, sources)
            slices, kept = plan_rest(
                folder,
                state,
                sources,
                shard_bytes=shard_bytes,
                least=workers * world_size,
                retry=world_size == 1,
            )
        mine = [part for part in slices if part.number % world_size == rank]
        journalled = [read_journal(folder, part.number) for part in mine]
        kept += sum(clips for clips, _ in journalled)
        if on_start is not None:
            on_start(kept, sum(len(part.clips) for part in mine) - sum(map(sum, journalled)))
        decoded = 0.0
        work = Work(folder, Settings.of(state), decoder)
        for outcome in write_slices(mine, work, workers=workers, clip_timeout=clip_timeout):
            decoded += outcome.seconds
            if on_clip is not None:
                on_clip(outcome)
        with lock_plan(folder):
            return finish(folder, state, sources, kept=kept, decoded=decoded, alone=world_size == 1)


def check_settings(settings: Settings) -> None:
    """Raise ValueError for settings that no store can have."""
    channels = settings.channels or int(settings.exact_channels)  # 0 where they are to be found out
    check_pcm(settings.sample_rate, channels, settings.sample_format, settings.max_seconds)
    one_of("shard_format", settings.shard_format, SHARD_FORMATS)


def check_folder(folder: Path) -> None:
    """Raise StoreError where no folder can be: at a file, in one, or at a link to nothing."""
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not there.is_dir():
        raise StoreError(f"{there} is no folder, and a store is one: give another folder as --out")


def _check_run(*, shard_bytes: int, workers: int, clip_timeout: float, rank: int, world_size: int) -> None:
    for name, value in (("shard_bytes", shard_bytes), ("workers", workers), ("world_size", world_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not clip_timeout > 0:
        raise ValueError(f"clip_timeout must be above 0 s, got {clip_timeout}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be between 0 and {world_size - 1}, one below world_size, got {rank}")


def _sort(sources: list[Source]) -> list[Source]:
    sources = sorted(sources)
    for one, other in pairwise(sources):
        if one.clip_id == other.clip_id:
            raise ValueError(f"clip_id must be unique, got {one.clip_id!r} for {one.path} and for {other.path}")
    return sources
