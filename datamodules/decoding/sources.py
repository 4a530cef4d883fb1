"""Which files to decode: all audio under a folder, or those that a CSV table lists.

A file is taken by its suffix here and by its content in `decode.py`. Hidden files and folders are passed over
and counted. What cannot be decoded for what it is (a pipe, a link to nothing) is listed: decoding names it as failed.
"""

from __future__ import annotations

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from datamodules.messages import printable

log = logging.getLogger(__name__)

SUFFIXES = (
    *(
        ".mp3",
        ".mp2",
        ".ogg",
        ".oga",
        ".opus",
        ".flac",
        ".wav",
        ".w64",
        ".rf64",
        ".aiff",
        ".aif",
        ".aifc",
        ".au",
        ".caf",
    ),
    *(".m4a", ".m4b", ".aac", ".wma", ".wv", ".tta", ".amr", ".mka"),
    *(".mp4", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".wmv"),  # films: their sound
)


_ODD = ("\\", "//", "./", "/\n")


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
        ValueError: if `source` is missing, holds no audio file or a folder that cannot be searched, or is a table that
            is not UTF-8, has no column `path`, or names a file twice.
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
    found: list[Source] = []
    passed_over: Counter[str] = Counter()
    for path in _walk(folder, passed_over):
        if path.suffix.lower() in SUFFIXES:
            found.append(Source(path.relative_to(folder).as_posix(), path))
        else:
            passed_over[path.suffix.lower() or "no suffix"] += 1
    counts = printable(", ".join(f"{n} {what}" for what, n in passed_over.most_common()))
    if not found:
        looked = f"looked below it for {' '.join(SUFFIXES)}"
        raise ValueError(f"{folder} holds no audio file: {looked}, found {counts or 'no files at all'}")
    if passed_over:
        log.info("%s: %d that are no audio by their name are passed over (%s)", folder, passed_over.total(), counts)
    return sorted(found)


def as_clip_ids(paths: list[str]) -> list[str]:
    """Paths of a table as `clip_id`s: POSIX, relative, without what changes nothing and blanks around it.

    >>> as_clip_ids(["a.wav", "./a//b.wav", r"kick\\c.wav"])
    ['a.wav', 'a/b.wav', 'kick/c.wav']
    """
    paths = [path.strip() for path in paths]
    text = "\n".join(["", *paths, ""])  # looked through at once: a table may have a million paths, all of them plain
    if not any(odd in text for odd in _ODD):
        return paths
    return [PurePosixPath(path.replace("\\", "/")).as_posix() for path in paths]


def _walk(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    """Visible files below a folder; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    unread: list[OSError] = []
    for here, folders, files in os.walk(folder, followlinks=True, onerror=unread.append):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            passed_over["links to folders already searched"] += 1
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        n_hidden = sum(name.startswith(".") for name in (*folders, *files))
        if n_hidden:
            passed_over["hidden"] += n_hidden
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in files if not name.startswith("."))
    if unread:
        named = ", ".join(f"{error.filename} ({error.strerror})" for error in unread[:3])
        more = f" and {len(unread) - 3} more" if len(unread) > 3 else ""
        raise ValueError(
            f"{folder} holds folders that cannot be searched: {named}{more}; make them readable, or list the files in "
            "a CSV table"
        )


def _read_table(table: Path) -> list[Source]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
            columns = reader.fieldnames or []
            listed = [(row.get("path") or "").strip() for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{table} must be a CSV table in UTF-8 ({error}): save it again as one; files whose own names are no UTF-8 "
            f"are decoded by giving their folder"
        ) from None
    if "path" not in columns:
        has = f"it has {', '.join(columns)}" if columns else "it is empty"
        raise ValueError(
            f"{table} must have a column path, {has}: rename the one that holds the files' paths, and separate columns "
            "by commas, or by tabs in a .tsv"
        )
    if not listed:
        raise ValueError(f"{table} lists no file: below its header there must be a row for each")
    if "" in listed:
        raise ValueError(f"{table} has no path in row {listed.index('') + 1}: every row must name a file")
    names = as_clip_ids(listed)
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{table} must list every file once, got {name!r} {count} times")
    return sorted(Source(name, table.parent / name) for name in names)
