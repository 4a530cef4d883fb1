"""UrbanSound8K: its folds, its classes, what its table says, and what is wrong where something is missing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from datamodules import UrbanSound8K
from datamodules.splits import shared_groups
from datamodules.storage.writer import write_store
from datamodules.urbansound8k import CLASSES, read_metadata
from tests.datamodules.layouts import urbansound8k

FOLD_SIZES = [873, 888, 925, 990, 936, 823, 838, 806, 816, 837]
CLASS_SIZES = dict.fromkeys(CLASSES, 1000) | {"car_horn": 429, "gun_shot": 374, "siren": 929}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(root, store) of a small UrbanSound8K."""
    folder = tmp_path_factory.mktemp("urbansound8k")
    urbansound8k.write(folder / "root")
    write_store(UrbanSound8K.sources(folder / "root"), folder / "store", sample_rate=8000)
    return folder / "root", folder / "store"


def module(tiny: tuple[Path, Path], **settings: Any) -> UrbanSound8K:
    return UrbanSound8K(str(tiny[1]), str(tiny[0]), **{"clip_seconds": 0.3, **settings})


def changed(tiny: tuple[Path, Path], root: Path, **columns: str) -> Path:
    """A root with the table alone, some columns of its first row changed."""
    metadata = pd.read_csv(tiny[0] / "metadata" / "UrbanSound8K.csv", dtype=object)
    for column, value in columns.items():
        metadata.loc[0, column] = value
    (root / "metadata").mkdir(parents=True)
    metadata.to_csv(root / "metadata" / "UrbanSound8K.csv", index=False)
    return root


def folds_of(data: UrbanSound8K) -> dict[str, list[int]]:
    return {str(split): sorted(set(part["fold"])) for split, part in data.table.groupby("split")}


def test_one_fold_is_the_test_and_another_of_the_nine_the_validation(tiny: tuple[Path, Path]) -> None:
    assert folds_of(module(tiny)) == {"test": [1], "validation": [2], "train": list(range(3, 11))}
    chosen = module(tiny, fold=2, validation_fold=1)
    assert folds_of(chosen) == {"test": [2], "validation": [1], "train": list(range(3, 11))}
    assert chosen.folds == list(range(1, 11))


def test_the_validation_fold_after_the_last_is_the_first(tiny: tuple[Path, Path]) -> None:
    assert set(module(tiny, fold=10).read_table().query("split == 'validation'")["fold"]) == {1}


def test_classes_stand_in_the_order_of_their_ids(tiny: tuple[Path, Path]) -> None:
    data = module(tiny)
    assert data.class_names == list(CLASSES)
    clips = data.table[data.table["split"] == "train"]
    assert data.clips("train").targets.tolist() == clips["class_id"].tolist()
    assert clips["label"].tolist() == [CLASSES[i] for i in clips["class_id"]]


def test_the_table_says_what_the_release_says_of_a_clip(tiny: tuple[Path, Path]) -> None:
    clip = module(tiny).table.set_index("clip_id").loc["fold2/20003-3-0-2.wav"]
    assert clip.to_dict() == {
        "label": "dog_bark", "split": "validation", "group": "20003", "fold": 2, "class_id": 3, "salience": 2,
        "start": 1.5, "end": 1.6,
    }  # fmt: skip


def test_the_folder_above_the_release_will_do(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "UrbanSound8K").symlink_to(tiny[0])
    assert UrbanSound8K.listed(tmp_path) == UrbanSound8K.listed(tiny[0])
    assert [s.clip_id for s in UrbanSound8K.sources(tmp_path)] == [s.clip_id for s in UrbanSound8K.sources(tiny[0])]


@pytest.mark.parametrize("padding", ["zero", "repeat"])
def test_short_clips_are_filled_as_asked(tiny: tuple[Path, Path], padding: str) -> None:
    data = module(tiny, padding=padding, batch_size=4)
    ids, short = data.clip_ids("validation"), 0
    for batch in data.val_dataloader():
        for waveform, clip, length in zip(batch.waveform, batch.clip, batch.length, strict=True):
            if length < waveform.shape[1]:
                assert ids[int(clip)].split("-")[1] in "13579"  # the layout's clips of 0.1 s
                assert waveform[:, length:].any() == (padding == "repeat")
                short += 1
    assert short == 5


def test_whole_clips_come_at_their_own_length(tiny: tuple[Path, Path]) -> None:
    data = module(tiny, clip_seconds=None, hop_seconds=0.1, batch_size=1)
    assert {batch.waveform.shape[2] for batch in data.val_dataloader()} == {800, 2400}


def test_a_recording_in_two_folds_is_counted_and_kept_and_a_new_one_refused(
    tiny: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert shared_groups(module(tiny).table) == [str(urbansound8k.SHARED)]
    assert "1 groups stand on two sides of the official split, as published: 106905" in caplog.text
    monkeypatch.setattr(UrbanSound8K, "known_shared", frozenset())
    with pytest.raises(ValueError, match=r"^group '106905' stands in train and test \(1 such groups\)"):
        _ = module(tiny).table


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"fold": 11}, r"^fold must be one of \[1, 2, 3, 4, 5, 6, 7, 8, 9, 10\], got 11$"),
        ({"fold": 0}, r"^fold must be one of .*, got 0$"),
        ({"fold": 3, "validation_fold": 3}, r"^validation_fold must be one of .* and not fold=3, got 3$"),
    ],
)
def test_folds_that_are_not_there(tiny: tuple[Path, Path], setting: dict[str, int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        _ = module(tiny, **setting).table


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        ({"fold": "one"}, "cannot be read as a table .* it is not the one of UrbanSound8K; unpack it again$"),
        (
            {"class": "dog_bark"},
            r"gives '10000-0-0-1.wav' the class 'dog_bark' with id 0 and the recording 10000",
        ),
        ({"classID": "3", "class": "dog_bark"}, r"which disagree \(1 such clips\): unpack UrbanSound8K again$"),
        ({"fsID": "1000"}, r"the recording 1000, which disagree \(1 such clips\)"),
        ({"classID": "10"}, r"with id 10 and the recording 10000, which disagree"),
        ({"slice_file_name": "noise.wav"}, r"gives 'noise.wav' the class 'air_conditioner'"),
    ],
)
def test_a_table_that_is_not_the_releases_is_refused(
    tiny: tuple[Path, Path], tmp_path: Path, columns: dict[str, str], match: str
) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        read_metadata(changed(tiny, tmp_path, **columns))
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "nowhere"):
        message = rf"no metadata/UrbanSound8K.csv under '{wrong}': give the folder that UrbanSound8K was unpacked in"
        with pytest.raises(ValueError, match=message):
            _ = UrbanSound8K(str(tiny[1]), str(wrong), clip_seconds=0.1).table
    half = changed(tiny, tmp_path / "half")
    with pytest.raises(ValueError, match=r"half holds the table of UrbanSound8K but no folder audio: unpack it there"):
        UrbanSound8K.sources(half)
    (half / "metadata" / "UrbanSound8K.csv").write_text("filename,fold,target\n1-1-A-1.wav,1,1\n")
    with pytest.raises(ValueError, match=r"has no column 'slice_file_name', only filename, fold, target: it is not"):
        UrbanSound8K.listed(half)


def test_clips_of_the_table_that_were_not_decoded_end_the_run_unless_allowed(
    tiny: tuple[Path, Path], tmp_path: Path
) -> None:
    some = [source for source in UrbanSound8K.sources(tiny[0]) if not source.clip_id.startswith("fold10/")]
    write_store(some, tmp_path / "store", sample_rate=8000)
    with pytest.raises(ValueError, match=r"^1 of 39 clips are not in .*, such as 'fold10/100006-6-0-10.wav': decode"):
        _ = module((tiny[0], tmp_path / "store")).table
    assert len(module((tiny[0], tmp_path / "store"), allow_missing=1).table) == 38


# --- the release itself ---


@pytest.mark.data
def test_the_published_table_has_its_published_counts(recordings: Path) -> None:
    metadata = read_metadata(recordings / "UrbanSound8K")
    seconds = (metadata["end"] - metadata["start"]).round(6)
    assert metadata["fold"].value_counts().sort_index().tolist() == FOLD_SIZES
    assert metadata["class"].value_counts().to_dict() == CLASS_SIZES
    assert metadata["salience"].value_counts().to_dict() == {1: 5702, 2: 3030}
    assert ((seconds < 4).sum(), (seconds < 1).sum(), seconds.min()) == (1399, 456, 0.054517)
    assert metadata["fsID"].nunique() == 1297


@pytest.mark.data
def test_the_published_folds_share_the_five_known_recordings_and_no_other(recordings: Path) -> None:
    metadata = read_metadata(recordings / "UrbanSound8K")
    shared = shared_groups(metadata.rename(columns={"fsID": "group", "fold": "split"}))
    assert {str(recording) for recording in shared} == UrbanSound8K.known_shared
    clips = metadata[metadata["fsID"].isin(shared)]
    assert len(clips) == 152
    assert clips.groupby(["fsID", "fold"])["class"].nunique().eq(1).all()
    assert clips.groupby("fsID")["class"].nunique().eq(2).all()


@pytest.mark.data
@pytest.mark.parametrize("fold", range(1, 11))
def test_every_published_fold_can_be_the_test(recordings: Path, fold: int) -> None:
    table = UrbanSound8K("unused", str(recordings / "UrbanSound8K"), fold=fold, clip_seconds=4.0).read_table()
    sizes = table["split"].value_counts().to_dict()
    after = FOLD_SIZES[fold % 10]
    assert sizes == {"test": FOLD_SIZES[fold - 1], "validation": after, "train": 8732 - FOLD_SIZES[fold - 1] - after}


@pytest.mark.data
def test_a_part_of_the_release_says_how_much_is_missing(recordings: Path, tmp_path: Path) -> None:
    root = recordings / "UrbanSound8K"
    sources = UrbanSound8K.sources(root)
    assert len(sources) == 120
    assert {source.clip_id for source in sources} < set(UrbanSound8K.listed(root))
    assert write_store(sources[::2], tmp_path / "store", sample_rate=8000).failures == []
    with pytest.raises(ValueError, match=r"^8672 of 8732 clips are not in .*, such as 'fold5/100032-3-0-0.wav', '"):
        _ = UrbanSound8K(str(tmp_path / "store"), str(root), clip_seconds=4.0).table
    data = UrbanSound8K(str(tmp_path / "store"), str(root), clip_seconds=4.0, allow_missing=8672)
    assert data.table["split"].value_counts().to_dict() == {"test": 20, "validation": 20, "train": 20}
    assert data.num_classes == 10
    batch = next(iter(data.test_dataloader()))
    assert batch.waveform.shape == (20, 1, 32000)
    assert (batch.length == 32000).all()  # these copies were filled to 4 s
