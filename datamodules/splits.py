"""The clip table: which clip is on which side, and whether the sides are clean.

A table is a pandas DataFrame with one row a clip and the columns

- `clip_id`: the key into the PCM store;
- `label`: a class name; for multilabel a tuple of names, for regression a tuple of numbers;
- `split`: "train", "validation" or "test";
- `group` (optional): what must not stand on two sides, such as an artist, a speaker, a drum kit; a clip without one
  stands alone;
- `fold` (optional): for data sets that are published in folds.

Everything here is a pure function of the table and a seed.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Task = Literal["multiclass", "multilabel", "regression"]
log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def random_split(table: pd.DataFrame, *, validation: float, test: float, seed: int) -> pd.Series:
    """Draw the split of each clip: stratified by label, whole groups on one side.

    Clips are drawn class by class, so that every class has at least one clip in each split that is asked for; with a
    `group` column whole groups are drawn instead, largest first, each to the side that lacks most clips.

    Args:
        table: columns `clip_id`, `label` and perhaps `group`.
        validation: share of the clips in [0, 1).
        test: share of the clips in [0, 1); `validation + test` below 1.
        seed: the same seed and clips give the same split, in whatever order the clips come.
    Returns:
        One of "train", "validation", "test" a row, on the table's index.
    Raises:
        ValueError: for shares out of range, and for a class (or a number of groups) too small to be on every side.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ValueError(
            f"validation and test must be shares in [0, 1) that leave some for training, got {validation} and {test}"
        )
    shares = {"test": test, "validation": validation}
    shares = {name: share for name, share in shares.items() if share}
    ordered = table.sort_values("clip_id")
    drawn = _draw_groups(ordered, shares, seed) if "group" in table else _draw_clips(ordered, shares, seed)
    return drawn.reindex(table.index)


def _draw_clips(table: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.Series:
    split = pd.Series("train", index=table.index, dtype=object)
    for label, rows in table.groupby("label", sort=True):
        if len(rows) <= len(shares):
            raise ValueError(
                f"class {label!r} has {len(rows)} clip{'s' * (len(rows) != 1)}, and {len(shares) + 1} are needed to "
                f"have one in each of train, {' and '.join(sorted(shares, reverse=True))}: add clips or leave it out"
            )
        name_of_class = str(label).encode(errors="surrogateescape")
        order = np.random.default_rng([seed, *name_of_class]).permutation(rows.index.to_numpy())
        for n_after, (name, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
            n = min(max(round(share * len(rows)), 1), len(order) - n_after)
            split[order[:n]] = name
            order = order[n:]
    return split


def _draw_groups(table: pd.DataFrame, shares: dict[str, float], seed: int) -> pd.Series:
    groups = _groups(table)
    sizes = groups.value_counts().sort_index()
    if len(sizes) <= len(shares):
        raise ValueError(
            f"column 'group' has {len(sizes)} different values, and {len(shares) + 1} are needed to have one in each "
            f"split: give more groups, or give the split by hand in a column 'split'"
        )
    sizes = _largest_first(sizes, seed)
    wanted = {"train": (1 - sum(shares.values())) * len(table), **{k: v * len(table) for k, v in shares.items()}}
    held = dict.fromkeys(wanted, 0)
    side = {}
    for group, size in sizes.items():
        empty = [name for name in wanted if not held[name]]
        # the side that lacks most clips takes the group, unless only as many groups are left as sides are empty
        among = empty if len(empty) >= len(sizes) - len(side) else list(wanted)
        side[group] = max(among, key=lambda name: wanted[name] - held[name])
        held[side[group]] += size
    return groups.map(side)


def _groups(table: pd.DataFrame) -> pd.Series:
    """What each clip belongs to; a clip without a group is a group of its own."""
    if "group" not in table:
        return table["clip_id"]
    return table["group"].astype(object).fillna(table["clip_id"])


def _largest_first(sizes: pd.Series, seed: int) -> pd.Series:
    """Groups by size; those of one size in random order."""
    return sizes.iloc[np.random.default_rng(seed).permutation(len(sizes))].sort_values(ascending=False, kind="stable")


def draw_folds(table: pd.DataFrame, *, n_folds: int, seed: int) -> pd.Series:
    """Draw the fold of each clip, for data sets that are published without folds: stratified, whole groups in one fold.

    Groups are drawn largest first, each to the fold that has the smallest share of its labels, and among such folds to
    the one with the fewest clips. A clip without a `group` is a group of its own, so that the counts of a label then
    differ by at most one between folds.

    Args:
        table: columns `clip_id`, `label` (a name, or a tuple of names) and perhaps `group`.
        n_folds: how many, at least 2.
        seed: the same seed and clips give the same folds, in whatever order the clips come.
    Returns:
        1 to `n_folds` a row, on the table's index.
    Raises:
        ValueError: for fewer than two folds, and for a label that has fewer groups than there are folds.
    """
    groups = _groups(table)
    labels = labels_of(table)
    counts = pd.crosstab(groups.loc[labels.index].to_numpy(), labels.to_numpy())
    _check_enough((counts > 0).sum(), n_folds, "groups" if "group" in table else "clips")
    sizes = _largest_first(groups.value_counts().sort_index(), seed)
    weights = (counts / counts.sum() ** 2).reindex(sizes.index, fill_value=0).to_numpy()
    counts = counts.reindex(sizes.index, fill_value=0).to_numpy()
    held, n_held = np.zeros((n_folds, counts.shape[1]), dtype=int), np.zeros(n_folds, dtype=int)
    fold = {}
    for group, size, count, weight in zip(sizes.index, sizes, counts, weights, strict=True):
        place = np.lexsort((n_held, held @ weight))[0]
        held[place] += count
        n_held[place] += size
        fold[group] = place + 1
    return groups.map(fold)


def block_folds(table: pd.DataFrame, *, n_folds: int) -> pd.Series:
    """Cut each class, ordered by `clip_id`, into blocks of neighbours, one a fold; the first ones take what is over.

    These are the folds of scikit-learn's StratifiedKFold as it was until 0.21, without shuffling: what a list of files
    in order and `cv=10` meant in many papers.

    Args:
        table: columns `clip_id` and `label`.
        n_folds: how many, at least 2.
    Returns:
        1 to `n_folds` a row, on the table's index.
    Raises:
        ValueError: for fewer than two folds, and for a class that has fewer clips than there are folds.
    """
    _check_enough(table["label"].value_counts(), n_folds, "clips")
    folds = pd.Series(0, index=table.index)
    for _, rows in table.sort_values("clip_id").groupby("label"):
        for number, block in enumerate(np.array_split(rows.index.to_numpy(), n_folds), start=1):
            folds[block] = number
    return folds


def _check_enough(n_there: pd.Series, n_folds: int, what: str) -> None:
    """Refuse folds that could not all have a label; `n_there` is of each label."""
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    scarce = n_there[n_there < n_folds].sort_values()
    if len(scarce):
        raise ValueError(
            f"label {scarce.index[0]!r} has {scarce.iloc[0]} {what}, and {n_folds} are needed to have one in each fold "
            f"({len(scarce)} such labels): add clips or leave it out"
        )


def check_no_folds(split: str, *, fold: int, validation_fold: int | None) -> None:
    """Refuse folds that are asked of a split that has none.

    >>> check_no_folds("official", fold=3, validation_fold=None)
    Traceback (most recent call last):
    ValueError: fold and validation_fold are of no use with split 'official', which has no folds, got 3 and None
    """
    if fold != 1 or validation_fold is not None:
        raise ValueError(
            f"fold and validation_fold are of no use with split {split!r}, which has no folds, "
            f"got {fold} and {validation_fold}"
        )


def fold_split(folds: pd.Series, *, fold: int, validation_fold: int | None = None) -> pd.Series:
    """Split by published folds: one is the test, another validation, the rest train.

    Args:
        folds: the fold of each clip.
        fold: the one that is the test.
        validation_fold: another one; left out, the one after `fold` (the first after the last).
    Raises:
        ValueError: if a fold is not there, both are the same, or fewer than three folds exist.
    """
    there = sorted(folds.unique().tolist())
    if fold not in there:
        raise ValueError(f"fold must be one of {there}, got {fold}")
    if len(there) < 3:
        raise ValueError(f"there must be at least 3 folds (test, validation, train), got {there}")
    if validation_fold is None:
        validation_fold = there[(there.index(fold) + 1) % len(there)]
    if validation_fold not in there or validation_fold == fold:
        raise ValueError(f"validation_fold must be one of {there} and not fold={fold}, got {validation_fold}")
    named = {fold: "test", validation_fold: "validation"}
    return folds.map(lambda value: named.get(value, "train"))


def labels_of(table: pd.DataFrame) -> pd.Series:
    """Every label of every clip: the label column, with tuples taken apart; clips without one are left out."""
    labels = table["label"]
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return labels
    return labels.explode().dropna()


def class_indices(labels: pd.Series, class_names: list[str]) -> NDArray[np.int64]:
    """Position of each label among the classes, shape (n_labels,). Raises ValueError for one that is none of them."""
    indices = pd.Categorical(labels, categories=class_names).codes.astype(np.int64)
    if (indices < 0).any():
        raise ValueError(f"label {labels[indices < 0].iloc[0]!r} is none of the classes {', '.join(class_names)}")
    return indices


def check_table(table: pd.DataFrame, *, task: Task = "multiclass", known_shared: Set[str] = frozenset()) -> None:
    """Refuse a table that cannot be trained on, or that leaks.

    Args:
        table: the clips.
        task: labels are classes, of which "multiclass" needs two and "multilabel" one; numbers for "regression".
        known_shared: groups that the data set's official split is known to have on two sides: counted, not refused.
    Raises:
        ValueError: for a clip listed twice, an unknown split, no training clips, too few classes, one tag that every
            training clip has, a label in validation or test that training never sees, a target that is no finite
            number, or a group on two sides.
    """
    if table.empty:
        raise ValueError("the clip table is empty: no clip of the data set is in the store")
    ids = table["clip_id"].to_numpy()
    ordered = bool((ids[1:] > ids[:-1]).all())  # then none is there twice, which is known ten times as fast
    twice = table["clip_id"][:0] if ordered else table["clip_id"][table["clip_id"].duplicated()]
    if len(twice):
        raise ValueError(f"clip {twice.iloc[0]!r} is listed twice ({len(twice)} such clips): list each clip once")
    unknown = sorted(set(table["split"].unique()) - set(SPLITS))
    if unknown:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {unknown[0]!r}")
    if not (table["split"] == "train").any():
        raise ValueError("no clip has the split 'train': at least some must be trained on")
    if task == "regression":
        _check_numbers(table)
    else:
        _check_classes(table, task)
    _check_groups(table, known_shared)


def _check_classes(table: pd.DataFrame, task: Task) -> None:
    counts = {side: labels_of(table[table["split"] == side]).value_counts() for side in SPLITS}
    train = set(counts["train"].index[counts["train"] > 0])
    for side in SPLITS[1:]:
        unseen = counts[side][(counts[side] > 0) & ~counts[side].index.isin(train)]
        if len(unseen):
            raise ValueError(
                f"label {unseen.index[0]!r} stands in {side} ({unseen.iloc[0]} clips) and never in train: move some of "
                f"its clips to train or leave the label out"
            )
    if not train:
        raise ValueError("no clip of train has a label: at least one class is needed")
    if len(train) > 1:
        return
    (only,) = train
    if task == "multiclass":
        raise ValueError(
            f"at least two classes are needed, got 1 ({only}): for one tag that a clip has or not, set data.task to "
            "multilabel, and leave the label of clips without it empty"
        )
    if counts["train"][only] == (table["split"] == "train").sum():
        raise ValueError(
            f"every clip of train has the only label, {only!r}: add clips without it, their label left empty"
        )


def _check_numbers(table: pd.DataFrame) -> None:
    bad = table["clip_id"][[not np.isfinite(numbers).all() for numbers in table["label"]]]
    if len(bad):
        raise ValueError(f"clip {bad.iloc[0]!r} has a target that is no number ({len(bad)} such clips): leave it out")


def _check_groups(table: pd.DataFrame, known: Set[str]) -> None:
    shared = shared_groups(table)
    expected = [group for group in shared if group in known]
    if expected:
        log.warning(
            "%d groups stand on two sides of the official split, as published: %s",
            len(expected), ", ".join(map(str, expected[:5])),
        )  # fmt: skip
    new = [group for group in shared if group not in known]
    if new:
        sides = " and ".join(sorted(table.loc[table["group"] == new[0], "split"].unique(), reverse=True))
        raise ValueError(
            f"group {new[0]!r} stands in {sides} ({len(new)} such groups): keep a group on one side, or remove "
            f"the column 'group' if the clips are independent"
        )


def shared_groups(table: pd.DataFrame) -> list[str]:
    """Groups that stand on more than one side, sorted; none where there is no `group` column."""
    if "group" not in table:
        return []
    sides = table.groupby("group")["split"].nunique()
    return sorted(sides[sides > 1].index.tolist(), key=str)
