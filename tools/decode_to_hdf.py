"""Decode audio files into a PCM store. Stopped or killed, the same command goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# Run as `python tools/decode_to_hdf.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datamodules
import verify_store
from datamodules.decoding.sources import Source, find_sources
from decode_report import Progress, describe, summarise, to_json
from ranks import find_rank

if TYPE_CHECKING:
    from datamodules.storage.writer import Summary

MEBIBYTE = 1 << 20
USAGE = "decode_to_hdf.py SOURCE --out STORE --sample-rate HZ [options]"
EPILOG = """
Run it again to go on, to add files, or to decode what has changed: what is stored is not decoded again.
exit status: 0; 1, more failures than allowed, or --verify found something; 2, wrong arguments; 130, stopped by Ctrl-C

examples:
  python tools/decode_to_hdf.py ~/audio --out stores/audio --sample-rate 16000
  python tools/decode_to_hdf.py clips.csv --out stores/clips --sample-rate 22050 --format npy
  python tools/decode_to_hdf.py --dataset fma --root ~/fma --out stores/fma --sample-rate 22050 --allow-failures 20
  sbatch --array=0-15 --wrap "python tools/decode_to_hdf.py /data/audio --out /data/store --sample-rate 32000"
"""
EXIT_FAILURES, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def build_parser() -> verify_store.Parser:
    parser = verify_store.Parser(
        prog="decode_to_hdf.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("first of all").add_argument
    add("source", nargs="?", type=Path, metavar="SOURCE", help="folder of audio files, or CSV table with a column path")
    add("--out", type=Path, required=True, metavar="STORE", help="folder of the store; a new one, or one to go on with")
    add("--sample-rate", type=int, required=True, metavar="HZ", help="of the stored PCM")
    add("--dry-run", action="store_true", help="say what would be decoded and how large it will be; write nothing")

    add = parser.add_argument_group("a known data set in place of SOURCE").add_argument
    add("--dataset", metavar="NAME", help=f"one of {', '.join(datamodules.__all__)}")
    add("--root", type=Path, metavar="DIR", help="its folder")

    add = parser.add_argument_group("what is stored (the same in every run on a store)").add_argument
    add(
        "--channels",
        type=_channels,
        default=1,
        metavar="N",
        help="default 1, their mean; or native, as most files have",
    )
    add("--dtype", choices=("int16", "int32", "float32", "mulaw"), default="int16", help="of a sample (default int16)")
    add("--max-seconds", type=float, metavar="S", help="keep only the beginning of longer clips")
    add("--format", choices=("hdf5", "npy"), default="hdf5", help="of the shards (default hdf5)")

    add = parser.add_argument_group("the run").add_argument
    cores = len(os.sched_getaffinity(0))
    add("--workers", type=int, default=cores, metavar="N", help="processes (default %(default)s, the cores)")
    add("--allow-failures", type=int, default=0, metavar="N", help="failed clips that still exit 0 (default 0)")
    add("--clip-timeout", type=float, default=300, metavar="S", help="give a clip up after that long (default 300)")
    add("--shard-size", type=float, default=512, metavar="MIB", help="PCM in a shard (default 512)")
    add("--verify", action="store_true", help="when all is decoded, read the whole store and check it")
    add("--summary", metavar="FILE", help="write what was done as JSON; - for the standard output")

    add = parser.add_argument_group("many machines, one store (default: as Slurm or torchrun say)").add_argument
    add("--rank", type=int, metavar="R", help="which one this is, from 0")
    add("--world-size", type=int, metavar="W", help="how many there are")
    return parser


def _channels(text: str) -> int | None:
    if text == "native":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or native, got {text!r}") from None


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


def check(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what argparse lets pass and `write_store` does not know."""
    if arguments.allow_failures < 0:
        raise ValueError(f"--allow-failures must be at least 0, got {arguments.allow_failures}")
    if arguments.dry_run and (arguments.summary or arguments.verify):
        raise ValueError("--dry-run decodes nothing to sum up or verify: leave --summary and --verify out")
    if arguments.summary not in (None, "-") and not Path(arguments.summary).parent.is_dir():
        raise ValueError(f"--summary must lie in a folder that exists, got {arguments.summary}")


def preview(arguments: argparse.Namespace) -> None:
    """The dry run."""
    from datamodules.storage.forecast import forecast  # noqa: PLC0415 - loads every decoder; --help need not wait for them
    from datamodules.storage.worker import Settings  # noqa: PLC0415 - as above

    asked = Settings(
        sample_rate=arguments.sample_rate,
        channels=arguments.channels or 0,
        exact_channels=arguments.channels is None,
        sample_format=arguments.dtype,
        max_seconds=arguments.max_seconds,
        shard_format=arguments.format,
    )
    print(describe(forecast(list_sources(arguments), arguments.out, asked), arguments.out))


def decode(arguments: argparse.Namespace, progress: Progress) -> Summary:
    """Decode what is not in the store yet, under a progress bar."""
    from datamodules.storage.writer import write_store  # noqa: PLC0415 - as above

    own = find_rank(arguments.rank, arguments.world_size, os.environ)
    if own.origin:
        print(f"rank {own.rank} of {own.world_size}, by {own.origin}", file=sys.stderr)
    return write_store(
        list_sources(arguments),
        arguments.out,
        sample_rate=arguments.sample_rate,
        channels=arguments.channels,
        sample_format=arguments.dtype,
        max_seconds=arguments.max_seconds,
        shard_format=arguments.format,
        shard_bytes=round(arguments.shard_size * MEBIBYTE),
        workers=arguments.workers,
        rank=own.rank,
        world_size=own.world_size,
        clip_timeout=arguments.clip_timeout,
        on_start=progress.start,
        on_clip=progress.step,
    )


def finish(arguments: argparse.Namespace, summary: Summary, progress: Progress) -> int:
    """Say what was done, verify where asked, and return the exit status."""
    # JSON on the standard output stands there alone.
    say = partial(print, file=sys.stderr if arguments.summary == "-" else sys.stdout)
    say(summarise(summary, progress, arguments.out))
    text = json.dumps(to_json(summary, progress), indent=1)
    if arguments.summary == "-":
        print(text)
    elif arguments.summary:
        Path(arguments.summary).write_text(text + "\n", encoding="utf-8")
    status, n_failed = 0, len(summary.failures)
    if arguments.verify and not summary.pending:
        findings, seconds = verify_store.check(arguments.out, workers=arguments.workers)
        say(verify_store.report(arguments.out, findings, seconds))
        status = EXIT_FAILURES if findings else 0
    if n_failed > arguments.allow_failures:
        print(
            f"failed clips: {n_failed}, --allow-failures is {arguments.allow_failures}: mend them and run again, "
            f"or accept them with --allow-failures {n_failed}",
            file=sys.stderr,
        )
        return EXIT_FAILURES
    if not status and not summary.pending:
        say(f"next      audiocls fit --config CONFIG.yaml --data.store {shlex.quote(str(arguments.out))}")
    return status


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = build_parser()
    arguments = parser.parse_args()
    progress = Progress()
    try:
        check(arguments)
        if arguments.dry_run:
            preview(arguments)
            return 0
        summary = decode(arguments, progress)
        progress.close()
        return finish(arguments, summary, progress)
    except (ValueError, OSError) as error:
        progress.close()
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        progress.close()
        print("stopped: the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
