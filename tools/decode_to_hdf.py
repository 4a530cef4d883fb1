"""Decode audio files into a PCM store. Stopped or killed, the same command goes on where it stopped."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

# Run as `python tools/decode_to_hdf.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

import datamodules
from datamodules.sources import Source, find_sources

if TYPE_CHECKING:
    from datamodules.pool import Outcome
    from datamodules.writer import Summary

MEBIBYTE = 1 << 20
EXAMPLES = """
examples:
  python tools/decode_to_hdf.py ~/audio --out stores/audio --sample-rate 16000
  python tools/decode_to_hdf.py clips.csv --out stores/clips --sample-rate 22050 --format npy
  python tools/decode_to_hdf.py --dataset fma --root ~/fma --out stores/fma --sample-rate 22050 --allow-failures 20
"""
EXIT_FAILURES, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One line, without the usage in front of it."""
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="decode_to_hdf.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", nargs="?", type=Path, help="folder of audio files, or CSV table with a column path")
    add("--dataset", metavar="NAME", help=f"in place of SOURCE: one of {', '.join(datamodules.__all__)}")
    add("--root", type=Path, metavar="DIR", help="folder of the data set, with --dataset")
    add("--out", type=Path, required=True, metavar="STORE", help="folder of the store; a new one, or one to go on with")
    add("--sample-rate", type=int, required=True, metavar="HZ", help="of the stored PCM")
    add("--channels", type=int, default=1, metavar="N", help="of the stored PCM (default 1, their mean)")
    add(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="processes (default %(default)s)"
    )
    add("--format", choices=("hdf5", "npy"), default="hdf5", help="of the shards (default hdf5)")
    add("--allow-failures", type=int, default=0, metavar="N", help="failed clips that still exit 0 (default 0)")
    add("--shard-size", type=float, default=512, metavar="MIB", help="PCM in a shard (default 512)")
    add("--clip-timeout", type=float, default=300, metavar="S", help="time for one clip (default 300 s)")
    return parser


def list_sources(arguments: argparse.Namespace) -> list[Source]:
    """The files to decode. Raises ValueError with what to type where the arguments do not name any."""
    if arguments.dataset is None:
        if arguments.source is None:
            raise ValueError("give a SOURCE, or --dataset NAME --root DIR")
        if arguments.root is not None:
            raise ValueError("--root goes with --dataset: give --dataset NAME as well, or leave --root out")
        return find_sources(arguments.source)
    if arguments.source is not None:
        raise ValueError(f"give SOURCE or --dataset, not both: got {arguments.source} and {arguments.dataset}")
    names = {_plain(name): name for name in datamodules.__all__}
    if _plain(arguments.dataset) not in names:
        raise ValueError(f"--dataset must be one of {', '.join(names.values())}, got {arguments.dataset!r}")
    if arguments.root is None:
        raise ValueError(f"--dataset {arguments.dataset} needs its folder: add --root DIR")
    return getattr(datamodules, names[_plain(arguments.dataset)]).sources(arguments.root)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


class Progress:
    """The bar: clips, hours of audio, times real time, failures, time left."""

    def __init__(self) -> None:
        self.began, self.seconds, self.failed = time.monotonic(), 0.0, 0
        self.bar: tqdm | None = None

    def start(self, kept: int, todo: int) -> None:
        if kept:
            print(f"{kept} clips are in the store already, {todo} to decode")
        self.began = time.monotonic()
        self.bar = tqdm(total=todo, unit="clip", disable=not todo, dynamic_ncols=True, mininterval=0.5)

    def step(self, outcome: Outcome) -> None:
        assert self.bar is not None
        self.seconds += outcome.seconds
        self.failed += outcome.outcome == "failed"
        text = f"{self.seconds / 3600:.2f} h, {self.speed:.0f} x real time, {self.failed} failed"
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def speed(self) -> float:
        return self.seconds / max(self.elapsed, 1e-9)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def summarise(summary: Summary, progress: Progress, out: Path) -> str:
    """The last lines that a run prints."""
    size = summary.nbytes / MEBIBYTE
    lines = [f"stored    {summary.clips} clips, {summary.seconds / 3600:.2f} h, {size:.0f} MiB in {out}"]
    if summary.decoded:
        lines.append(f"took      {progress.elapsed:.0f} s, {progress.speed:.0f} x real time")
    reasons = Counter(failure.reason for failure in summary.failures)
    for reason, count in reasons.most_common(5):
        names = [failure.clip_id for failure in summary.failures if failure.reason == reason]
        more = ", ..." if count > 3 else ""
        lines.append(f"failed    {count}: {reason} ({', '.join(names[:3])}{more})")
    if len(reasons) > 5:
        lines.append(f"failed    {sum(count for _, count in reasons.most_common()[5:])}: for other reasons")
    if summary.short or summary.salvaged:
        lines.append(f"damaged   {summary.short} cut short, {summary.salvaged} salvaged with parts lost (stored)")
    if summary.failures or summary.short or summary.salvaged:
        lines.append(f"listed in {out / 'failures.csv'}")
    return "\n".join(lines)


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = build_parser()
    arguments = parser.parse_args()
    progress = Progress()
    try:
        from datamodules.writer import write_store  # noqa: PLC0415 - loads every decoder; --help need not wait for them

        if arguments.allow_failures < 0:
            raise ValueError(f"--allow-failures must be at least 0, got {arguments.allow_failures}")
        summary = write_store(
            list_sources(arguments),
            arguments.out,
            sample_rate=arguments.sample_rate,
            channels=arguments.channels,
            shard_format=arguments.format,
            shard_bytes=round(arguments.shard_size * MEBIBYTE),
            workers=arguments.workers,
            clip_timeout=arguments.clip_timeout,
            on_start=progress.start,
            on_clip=progress.step,
        )
    except (ValueError, OSError) as error:
        progress.close()
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        progress.close()
        print("stopped: the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    progress.close()
    print(summarise(summary, progress, arguments.out))
    n_failed = len(summary.failures)
    if n_failed > arguments.allow_failures:
        print(
            f"failed clips: {n_failed}, --allow-failures is {arguments.allow_failures}: mend them and run again, "
            f"or accept them with --allow-failures {n_failed}",
            file=sys.stderr,
        )
        return EXIT_FAILURES
    print(f"next      audiocls fit --config CONFIG.yaml --data.store {shlex.quote(str(arguments.out))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
