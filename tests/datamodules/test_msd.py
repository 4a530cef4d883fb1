"""MSD: three splits, clips by either id, and what is said where a list is missing or another one."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datamodules.msd
from datamodules.foreign import read_npy
from datamodules.msd import CALS_TAGS, MSD, TAGS, read_choi
from datamodules.storage.writer import write_store
from tests.datamodules.layouts import msd
from tests.datamodules.layouts.clips import write_clip

NUMBERS = "MSD_id_to_7D_id.pkl"
LEE = "music_dataset_split/MSD_split"


@pytest.fixture(scope="module", params=["number", "msd_id"])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(root, store, layout), with the lists of all three splits."""
    folder = tmp_path_factory.mktemp("msd")
    msd.write(folder / "root", named=request.param)
    msd.write_lee(folder / "root")
    msd.write_cals(folder / "root")
    write_store(MSD.sources(folder / "root"), folder / "store", sample_rate=12000)
    return folder / "root", folder / "store", request.param


@pytest.fixture
def small_lee(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lee's list with as many tracks to train on as the small tree has."""
    monkeypatch.setattr(datamodules.msd, "N_LEE_TRAIN", msd.N_TRAIN)


def data(root: Path, store: Path, **settings: Any) -> MSD:
    return MSD(str(store), str(root), clip_seconds=0.2, **settings)


@pytest.mark.usefixtures("small_lee")
@pytest.mark.parametrize("split", ["choi", "lee", "cals"])
def test_sides_and_tags_of_each_split(
    tree: tuple[Path, Path, str], split: str, caplog: pytest.LogCaptureFixture
) -> None:
    root, store, named = tree
    clips = data(root, store, split=split)
    with caplog.at_level(logging.WARNING):
        table = clips.table.set_index("msd_id")
    assert (clips.task, clips.num_classes) == ("multilabel", 50)
    tags = CALS_TAGS if split == "cals" else TAGS
    assert clips.class_names == list(tags)
    assert len(table) == msd.N_CLIPS - 1  # the empty one
    assert "1 of 20 clips could not be decoded and are left out" in caplog.text
    sides = {"train": "train", "valid": "validation", "test": "test"}
    for i in {*range(msd.N_CLIPS)} - {11}:
        row = table.loc[msd.msd_id(i)]
        assert row["clip_id"] == msd.clip_id(i, named=named)
        assert row["split"] == sides[msd.SIDES[i]]
        assert row["label"] == tuple(tags[k] for k in np.flatnonzero(msd.targets(i)))
    first = clips.clip_ids("test").index(msd.clip_id(msd.N_TRAIN + msd.N_VALID, named=named))
    assert np.array_equal(clips.clips("test").targets[first].bool().numpy(), msd.targets(msd.N_TRAIN + msd.N_VALID))


@pytest.mark.usefixtures("small_lee")
def test_clips_of_every_split_that_is_there_are_listed(tmp_path: Path) -> None:
    msd.write(tmp_path)
    for path in tmp_path.glob("*_[xy]*"):
        path.unlink()
    assert MSD.listed(tmp_path) is None
    msd.write_lee(tmp_path)
    (tmp_path / "audio" / msd.clip_id(3)).unlink()
    msd.write_cals(tmp_path)
    listed = MSD.listed(tmp_path)
    assert listed is not None
    assert sorted(listed) == sorted(msd.clip_id(i) for i in range(msd.N_CLIPS))
    (tmp_path / LEE / "msd_id_to_tag_vector.cP").unlink()  # a decoder needs no labels
    assert MSD.listed(tmp_path) == listed


def test_a_clip_is_known_by_either_id_in_any_folder_and_format(tmp_path: Path) -> None:
    msd.write(tmp_path)
    elsewhere = {msd.msd_id(0): f"moved/{msd.number(0)}.wav", msd.msd_id(1): f"{msd.msd_id(1)}.ogg"}
    for i, clip in enumerate(elsewhere.values()):
        (tmp_path / "audio" / msd.clip_id(i)).unlink()
        write_clip(tmp_path / "audio" / clip)
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    table = data(tmp_path, tmp_path / "store").table.set_index("msd_id")
    assert table["clip_id"][list(elsewhere)].to_dict() == elsewhere
    assert len(table) == msd.N_CLIPS - 1


def test_a_clip_that_is_not_there_is_missed_by_the_name_it_would_have(tmp_path: Path) -> None:
    msd.write(tmp_path)
    (tmp_path / "audio" / msd.clip_id(3)).unlink()
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    with pytest.raises(ValueError, match=f"1 of 20 clips are not in .*, such as '{msd.clip_id(3)}'"):
        _ = data(tmp_path, tmp_path / "store").table


def test_two_ids_of_one_clip_are_used_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    msd.write(tmp_path)
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    numbers = tmp_path / "train_x_7d_id.txt"
    numbers.write_text(numbers.read_text().replace(msd.number(2), msd.number(4)))
    with caplog.at_level(logging.WARNING):
        table = data(tmp_path, tmp_path / "store").table
    assert "1 tracks whose clip is another track's as well are left out" in caplog.text
    assert (table["clip_id"] == msd.clip_id(4)).sum() == 1
    numbers = tmp_path / "test_x_7d_id.txt"
    numbers.write_text(numbers.read_text().replace(msd.number(17), msd.number(0)))
    with pytest.raises(ValueError, match=f"clip '{msd.clip_id(0)}' is listed twice"):  # on two sides
        _ = data(tmp_path, tmp_path / "store").table


def test_files_of_other_names_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    msd.write(tmp_path)
    write_clip(tmp_path / "audio" / "test tone.wav")
    write_clip(tmp_path / "audio" / "TRaadin128F931D672.wav")
    with caplog.at_level(logging.WARNING):
        assert len(MSD.sources(tmp_path)) == msd.N_CLIPS
    assert "2 audio files that are not named by a 7digital number or an MSD id are left out" in caplog.text
    assert MSD.sources(tmp_path / "audio") == MSD.sources(tmp_path)


def test_two_files_of_one_track_are_refused(tmp_path: Path) -> None:
    msd.write(tmp_path)
    write_clip(tmp_path / "audio" / f"{msd.number(5)}.wav")
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    with pytest.raises(ValueError, match=rf"{msd.clip_id(5)} and {msd.number(5)}\.wav are of one track: keep one"):
        _ = data(tmp_path, tmp_path / "store").table


def test_a_clip_that_was_moved_is_the_track_s_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It and its old name were said to be two files of one track, and only one was there."""
    msd.write(tmp_path)
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    moved = f"elsewhere/{msd.number(5)}.clip.mp3"
    (tmp_path / "audio" / "elsewhere").mkdir()
    (tmp_path / "audio" / msd.clip_id(5)).rename(tmp_path / "audio" / moved)
    write_store(MSD.sources(tmp_path), tmp_path / "store", sample_rate=12000)
    ids = data(tmp_path, tmp_path / "store").table["clip_id"].tolist()
    assert moved in ids
    assert msd.clip_id(5) not in ids
    assert f"are left out, such as {msd.clip_id(5)}: their files were moved or deleted" in caplog.text


def test_a_folder_of_something_else_is_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "songs" / "a.wav")
    with pytest.raises(ValueError, match=r"songs holds no clip named by its 7digital number .*for instance a\.wav"):
        MSD.sources(tmp_path / "songs")
    with pytest.raises(ValueError, match="split must be one of choi, lee, cals, got 'won'"):
        MSD("store", "root", split="won", clip_seconds=1.0)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("small_lee")
@pytest.mark.parametrize(
    ("split", "file", "change", "match"),
    [
        ("choi", "train_y.npy", None, r"no train_y.npy under '.*': give the folder that Choi's split \(https://git"),
        ("choi", "valid_x_msd_id.txt", None, "no valid_x_msd_id.txt under "),
        ("choi", "test_x_7d_id.txt", lambda data: data[:-8], "have 4 and 3 lines, and must have the same"),
        ("choi", "test_y.npy", lambda data: data.replace(b"(4, 50)", b"(8, 25)"), r"each of 4 tracks and 50 tags, got"),
        ("choi", "test_y.npy", lambda data: data.replace(b"|b1", b"|i1")[:-1] + b"\x02", "must hold a 0 or 1 for each"),
        ("lee", f"{LEE}/filtered_list_test.cP", None, r"no filtered_list_test.cP under .*Lee's split \(MSD_split of"),
        ("lee", f"{LEE}/filtered_list_train.cP", lambda _: b"(lp0\nVTR\na.", "holds 1 tracks, and 12 to train on and"),
        ("lee", f"{LEE}/filtered_list_train.cP", lambda _: b"(dp0\n.", "holds a dict and not a list"),
        ("lee", f"{LEE}/filtered_list_train.cP", lambda _: b"cos\nsystem\n(Vls\ntR.", "asks for os.system"),
        ("lee", f"{LEE}/msd_id_to_tag_vector.cP", lambda _: b"(dp0\n.", "lacks 20 tracks of the lists, such as TRABC"),
        (
            "lee",
            f"{LEE}/msd_id_to_tag_vector.cP",
            lambda data: pickle.dumps({**pickle.loads(data), msd.msd_id(7): np.zeros(49)}),  # noqa: S301 - our own
            "msd_id_to_tag_vector.cP must hold a 0 or 1 for each of 20 tracks and 50 tags",
        ),
        ("cals", "data/splits/train_binaries.npy", None, r"no train_binaries.npy under .*CALS \(data/splits of http"),
        ("cals", "data/splits/valid_ids.npy", lambda data: data[:-72], "so it is cut short or damaged"),
        ("cals", f"{LEE}/{NUMBERS}", None, rf"no {NUMBERS} under .*Lee's split"),
    ],
)  # fmt: skip
def test_lists_that_are_missing_or_others(
    split: str, file: str, change: Callable[[bytes], bytes] | None, match: str, tmp_path: Path
) -> None:
    msd.write(tmp_path)
    msd.write_lee(tmp_path)
    msd.write_cals(tmp_path)
    write_store(MSD.sources(tmp_path)[:1], tmp_path / "store", sample_rate=12000)
    path = tmp_path / file
    if change is None:
        path.unlink()
    else:
        before = path.read_bytes()
        path.write_bytes(change(before))
        assert path.read_bytes() != before
    with pytest.raises(ValueError, match=match) as caught:
        data(tmp_path, tmp_path / "store", split=split).read_table()
    assert "\n" not in str(caught.value)


def test_lees_list_is_not_split_short() -> None:
    assert datamodules.msd.N_LEE_TRAIN == 201_680


def test_tags_are_fifty_and_in_the_published_case() -> None:
    for tags in (TAGS, CALS_TAGS):
        assert len(tags) == len(set(tags)) == 50
    assert [tag for tag in TAGS if tag != tag.lower()] == ["Mellow", "Hip-Hop", "Progressive rock", "House"]
    assert all(tag == tag.lower() for tag in CALS_TAGS)
    assert {"female vocalists", "female vocalist"} <= set(TAGS)


@pytest.mark.data
def test_chois_split_has_its_published_counts(recordings: Path, tmp_path: Path) -> None:
    """With one track in the place of the training part, whose labels are not at hand."""
    published = recordings / "metadata" / "msd"
    for path in published.glob("*_[xy]*"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=r"no train_y.npy under .*: give the folder that Choi's split") as caught:
        read_choi(tmp_path, labels=True)
    assert "\n" not in str(caught.value)
    (tmp_path / "train_x_msd_id.txt").write_text("TRZZZZZ12903CFAE92\n")
    (tmp_path / "train_x_7d_id.txt").write_text("11\n")
    np.save(tmp_path / "train_y.npy", np.ones((1, 50), dtype=bool))

    tracks = read_choi(tmp_path, labels=True)
    assert tracks["split"].value_counts().to_dict() == {"test": 28_540, "validation": 12_634, "train": 1}
    assert tracks["msd_id"].is_unique
    assert tuple((published / "tags.txt").read_text().splitlines()) == TAGS
    for side, name in (("validation", "valid"), ("test", "test")):
        part = tracks[tracks["split"] == side]
        targets = read_npy(published / f"{name}_y.npy")
        n_tags = part["label"].map(len).to_numpy()
        assert np.array_equal(n_tags, targets.sum(axis=1))
        assert (n_tags.min(), n_tags.max()) == (1, 17)
        used = part["label"].explode().value_counts()
        assert [used[tag] for tag in TAGS] == targets.sum(axis=0).tolist()
        # names as published: 7digital's number in a folder for each of its first two digits
        names = (published / f"{name}_x_filename.txt").read_text().split()
        placed = datamodules.msd.place(part, ["1/1/11.clip.mp3"], tmp_path)
        assert [clip.replace(".clip.mp3", ".npy") for clip in placed] == names
