"""What the table alone can tell: groups and labels on the wrong sides, clips listed twice; no audio is needed."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import pandas as pd

from datamodules.auditing.findings import Finding
from datamodules.decoding.sources import as_clip_ids
from datamodules.splits import SPLITS, Task, shared_groups
from datamodules.tables import read_clips_csv

_ABSENT_NAMED = 3


def read_clips(path: Path) -> tuple[pd.DataFrame, Task]:
    """A CSV of clips as it is written: columns `path`, `label`, and those of `split`, `fold` and `group` it has.

    Unlike `AudioTable` nothing is drawn or refused: what would be is what the audit is to find. Labels separated by
    `|` in any row make the task multilabel.

    Raises:
        ValueError: if it is no such table.
    """
    if not path.is_file():
        raise ValueError(f"--table must be a CSV table, but {path} does not exist")
    written = read_clips_csv(path)
    if written.empty:
        raise ValueError(f"{path} lists no clip: below its header there must be a row for each")
    table = pd.DataFrame({"clip_id": as_clip_ids(written["path"].tolist())})
    several = written["label"].str.contains("|", regex=False).any()
    names = [tuple(name.strip() for name in labels.split("|") if name.strip()) for labels in written["label"]]
    table["label"] = pd.Series(names, dtype=object) if several else written["label"]
    for column in ("split", "fold", "group"):
        if column in written:
            table[column] = written[column].where(written[column] != "")  # an empty field says that none is known
    return table, "multilabel" if several else "multiclass"


def side_columns(table: pd.DataFrame) -> list[str]:
    """Which of `split` and `fold` the table has."""
    return [column for column in ("split", "fold") if column in table]


def check_rows(table: pd.DataFrame, *, task: Task) -> Iterator[Finding]:
    """Rows that say too little or too much."""
    twice = table[table["clip_id"].duplicated(keep=False)]
    for clip, rows in twice.groupby("clip_id"):
        sides = {describe_side(row) for row in rows.to_dict("records")}
        labels = {describe_label(label) for label in rows["label"]}
        yield Finding(
            "listed_twice", str(clip), sides=_joined(sides), labels=_joined(labels), detail=f"{len(rows)} rows"
        )
        if len(sides) > 1:
            yield Finding("exact_across", str(clip), str(clip), 1.0, 0.0, _joined(sides), _joined(labels))
        if len(labels) > 1:
            yield Finding("exact_conflict", str(clip), str(clip), 1.0, 0.0, _joined(sides), _joined(labels))
    if task != "regression":
        for clip in table["clip_id"][[not describe_label(label) for label in table["label"]]]:
            yield Finding("unlabelled", clip)
    if "split" in table:
        unknown = table[~table["split"].isin(SPLITS)]
        for clip, split in zip(unknown["clip_id"], unknown["split"], strict=True):
            yield Finding("unknown_split", clip, sides=str(split), detail=f"split {split!r}")


def check_groups(table: pd.DataFrame, *, known_shared: Set[str]) -> Iterator[Finding]:
    """Groups in two splits, and in two folds: whichever fold is the test, such a group can be on either side."""
    named: set[str] = set()  # as published; those in two folds are in two splits, too
    for column, kind in (("fold", "group_in_two_folds"), ("split", "group_in_two_splits")):
        if column not in table or "group" not in table:
            continue
        shared = table[table["group"].isin(shared_groups(table.assign(split=table[column])))]
        for group, rows in shared.groupby("group"):
            counts = rows[column].value_counts()
            sides = [f"{column} {side}: {counts[side]}" for side in _ordered(counts.index)]
            labels = _joined({describe_label(label) for label in rows["label"]})
            known = group in known_shared
            if not (known and str(group) in named):
                yield Finding(
                    "known_shared" if known else kind, str(group), sides=" | ".join(sides), labels=labels,
                    detail=", ".join(sides),
                )  # fmt: skip
            named |= {str(group)} if known else set()


def count_labels(table: pd.DataFrame, *, task: Task) -> pd.DataFrame | None:
    """Clips of each label (rows) on each side (columns): splits, folds where there are none, else "all"."""
    if task == "regression":
        return None
    column = next(iter(side_columns(table)), None)
    pairs = pd.DataFrame({"label": table["label"], "side": table[column] if column else "all"}).explode("label")
    pairs = pairs[pairs["label"] != ""].dropna()
    counts = pd.crosstab(pairs["label"], pairs["side"])
    return counts[_ordered(counts.columns)]


def check_labels(counts: pd.DataFrame, *, by_split: bool) -> Iterator[Finding]:
    """Labels that a side lacks."""
    sides = [str(side) if by_split else f"fold {side}" for side in counts]
    for label, row in zip(counts.index, counts.to_numpy(), strict=True):
        lacking = [side for side, n in zip(sides, row, strict=True) if n == 0]
        if by_split and "train" in lacking:
            there = ", ".join(f"{side}: {n}" for side, n in zip(sides, row, strict=True) if n)
            yield Finding("unseen_label", str(label), sides="train", labels=str(label), detail=there)
            lacking.remove("train")
        if lacking:
            more = f" and {len(lacking) - _ABSENT_NAMED} more" if len(lacking) > _ABSENT_NAMED else ""
            detail = f"not in {', '.join(lacking[:_ABSENT_NAMED])}{more}"
            yield Finding("absent_label", str(label), sides=" | ".join(lacking), labels=str(label), detail=detail)


def describe_side(row: Mapping[Hashable, Any]) -> str:
    """Split and fold of a clip, as far as it has them.

    >>> describe_side({"split": "train", "fold": 3})
    'train, fold 3'
    """
    parts = [str(row["split"])] if "split" in row and pd.notna(row["split"]) else []
    return ", ".join(parts + ([f"fold {row['fold']}"] if "fold" in row and pd.notna(row["fold"]) else []))


def describe_label(label: object) -> str:
    """A label, or several in one order; empty where there is none.

    >>> describe_label(("rock", "guitar")), describe_label("dog"), describe_label(float("nan"))
    ('guitar|rock', 'dog', '')
    """
    if isinstance(label, tuple):
        return "|".join(sorted(map(str, label)) if all(isinstance(part, str) for part in label) else map(str, label))
    return "" if label is None or label != label else str(label)


def _joined(names: Set[str]) -> str:
    return " | ".join(sorted(names))


def _ordered(names: pd.Index) -> list[Any]:
    """Splits in their own order, folds by number where they are numbers, what is neither behind them."""
    order = {name: i for i, name in enumerate(SPLITS)}

    def key(name: object) -> tuple[int, str]:
        text = str(name)
        return order.get(text, int(text) if text.isdecimal() else len(SPLITS)), text

    return sorted(names, key=key)
