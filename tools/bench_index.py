#!/usr/bin/env python3
"""Time what grows with the number of clips: opening a store, an epoch's order, the first batch; and its memory.

The clips are a hundredth of a second long, so that nothing else weighs. Every turn is a process of its own, as every
run and every rank is; times are from when its libraries are imported, memory is what it holds beyond them.

    python tools/bench_index.py --clips 1000000 --csv index.csv
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

import measuring
from datamodules.decoding.decode import Decoded
from datamodules.decoding.sources import Source
from datamodules.samples import SampleFormat
from datamodules.storage.writer import write_store

SAMPLE_RATE, CLIP_SAMPLES, BATCH_SIZE = 16000, 160, 64
NOISE = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (CLIP_SAMPLES, 1), dtype=np.int16)
PACKAGES = ("torch", "numpy", "pandas", "h5py")


def decode_nothing(
    path: Path,
    *,
    sample_rate: int,
    channels: int,
    exact_channels: bool = False,
    sample_format: SampleFormat = "int16",
    max_seconds: float | None = None,
) -> Decoded:
    """Stands in for `datamodules.decoding.decode.decode`: the same noise for every file."""
    return Decoded(NOISE, "wav pcm_16", "soundfile", "ok", "", 0, "", "", CLIP_SAMPLES / SAMPLE_RATE)


def make_store(folder: Path, *, n_clips: int) -> tuple[Path, Path]:
    """A store of so many clips and the table of their labels."""
    clip, table, store = folder / "clip.wav", folder / "clips.csv", folder / "store"
    soundfile.write(clip, NOISE, SAMPLE_RATE)
    names = [f"{number % 1000:03d}/{number:09d}.wav" for number in range(n_clips)]
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "split"))
        writer.writerows((name, f"label {number % 10}", "train") for number, name in enumerate(names))
    sources, workers = [Source(name, clip) for name in sorted(names)], len(os.sched_getaffinity(0))
    write_store(sources, store, sample_rate=SAMPLE_RATE, workers=workers, decoder=decode_nothing)
    return store, table


def resident_mib() -> float:
    """Memory of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def walk(store: Path, table: Path) -> dict[str, float]:
    """One process's way to its first batch: seconds of each step, and MiB it has come to hold."""
    import torch  # noqa: F401, PLC0415 - none of it is the store's memory or time, and writers need not wait for it

    from datamodules import AudioTable  # noqa: PLC0415 - as above
    from datamodules.storage.store import Store  # noqa: PLC0415 - as above

    before, began = resident_mib(), time.perf_counter()
    opened = Store(store)
    steps = {"open the store, s": time.perf_counter() - began, "memory of the store, MiB": resident_mib() - before}
    del opened
    began = time.perf_counter()
    data = AudioTable(str(store), str(table), clip_seconds=CLIP_SAMPLES / SAMPLE_RATE / 2, batch_size=BATCH_SIZE)
    data.setup("fit")
    loader = data.train_dataloader()
    steps["from nothing to the loader, s"] = time.perf_counter() - began
    began = time.perf_counter()
    next(iter(loader.sampler))
    steps["an epoch's order, s"] = time.perf_counter() - began
    began = time.perf_counter()
    batches = iter(loader)
    next(batches)
    steps["from the loader to the first batch, s"] = time.perf_counter() - began
    steps["memory of the data module, MiB"] = resident_mib() - before
    return steps


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=measuring.turns, default=5, help="processes that are measured (default: 5)")
    parser.add_argument("--csv", type=Path, help="where to write the rows")
    parser.add_argument("--clips", type=int, default=1_000_000, help="in the store (default: 1000000)")
    parser.add_argument("--folder", type=Path, help="where to write the store for the time (default: temporary)")
    args = parser.parse_args(argv)
    if args.clips < BATCH_SIZE:
        parser.error(f"--clips must be at least {BATCH_SIZE}, a batch, got {args.clips}")
    where = f"{measuring.environment(PACKAGES)}; {args.clips} clips, {args.turns} processes"
    print(f"{where}\n")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        began = time.perf_counter()
        store, table = make_store(Path(temporary), n_clips=args.clips)
        print(f"written in {time.perf_counter() - began:.0f} s\n")
        taken = []
        for _ in range(args.turns):
            with multiprocessing.get_context("spawn").Pool(1) as process:
                taken.append(process.apply(walk, (store, table)))
    print("| step | median | quartiles |\n|---|---|---|")
    rows: list[measuring.Row] = []
    for step in taken[0]:
        first, median, third = statistics.quantiles([turn[step] for turn in taken], n=4, method="inclusive")
        numbers = [measuring.number(value) for value in (median, first, third)]
        print(f"| {step} | {numbers[0]} | {numbers[1]} to {numbers[2]} |")
        rows.append({"step": step, "median": median, "quartile_1": first, "quartile_3": third, "environment": where})
    if args.csv:
        measuring.write_csv(args.csv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
