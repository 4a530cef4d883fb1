"""What every data set with a published layout must keep, on a small tree in that layout."""

from __future__ import annotations

import csv
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import datamodules
from datamodules.base import AudioDataModule
from datamodules.splits import SPLITS, shared_groups
from datamodules.storage.writer import write_store

RATE = 8000
# data sets of the user's own, without a layout to keep
OWN = {"AudioFolder", "AudioTable"}
PUBLISHED = sorted(set(datamodules.__all__) - OWN)


def kind(name: str) -> type[AudioDataModule]:
    return getattr(datamodules, name)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Data set -> (root, store)."""
    made = {}
    for name in PUBLISHED:
        layout = import_module(f"tests.datamodules.layouts.{kind(name).__module__.rpartition('.')[2]}")
        folder = tmp_path_factory.mktemp(name)
        layout.write(folder / "root")
        write_store(kind(name).sources(folder / "root"), folder / "store", sample_rate=RATE)
        made[name] = (folder / "root", folder / "store")
    return made


@pytest.fixture(scope="module", params=PUBLISHED)
def data(request: pytest.FixtureRequest, trees: dict[str, tuple[Path, Path]]) -> AudioDataModule:
    root, store = trees[request.param]
    return kind(request.param)(str(store), str(root), clip_seconds=0.1, batch_size=4)


def test_every_split_has_clips_and_gives_batches(data: AudioDataModule) -> None:
    data.setup("fit")
    for split, loader in zip(SPLITS, (data.train_dataloader, data.val_dataloader, data.test_dataloader), strict=True):
        assert len(data.clip_ids(split)) > 0, split
        batch = next(iter(loader()))
        assert batch.waveform.dtype == torch.int16
        assert batch.target.shape[1:] == (() if data.task == "multiclass" else (data.num_classes,))


def test_nothing_leaks(data: AudioDataModule) -> None:
    ids = [clip_id for split in SPLITS for clip_id in data.clip_ids(split)]
    assert len(set(ids)) == len(ids) == len(data.table)
    assert set(shared_groups(data.table)) <= data.known_shared


def test_every_class_of_the_targets_is_named_once(data: AudioDataModule) -> None:
    assert len(set(data.class_names)) == data.num_classes > (1 if data.task != "regression" else 0)
    targets = data.clips("train").targets.numpy()
    assert np.isfinite(targets).all()
    if data.task == "multiclass":
        assert targets.min() >= 0
        assert targets.max() < data.num_classes


def test_the_order_of_the_files_changes_nothing(data: AudioDataModule) -> None:
    again = type(data)(str(data.store_path), str(data.root), clip_seconds=0.1, batch_size=4)
    assert again.table.equals(data.table)


def test_a_clip_whose_file_is_gone_is_left_out(
    data: AudioDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Most data sets went on with it, though a file that was moved is there under its new name as well."""
    store = shutil.copytree(data.store_path, tmp_path / "store")
    clip_id = data.clip_ids("test")[0]
    with (store / "failures.csv").open("a", newline="") as file:
        csv.writer(file).writerow((clip_id, f"/gone/{clip_id}", "gone", "", "its file no longer exists"))
    caplog.clear()
    left = type(data)(str(store), str(data.root), clip_seconds=0.1).table
    assert left["clip_id"].tolist() == [one for one in data.table["clip_id"] if one != clip_id]
    assert f"1 clips in {store} are left out, such as {clip_id}: their files were moved or deleted" in caplog.text


@pytest.mark.parametrize("name", PUBLISHED)
def test_sources_are_the_files_that_are_listed(name: str, trees: dict[str, tuple[Path, Path]]) -> None:
    sources = kind(name).sources(trees[name][0])
    ids = [source.clip_id for source in sources]
    assert ids == sorted(set(ids))
    assert all(source.path.is_file() for source in sources)
    listed = kind(name).listed(trees[name][0])
    assert listed is None or set(ids) >= set(listed)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_folder_that_is_not_the_release_is_named(name: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for wrong in (empty, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=wrong.name) as caught:
            kind(name).sources(wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_release_says_its_licence_and_what_to_cite(name: str) -> None:
    releases = kind(name).releases
    assert releases
    for release in releases.values():
        assert release.title
        assert release.licence
        assert release.citation
        assert release.homepage.startswith("http")
        assert release.archives or release.how
        for archive in release.archives:
            assert archive.url.startswith("https://") or archive.checksum, archive
            assert archive.checksum is None or archive.checksum.partition(":")[0] in ("sha256", "sha1", "md5", "sha512")
