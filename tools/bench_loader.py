#!/usr/bin/env python3
"""Time reading training batches against its peers: random crops of clips, and clips whole.

The clips are noise, 30 s at 16 kHz; all implementations read the same ones, in turns (see `measuring`), in batches of
64, and of each batch some samples of every row are added up. A turn is as many epochs as fit into `--seconds`, one at
least. Ours is the loader that `AudioTable.train_dataloader()` returns. Warm, the limit is that loader over samples in
memory; bare copies of an array into one buffer stand beside it. With --cold no page of any file is in memory when a
turn begins, a turn is one epoch, loaders are built anew off the clock (their workers start on it), and the limit is
reading our shards in order, 4 MB at a time.

    python tools/bench_loader.py --csv loader.csv --chart loader.png
    python tools/bench_loader.py --gigabytes 8 --workers 0 8 --cold
"""

from __future__ import annotations

import csv
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

import measuring
from datamodules.decoding.sources import find_sources
from datamodules.storage.writer import write_store
from loader_peers import PEERS, SAMPLE_BYTES, Batches, MemoryCopy, Ours, Reading, Recordings, SameRing
from measuring import LIMIT, OURS, Row

SAMPLE_RATE, BATCH_SIZE, N_SHARDS = 16000, 64, 8
BLOCK_BYTES = 4 << 20
PACKAGES = ("torch", "numpy", "h5py", "soundfile", "litdata", "mosaicml-streaming", "webdataset")


def make_recordings(folder: Path, *, gigabytes: float, clip_seconds: float) -> Recordings:
    """Noise as wav files, and the store that the decoder makes of them."""
    clip_samples = round(clip_seconds * SAMPLE_RATE)
    n_clips = max(round(gigabytes * 1e9 / (SAMPLE_BYTES * clip_samples)), 1)
    generator = np.random.default_rng(0)
    wavs, table = [folder / f"{clip:07d}.wav" for clip in range(n_clips)], folder / "clips.csv"
    for path in wavs:
        noise = generator.integers(-(1 << 15), 1 << 15, clip_samples, dtype=np.int16)
        soundfile.write(path, noise, SAMPLE_RATE, subtype="PCM_16")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((path.name, f"label {clip % 10}", "train") for clip, path in enumerate(wavs))
    shard_bytes, workers = SAMPLE_BYTES * clip_samples * -(-n_clips // N_SHARDS), len(os.sched_getaffinity(0))
    store = folder / "store"
    write_store(find_sources(table), store, sample_rate=SAMPLE_RATE, shard_bytes=shard_bytes, workers=workers)
    return Recordings(folder, table, wavs, store, clip_samples, SAMPLE_RATE)


# --- what is read, and how long ---


def consume(batches: Batches, *, seconds: float) -> float:
    """Walk whole epochs until the time is over, touching every crop; returns how many crops there were."""
    crops, total, end = 0, 0, time.perf_counter() + seconds
    while not crops or time.perf_counter() < end:
        before = crops
        for batch in batches:
            total += int(batch[:, ::4096].sum())
            crops += len(batch)
        assert crops > before, "an epoch without a batch"
    return float(crops)


class SequentialRead:
    """All shards in order, in blocks into one buffer, as batches of as many bytes as crops have."""

    def __init__(self, recordings: Recordings, reading: Reading) -> None:
        self.paths = sorted(recordings.store.glob("*.h5"))
        self.crop_bytes = SAMPLE_BYTES * reading.n_samples
        self.buffer = bytearray(BLOCK_BYTES)

    def __iter__(self) -> Iterator[torch.Tensor]:
        left = 0
        for path in self.paths:
            with path.open("rb", buffering=0) as file:
                while n_bytes := file.readinto(self.buffer):
                    n_crops, left = divmod(left + n_bytes, self.crop_bytes)
                    yield torch.frombuffer(self.buffer, dtype=torch.int16)[:1].expand(n_crops, 1)


def build(
    recordings: Recordings, reading: Reading, *, workers: Sequence[int], threads: int, cold: bool
) -> dict[str, Callable[[], Batches]]:
    """What makes each loader; those whose library is not installed are named on stderr."""
    makers: dict[str, Callable[[], Batches]] = {
        OURS: partial(Ours, recordings, reading, threads=threads),
        f"{OURS}, 1 thread": partial(Ours, recordings, reading, threads=1),
    }
    if cold:
        makers[f"{LIMIT}: sequential read"] = partial(SequentialRead, recordings, reading)
    else:
        makers[f"{LIMIT}: ours, samples in memory"] = partial(SameRing, recordings, reading, threads=threads)
        makers["memory copy, 1 thread"] = partial(MemoryCopy, recordings, reading, threads=1)
        makers[f"memory copy, {threads} threads"] = partial(MemoryCopy, recordings, reading, threads=threads)
    for name, make in PEERS.items():
        try:
            make(recordings, reading)  # also writes the format of its own
        except ImportError as error:
            measuring.left_out(name, error)
            continue
        for n in workers:
            makers[f"{name}, {n} workers"] = partial(make, recordings, reading._replace(workers=n))
    return makers


def files_below(folder: Path) -> Iterator[int]:
    """Each file, open while it is its turn."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def drop_caches(folder: Path) -> None:
    """Have the kernel forget all files below a folder; what is not on the disk yet, or mapped somewhere, stays."""
    for descriptor in files_below(folder):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def measure(
    makers: Mapping[str, Callable[[], Batches]],
    reading: Reading,
    *,
    setting: str,
    turns: int,
    seconds: float,
    cold: Path | None = None,
) -> list[Row]:
    """One row an implementation, in crops a second; `cold` is the folder to forget before each turn."""
    loaders: dict[str, Batches] = {}
    for descriptor in files_below(cold) if cold else ():
        os.fsync(descriptor)

    def prepare(name: str) -> None:
        if cold is not None:
            loaders.clear()
            gc.collect()  # ends workers and mappings, which would keep pages in memory
            drop_caches(cold)
        if name not in loaders:
            loaders[name] = makers[name]()

    runs = {name: lambda name=name: consume(loaders[name], seconds=0 if cold else seconds) for name in makers}
    gc.freeze()  # what there is by now need not be searched before every cold turn
    taken = measuring.in_turns(runs, turns=turns, before=prepare)
    gc.unfreeze()
    rates = {name: [turn.work / turn.seconds for turn in values] for name, values in taken.items()}
    rows = measuring.summarise(rates, setting=setting, quantity="reading", unit="crops/s", better="higher")
    for row in rows:
        row["gb_per_s"] = float(row["median"]) * SAMPLE_BYTES * reading.n_samples / 1e9
        row["cpu_us_a_crop"] = statistics.median(
            1e6 * turn.cpu_seconds / turn.work for turn in taken[str(row["implementation"])]
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write CSV and chart."""
    cores = len(os.sched_getaffinity(0))
    parser = measuring.build_parser(__doc__, n_turns=5)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="of samples; each peer writes them (default: 2)")
    parser.add_argument("--clip_seconds", type=float, default=30.0, help="length of a clip (default: 30)")
    parser.add_argument("--crop_seconds", type=float, default=3.0, help="length of a crop (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn, at least (default: 2)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, cores], help=f"of peers (default: 0 {cores})")
    parser.add_argument("--threads", type=int, default=2, help="of ours and of the limit (default: 2)")
    parser.add_argument("--cold", action="store_true", help="read from the disk")
    parser.add_argument("--folder", type=Path, help="where to write the clips for the time (default: temporary)")
    args = parser.parse_args(argv)
    if args.gigabytes * 1e9 < SAMPLE_BYTES * args.clip_seconds * SAMPLE_RATE * BATCH_SIZE:
        parser.error(f"--gigabytes must hold a batch of {BATCH_SIZE} clips, got {args.gigabytes}")
    if not 0 < args.crop_seconds <= args.clip_seconds:
        parser.error(f"--crop_seconds must be above 0 and at most --clip_seconds, got {args.crop_seconds}")
    torch.set_num_threads(1)  # a copy gains nothing from more, and workers of a DataLoader have one as well
    temperature = "cold" if args.cold else "warm"
    where = f"{measuring.environment(PACKAGES)}; {args.gigabytes:g} GB, {temperature}, {args.turns} turns after 1"
    print(f"{where}\n")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        recordings = make_recordings(Path(temporary), gigabytes=args.gigabytes, clip_seconds=args.clip_seconds)
        for seconds in (args.crop_seconds, args.clip_seconds):
            reading = Reading(round(seconds * SAMPLE_RATE), BATCH_SIZE)
            makers = build(recordings, reading, workers=args.workers, threads=args.threads, cold=args.cold)
            what = "whole clips" if seconds == args.clip_seconds else "crops"
            setting = f"{what} of {seconds:g} s, {temperature}"
            cold = recordings.folder if args.cold else None
            rows += measure(makers, reading, setting=setting, turns=args.turns, seconds=args.seconds, cold=cold)
    measuring.report(rows, args, benchmark="Reading training batches", where=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
