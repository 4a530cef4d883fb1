"""How a run of the writer ends: with a store that is finished, or with what is left for others to do.

The order matters, since a run may be killed at any line: `failures.csv`, `store.json`, and only then the plan and what
hangs on it, the plan first. A start that finds a plan whose shards are all whole ends it again, to the same bytes.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.decoding.decode import RESAMPLER, versions
from datamodules.decoding.sources import Source
from datamodules.samples import SampleFormat, from_float, to_float
from datamodules.storage.index import Index, find_rows, read_index, to_bytes, to_text
from datamodules.storage.locks import clear_rank_locks
from datamodules.storage.plan import PLAN_FILE, read_plan
from datamodules.storage.seal import FAILURES_FILE, describe_shard, file_checksum, read_sealed, seal
from datamodules.storage.shards import FAILURE_COLUMNS, closed_shards, publish, read_done, shard_number, write_json
from datamodules.storage.worker import Outcome, Settings

BEGUN_FILE = ".begun.json"
_OFFSET = 0.01  # of full scale: a mean beyond it is the recorder's, not the sound's
_REPORTED = ("source", "status", "codec", "note")
_COUNTED = ("length", "peak", "clipped", "dc")


class Summary(NamedTuple):
    """What a run has done and what the store now holds.

    Args:
        clips: in the store.
        seconds: of audio in the store.
        nbytes: of the shards on disk.
        kept: clips that were there before.
        decoded: seconds of audio that this run decoded.
        failures: one for each file that failed, in order of `clip_id`.
        short: clips in the store cut short.
        salvaged: clips in the store with parts lost.
        gone: clips in the store that were not listed and whose file no longer exists.
        silent: clips in the store that hold nothing but silence.
        clipped: clips in the store with values set to full scale.
        offset: clips in the store whose mean is off zero by more than a hundredth of full scale.
        pending: shards that are left for other ranks; the store is not finished while there are any.
    """

    clips: int
    seconds: float
    nbytes: int
    kept: int
    decoded: float
    failures: list[Outcome]
    short: int
    salvaged: int
    gone: int
    silent: int
    clipped: int
    offset: int
    pending: int


def finish(
    folder: Path, state: dict[str, Any], sources: list[Source], *, kept: int, decoded: float, alone: bool
) -> Summary:
    """Write `failures.csv` and `store.json` if every shard is whole; either way, say what there is.

    Args:
        folder: of the store.
        state: as the run has begun with it.
        sources: the files.
        kept: of the summary.
        decoded: of the summary.
        alone: whether there are no other ranks; else another may have finished the store already.
    """
    settings, done = Settings.of(state), read_done(folder)
    shards = closed_shards(folder, settings.shard_format)
    slices = read_plan(folder)
    pending = sum(part.number not in done for part in slices)
    finished = not alone and not slices and (folder / "store.json").exists()
    if finished:
        failures, withdrawn = read_failures(folder), read_sealed(folder / "store.json")["withdrawn"]
    else:
        failures, withdrawn = _find_failures(done, shards, state["withdrawn"])
    index = read_index(shards, _REPORTED + _COUNTED, withdrawn=withdrawn)
    partial = _outcomes(index, np.flatnonzero(index.columns["status"] != b"ok"))
    gone = _find_gone(index, sources)
    samples = int(index.columns["length"].sum())
    if not finished and not pending:
        totals = {"clips": len(index.clip_id), "samples": samples, "failed": len(failures), "withdrawn": withdrawn}
        library = {"decoder": versions(), "resampler": RESAMPLER}
        known = {shard["name"]: shard for shard in state["shards"]}  # as they were written, not as they may be by now
        described: dict[str, Any] = {"shards": [known.get(path.name) or describe_shard(path) for path in shards]}
        _write_failures(folder / FAILURES_FILE, failures + partial + gone)
        described["failures_crc32"] = file_checksum(folder / FAILURES_FILE)
        write_json(folder / "store.json", seal(state | library | totals | described))
        _clear(folder)
    return Summary(
        clips=len(index.clip_id),
        seconds=samples / settings.sample_rate,
        nbytes=sum(path.stat().st_size for path in shards),
        kept=kept,
        decoded=decoded,
        failures=failures,
        short=sum(outcome.outcome == "short" for outcome in partial),
        salvaged=sum(outcome.outcome == "salvaged" for outcome in partial),
        gone=len(gone),
        silent=int((index.columns["peak"] <= _silence(settings.sample_format)).sum()),
        clipped=int((index.columns["clipped"] > 0).sum()),
        offset=int((np.abs(index.columns["dc"]) > _OFFSET).sum()),
        pending=pending,
    )


def _find_failures(
    done: dict[int, list[dict[str, Any]]], shards: list[Path], withdrawn: list[str]
) -> tuple[list[Outcome], list[str]]:
    """What failed and was not mended by a later shard; and the clips of which only old samples are there."""
    last = {failure["clip_id"]: (number, Outcome(**failure)) for number in done for failure in done[number]}
    index = read_index(shards)
    numbers = np.array([shard_number(path) for path in shards] + [-1])
    rows = find_rows(index.clip_id, list(last))
    held = numbers[np.append(index.shard, -1)[rows]].tolist()  # -1 for a clip of which nothing is there
    failed = [(outcome, at) for (number, outcome), at in zip(last.values(), held, strict=True) if at < number]
    old = {outcome.clip_id for outcome, at in failed if at >= 0}
    return sorted(outcome for outcome, _ in failed), sorted(old | set(withdrawn))


def _outcomes(index: Index, rows: np.ndarray) -> list[Outcome]:
    columns = (index.clip_id, *(index.columns[name] for name in _REPORTED))
    texts = (to_text(values[rows]).tolist() for values in columns)
    return list(map(Outcome, *texts))


def _find_gone(index: Index, sources: list[Source]) -> list[Outcome]:
    unlisted = np.flatnonzero(~np.isin(index.clip_id, to_bytes([source.clip_id for source in sources])))
    reason = "its file no longer exists; the store keeps its samples"
    held = _outcomes(index, unlisted)
    return [row._replace(outcome="gone", reason=reason) for row in held if _has_gone(row.source)]


def _has_gone(source: str) -> bool:
    try:
        os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it may be there
    return False


def _silence(sample_format: SampleFormat) -> float:
    """The peak of silence: mu-law has no zero."""
    zero, _ = from_float(np.zeros(1, np.float32), sample_format)
    return float(np.abs(to_float(zero)).max())


def read_failures(folder: Path) -> list[Outcome]:
    """What failed when the store was finished, by its `failures.csv`."""
    with (folder / FAILURES_FILE).open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        return [Outcome(name, at, outcome, codec, why) for name, at, outcome, codec, why in rows if outcome == "failed"]


def _write_failures(path: Path, rows: list[Outcome]) -> None:
    temporary = path.with_name(".failures.tmp")
    with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(FAILURE_COLUMNS)
        writer.writerows(row[: len(FAILURE_COLUMNS)] for row in rows)
    publish(temporary, path)


def clear_growing(folder: Path) -> None:
    """Clear away what growing shards leave; not while there is a plan."""
    for path in folder.glob(".shard-*"):
        path.unlink()


def _clear(folder: Path) -> None:
    (folder / PLAN_FILE).unlink(missing_ok=True)
    clear_growing(folder)
    (folder / BEGUN_FILE).unlink(missing_ok=True)
    for path in folder.glob(".*.tmp"):
        path.unlink()
    clear_rank_locks(folder)
