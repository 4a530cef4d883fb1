"""ESC-50 and ESC-10: folds and classes, both forms of the release, and what is said where something is missing."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datamodules import ESC50
from datamodules.esc50 import CATEGORIES, ESC10_FOLDERS, Subset, read_metadata
from datamodules.splits import shared_groups
from datamodules.storage.writer import write_store
from tests.datamodules.layouts import esc50
from tests.datamodules.layouts.clips import write_clip

ESC10 = [name for name in CATEGORIES if name in ESC10_FOLDERS.values()]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(root, store) of a small ESC-50."""
    folder = tmp_path_factory.mktemp("esc50")
    esc50.write(folder / "root")
    write_store(ESC50.sources(folder / "root"), folder / "store", sample_rate=8000)
    return folder / "root", folder / "store"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(root, store) of a small ESC-10 in class folders."""
    folder = tmp_path_factory.mktemp("esc10")
    esc50.write_class_folders(folder / "root")
    write_store(ESC50.sources(folder / "root"), folder / "store", sample_rate=8000)
    return folder / "root", folder / "store"


def module(tiny: tuple[Path, Path], **settings: Any) -> ESC50:
    return ESC50(str(tiny[1]), str(tiny[0]), **{"clip_seconds": 0.1, **settings})


def folds_of(data: ESC50) -> dict[str, list[int]]:
    return {str(split): sorted(set(part["fold"])) for split, part in data.table.groupby("split")}


def changed(tiny: tuple[Path, Path], root: Path, **columns: str) -> Path:
    """The table alone, some columns of its first row changed."""
    metadata = pd.read_csv(tiny[0] / "meta" / "esc50.csv", dtype=object)
    for column, value in columns.items():
        metadata.loc[0, column] = value
    (root / "meta").mkdir(parents=True)
    metadata.to_csv(root / "meta" / "esc50.csv", index=False)
    return root / "meta" / "esc50.csv"


def test_one_fold_is_the_test_and_another_the_validation(tiny: tuple[Path, Path]) -> None:
    assert folds_of(module(tiny)) == {"test": [1], "validation": [2], "train": [3, 4, 5]}
    small = module(tiny, subset="esc10", fold=5, validation_fold=3)
    assert folds_of(small) == {"test": [5], "validation": [3], "train": [1, 2, 4]}
    assert folds_of(module(tiny, subset="esc10", fold=5))["validation"] == [1]
    assert small.folds == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("subset", "classes"), [("esc50", list(CATEGORIES)), ("esc10", ESC10)])
def test_classes_stand_in_the_order_of_the_targets(tiny: tuple[Path, Path], subset: Subset, classes: list[str]) -> None:
    data = module(tiny, subset=subset)
    assert data.class_names == classes
    assert set(data.table["label"]) == set(classes)
    target = data.table["clip_id"].str.extract(r"-([0-9]+)\.wav")[0].astype(int)
    assert data.table["label"].tolist() == [CATEGORIES[i] for i in target]


def test_the_table_says_what_the_release_says_of_a_clip(tiny: tuple[Path, Path]) -> None:
    clip = module(tiny).table.set_index("clip_id").loc["3-134049-B-1.wav"]
    assert clip.to_dict() == {"label": "rooster", "split": "train", "group": "134049", "fold": 3, "take": "B"}


def test_the_folder_above_the_release_will_do(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "ESC-50-master").symlink_to(tiny[0])
    assert ESC50.listed(tmp_path) == ESC50.listed(tiny[0])
    assert [source.clip_id for source in ESC50.sources(tmp_path)] == [s.clip_id for s in ESC50.sources(tiny[0])]


def test_a_recording_in_two_folds_is_counted_and_kept_and_a_new_one_refused(
    tiny: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert shared_groups(module(tiny).table) == [str(esc50.SHARED)]
    assert "1 groups stand on two sides of the official split, as published: 134049" in caplog.text
    monkeypatch.setattr(ESC50, "known_shared", frozenset())
    with pytest.raises(ValueError, match=r"^group '134049' stands in train and test \(1 such groups\)"):
        _ = module(tiny).table


# --- ESC-10's class folders ---


def test_class_folders_are_esc10_under_the_names_of_esc50(tiny: tuple[Path, Path], folders: tuple[Path, Path]) -> None:
    data = module(folders, subset="esc10", fold=2)
    assert data.class_names == module(tiny, subset="esc10").class_names
    clip = data.table.set_index("clip_id").loc["010 - Fire crackling/2-2009-A.ogg"]
    assert clip.to_dict() == {"label": "crackling_fire", "split": "test", "group": "2009", "fold": 2, "take": "A"}
    assert data.table["label"].value_counts().to_dict() == dict.fromkeys(ESC10, 5)
    assert ESC50.listed(folders[0]) is None


def test_class_folders_are_not_esc50(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"holds no meta/esc50.csv: unpack ESC-50 there, or set data.subset to esc10"):
        _ = module(folders).table


def test_class_folders_that_lack_clips_are_counted(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ESC50.sources(folders[0])
    assert f"{folders[0]} holds 50 of the 400 clips of ESC-10" in caplog.text


def test_class_folders_that_are_not_all_there_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    root = tmp_path / "ESC-10-master"
    shutil.copytree(folders[0], root)
    shutil.rmtree(root / "002 - Rain")
    with pytest.raises(ValueError, match=r"ESC-10-master lacks 1 of the 10 class folders .*, such as '002 - Rain'"):
        ESC50.sources(tmp_path)
    write_clip(root / "002 - Rain" / "6-1-A.ogg")
    with pytest.raises(ValueError, match=r"^'002 - Rain/6-1-A.ogg' is not named like .* \(1 such files\): move them"):
        ESC50.sources(tmp_path)


# --- what is wrong ---


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"subset": "esc20"}, r"^subset must be one of esc50, esc10, got 'esc20'; did you mean 'esc50'\?$"),
        ({"fold": 6}, r"^fold must be one of \[1, 2, 3, 4, 5\], got 6$"),
        ({"fold": 2, "validation_fold": 2}, r"^validation_fold must be one of .* and not fold=2, got 2$"),
    ],
)
def test_settings_that_are_not_there(tiny: tuple[Path, Path], setting: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        _ = module(tiny, **setting).table


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"fold": "one"}, "cannot be read as a table .* it is not the one of ESC-50; unpack it again$"),
        ({"esc10": "perhaps"}, "cannot be read as a table .* it is not the one of ESC-50; unpack it again$"),
        (
            {"fold": "4"},
            r"gives '1-1000-A-0.wav' the fold 4 and .* target 0, which disagree \(1 such",
        ),
        ({"category": "cat"}, r"the category 'cat' with target 0, which disagree"),
        ({"target": "50", "filename": "1-1000-A-50.wav"}, r"the category 'dog' with target 50, which disagree"),
    ],
)
def test_a_table_that_is_not_the_releases_is_refused(
    tiny: tuple[Path, Path], tmp_path: Path, columns: dict[str, str], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        read_metadata(changed(tiny, tmp_path, **columns))
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    for subset in ("esc50", "esc10"):
        with pytest.raises(ValueError, match=r"nowhere holds n"):
            _ = ESC50(str(tiny[1]), str(tmp_path / "nowhere"), subset=subset, clip_seconds=0.1).table
    with pytest.raises(ValueError, match=r"holds neither meta/esc50.csv nor the class folders of ESC-10 \('001"):
        ESC50.sources(tmp_path)
    table = changed(tiny, tmp_path / "half")
    with pytest.raises(ValueError, match=r"half holds the table of ESC-50 but no folder audio: unpack it there again"):
        ESC50.sources(tmp_path / "half")
    table.write_text("slice_file_name,fsID\n1-1-1-1.wav,1\n")
    with pytest.raises(ValueError, match=r"has no column 'filename', only slice_file_name, fsID: it is not the one"):
        ESC50.listed(tmp_path / "half")


def test_clips_of_the_table_that_were_not_decoded_end_the_run_unless_allowed(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    some = [source for source in ESC50.sources(tiny[0]) if not source.clip_id.startswith("3-3000-A")]
    write_store(some, tmp_path / "store", sample_rate=8000)
    with pytest.raises(ValueError, match=r"^1 of 173 clips are not in .*, such as '3-3000-A-0.wav': decode them"):
        _ = module((tiny[0], tmp_path / "store")).table


# --- the releases themselves ---


@pytest.fixture
def published(recordings: Path, tmp_path: Path) -> Path:
    """A root with the published table of ESC-50 and no audio."""
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").symlink_to((recordings / "metadata" / "esc50.csv").absolute())
    return tmp_path


@pytest.mark.data
@pytest.mark.parametrize("fold", range(1, 6))
@pytest.mark.parametrize(("subset", "n_classes"), [("esc50", 50), ("esc10", 10)])
def test_published_folds_have_eight_clips_of_each_class(
    published: Path, subset: Subset, n_classes: int, fold: int
) -> None:
    table = ESC50("unused", str(published), subset=subset, fold=fold, clip_seconds=5.0).read_table()
    assert table["split"].value_counts().to_dict() == {
        "train": 24 * n_classes, "validation": 8 * n_classes, "test": 8 * n_classes,
    }  # fmt: skip
    assert table.groupby(["label", "fold"]).size().tolist() == [8] * 5 * n_classes
    assert table["label"].nunique() == n_classes


@pytest.mark.data
def test_the_published_folds_share_the_four_known_recordings_and_no_other(published: Path) -> None:
    metadata = read_metadata(published / "meta" / "esc50.csv").rename(columns={"src_file": "group", "fold": "split"})
    shared = metadata[metadata["group"].isin(shared_groups(metadata))]
    assert set(shared["group"].astype(str)) == ESC50.known_shared
    assert len(shared) == 9
    assert shared.groupby(["group", "split"])["category"].nunique().eq(1).all()
    assert shared.groupby("group")["category"].nunique().eq(2).all()
    assert shared_groups(metadata[metadata["esc10"]]) == []


@pytest.mark.data
def test_the_class_folders_hold_the_clips_of_the_table_in_the_same_folds(recordings: Path, published: Path) -> None:
    said = ["label", "fold", "group", "take"]
    folders = ESC50("unused", str(recordings / "esc10"), subset="esc10", clip_seconds=5.0).read_table()
    table = ESC50("unused", str(published), subset="esc10", clip_seconds=5.0).read_table()
    assert sorted(folders[said].itertuples(index=False)) == sorted(table[said].itertuples(index=False))
    assert len(folders) == 400


@pytest.mark.data
def test_real_clips_come_out_of_a_store(recordings: Path, tmp_path: Path) -> None:
    root = recordings / "esc10"
    some = [source for source in ESC50.sources(root) if source.clip_id[:3] in ("006", "008")]
    some = list({(source.clip_id[:3], source.path.name[0]): source for source in some}.values())  # one of each fold
    assert write_store(some, tmp_path / "store", sample_rate=8000).failures == []
    data = ESC50(str(tmp_path / "store"), str(root), subset="esc10", clip_seconds=5.0, allow_missing=390)
    assert data.table.groupby(["label", "split"]).size().to_dict() == {
        (label, split): 3 if split == "train" else 1
        for label in ("chainsaw", "sneezing")
        for split in ("train", "validation", "test")
    }
    assert next(iter(data.train_dataloader())).waveform.shape == (6, 1, 40000)
