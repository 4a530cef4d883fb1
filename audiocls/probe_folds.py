"""Which clips a probe learns from and which it is scored on: the folds of a clip table, and folds within them.

What belongs together (a speaker, an artist) stays together in all that is drawn here. Folds that a data set brings are
taken as they are.
"""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from audiocls.probes import Fold, Rows, Task
from datamodules.splits import draw_folds

log = logging.getLogger(__name__)

N_INNER = 5


def make_folds(
    table: pd.DataFrame, *, task: Task, n_folds: int | None = None, n_inner: int | None = N_INNER, seed: int = 0
) -> list[Fold]:
    """The folds of a table, each with inner folds of its training clips.

    Where the table has a column `fold`, each of its folds is scored once; else validation and training clips are
    learnt from and the test is scored, unless folds are drawn.

    Args:
        table: columns `clip_id`, `label`, `split`, and perhaps `fold` and `group`; see `datamodules.splits`.
        task: of the labels, one class or a tuple of numbers a clip.
        n_folds: to draw over all clips, stratified, groups whole, for a table without folds; left out, none are drawn.
        n_inner: inner folds, stratified, groups whole; fewer where a class has fewer groups, which is logged. None
            where nothing is to be chosen by them.
        seed: of what is drawn.
    Raises:
        ValueError: if folds are to be drawn of a table that has some, a class is not learnt from in a fold or has too
            few clips for inner folds, or nothing is scored.

    >>> rows = [(f"{label}{i}", label, "train", i % 3 + 1) for label in "ab" for i in range(9)]
    >>> folds = make_folds(pd.DataFrame(rows, columns=["clip_id", "label", "split", "fold"]), task="multiclass")
    >>> [(fold.name, len(fold.train), len(fold.test), len(fold.inner)) for fold in folds]
    [('1', 12, 6, 5), ('2', 12, 6, 5), ('3', 12, 6, 5)]
    """
    if n_inner is not None and n_inner < 2:
        raise ValueError(f"--inner_folds must be at least 2, got {n_inner}")
    drawn_from = _drawable(table, task)
    outer = _outer(table, drawn_from, n_folds, seed)
    for name, train, test in outer:
        unseen = set(drawn_from["label"].iloc[test]) - set(drawn_from["label"].iloc[train])
        if unseen:
            raise ValueError(
                f"label {sorted(unseen)[0]!r} is scored in fold {name} and stands in no other, so it cannot be learnt "
                "there: leave it out, or draw other folds"
            )
    folds = [
        Fold(name, train, test, () if n_inner is None else _inner(drawn_from, train, n_inner, seed, name))
        for name, train, test in outer
    ]
    fewest = min(folds, key=lambda fold: len(fold.inner))
    if n_inner is not None and len(fewest.inner) < n_inner:
        log.info(
            "settings are chosen by %d inner folds where --inner_folds asks for %d: so few groups (or clips) has a "
            "class in what fold %s learns from", len(fewest.inner), n_inner, fewest.name,
        )  # fmt: skip
    return folds


def _drawable(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """What folds are drawn by: `clip_id`, `label` (numbers are no classes: all are of one) and `group`, none missing.

    A clip without a group is one by itself, in a table that has groups.
    """
    label = table["label"].astype(object) if task == "multiclass" else "any"
    plain = pd.DataFrame({"clip_id": table["clip_id"].to_numpy(), "label": label}).reset_index(drop=True)
    if "group" in table:
        group = table["group"].astype(object).reset_index(drop=True)
        plain["group"] = ("group " + group.astype(str)).where(group.notna(), "clip " + plain["clip_id"].astype(str))
    return plain


def _outer(
    table: pd.DataFrame, drawn_from: pd.DataFrame, n_folds: int | None, seed: int
) -> list[tuple[str, Rows, Rows]]:
    if "fold" in table and n_folds is not None:
        there = sorted(table["fold"].unique().tolist())
        raise ValueError(f"the data has folds of its own ({', '.join(map(str, there))}): leave --folds out")
    if "fold" in table or n_folds is not None:
        fold = table["fold"] if n_folds is None else draw_folds(drawn_from, n_folds=n_folds, seed=seed)
        values = fold.to_numpy()
        return [
            (str(number), np.flatnonzero(values != number), np.flatnonzero(values == number))
            for number in sorted(set(values.tolist()))
        ]
    test = (table["split"] == "test").to_numpy()
    if not test.any():
        raise ValueError(
            "no clip has the split 'test', which is scored: give it to some, or draw folds with --folds 10"
        )
    return [("test", np.flatnonzero(~test), np.flatnonzero(test))]


def _inner(drawn_from: pd.DataFrame, train: Rows, wanted: int, seed: int, fold: str) -> tuple[tuple[Rows, Rows], ...]:
    part = drawn_from.iloc[train]
    what = "group" if "group" in part else "clip_id"
    counts = part.groupby("label")[what].nunique().sort_values(kind="stable")
    scarce, fewest = counts.index[0], int(counts.iloc[0])
    whose = "the data" if scarce == "any" and len(counts) == 1 else f"label {scarce!r}"
    unit = "group" if what == "group" else "clip"
    if fewest < 2:
        raise ValueError(
            f"{whose} has {fewest} {unit} in what fold {fold} learns from, and 2 are needed to choose settings there: "
            "add clips, leave the label out, or take --classifier lda without --subsets, which chooses nothing"
        )
    number = draw_folds(part, n_folds=min(wanted, fewest), seed=seed).to_numpy()
    return tuple((train[number != n], train[number == n]) for n in sorted(set(number.tolist())))
