"""Whether a store is still what was written: every byte of every file is read and held against its checksum.

Threads do it, not processes: reading and summing both let go of the interpreter. Nothing of a shard is parsed before
the bytes to be parsed are known to be whole, see `seal.py`; samples are read rather than mapped, so that a
disk that fails is a finding and not the end of the process.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.messages import printable
from datamodules.storage.index import read_columns, to_text
from datamodules.storage.seal import FAILURES_FILE, checksum, file_checksum, frame_checksum, read_sealed, shard_files
from datamodules.storage.shards import StoreError

_SPAN_BYTES = 64 << 20  # of one thread's task: a large shard occupies them all
_DECODE_AGAIN = "run the same tools/decode_to_hdf.py command again"
_MAKE_READABLE = "make it readable and verify again"
_REMOVE = f"delete it (tools/verify_store.py --remove-damaged does) and {_DECODE_AGAIN}"


class Finding(NamedTuple):
    """One thing that is wrong with a store.

    Args:
        where: name of the file.
        kind: "unfinished", the store has no `store.json`; "unreadable", a file that this process may not read or a
            `store.json` that is not to be trusted; "missing" and "damaged", a shard or `failures.csv`; "foreign", a
            file that is not the store's; "leftover", one of a run that was killed.
        what: what was found.
        remedy: what to do about it, where `what` does not say it.
        n_clips: clips that are lost with it.
        clip_ids: their ids, where the table is still to be trusted; else empty.
    """

    where: str
    kind: Literal["unfinished", "unreadable", "missing", "damaged", "foreign", "leftover"]
    what: str
    remedy: str = ""
    n_clips: int = 0
    clip_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(self.clip_ids[:3]) + (", ..." if len(self.clip_ids) > 3 else "")
        what = f"{self.what} ({names})" if names else self.what
        return printable(f"{self.where}: {what}: {self.remedy}" if self.remedy else f"{self.where}: {what}")


class _Span(NamedTuple):
    """Clips in a row that one thread reads."""

    path: Path
    first_row: int
    begin: int  # byte of the file
    sizes: NDArray[np.int64]  # bytes of each clip
    checksums: NDArray[np.uint32]


def verify(
    folder: Path | str, *, workers: int = 1, on_bytes: Callable[[int, int], None] | None = None
) -> list[Finding]:
    """Read a store to its last byte.

    Args:
        folder: of the store.
        workers: number of threads.
        on_bytes: called with the bytes just checked and those of the whole store.
    Returns:
        What is wrong; empty for a store that is whole. The same for any number of workers.
    Raises:
        StoreError: if the folder is no store.
        ValueError: if `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    folder = Path(folder)
    state = _read_sealed(folder)
    if isinstance(state, Finding):
        return [state]
    shards = state["shards"]
    total = sum(shard["bytes"] for shard in shards)
    on_bytes = on_bytes or (lambda checked, total: None)
    findings = [*_find_strangers(folder, shards), *_check_failures(folder, state)]
    spans: list[_Span] = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            for shard, found in zip(shards, pool.map(partial(_check_frame, folder), shards), strict=True):
                if isinstance(found, Finding):
                    findings.append(found)
                    on_bytes(shard["bytes"], total)
                else:
                    spans += found
                    on_bytes(shard["bytes"] - shard["pcm_bytes"], total)
            bad: dict[Path, list[int]] = {}
            for span, rows in zip(spans, pool.map(_check_span, spans), strict=True):
                bad.setdefault(span.path, []).extend(rows)
                on_bytes(int(span.sizes.sum()), total)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else Ctrl-C would wait for the whole store
            raise
    findings += [_name_clips(path, rows) for path, rows in bad.items() if rows]
    return sorted(findings)


def remove_damaged(folder: Path | str, findings: list[Finding]) -> list[Path]:
    """Delete what was found damaged, so that decoding makes it anew; returns the deleted files."""
    damaged = [Path(folder) / finding.where for finding in findings if finding.kind == "damaged"]
    files = [file for path in damaged for file in shard_files(path) if file.exists()]
    for file in files:
        file.unlink()
    return files


def _read_sealed(folder: Path) -> dict[str, Any] | Finding:
    path = folder / "store.json"
    if not path.exists():
        if (folder / ".begun.json").exists():
            remedy = f"{_DECODE_AGAIN}, it goes on where it stopped"
            return Finding(path.name, "unfinished", "it is not there yet, decoding has not finished", remedy)
        what = "holds no store.json" if folder.is_dir() else "does not exist"
        raise StoreError(f"{folder} {what}: give the folder that tools/decode_to_hdf.py has written as --out")
    try:
        return read_sealed(path)
    except StoreError as error:
        return Finding(path.name, "unreadable", f"nothing else was checked, it {str(error).removeprefix(f'{path} ')}")


def _find_strangers(folder: Path, shards: list[dict[str, Any]]) -> Iterator[Finding]:
    """Files that `store.json` does not account for."""
    own = {file.name for shard in shards for file in shard_files(folder / shard["name"])}
    for name in sorted({path.name for path in folder.iterdir()} - own - {"store.json", FAILURES_FILE}):
        if name.startswith("."):
            remedy = f"{_DECODE_AGAIN}, which clears it away, or delete it"
            yield Finding(name, "leftover", "a run that was killed has left it", remedy)
        else:
            yield Finding(name, "foreign", "store.json does not list it", "move it out of the store")


def _check_failures(folder: Path, state: dict[str, Any]) -> Iterator[Finding]:
    try:
        crc = file_checksum(folder / FAILURES_FILE)
    except FileNotFoundError:
        yield Finding(FAILURES_FILE, "missing", "it is missing", _DECODE_AGAIN)
    except OSError as error:
        yield Finding(FAILURES_FILE, "unreadable", f"it cannot be read ({error.strerror})", _MAKE_READABLE)
    else:
        if state.get("failures_crc32") not in (crc, None):  # None in stores of before it was noted
            yield Finding(FAILURES_FILE, "damaged", "it is not what was written", _DECODE_AGAIN)


def _check_frame(folder: Path, shard: dict[str, Any]) -> list[_Span] | Finding:
    """All of a shard but its samples; those, cut into spans, if that much is whole."""
    path, n_clips = folder / shard["name"], shard["clips"]
    damaged = partial(Finding, path.name, "damaged", remedy=_REMOVE, n_clips=n_clips)
    if not path.exists():
        return Finding(path.name, "missing", f"it is missing with its {n_clips} clips", _DECODE_AGAIN, n_clips)
    size = path.stat().st_size
    if size != shard["bytes"]:
        return damaged(f"it has {size} bytes in place of {shard['bytes']}")
    try:
        crc = frame_checksum(path, offset=shard["offset"], pcm_bytes=shard["pcm_bytes"])
    except FileNotFoundError as error:
        return damaged(f"its table {Path(error.filename).name} is missing")
    except OSError as error:
        if error.errno == errno.EIO:
            return damaged("the disk fails to read it")
        what = f"it cannot be read ({error.strerror})"
        return Finding(path.name, "unreadable", what, _MAKE_READABLE, n_clips)
    if crc != shard["crc32"]:
        return damaged(f"its header or the table of its {n_clips} clips is not what was written")
    return list(_cut(path, shard))


def _cut(path: Path, shard: dict[str, Any]) -> Iterator[_Span]:
    """Spans of whole clips, which stand end to end, of `_SPAN_BYTES` and the rest of their last clip each."""
    table = read_columns(path, ("length", "crc32"))
    sizes = table["length"] * (shard["pcm_bytes"] // max(1, shard["samples"]))
    ends = np.cumsum(sizes)
    cuts = np.flatnonzero(np.diff((ends - sizes) // _SPAN_BYTES, prepend=-1))
    for first, last in zip(cuts, [*cuts[1:], len(sizes)], strict=True):
        begin = shard["offset"] + int(ends[first] - sizes[first])
        yield _Span(path, int(first), begin, sizes[first:last], table["crc32"][first:last])


def _check_span(span: _Span) -> list[int]:
    """Rows of the clips whose samples are not what was written, or that the disk fails to read."""
    bad, begin = [], span.begin
    with span.path.open("rb") as file:
        for row, (size, expected) in enumerate(zip(span.sizes.tolist(), span.checksums.tolist(), strict=True)):
            file.seek(begin)
            try:
                is_whole = checksum(file, size) == expected
            except OSError:
                is_whole = False
            if not is_whole:
                bad.append(span.first_row + row)
            begin += size
    return bad


def _name_clips(path: Path, rows: list[int]) -> Finding:
    ids = to_text(read_columns(path, ("clip_id",))["clip_id"])
    what = f"{len(rows)} of {len(ids)} clips are not what was written"
    return Finding(path.name, "damaged", what, _REMOVE, len(rows), tuple(ids[rows].tolist()))
