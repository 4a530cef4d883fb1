"""Look for what spoils a data set: lost and silent clips, copies, near copies, splits that leak, labels that clash."""

from __future__ import annotations

import argparse
import inspect
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Run as `python tools/audit_dataset.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

import datamodules
import decode_to_hdf
import verify_store
from datamodules.messages import one_of, printable

if TYPE_CHECKING:
    from datamodules.auditing.audit import Audit, Labels, Settings
    from datamodules.base import AudioDataModule
    from datamodules.storage.store import Store

USAGE = "audit_dataset.py [STORE] [--table CSV | --dataset NAME [--root DIR]] [options]"
EPILOG = """
A store alone is searched for bad clips and copies; a table alone for groups and labels on the wrong sides; both
together for all of it. A table has columns path, label, and perhaps split, fold and group.
exit status: 0, no leak; 1, splits leak or copies have other labels (--strict: anything at all to look at);
2, wrong arguments; 130, stopped by Ctrl-C

examples:
  python tools/audit_dataset.py stores/mine --dataset AudioFolder
  python tools/audit_dataset.py stores/mine --table clips.csv --out audits/mine
  python tools/audit_dataset.py stores/us8k --dataset urbansound8k --root ~/UrbanSound8K --set fold=3
  python tools/audit_dataset.py --dataset fma --root ~/fma --set subset=medium
"""
EXIT_FINDINGS, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def build_parser() -> verify_store.Parser:
    parser = verify_store.Parser(
        prog="audit_dataset.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, cores = parser.add_argument, len(os.sched_getaffinity(0))
    add("store", nargs="?", type=Path, metavar="STORE", help="folder that tools/decode_to_hdf.py has written")
    add("--table", type=Path, metavar="CSV", help="the clips, by the paths under which they were decoded")
    add("--dataset", metavar="NAME", help=f"in place of --table: one of {', '.join(datamodules.__all__)}")
    add("--root", type=Path, metavar="DIR", help="folder (or table) of the data set")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the data set, such as fold=3")
    add("--out", type=Path, metavar="DIR", help="write audit.json, audit.csv and audit.png there")
    add("--near", type=float, default=0.97, metavar="S", help="similarity of near copies, to 1 (default %(default)s)")
    add("--exact-only", action="store_true", help="look for no near copies: reads hardly any samples")
    add(
        "--silent-db", type=float, default=-60, metavar="DB", help="RMS below which a clip is silent (default -60 dBFS)"
    )
    add("--min-seconds", type=float, default=0, metavar="S", help="below which a clip is too short (default: none is)")
    add("--strict", action="store_true", help="exit with 1 for anything to look at")
    add("--workers", type=int, default=cores, metavar="N", help="threads (default %(default)s, the cores)")
    return parser


def check(arguments: argparse.Namespace) -> Settings:
    """Raise ValueError for arguments that do not go together."""
    from datamodules.auditing.audit import Settings  # noqa: PLC0415 - loads pandas; --help need not wait for it

    if arguments.table and arguments.dataset:
        raise ValueError(f"give --table or --dataset, not both: got {arguments.table} and {arguments.dataset}")
    if not (arguments.store or arguments.table or arguments.dataset):
        raise ValueError("give a STORE, --table CSV, or --dataset NAME --root DIR")
    if arguments.dataset is None and (arguments.root or arguments.set):
        option = "--root" if arguments.root else "--set"
        raise ValueError(f"{option} goes with --dataset: give --dataset NAME as well, or leave {option} out")
    return Settings(
        near=None if arguments.exact_only else arguments.near,
        silent_db=arguments.silent_db,
        min_seconds=arguments.min_seconds,
        workers=arguments.workers,
    )


def read_labels(arguments: argparse.Namespace) -> Labels | None:
    """The table, or the data set's own."""
    from datamodules.auditing.audit import Labels  # noqa: PLC0415 - as above
    from datamodules.auditing.tables import read_clips  # noqa: PLC0415 - as above

    if arguments.table:
        table, task = read_clips(arguments.table)
        return Labels(table, task)
    if arguments.dataset is None:
        return None
    kind = decode_to_hdf.named_set(arguments.dataset)
    settings = _settings(kind, arguments.set)
    if arguments.root is None:
        needs_root = inspect.signature(kind.__init__).parameters["root"].default is inspect.Parameter.empty
        if needs_root or arguments.store is None:
            more = "" if needs_root else ", or a STORE to take its clips"
            raise ValueError(f"--dataset {arguments.dataset} needs its folder: add --root DIR{more}")
    root = None if arguments.root is None else str(arguments.root)
    data = kind(str(arguments.store or ""), root, **{"clip_seconds": 1.0, **settings})
    return Labels(data.read_table(), data.task, data.known_bad, data.known_shared)


def _settings(kind: type[AudioDataModule], texts: list[str]) -> dict[str, Any]:
    """What `fold=3` and the like set, read as a configuration is."""
    from jsonargparse import ArgumentError, ArgumentParser  # noqa: PLC0415 - as above

    from audiocls.terminal import shortened  # noqa: PLC0415 - as above

    parser = ArgumentParser(exit_on_error=False)
    takes = parser.add_class_arguments(kind, skip={"store", "root"})
    for text in texts:
        name, sign, _ = text.partition("=")
        if not (name and sign):
            raise ValueError(f"--set takes KEY=VALUE, got {text!r}")
        one_of(f"--set KEY of {kind.__name__}", name, takes)
    try:
        return parser.parse_args([f"--{text}" for text in texts], defaults=False).as_dict()
    except ArgumentError as error:
        raise ValueError(f"--set {shortened(str(error)).removeprefix('--')}") from None


def search(store: Store | None, labels: Labels | None, settings: Settings) -> Audit:
    """Audit under a progress bar."""
    from datamodules.auditing.audit import audit  # noqa: PLC0415 - as above

    with tqdm(unit="clip", dynamic_ncols=True, mininterval=0.5, leave=False, delay=0.5) as bar:

        def step(what: str, done: int, total: int) -> None:
            if bar.desc != f"{what}: ":
                bar.unit = "clip" if what == "fingerprints" else "pair"
                bar.reset(total)
                bar.set_description(what)
            bar.update(done - bar.n)

        return audit(store, labels, settings, on_step=step)


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        settings = check(arguments)
        labels = read_labels(arguments)
        found = search(_open(arguments.store), labels, settings)
        return finish(arguments, found, settings)
    except (ValueError, OSError) as error:
        parser.exit(EXIT_USAGE, printable(f"{parser.prog}: {error}") + "\n")
    except KeyboardInterrupt:
        print("stopped: nothing was written", file=sys.stderr)
        return EXIT_INTERRUPTED


def _open(path: Path | None) -> Store | None:
    from datamodules.storage.store import Store  # noqa: PLC0415 - as above

    return None if path is None else Store(path)


def finish(arguments: argparse.Namespace, found: Audit, settings: Settings) -> int:
    """Say and write what was found, and return the exit status."""
    from datamodules.auditing import report  # noqa: PLC0415 - as above

    print(report.to_text(found, width=max(shutil.get_terminal_size((140, 24)).columns, 100)))
    if arguments.out:
        from audiocls.report.style import save  # noqa: PLC0415 - as above
        from audit_chart import audit_chart  # noqa: PLC0415 - loads matplotlib

        asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        report.write(found, arguments.out, asked)
        title = " with ".join(
            Path(part).name for part in (arguments.store, arguments.dataset or arguments.table) if part
        )
        save(audit_chart(found, title=title, silent_db=settings.silent_db), arguments.out / "audit.png")
        print(printable(f"written   {arguments.out}/audit.json, audit.csv, audit.png"))
    if found.n_listed is None and (hint := _folders_hint(found)):
        print(hint)
    return EXIT_FINDINGS if found.has("leak") or (arguments.strict and found.has("fault")) else 0


def _folders_hint(found: Audit) -> str:
    """How a store alone is audited with labels, where its folders may be classes; they may be folds or numbers, too."""
    assert found.clips is not None
    folders = {clip_id.rpartition("/")[0].partition("/")[0] for clip_id in found.clips["clip_id"]}
    if "" in folders or len(folders) < 2:
        return ""
    return f"next      the clips lie in {len(folders)} folders: if those are classes, add --dataset AudioFolder"


if __name__ == "__main__":
    sys.exit(main())
