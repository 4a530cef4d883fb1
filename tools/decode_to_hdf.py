"""Decode audio files into a PCM store. Stopped or killed, the same command goes on where it stopped."""

from __future__ import annotations

import argparse
import json
import logging
import math
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
from datamodules.messages import one_of, printable
from decode_report import Notes, Progress, bytes_bar, describe, summarise, to_json
from ranks import find_rank

if TYPE_CHECKING:
    from datamodules.base import AudioDataModule
    from datamodules.storage.writer import Summary

CONF = Path(__file__).resolve().parents[1] / "conf"
MEBIBYTE = 1 << 20
# Those of `datamodules.samples` and `datamodules.storage.shards`, which --help need not wait for: they load numpy.
DTYPES, FORMATS = ("int16", "int32", "float32", "mulaw"), ("hdf5", "npy")
USAGE = "decode_to_hdf.py SOURCE --out STORE --sample-rate HZ [options]"
EPILOG = """
Run it again to go on, to add files, or to decode what has changed: what is stored is not decoded again.
exit status: 0; 1, more failures than allowed, or --verify found something; 2, wrong arguments, files that are missing
or cannot be downloaded; 130, stopped by Ctrl-C

examples:
  python tools/decode_to_hdf.py ~/audio --out stores/audio --sample-rate 16000
  python tools/decode_to_hdf.py clips.csv --out stores/clips --sample-rate 22050 --format npy
  python tools/decode_to_hdf.py --dataset fma --root ~/fma --out stores/fma --sample-rate 22050 --allow-failures 20
  python tools/decode_to_hdf.py --dataset speech_commands --root ~/sc --download --out stores/sc --sample-rate 16000
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
    add("--sample-rate", type=_hertz, required=True, metavar="HZ", help="of the stored PCM")
    add("--dry-run", action="store_true", help="say what would be decoded and how large it will be; write nothing")

    add = parser.add_argument_group("a known data set in place of SOURCE").add_argument
    add("--dataset", metavar="NAME", help=f"one of {', '.join(datamodules.__all__)}")
    add("--root", type=Path, metavar="DIR", help="its folder")
    add(
        "--download",
        nargs="?",
        const="",
        metavar="VERSION",
        help="first bring what is not there to DIR: its usual release, or the one named (with --dry-run: say its size)",
    )
    add("--mirror", metavar="PLACE", help="folder or address that holds its archives, in place of the publisher's")
    add("--allow-missing", type=int, default=0, metavar="N", help="listed clips that may have no file (default 0)")

    add = parser.add_argument_group("what is stored (the same in every run on a store)").add_argument
    add(
        "--channels",
        type=_channels,
        default=1,
        metavar="N",
        help="default 1, their mean; or native, as most files have",
    )
    add("--dtype", default="int16", metavar=_listed(DTYPES), help="of a sample (default int16)")
    add("--max-seconds", type=float, metavar="S", help="keep only the beginning of longer clips")
    add("--format", default="hdf5", metavar=_listed(FORMATS), help="of the shards (default hdf5)")

    add = parser.add_argument_group("the run").add_argument
    cores = len(os.sched_getaffinity(0))
    add("--workers", type=int, default=cores, metavar="N", help="processes (default %(default)s, the cores)")
    add(
        "--allow-failures",
        type=int,
        default=0,
        metavar="N",
        help="failed clips that still exit 0, beside known ones (default 0)",
    )
    add("--clip-timeout", type=float, default=300, metavar="S", help="give a clip up after that long (default 300)")
    add("--shard-size", type=float, default=512, metavar="MIB", help="PCM in a shard (default 512)")
    add("--verify", action="store_true", help="when all is decoded, read the whole store and check it")
    add("--summary", metavar="FILE", help="write what was done as JSON; - for the standard output")

    add = parser.add_argument_group("many machines, one store (default: as Slurm or torchrun say)").add_argument
    add("--rank", type=int, metavar="R", help="which one this is, from 0")
    add("--world-size", type=int, metavar="W", help="how many there are")
    return parser


def _listed(names: tuple[str, ...]) -> str:
    return f"{{{','.join(names)}}}"


def _hertz(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number of Hz, such as 16000, got {text!r}") from None


def _channels(text: str) -> int | None:
    if text == "native":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number or native, got {text!r}") from None


def list_sources(arguments: argparse.Namespace) -> list[Source]:
    """The files to decode. Raises ValueError with what to type where the arguments do not name any."""
    if arguments.dataset is None:
        if arguments.source is None:
            raise ValueError("give a SOURCE, or --dataset NAME --root DIR")
        if arguments.root is not None:
            raise ValueError("--root goes with --dataset: give --dataset NAME as well, or leave --root out")
        return find_sources(arguments.source)
    return find_set(arguments).sources(arguments.root)


def find_set(arguments: argparse.Namespace) -> type[AudioDataModule]:
    """The data set that is named. Raises ValueError with what to type where there is none, or no folder of it."""
    if arguments.source is not None:
        raise ValueError(f"give SOURCE or --dataset, not both: got {arguments.source} and {arguments.dataset}")
    kind = named_set(arguments.dataset)
    if arguments.root is None:
        raise ValueError(f"--dataset {arguments.dataset} needs its folder: add --root DIR")
    return kind


def named_set(name: str) -> type[AudioDataModule]:
    """The data set of a name, however its words are joined. Raises ValueError with the nearest name where none is."""
    names = {_plain(one): one for one in datamodules.__all__}
    if _plain(name) not in names:
        one_of("--dataset", name, names.values())
    return getattr(datamodules, names[_plain(name)])


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def check(arguments: argparse.Namespace) -> None:
    """Raise ValueError for what argparse lets pass and `write_store` does not know."""
    one_of("--dtype", arguments.dtype, DTYPES)
    one_of("--format", arguments.format, FORMATS)
    for option, value in (
        ("--allow-failures", arguments.allow_failures),
        ("--allow-missing", arguments.allow_missing),
    ):
        if value < 0:
            raise ValueError(f"{option} must be at least 0, got {value}")
    if not 0 < arguments.shard_size < math.inf:
        raise ValueError(f"--shard-size must be above 0 MiB and finite, got {arguments.shard_size:g}")
    if arguments.dataset is None and (arguments.download is not None or arguments.allow_missing):
        option = "--allow-missing" if arguments.download is None else "--download"
        raise ValueError(f"{option} goes with --dataset: give --dataset NAME --root DIR as well, or leave it out")
    if arguments.mirror is not None and arguments.download is None:
        raise ValueError("--mirror goes with --download: add --download, or leave --mirror out")
    if arguments.dry_run and (arguments.summary or arguments.verify):
        raise ValueError("--dry-run decodes nothing to sum up or verify: leave --summary and --verify out")
    if arguments.summary not in (None, "-") and not Path(arguments.summary).parent.is_dir():
        raise ValueError(f"--summary must lie in a folder that exists, got {arguments.summary}")
    if not arguments.dry_run:
        find_rank(arguments.rank, arguments.world_size, os.environ)  # before hours of downloading, not after


def download(arguments: argparse.Namespace) -> None:
    """Bring a release to the data set's folder; in a dry run, say what it is."""
    from datamodules.fetching import fetch as fetching  # noqa: PLC0415 - loads an HTTP client; few runs need it

    kind = find_set(arguments)
    if not kind.releases:
        raise ValueError(f"--download: {kind.__name__} names nothing to download: leave it out")
    version = arguments.download or next(iter(kind.releases))
    one_of("--download", version, kind.releases)
    if arguments.dry_run:
        print(
            "\n".join([*fetching.describe(kind.releases[version], arguments.root), "dry run   nothing was downloaded"])
        )
    else:
        fetching.fetch(kind.releases[version], arguments.root, mirror=arguments.mirror, progress=bytes_bar)


def note(arguments: argparse.Namespace, sources: list[Source]) -> Notes:
    """What the data set says of its clips. Raises ValueError if more of them have no file than is allowed."""
    if arguments.dataset is None:
        return Notes()
    kind = find_set(arguments)
    listed = kind.listed(arguments.root)
    if listed is None:
        return Notes(known_bad=frozenset(kind.known_bad))
    here = {source.clip_id for source in sources}
    n_listed, missing = len(set(listed)), sorted(set(listed) - here)
    if len(missing) > arguments.allow_missing:
        raise ValueError(
            f"{len(missing)} of {n_listed} clips that {kind.__name__} lists are not under {arguments.root}, such as "
            f"{', '.join(map(repr, missing[:3]))}: unpack the archive again, or accept it with --allow-missing "
            f"{len(missing)}"
        )
    return Notes(known_bad=frozenset(kind.known_bad), missing=len(missing), listed=n_listed)


def preview(arguments: argparse.Namespace, sources: list[Source], notes: Notes) -> None:
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
    print(describe(forecast(sources, arguments.out, asked), arguments.out, notes))


def decode(arguments: argparse.Namespace, sources: list[Source], progress: Progress) -> Summary:
    """Decode what is not in the store yet, under a progress bar."""
    from datamodules.storage.writer import write_store  # noqa: PLC0415 - as above

    own = find_rank(arguments.rank, arguments.world_size, os.environ)
    if own.origin:
        print(f"rank {own.rank} of {own.world_size}, by {own.origin}", file=sys.stderr)
    return write_store(
        sources,
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


def finish(arguments: argparse.Namespace, summary: Summary, progress: Progress, notes: Notes) -> int:
    """Say what was done, verify where asked, and return the exit status."""
    # JSON on the standard output stands there alone.
    say = partial(print, file=sys.stderr if arguments.summary == "-" else sys.stdout)
    say(summarise(summary, progress, arguments.out, notes))
    text = json.dumps(to_json(summary, progress, notes), indent=1)
    if arguments.summary == "-":
        print(text)
    elif arguments.summary:
        Path(arguments.summary).write_text(text + "\n", encoding="utf-8")
    status, n_failed = 0, len(notes.unexpected(summary.failures))
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
        say(printable(f"next      {shlex.join(training(arguments))}"))
    return status


def training(arguments: argparse.Namespace) -> list[str]:
    """The command that trains on the store; CONFIG.yaml stands where none of the configurations here is for it."""
    given, root = arguments.dataset or "", ["--data.root", str(arguments.root)] if arguments.dataset else []
    if not given and arguments.source.is_dir() and any(path.is_dir() for path in arguments.source.iterdir()):
        given = "audio_folder"
    known = [path.name for path in CONF.glob("*.yaml") if _plain(given).endswith(_plain(path.stem))]
    config = f"conf/{known[0]}" if known else "CONFIG.yaml"
    run_dir = ["--run_dir", f"runs/{arguments.out.absolute().name}"]
    return ["audiocls", "fit", "--config", config, "--data.store", str(arguments.out), *root, *run_dir]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = build_parser()
    arguments = parser.parse_args()
    progress = Progress()
    try:
        check(arguments)
        if arguments.download is not None:
            download(arguments)
            if arguments.dry_run:
                return 0
        sources = list_sources(arguments)
        notes = note(arguments, sources)
        if arguments.dry_run:
            preview(arguments, sources, notes)
            return 0
        summary = decode(arguments, sources, progress)
        progress.close()
        return finish(arguments, summary, progress, notes)
    except (ValueError, OSError) as error:
        progress.close()
        parser.exit(EXIT_USAGE, printable(f"{parser.prog}: {error}") + "\n")
    except KeyboardInterrupt:
        progress.close()
        print("stopped: the same command goes on where it stopped", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
