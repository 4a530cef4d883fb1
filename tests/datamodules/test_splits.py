"""Splits are stratified, seeded, whole by group, and refused where they would leak."""

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedKFold

from datamodules.splits import (
    block_folds,
    check_no_folds,
    check_table,
    draw_folds,
    fold_split,
    random_split,
    shared_groups,
)


def clips(n: int = 100, n_classes: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"{i:04d}" for i in range(n)], "label": [f"c{i % n_classes}" for i in range(n)]})


def test_random_split_is_stratified() -> None:
    table = clips(400)
    table["split"] = random_split(table, validation=0.1, test=0.2, seed=0)
    counts = table.groupby(["label", "split"]).size().unstack()
    assert (counts["test"] == 20).all()
    assert (counts["validation"] == 10).all()
    assert (counts["train"] == 70).all()


def test_random_split_depends_on_the_seed_and_not_on_the_order_of_clips() -> None:
    table = clips()
    split = random_split(table, validation=0.1, test=0.1, seed=1)
    shuffled = table.sample(frac=1, random_state=3)
    assert random_split(shuffled, validation=0.1, test=0.1, seed=1).sort_index().tolist() == split.tolist()
    assert random_split(table, validation=0.1, test=0.1, seed=2).tolist() != split.tolist()


def test_random_split_leaves_a_clip_for_validation_where_most_are_for_test() -> None:
    split = random_split(clips(3, n_classes=1), validation=0.4, test=0.5, seed=0)
    assert sorted(split) == ["test", "train", "validation"]


def test_random_split_takes_a_class_whose_name_is_no_utf8() -> None:
    """A folder named so ended in a traceback."""
    table = clips(9, n_classes=1).assign(label="caf\udce9")
    assert random_split(table, validation=0.2, test=0.2, seed=0).value_counts()["train"] == 5


def test_random_split_of_one_class_is_not_moved_by_clips_of_another() -> None:
    table = clips()
    split = random_split(table, validation=0.1, test=0.1, seed=1)
    fewer = table[table["label"] != "c3"]
    assert random_split(fewer, validation=0.1, test=0.1, seed=1).tolist() == split[fewer.index].tolist()


@pytest.mark.parametrize("n_groups", [3, 7, 40])
def test_random_split_keeps_groups_whole_and_fills_every_side(n_groups: int) -> None:
    table = clips(400)
    table["group"] = [f"g{i % n_groups}" for i in range(len(table))]
    table["split"] = random_split(table, validation=0.15, test=0.15, seed=0)
    assert shared_groups(table) == []
    assert set(table["split"]) == {"train", "validation", "test"}
    if n_groups == 40:  # groups of ten clips: shares are met to within one group
        assert abs((table["split"] == "test").sum() - 60) <= 10


def test_random_split_refuses_a_class_too_small_for_every_side() -> None:
    table = pd.concat([clips(), pd.DataFrame({"clip_id": ["x"], "label": ["rare"]})], ignore_index=True)
    with pytest.raises(ValueError, match=r"class 'rare' has 1 clip, and 3 are needed .* train, validation and test"):
        random_split(table, validation=0.1, test=0.1, seed=0)


def test_random_split_refuses_too_few_groups() -> None:
    table = clips().assign(group="all")
    with pytest.raises(ValueError, match="'group' has 1 different values, and 3 are needed"):
        random_split(table, validation=0.1, test=0.1, seed=0)


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.1), (0.1, 1.0)])
def test_random_split_refuses_shares_out_of_range(validation: float, test: float) -> None:
    with pytest.raises(ValueError, match="must be shares in"):
        random_split(clips(), validation=validation, test=test, seed=0)


def per_fold(table: pd.DataFrame, folds: pd.Series) -> pd.DataFrame:
    """Clips of each label (a row) in each fold (a column)."""
    return pd.crosstab(table["label"], folds)


def test_drawn_folds_are_stratified_and_nearly_of_one_size() -> None:
    table = clips(403, 7)
    folds = draw_folds(table, n_folds=10, seed=0)
    assert folds.index.equals(table.index)
    assert sorted(folds.unique()) == list(range(1, 11))
    counts = per_fold(table, folds)
    assert (counts.max(axis=1) - counts.min(axis=1)).max() == 1
    assert np.ptp(folds.value_counts()) <= 2


def test_drawn_folds_depend_on_the_seed_and_not_on_the_order_of_clips() -> None:
    table = clips()
    folds = draw_folds(table, n_folds=5, seed=1)
    shuffled = table.sample(frac=1, random_state=3)
    assert draw_folds(shuffled, n_folds=5, seed=1).sort_index().tolist() == folds.tolist()
    assert draw_folds(table, n_folds=5, seed=2).tolist() != folds.tolist()


def test_drawn_folds_are_not_those_of_neighbours() -> None:
    table = clips(400)
    assert draw_folds(table, n_folds=10, seed=0).diff().eq(0).mean() < 0.5
    assert block_folds(table, n_folds=10).diff().eq(0).mean() > 0.9


def test_drawn_folds_keep_groups_whole_and_labels_spread() -> None:
    table = clips(400)
    # groups of 1 to 8 clips, each of one label
    generator = np.random.default_rng(0)
    table["group"] = [f"{label}-{n}" for label, n in zip(table["label"], generator.integers(0, 25, 400), strict=True)]
    folds = draw_folds(table, n_folds=5, seed=0)
    assert table.groupby("group").size().max() > 4
    assert folds.groupby(table["group"]).nunique().eq(1).all()
    assert per_fold(table, folds).to_numpy().min() >= 18  # 20 were it even
    assert per_fold(table, folds).to_numpy().max() <= 22


def test_clips_without_a_group_are_drawn_one_by_one() -> None:
    """They had no side and no fold."""
    table = clips(400).assign(group=[f"g{i // 10}" if i < 100 else None for i in range(400)])
    for drawn in (random_split(table, validation=0.1, test=0.2, seed=0), draw_folds(table, n_folds=5, seed=0)):
        assert drawn[100:].value_counts().min() >= 20
        assert drawn[:100].groupby(table["group"]).nunique().eq(1).all()


def test_drawn_folds_spread_each_of_several_labels() -> None:
    generator = np.random.default_rng(0)
    tags = [tuple(name for name, share in zip("abc", (0.5, 0.2, 0.05), strict=True) if generator.random() < share)
            for _ in range(1000)]  # fmt: skip
    table = pd.DataFrame({"clip_id": [f"{i:04d}" for i in range(1000)], "label": pd.Series(tags, dtype=object)})
    assert (table["label"].str.len() == 0).any()
    folds = draw_folds(table, n_folds=5, seed=0)
    assert folds.between(1, 5).all()
    for name in "abc":
        held = folds[[name in names for names in tags]].value_counts()
        assert held.max() - held.min() <= 3, name


def test_a_group_of_two_labels_stays_whole() -> None:
    table = clips(40, 2).assign(group=[f"g{i // 2}" for i in range(40)])  # a clip of each label in each group
    folds = draw_folds(table, n_folds=4, seed=0)
    assert folds.groupby(table["group"]).nunique().eq(1).all()
    assert (per_fold(table, folds) == 5).all(axis=None)


def test_blocks_are_scikit_learns_folds_without_shuffling() -> None:
    table = clips(400)
    expected = pd.Series(0, index=table.index)
    ordered = table.sort_values(["label", "clip_id"])
    for number, (_, test) in enumerate(StratifiedKFold(10).split(ordered, ordered["label"]), start=1):
        expected[ordered.index[test]] = number
    assert block_folds(table.sample(frac=1, random_state=0), n_folds=10).sort_index().tolist() == expected.tolist()


def test_the_first_blocks_take_what_is_over() -> None:
    table = clips(2 * 64, 2)
    assert per_fold(table, block_folds(table, n_folds=10)).to_numpy().tolist() == [[7] * 4 + [6] * 6] * 2


@pytest.mark.parametrize(
    "draw", [lambda t, n: draw_folds(t, n_folds=n, seed=0), lambda t, n: block_folds(t, n_folds=n)]
)
def test_folds_that_could_not_all_have_a_label_are_refused(draw) -> None:
    with pytest.raises(ValueError, match=r"^n_folds must be at least 2, got 1$"):
        draw(clips(), 1)
    few = pd.concat([clips(), pd.DataFrame({"clip_id": ["x", "y"], "label": "rare"})], ignore_index=True)
    with pytest.raises(ValueError, match=r"label 'rare' has 2 clips, and 3 are needed .* \(1 such labels\)"):
        draw(few, 3)
    assert draw(few, 2)[few["label"] == "rare"].nunique() == 2


def test_a_label_in_fewer_groups_than_folds_is_refused() -> None:
    table = clips().assign(group=[f"g{i % 4}-{i % 3}" for i in range(100)])
    with pytest.raises(ValueError, match="label 'c0' has 3 groups, and 5 are needed to have one in each fold"):
        draw_folds(table, n_folds=5, seed=0)


@pytest.mark.parametrize("asked", [{"fold": 2, "validation_fold": None}, {"fold": 1, "validation_fold": 2}])
def test_folds_are_refused_where_there_are_none(asked: dict[str, int]) -> None:
    check_no_folds("official", fold=1, validation_fold=None)
    with pytest.raises(ValueError, match="of no use with split 'official', which has no folds, got"):
        check_no_folds("official", **asked)


def test_fold_split_takes_the_next_fold_for_validation_and_wraps_round() -> None:
    fold = pd.Series([1, 2, 3, 1, 2, 3])
    assert fold_split(fold, fold=1).tolist() == ["test", "validation", "train"] * 2
    assert fold_split(fold, fold=3).tolist() == ["validation", "train", "test"] * 2
    assert fold_split(fold, fold=3, validation_fold=2).tolist() == ["train", "validation", "test"] * 2


@pytest.mark.parametrize(
    ("fold", "validation_fold", "match"),
    [
        (4, None, r"fold must be one of \[1, 2, 3\], got 4"),
        (1, 1, "validation_fold must be one of"),
        (1, 9, "got 9"),
    ],
)
def test_fold_split_refuses_folds_that_are_not_there(fold: int, validation_fold: int | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        fold_split(pd.Series([1, 2, 3]), fold=fold, validation_fold=validation_fold)


def test_fold_split_refuses_two_folds() -> None:
    with pytest.raises(ValueError, match="at least 3 folds"):
        fold_split(pd.Series([1, 2]), fold=1)


def good() -> pd.DataFrame:
    table = clips(12, 2)
    table["split"] = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    return table


def test_check_table_accepts_a_good_table_and_several_labels() -> None:
    check_table(good())
    several = good()
    several["label"] = [("c0", "c1") if i % 3 else ("c0",) for i in range(len(several))]
    check_table(several)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.iloc[:0], "the clip table is empty"),
        (lambda t: t.assign(clip_id="same"), "clip 'same' is listed twice"),
        (lambda t: t.assign(split="tset"), "split must be one of train, validation, test, got 'tset'"),
        (lambda t: t.assign(split="test"), "no clip has the split 'train'"),
        (
            lambda t: t.assign(label="only"),
            r"at least two classes are needed, got 1 \(only\): .* set data.task to multilabel, .* without it empty$",
        ),
        (
            lambda t: t.assign(label=t["label"].where(t["split"] != "test", "new")),
            r"label 'new' stands in test \(2 clips\) and never in train",
        ),
        (lambda t: t.assign(group="g"), "group 'g' stands in validation and train and test"),
    ],
)
def test_check_table_refuses(change, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_table(change(good()))


def test_one_tag_alone_needs_clips_with_it_and_clips_without() -> None:
    """A tagger of one tag was refused like one class of several."""
    tagged = good().assign(label=[("bird",) if i % 3 else () for i in range(12)])
    check_table(tagged, task="multilabel")
    always = tagged.assign(label=[("bird",)] * 8 + [()] * 4)
    with pytest.raises(ValueError, match="every clip of train has the only label, 'bird': add clips without it"):
        check_table(always, task="multilabel")
    with pytest.raises(ValueError, match="no clip of train has a label: at least one class is needed"):
        check_table(tagged.assign(label=[()] * 12), task="multilabel")
