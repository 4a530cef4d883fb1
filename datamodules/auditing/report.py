"""An audit to read: a table for the terminal, every finding as CSV, all of it as JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.auditing.audit import Audit
from datamodules.auditing.findings import CHECKS, COLUMNS
from datamodules.messages import printable

_VERDICTS = {"leak": "LEAKS", "fault": "look", "note": "noted"}
_EXAMPLES = 2
_BINS = 50


def to_text(audit: Audit, *, width: int = 120) -> str:
    """One line a check, with the first of what it found; what was not asked is named at the end.

    Args:
        audit: what was found.
        width: columns of the terminal; longer lines are cut.
    """
    lines = [*_describe_clips(audit), ""]
    shown = [kind for kind in CHECKS if kind in audit.asked or audit.of(kind)]
    room = max(len(CHECKS[kind].title) for kind in shown)
    for kind in shown:
        found, check = audit.of(kind), CHECKS[kind]
        verdict = _VERDICTS[check.level] if found else "ok"
        examples = "; ".join(str(finding) for finding in found[:_EXAMPLES]) + (
            ", ..." if len(found) > _EXAMPLES else ""
        )
        lines.append(f"{check.title:<{room}}  {len(found):>7,}  {verdict:<5}  {examples}".rstrip())
    skipped = [CHECKS[kind].title for kind in CHECKS if kind not in shown]
    if skipped:
        lines += ["", f"not asked, for want of what it takes: {'; '.join(skipped)}"]
    return "\n".join(_cut(printable(line), width) for line in [*lines, "", conclude(audit)])


def conclude(audit: Audit) -> str:
    """The audit in one line."""
    n = {level: sum(CHECKS[finding.kind].level == level for finding in audit.findings) for level in _VERDICTS}
    if n["leak"]:
        return f"leaks     {n['leak']:,} by which scores are untrue, {n['fault']:,} more to look at"
    return f"no leak   {n['fault']:,} to look at" if n["fault"] else "clean     nothing to look at"


def to_json(audit: Audit, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything, in types of JSON.

    Args:
        audit: what was found.
        settings: what was asked of it, to stand beside it.
    """
    counts = audit.counts
    return {
        "settings": settings,
        "conclusion": conclude(audit),
        "clips_listed": audit.n_listed,
        "clips_stored": None if audit.clips is None else len(audit.clips),
        "checks": [
            {"kind": kind, "title": check.title, "level": check.level, "asked": kind in audit.asked,
             "found": len(audit.of(kind))}
            for kind, check in CHECKS.items()
        ],
        "labels": None if counts is None else counts.rename(index=str, columns=str).to_dict("index"),
        "seconds": None if audit.clips is None else _summarise(audit.clips["seconds"].to_numpy()),
        "rms_db": None if audit.clips is None else _summarise(audit.clips["rms_db"].to_numpy()),
        "peak_db": None if audit.clips is None else _summarise(audit.clips["peak_db"].to_numpy()),
        "findings": [asdict(finding) for finding in audit.findings],
    }  # fmt: skip


def write(audit: Audit, folder: Path, settings: dict[str, Any]) -> None:
    """`audit.json` and `audit.csv` in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(to_json(audit, settings), indent=1)
    (folder / "audit.json").write_text(text + "\n", encoding="utf-8")
    with (folder / "audit.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(finding) for finding in audit.findings)


def _describe_clips(audit: Audit) -> list[str]:
    lines = []
    if audit.n_listed is not None:
        lines.append(f"table     {audit.n_listed:,} clips")
    if audit.clips is not None:
        seconds = audit.clips["seconds"]
        low, middle = np.percentile(seconds, [1, 50])
        ends = (audit.clips["clip_id"].iloc[int(at)] for at in (seconds.argmin(), seconds.argmax()))
        of_them = " of them" if audit.n_listed is not None else ""
        lines += [
            f"store     {len(seconds):,} clips{of_them}, {seconds.sum() / 3600:.2f} h",
            f"lengths   {seconds.min():.3f} s to {seconds.max():.3f} s, median {middle:.3f}, 1st percentile {low:.3f} "
            f"({', '.join(ends)})",
        ]
    if audit.counts is not None:
        totals = ", ".join(
            f"{n:,} {side if audit.by_split or side == 'all' else f'in fold {side}'}"
            for side, n in audit.counts.sum().items()
        )
        lines.append(f"labels    {len(audit.counts)}: {totals}")
    return lines


def _summarise(values: np.ndarray) -> dict[str, Any]:
    heights, edges = np.histogram(values, bins=_BINS)
    low, middle, high = np.percentile(values, [1, 50, 99])
    return {
        "min": float(values.min()), "percentile_1": float(low), "median": float(middle), "percentile_99": float(high),
        "max": float(values.max()), "histogram": {"edges": edges.tolist(), "counts": heights.tolist()},
    }  # fmt: skip


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 3]}..."
