"""The data sets: their published layouts, their own splits, and what is said where something is missing."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import datamodules
from datamodules import AudioFolder, AudioTable
from datamodules.base import AudioDataModule
from datamodules.decoding.sources import find_sources
from datamodules.storage.writer import write_store
from tests.conftest import make_store
from tests.datamodules.layouts.clips import write_clip


def write_table(folder: Path, rows: list[dict[str, object]]) -> Path:
    """A CSV with its clips beside it."""
    for row in rows:
        write_clip(folder / str(row["path"]))
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv"


def labelled(n: int = 12, **more: object) -> list[dict[str, object]]:
    """Rows of two classes, half of the first eight in each, for train; the rest for validation and test."""
    sides = ["train"] * (n - 4) + ["validation"] * 2 + ["test"] * 2
    return [{"path": f"c{i:02d}.wav", "label": "ab"[i % 2], "split": sides[i], **more} for i in range(n)]


def counts(data: AudioDataModule) -> dict[str, int]:
    return data.table["split"].value_counts().to_dict()


# --- any data set ---


def test_every_data_set_that_is_shown_is_one() -> None:
    for name in datamodules.__all__:
        assert issubclass(getattr(datamodules, name), AudioDataModule)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        datamodules.Nothing  # noqa: B018


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches_carry_the_clips_own_samples_and_targets(tones: Path, split: str) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.5, batch_size=5)
    loader = {"train": data.train_dataloader, "validation": data.val_dataloader, "test": data.test_dataloader}[split]()
    ids = data.clip_ids(split)
    for batch in loader:
        for waveform, target, clip, length in zip(*batch, strict=True):
            assert data.class_names[target] == ids[clip].split("/")[0]
            samples = data.audio(split, int(clip))
            assert length == len(samples) <= 4000
            assert torch.equal(waveform[:, :length], torch.tensor(samples.T.copy()))
            assert not waveform[:, length:].any()


@pytest.mark.parametrize("setting", [{"threads": 3}, {"num_workers": 1}, {"mapped": False}])
def test_how_batches_are_read_changes_nothing_in_them(tones: Path, setting: dict[str, Any]) -> None:
    expected = list(AudioFolder(str(tones), clip_seconds=0.1, batch_size=4).train_dataloader())
    batches = list(AudioFolder(str(tones), clip_seconds=0.1, batch_size=4, **setting).train_dataloader())
    assert len(batches) == len(expected) == 4
    for one, two in zip(batches, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_whole_clips_come_whole(tones: Path, split: str) -> None:
    data = AudioFolder(str(tones), clip_seconds=None, hop_seconds=0.1, batch_size=4)
    seen = 0
    for batch in data.train_dataloader() if split == "train" else data.val_dataloader():
        for waveform, clip, length in zip(batch.waveform, batch.clip, batch.length, strict=True):
            samples = torch.from_numpy(data.audio(split, int(clip)).T.copy())
            assert torch.equal(waveform[:, :length], samples)
            assert not waveform[:, length:].any()
            seen += 1
        assert split == "train" or batch.waveform.shape[2] % 800 == 0
    assert seen == (len(data.clips(split)) // 4 * 4 if split == "train" else len(data.clips(split)))


def test_balanced_training_draws_every_class_equally_often(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1, batch_size=1, order="balanced")
    drawn = torch.cat([batch.target for batch in data.train_dataloader()])
    assert torch.bincount(drawn).tolist() == [len(drawn) // 3] * 3


def test_steps_of_an_epoch_are_known_before_the_loader_is(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1, batch_size=4)
    assert data.batches_per_epoch() == len(data.train_dataloader()) == 4
    assert data.batches_per_epoch(world_size=2) == 2


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        *(
            ({name: value}, f"{name} must be a time above 0 s, such as 2.0, or null, got {value}")
            for name in ("clip_seconds", "hop_seconds")
            for value in (0, -1, math.nan, math.inf)
        ),
        ({"order": "rand"}, "order must be one of random, balanced, blocked, got 'rand'; did you mean 'random'"),
        ({"padding": "zeros"}, "padding must be one of zero, repeat, got 'zeros'; did you mean 'zero'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
    ],
)
def test_settings_out_of_range(tones: Path, setting: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        AudioFolder(str(tones), **{"clip_seconds": 0.1, **setting})


@pytest.mark.parametrize("seconds", [1e5, 1e300])
def test_a_window_out_of_all_proportion_to_the_clips_is_refused(tones: Path, seconds: float) -> None:
    """A gigasecond ended in numpy's traceback, and 2000 for two seconds in batches of padding."""
    with pytest.raises(ValueError, match=r"^clip_seconds must be at most 100 times the longest clip of .*, 0\.4"):
        AudioFolder(str(tones), clip_seconds=seconds).train_dataloader()
    assert AudioFolder(str(tones), clip_seconds=30, batch_size=1).clip_samples == 240_000  # padding is meant


@pytest.mark.parametrize("setting", ["clip_seconds", "hop_seconds"])
def test_a_window_or_hop_of_less_than_a_sample_is_refused(tones: Path, setting: str) -> None:
    """It was taken for a sample, and trained on."""
    data = AudioFolder(str(tones), **{"clip_seconds": 0.1, setting: 1e-9})
    with pytest.raises(ValueError, match=f"{setting} must be at least a sample, 0.000125 s at 8000 Hz, got 1e-09"):
        data.val_dataloader()


@pytest.mark.parametrize("seconds", [4.0, None])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_that_memory_cannot_hold_are_refused_before_they_are_allocated(
    tones: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, num_workers: int
) -> None:
    data = AudioFolder(str(tones), clip_seconds=seconds, batch_size=6, num_workers=num_workers)
    largest = 6 * (data.clip_samples or int(data.clips("train").lengths.max())) * 2
    monkeypatch.setattr("datamodules.base.memory_limit", lambda: 5 * largest - 1)
    with pytest.raises(ValueError, match=r"^5 batches are under way at once, .*: lower data.batch_size \(6\) or"):
        data.train_dataloader()
    monkeypatch.setattr("datamodules.base.memory_limit", lambda: 5 * largest)
    data.train_dataloader()


def test_a_name_that_would_drive_the_terminal_is_escaped_in_warnings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for clip in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"):
        write_clip(tmp_path / "audio" / f"{clip}.wav")
    (tmp_path / "audio" / "a" / "\x1b[31m\n.wav").touch()
    _ = AudioFolder(str(make_store(tmp_path / "audio", tmp_path / "s", sample_rate=8000)), clip_seconds=0.1).table
    assert r"such as a/\x1b[31m\n.wav: see" in caplog.messages[-1]


def test_fewer_training_clips_than_processes_are_refused(tones: Path) -> None:
    """An epoch of no batch ended at once, and the model was kept as it had begun."""
    data = AudioFolder(str(tones), clip_seconds=0.1)
    n_clips = len(data.clips("train"))
    assert data.batches_per_epoch(world_size=n_clips) == 1
    with pytest.raises(ValueError, match=rf"'train' has {n_clips} clips for {n_clips + 1} processes: each needs one"):
        data.batches_per_epoch(world_size=n_clips + 1)


def test_an_unknown_split_is_refused(tones: Path) -> None:
    with pytest.raises(ValueError, match="split must be one of train, validation, test, got 'dev'"):
        AudioFolder(str(tones), clip_seconds=0.1).clips("dev")  # pyright: ignore[reportArgumentType]


def test_an_unfinished_store_says_how_to_finish_it(tone_files: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    str(make_store(tone_files, store, sample_rate=8000))
    (store / "store.json").rename(store / ".begun.json")
    with pytest.raises(ValueError, match=r"is not finished: run the same tools/decode_to_hdf.py command again"):
        _ = AudioFolder(str(store), clip_seconds=0.1).num_classes


# --- AudioFolder ---


def test_audio_folder_takes_classes_from_folders(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1)
    assert data.class_names == ["high", "low", "mid"]
    assert (data.num_classes, data.sample_rate, data.task) == (3, 8000, "multiclass")
    assert counts(data) == {"train": 18, "validation": 6, "test": 6}


def test_audio_folder_keeps_groups_on_one_side(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1, group_pattern=r"_([0-9])\.")
    assert data.table.groupby("group")["split"].nunique().eq(1).all()
    with pytest.raises(ValueError, match=r"group_pattern 'kit' finds no group in 'high/high_0.wav'"):
        _ = AudioFolder(str(tones), clip_seconds=0.1, group_pattern="kit").table


def test_a_group_pattern_that_is_no_regular_expression_is_refused_in_one_line(tones: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^group_pattern '\(\[' is no regular expression \(unterminated .*\): write a"
    ):
        AudioFolder(str(tones), clip_seconds=0.1, group_pattern="([")


def test_audio_folder_draws_folds_in_which_every_clip_is_tested_once(tones: Path) -> None:
    settings: dict[str, Any] = {"clip_seconds": 0.1, "n_folds": 5, "group_pattern": r"_([0-9])\."}
    tables = [AudioFolder(str(tones), fold=fold, **settings).table for fold in range(1, 6)]
    tested = pd.concat([table["clip_id"][table["split"] == "test"] for table in tables])
    assert sorted(tested) == sorted(tables[0]["clip_id"])
    assert all(table.groupby("group")["fold"].nunique().eq(1).all() for table in tables)
    assert counts(AudioFolder(str(tones), fold=2, **settings)) == {"train": 18, "validation": 6, "test": 6}
    named = AudioFolder(str(tones), fold=2, validation_fold=5, **settings).table
    assert set(named["fold"][named["split"] == "validation"]) == {5}


def test_the_clips_for_validation_can_be_trained_on(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1, train_on_validation=True)
    assert counts(data) == {"train": 24, "test": 6}
    assert len(data.clips("train")) == 24
    with pytest.raises(ValueError, match="nothing is left to validate: "):
        data.val_dataloader()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": 2}, "fold and validation_fold are of folds that are drawn, got 2 and None: set n_folds"),
        ({"validation_fold": 2}, "fold and validation_fold are of folds that are drawn, got 1 and 2: set n_folds"),
        ({"n_folds": 2}, r"n_folds must be at least 3 \(test, validation, train\), got 2"),
        ({"n_folds": 3, "fold": 4}, r"fold must be one of \[1, 2, 3\], got 4"),
        ({"n_folds": 11}, "label 'high' has 10 clips, and 11 are needed to have one in each fold"),
    ],
)
def test_audio_folder_refuses_folds_that_cannot_be(settings: dict[str, int], message: str, tones: Path) -> None:
    with pytest.raises(ValueError, match=message):
        _ = AudioFolder(str(tones), clip_seconds=0.1, **settings).table  # pyright: ignore[reportArgumentType]


def test_audio_folder_refuses_files_outside_class_folders(tmp_path: Path) -> None:
    write_clip(tmp_path / "audio" / "loose.wav")
    with pytest.raises(ValueError, match=r"'loose.wav' stands in no class folder"):
        _ = AudioFolder(
            str(make_store(tmp_path / "audio", tmp_path / "store", sample_rate=8000)), clip_seconds=0.1
        ).table


def test_audio_folder_refuses_a_table_as_its_root(tones: Path) -> None:
    with pytest.raises(ValueError, match=r"root must be a folder of class folders, got clips.csv: use AudioTable"):
        AudioFolder(str(tones), "clips.csv", clip_seconds=0.1)


def test_a_missing_or_empty_folder_is_named(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        _ = AudioFolder(str(tones), str(tmp_path / "nowhere"), clip_seconds=0.1).table
    with pytest.raises(ValueError, match="holds no audio file"):
        _ = AudioFolder(str(tones), str(tmp_path), clip_seconds=0.1).table


def test_one_class_only_and_a_class_with_one_clip(tmp_path: Path) -> None:
    for i in range(5):
        write_clip(tmp_path / "one" / "kick" / f"{i}.wav")
    store = str(make_store(tmp_path / "one", tmp_path / "store", sample_rate=8000))
    with pytest.raises(ValueError, match=r"at least two classes are needed, got 1 \(kick\)"):
        _ = AudioFolder(store, clip_seconds=0.1).table
    write_clip(tmp_path / "one" / "rare" / "0.wav")
    store = str(make_store(tmp_path / "one", tmp_path / "store", sample_rate=8000))
    with pytest.raises(ValueError, match="class 'rare' has 1 clip, and 3 are needed"):
        _ = AudioFolder(store, clip_seconds=0.1).table


def test_clips_that_failed_to_decode_are_counted_and_left_out(
    tone_files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audio = tmp_path / "audio"
    for file in tone_files.rglob("*.wav"):
        (audio / file.parent.name).mkdir(parents=True, exist_ok=True)
        (audio / file.parent.name / file.name).write_bytes(file.read_bytes())
    (audio / "low" / "empty.wav").touch()
    store = str(make_store(audio, tmp_path / "store", sample_rate=8000))
    with caplog.at_level(logging.WARNING):
        data = AudioFolder(store, str(audio), clip_seconds=0.1)
        assert len(data.table) == 30
    assert "1 of 31 clips could not be decoded and are left out, such as low/empty.wav" in caplog.text


def test_clips_that_were_never_decoded_end_the_run_unless_allowed(tone_files: Path, tmp_path: Path) -> None:
    sources = find_sources(tone_files)
    write_store(sources[:-2], tmp_path / "store", sample_rate=8000)
    settings = {"store": str(tmp_path / "store"), "root": str(tone_files), "clip_seconds": 0.1}
    with pytest.raises(ValueError, match=r"2 of 30 clips are not in .*set data.allow_missing to 2"):
        _ = AudioFolder(**settings).table
    assert len(AudioFolder(**settings, allow_missing=2).table) == 28


def test_a_store_of_other_clips_is_called_that(tones: Path, tmp_path: Path) -> None:
    """It advised to allow that all of them are missing."""
    for name in ("kick/a.wav", "kick/b.wav", "kick/c.wav", "snare/a.wav", "snare/b.wav", "snare/c.wav"):
        write_clip(tmp_path / "drums" / name)
    with pytest.raises(
        ValueError, match=r"^6 of 6 clips are not in .*: it is the store of other clips; set data\.store"
    ):
        _ = AudioFolder(str(tones), str(tmp_path / "drums"), clip_seconds=0.1).table


def test_a_clip_whose_file_was_moved_is_there_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was trained on under its old label and under its new one."""
    audio, store = tmp_path / "audio", tmp_path / "store"
    for i in range(4):
        write_clip(audio / "guitar" / f"{i}.wav")
        write_clip(audio / "rain" / f"{i + 4}.wav")
    make_store(audio, store, sample_rate=8000)
    assert len(AudioFolder(str(store), clip_seconds=0.1).table) == 8
    assert "left out" not in caplog.text
    (audio / "guitar" / "3.wav").rename(audio / "rain" / "3.wav")
    make_store(audio, store, sample_rate=8000)
    table = AudioFolder(str(store), clip_seconds=0.1).table
    assert "1 clips in " in caplog.text
    assert "are left out, such as guitar/3.wav: their files were moved or deleted before it was last" in caplog.text
    assert table["clip_id"].tolist() == [
        *(f"guitar/{i}.wav" for i in range(3)),
        *(f"rain/{i}.wav" for i in range(3, 8)),
    ]
    caplog.clear()
    assert AudioFolder(str(store), str(audio), clip_seconds=0.1).table.equals(table)  # as the warning says
    assert caplog.text == ""
    write_clip(audio / "guitar" / "3.wav")
    make_store(audio, store, sample_rate=8000)
    assert len(AudioFolder(str(store), clip_seconds=0.1).table) == 9  # as it says too


@pytest.mark.data
def test_philharmonia_leaves_out_its_one_empty_file(
    recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = recordings / "philharmonia"
    sources = [s for s in find_sources(root) if s.clip_id.split("/")[0] in ("saxophone", "oboe")]
    write_store(sources, tmp_path / "store", sample_rate=16000)
    data = AudioFolder(str(tmp_path / "store"), clip_seconds=1.0)
    with caplog.at_level(logging.WARNING):
        assert len(data.table) == len(sources) - 1
    assert "saxophone_Fs3_15_fortissimo_normal.mp3" in caplog.text


# --- AudioTable ---


@pytest.mark.parametrize("label", ["", " "])
def test_audio_table_refuses_a_class_without_a_name(label: str, tmp_path: Path) -> None:
    rows = labelled()
    rows[2]["label"] = rows[4]["label"] = label
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    with pytest.raises(
        ValueError, match=r"clips.csv leaves column 'label' empty for clip 'c02.wav' \(2 such clips\): w"
    ):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_split_that_is_not_drawn_names_the_share_to_raise(split: str, tones: Path, tmp_path: Path) -> None:
    """It said only to give it to some clips."""
    table = write_table(tmp_path / "audio", [{key: row[key] for key in ("path", "label")} for row in labelled()])
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    settings: dict[str, Any] = {"clip_seconds": 0.1, split: 0}
    for data in (AudioFolder(str(tones), **settings), AudioTable(store, str(table), **settings)):
        loader = data.val_dataloader if split == "validation" else data.test_dataloader
        with pytest.raises(ValueError, match=rf"no clip has the split '{split}': .*: raise data\.{split} above 0"):
            loader()
    given = write_table(tmp_path / "given", [row for row in labelled() if row["split"] != split])
    data = AudioTable(store, str(given), **settings)
    loader = data.val_dataloader if split == "validation" else data.test_dataloader
    with pytest.raises(
        ValueError, match=f"no clip has the split '{split}': give it to some clips, of every class"
    ) as no:
        loader()
    assert str(no.value).endswith("the last epoch is kept") == (split == "validation")


def test_audio_table_reads_split_and_label(tmp_path: Path) -> None:
    table = write_table(tmp_path / "audio", labelled())
    data = AudioTable(str(make_store(table, tmp_path / "store", sample_rate=8000)), str(table), clip_seconds=0.1)
    assert data.class_names == ["a", "b"]
    assert counts(data) == {"train": 8, "validation": 2, "test": 2}


def test_audio_table_reads_several_labels(tmp_path: Path) -> None:
    rows = labelled()
    rows[0]["label"] = "a | b"
    rows[1]["label"] = ""
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    data = AudioTable(store, str(table), task="multilabel", clip_seconds=0.1)
    assert data.clips("train").targets[:3].tolist() == [[1, 1], [0, 0], [1, 0]]
    with pytest.raises(ValueError, match=r"gives several labels to a clip \('a \| b'\): set data.task to multilabel"):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table


def test_audio_table_keeps_labels_as_they_are_written(tmp_path: Path) -> None:
    names = ["007", "7"]
    rows = [{**row, "label": names["ab".index(str(row["label"]))]} for row in labelled()]
    rows[0]["path"] = ".//" + str(rows[0]["path"])
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    assert AudioTable(store, str(table), clip_seconds=0.1).class_names == names
    several = AudioTable(store, str(table), task="multilabel", clip_seconds=0.1)
    assert several.clips("train").targets.tolist() == [[1, 0], [0, 1]] * 4


def test_white_space_behind_a_name_makes_neither_two_classes_nor_two_speakers(tmp_path: Path) -> None:
    """Clips of "kim" trained on and of "kim " tested on were no leak."""
    rows = [{**row, "label": f"{row['label']}{' ' * (i % 3)}"} for i, row in enumerate(labelled())]
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    assert AudioTable(store, str(table), clip_seconds=0.1).class_names == ["a", "b"]
    speakers = [{**row, "group": "kim " if row["split"] == "test" else "kim\t"} for row in rows]
    pd.DataFrame(speakers).to_csv(table, index=False)
    with pytest.raises(ValueError, match="group 'kim' stands in validation and train and test"):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table


def test_a_clip_without_a_group_stands_alone(tmp_path: Path) -> None:
    """All of them were one group, and so on one side."""
    rows = [{**row, "group": f"g{i // 4}" if i < 8 else ""} for i, row in enumerate(labelled(24))]
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    given = AudioTable(store, str(table), clip_seconds=0.1)
    assert set(given.groups("test") or ()) == {None}
    drawn = pd.DataFrame(rows).drop(columns="split")
    drawn.to_csv(table, index=False)
    sides = AudioTable(store, str(table), clip_seconds=0.1, validation=0.25, test=0.25).table
    assert set(sides["split"][sides["group"].isna()]) == {"train", "validation", "test"}
    assert sides.groupby("group")["split"].nunique().tolist() == [1, 1]


def test_audio_table_reads_numbers(tmp_path: Path) -> None:
    rows = [{**row, "label": f"{i / 10}|-{i}"} for i, row in enumerate(labelled())]
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    settings: dict[str, Any] = {"task": "regression", "targets": ["arousal", "valence"], "clip_seconds": 0.1}
    data = AudioTable(store, str(table), **settings)
    assert data.class_names == ["arousal", "valence"]
    assert torch.allclose(data.clips("validation").targets, torch.tensor([[0.8, -8.0], [0.9, -9.0]]))
    with pytest.raises(ValueError, match="order 'balanced' draws classes equally often, and regression has none"):
        AudioTable(store, str(table), order="balanced", **settings).train_dataloader()
    with pytest.raises(ValueError, match=r"must give 1 numbers to each clip \(arousal\), got label '0.0\|-0'"):
        _ = AudioTable(store, str(table), **(settings | {"targets": ["arousal"]})).table
    with pytest.raises(ValueError, match=r"needs the names of its numbers: set targets, such as \[valence, arousal\]"):
        AudioTable(store, str(table), task="regression", clip_seconds=0.1)
    with pytest.raises(ValueError, match=r"got \['valence'\] for multiclass: leave it out"):
        AudioTable(store, str(table), targets=["valence"], clip_seconds=0.1)
    rows[3]["label"] = "nan|1"
    pd.DataFrame(rows).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"clip 'c03.wav' has a target that is no number \(1 such clips\)"):
        _ = AudioTable(store, str(table), **settings).table


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_audio_table_draws_a_split_of_what_has_no_classes(task: Any, tmp_path: Path) -> None:
    written = ["a|b", "a", "b", "a|b|c", "c"] if task == "multilabel" else [f"{i / 7}" for i in range(30)]
    rows = [{"path": row["path"], "label": written[i % len(written)]} for i, row in enumerate(labelled(30))]
    rows[0]["label"] = "b|c" if task == "multilabel" else "99"  # no other clip has these
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    targets = ["tempo"] if task == "regression" else None
    data = AudioTable(store, str(table), task=task, targets=targets, clip_seconds=0.1, test=0.2, validation=0.2)
    assert counts(data) == {"train": 18, "validation": 6, "test": 6}


def test_audio_table_takes_folds_or_draws_a_split(tmp_path: Path) -> None:
    rows = [{key: row[key] for key in ("path", "label")} for row in labelled(30)]
    folded = [{**row, "fold": i // 2 % 5 + 1} for i, row in enumerate(rows)]
    table = write_table(tmp_path / "folds", folded)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    assert counts(AudioTable(store, str(table), clip_seconds=0.1, fold=5)) == {
        "train": 18,
        "test": 6,
        "validation": 6,
    }
    with pytest.raises(ValueError, match=r"has a column 'fold': say which is the test with data.fold \(one of 1, 2"):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table
    drawn = write_table(tmp_path / "folds", rows)
    assert counts(AudioTable(store, str(drawn), clip_seconds=0.1, test=0.2, validation=0.2)) == {
        "train": 18, "test": 6, "validation": 6,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"has no column 'fold' but data.fold is 1"):
        _ = AudioTable(store, str(drawn), clip_seconds=0.1, fold=1).table


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": "a"}, r"at least two classes are needed, got 1 \(a\)"),
        ({"group": "everyone"}, "group 'everyone' stands in validation and train and test"),
        ({"split": "dev"}, "split must be one of train, validation, test, got 'dev'"),
    ],
)
def test_audio_table_refuses(tmp_path: Path, change: dict[str, object], match: str) -> None:
    table = write_table(tmp_path / "audio", [{**row, **change} for row in labelled()])
    with pytest.raises(ValueError, match=match):
        _ = AudioTable(str(make_store(table, tmp_path / "store", sample_rate=8000)), str(table), clip_seconds=0.1).table


def test_audio_table_names_a_missing_column_an_unknown_file_and_an_unseen_label(tmp_path: Path) -> None:
    rows = labelled()
    table = write_table(tmp_path / "audio", rows)
    store = str(make_store(table, tmp_path / "store", sample_rate=8000))
    with pytest.raises(ValueError, match=r"does not exist: set data.root to the CSV table"):
        _ = AudioTable(store, str(tmp_path / "nowhere.csv"), clip_seconds=0.1).table
    pd.DataFrame(rows).rename(columns={"label": "class"}).to_csv(table, index=False)
    with pytest.raises(
        ValueError, match="has no column 'label', only path, class, split: its first line must name the columns path, l"
    ):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table
    pd.DataFrame([*rows, {"path": "new.wav", "label": "a", "split": "train"}]).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"1 of 13 clips are not in .*, such as 'new.wav'"):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table
    rows[-1]["label"] = "never"
    pd.DataFrame(rows).to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"label 'never' stands in test \(1 clips\) and never in train"):
        _ = AudioTable(store, str(table), clip_seconds=0.1).table
