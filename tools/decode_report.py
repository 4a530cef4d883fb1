"""What `decode_to_hdf.py` says: the bar while it runs, the lines at its end, the same as JSON, and the dry run's."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from datamodules.messages import printable

if TYPE_CHECKING:
    from datamodules.storage.forecast import Forecast
    from datamodules.storage.writer import Outcome, Summary

MEBIBYTE, GIGABYTE = 1 << 20, 10**9


class Progress:
    """The bar: clips, hours of audio, times real time, failures, time left."""

    def __init__(self) -> None:
        self.began, self.seconds, self.failed = time.monotonic(), 0.0, 0
        self.bar: tqdm | None = None

    def start(self, kept: int, todo: int) -> None:
        if kept:
            print(f"{kept} clips are in the store already, {todo} to decode", file=sys.stderr)
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


@contextmanager
def bytes_bar(what: str, done: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """The bar of a file that is downloaded or unpacked."""
    with tqdm(
        desc=what, initial=done, total=total, unit="B", unit_scale=True, dynamic_ncols=True, mininterval=0.5
    ) as bar:
        yield bar.update


class Notes(NamedTuple):
    """What a data set says of its own clips.

    Args:
        known_bad: ids of clips that the release itself has without audio: they are expected to fail.
        missing: number of listed clips without a file.
        listed: number of clips that the release lists, if it does.
    """

    known_bad: frozenset[str] = frozenset()
    missing: int = 0
    listed: int = 0

    def unexpected(self, failures: list[Outcome]) -> list[Outcome]:
        """The failures that are not the release's own."""
        return [failure for failure in failures if failure.clip_id not in self.known_bad]


def summarise(summary: Summary, progress: Progress, out: Path, notes: Notes) -> str:
    """The last lines that a run prints."""
    size = summary.nbytes / MEBIBYTE
    lines = [f"stored    {summary.clips} clips, {summary.seconds / 3600:.2f} h, {size:.0f} MiB in {out}"]
    if summary.decoded:
        lines.append(f"took      {progress.elapsed:.0f} s, {progress.speed:.0f} x real time")
    unexpected = notes.unexpected(summary.failures)
    lines += _count_failures(unexpected)
    if len(unexpected) < len(summary.failures):
        lines.append(f"known     {len(summary.failures) - len(unexpected)} failed as known of the release")
    lines += _count_missing(notes)
    if summary.short or summary.salvaged:
        lines.append(f"damaged   {summary.short} cut short, {summary.salvaged} salvaged with parts lost (stored)")
    noted = (
        (summary.gone, "gone", "kept whose file is no longer there"),
        (summary.silent, "silent", "of nothing but zeros (stored)"),
        (summary.clipped, "clipped", "beyond full scale in places, and set to it there (stored)"),
        (summary.offset, "offset", "whose mean is more than 0.01 of full scale from 0 (stored)"),
    )
    lines += [f"{name:<9} {count} clips {what}" for count, name, what in noted if count]
    if summary.pending:
        lines.append(f"open      {summary.pending} shards of other ranks: the store is whole when the last has ended")
    elif summary.failures or summary.short or summary.salvaged or summary.gone:
        lines.append(f"listed in {out / 'failures.csv'}")
    return "\n".join(map(printable, lines))


def _count_missing(notes: Notes) -> list[str]:
    told = f"missing   {notes.missing} of {notes.listed} clips that the release lists have no file"
    return [told] if notes.missing else []


def _count_failures(failures: list[Outcome]) -> list[str]:
    reasons = Counter(failure.reason for failure in failures)
    lines = []
    for reason, count in reasons.most_common(5):
        names = [failure.clip_id for failure in failures if failure.reason == reason]
        more = ", ..." if count > 3 else ""
        lines.append(f"failed    {count}: {reason} ({', '.join(names[:3])}{more})")
    if len(reasons) > 5:
        lines.append(f"failed    {sum(count for _, count in reasons.most_common()[5:])}: for other reasons")
    return lines


def to_json(summary: Summary, progress: Progress, notes: Notes) -> dict[str, Any]:
    """The fields of the summary, the failures as their columns, how long it took, and what was expected or allowed."""
    failures = [dict(zip(failure._fields[:5], failure, strict=False)) for failure in summary.failures]
    took = {"took_seconds": round(progress.elapsed, 3), "times_real_time": round(progress.speed, 1)}
    n_known = len(summary.failures) - len(notes.unexpected(summary.failures))
    return summary._asdict() | {"failures": failures, "known_failures": n_known, "missing": notes.missing} | took


def describe(coming: Forecast, out: Path, notes: Notes) -> str:
    """The lines of a dry run."""
    settings = coming.settings
    lines = [f"found     {coming.files} files", *_count_missing(notes)]
    if coming.missing:
        lines.append(f"missing   {coming.missing} of them: each will fail")
    if coming.stored:
        lines.append(f"stored    {coming.stored} of them already, in {out}")
    if coming.growing:
        lines.append(f"growing   {coming.growing} of the others, in unfinished shards that will be gone on with")
    if coming.looked_at:
        looked = f"looked at {coming.looked_at} headers"
        if len(coming.sampled):
            shortest, median, longest = coming.sampled[[0, len(coming.sampled) // 2, -1]]
            looked += f": {shortest:.1f} to {longest:.1f} s, median {median:.1f} s"
        lines.append(looked + (f"; {coming.unreadable} cannot be read" if coming.unreadable else ""))
    channels = "1 channel" if settings.channels == 1 else f"{settings.channels} channels"
    what = f"{settings.sample_format}, {channels}, {settings.sample_rate} Hz"
    hours, size = coming.seconds / 3600, coming.nbytes / GIGABYTE
    lines.append(f"to decode {coming.to_decode} files, about {hours:.2f} h and {size:.3g} GB ({what})")
    return "\n".join(map(printable, [*lines, "dry run   nothing was written"]))
