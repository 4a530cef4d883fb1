from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from datamodules.auditing.tables import check_groups, check_labels, check_rows, count_labels, read_clips


def clips(*rows: tuple[object, ...], columns: str = "clip_id label split") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split())


def test_csv_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("path,label,fold,group,notes\na\\b.wav,dog,3,x,\nc.wav,cat,,,loud\n")
    table, task = read_clips(path)
    assert task == "multiclass"
    assert table["clip_id"].tolist() == ["a/b.wav", "c.wav"]
    assert table["fold"].tolist()[0] == "3"
    assert table["fold"].isna().tolist() == [False, True]
    assert table["group"].isna().tolist() == [False, True]
    assert list(table) == ["clip_id", "label", "fold", "group"]


def test_white_space_behind_a_name_does_not_hide_a_group_on_two_sides(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("path,label,split,group\na.wav,dog,train,kim\nb.wav,dog ,test,kim \n")
    table, _ = read_clips(path)
    assert table["label"].unique().tolist() == ["dog"]
    assert [finding.kind for finding in check_groups(table, known_shared=set())] == ["group_in_two_splits"]


def test_several_labels_in_any_row_make_it_multilabel(tmp_path: Path) -> None:
    path = tmp_path / "clips.csv"
    path.write_text("path,label\na.wav,rock| guitar\nb.wav,rock\nc.wav,\n")
    table, task = read_clips(path)
    assert task == "multilabel"
    assert table["label"].tolist() == [("rock", "guitar"), ("rock",), ()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\na.wav,dog\n", "has no column 'label', only path, class"),
        ("path,label\n", "lists no clip: below its header"),
        ("", r"clips\.csv is empty: its first line must name the columns path, label$"),
    ],
)
def test_no_table_of_clips_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "clips.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_clips(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"--table must be a CSV table, but .*gone\.csv does not exist"):
        read_clips(tmp_path / "gone.csv")


def test_clip_listed_twice_leaks_where_its_rows_disagree() -> None:
    table = clips(
        ("a", "dog", "train"), ("a", "dog", "test"), ("b", "dog", "train"), ("b", "cat", "train"), ("c", "dog", "train")
    )
    found = {(finding.kind, finding.clip) for finding in check_rows(table, task="multiclass")}
    assert found == {("listed_twice", "a"), ("exact_across", "a"), ("listed_twice", "b"), ("exact_conflict", "b")}


def test_rows_without_a_label_or_with_an_unknown_split_are_named() -> None:
    table = clips(
        ("a", "", "train"), ("b", float("nan"), "train"), ("c", (), "train"), ("d", "dog", "dev"), ("e", "x", "test")
    )
    found = [(finding.kind, finding.clip, finding.detail) for finding in check_rows(table, task="multiclass")]
    assert found == [("unlabelled", c, "") for c in "abc"] + [("unknown_split", "d", "split 'dev'")]


def test_groups_on_two_sides_are_told_apart_by_split_and_fold() -> None:
    table = clips(
        ("a", "dog", "train", 2, "x"), ("b", "cat", "train", 3, "x"), ("c", "dog", "test", 1, "y"),
        ("d", "dog", "train", 2, "y"), ("e", "dog", "test", 1, "z"), ("f", "dog", "test", 1, "z"),
        ("g", "dog", "test", 1, None), ("h", "dog", "train", 2, None),
        columns="clip_id label split fold group",
    )  # fmt: skip
    found = [(finding.kind, finding.clip, finding.detail) for finding in check_groups(table, known_shared=set())]
    assert found == [
        ("group_in_two_folds", "x", "fold 2: 1, fold 3: 1"),
        ("group_in_two_folds", "y", "fold 1: 1, fold 2: 1"),
        ("group_in_two_splits", "y", "split train: 1, split test: 1"),
    ]
    known = [(finding.kind, finding.clip) for finding in check_groups(table, known_shared={"y"})]
    assert known == [("group_in_two_folds", "x"), ("known_shared", "y")]
    assert not list(check_groups(table.drop(columns="group"), known_shared=set()))


def test_labels_are_counted_by_side_each_of_several_once() -> None:
    table = clips(
        ("a", ("rock", "guitar"), "train"), ("b", ("rock",), "test"), ("c", (), "test"),
        ("d", ("guitar",), "validation"),
    )  # fmt: skip
    counts = count_labels(table, task="multilabel")
    assert counts is not None
    assert list(counts) == ["train", "validation", "test"]
    assert counts.loc["rock"].tolist() == [1, 0, 1]
    assert counts.loc["guitar"].tolist() == [1, 1, 0]
    assert count_labels(table, task="regression") is None


def test_folds_are_ordered_as_numbers() -> None:
    table = clips(*((str(i), "dog", fold) for i, fold in enumerate(["10", "2", "1"])), columns="clip_id label fold")
    counts = count_labels(table, task="multiclass")
    assert counts is not None
    assert list(counts) == ["1", "2", "10"]


def test_labels_that_a_side_lacks_are_named() -> None:
    counts = pd.DataFrame({"train": [5, 0, 3], "validation": [1, 1, 0], "test": [1, 2, 0]}, index=["dog", "cat", "cow"])
    found = [(finding.kind, finding.clip, finding.detail) for finding in check_labels(counts, by_split=True)]
    assert found == [
        ("unseen_label", "cat", "validation: 1, test: 2"),
        ("absent_label", "cow", "not in validation, test"),
    ]
    folds = pd.DataFrame({str(fold): [int(fold == 3)] for fold in range(1, 7)}, index=["dog"])
    (finding,) = check_labels(folds, by_split=False)
    assert finding.detail == "not in fold 1, fold 2, fold 4 and 2 more"
    assert finding.sides == "fold 1 | fold 2 | fold 4 | fold 5 | fold 6"
