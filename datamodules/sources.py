"""Which files to decode: all audio under a folder, or those that a CSV table lists.

A file is taken by its suffix here and by its content in `datamodules.decode`. Hidden files and folders are passed over.
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".mp3", ".ogg", ".oga", ".opus", ".flac", ".wav", ".aiff", ".aif", ".au"),
    *(".m4a", ".aac", ".mp4", ".wma", ".webm"),
)


class Source(NamedTuple):
    """One file to decode.

    Args:
        clip_id: POSIX path relative to the folder that was searched, suffix included: "kick/kit03_07.mp3".
        path: where it is.
    """

    clip_id: str
    path: Path


def find_sources(source: Path) -> list[Source]:
    """The files to decode, sorted by `clip_id`.

    Args:
        source: a folder, searched with all below it, or a CSV table with a column `path` relative to the table's own
            folder. A file that the table lists and that does not exist stays in the list: decoding names it as failed.
    Raises:
        ValueError: if `source` is missing, holds no audio file, has no column `path`, or names a file twice.
    """
    source = Path(source)
    if source.is_dir():
        return _search(source)
    if not source.exists():
        raise ValueError(f"source must be a folder of audio files or a CSV table, but {source} does not exist")
    if source.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"source must be a folder of audio files or a table named .csv or .tsv, got the file {source}")
    return _read_table(source)


def _search(folder: Path) -> list[Source]:
    found, ignored = [], Counter()
    for path in _walk(folder):
        if path.suffix.lower() in SUFFIXES:
            found.append(Source(path.relative_to(folder).as_posix(), path))
        else:
            ignored[path.suffix.lower() or "no suffix"] += 1
    if not found:
        held = ", ".join(f"{n} {suffix}" for suffix, n in ignored.most_common(5)) or "no files at all"
        raise ValueError(f"{folder} holds no audio file: looked below it for {' '.join(SUFFIXES)}, found {held}")
    if ignored:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in ignored.most_common())
        log.info(
            "%s: %d files that are not audio by their suffix are passed over (%s)", folder, ignored.total(), counts
        )
    return sorted(found)


def _walk(folder: Path) -> Iterator[Path]:
    """Visible files below a folder; links to folders are followed, each folder once."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in files if not name.startswith("."))


def _read_table(table: Path) -> list[Source]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
        columns = reader.fieldnames or []
        if "path" not in columns:
            has = f"it has {', '.join(columns)}" if columns else "it is empty"
            raise ValueError(f"{table} must have a column path, {has}: rename the one that holds the files' paths")
        listed = [(row["path"] or "").strip() for row in reader]
    if not listed:
        raise ValueError(f"{table} lists no file: below its header there must be a row for each")
    if "" in listed:
        raise ValueError(f"{table} has no path in row {listed.index('') + 1}: every row must name a file")
    names = [PurePosixPath(text.replace("\\", "/")).as_posix() for text in listed]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{table} must list every file once, got {name!r} {count} times")
    return sorted(Source(name, table.parent / name) for name in names)
