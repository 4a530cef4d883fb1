"""No byte of a store changes unseen, wherever it stands; and what is found is said with what to do about it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from datamodules.storage import verify as module
from datamodules.storage.index import read_columns, read_layout
from datamodules.storage.shards import COLUMNS, SHARD_FORMATS, StoreError
from datamodules.storage.store import Store
from datamodules.storage.verify import Finding, remove_damaged, verify
from tests.datamodules.storage.stores import N_CLIPS, RATE, flip, make_clips, write


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def stores(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store of several shards in each format."""
    folder = tmp_path_factory.mktemp("stores")
    for name in SHARD_FORMATS:
        write(audio, folder / name, shard_format=name, shard_bytes=30000)
    return folder


@pytest.fixture(params=SHARD_FORMATS)
def store(request: pytest.FixtureRequest, stores: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(stores / request.param, tmp_path / "store")


def shards_of(store: Path) -> list[Path]:
    return sorted(path for path in store.iterdir() if path.suffix in SHARD_FORMATS.values())


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [str(finding) for finding in findings]
    return findings[0]


# whole --------------------------------------------------------------------------------------------------------------


def test_whole_store_has_no_findings_and_is_read_to_its_last_byte(store: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert verify(store, workers=2, on_bytes=lambda checked, total: seen.append((checked, total))) == []
    assert len(shards_of(store)) > 2
    size = sum(path.stat().st_size for path in shards_of(store))
    assert {total for _, total in seen} == {size} == {sum(checked for checked, _ in seen)}


def test_store_without_a_clip_is_whole(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.wav").touch()
    write(tmp_path / "in", tmp_path / "s")
    assert verify(tmp_path / "s") == []


@pytest.mark.parametrize("remove", [False, True])
def test_flipped_byte_of_the_failures_is_found_and_decoding_again_mends_it(tmp_path: Path, remove: bool) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.wav").touch()
    write(tmp_path / "in", tmp_path / "s")
    failures = tmp_path / "s" / "failures.csv"
    kept = failures.read_bytes()
    flip(failures, len(kept) // 2)
    assert only(verify(tmp_path / "s"))[:2] == ("failures.csv", "damaged")
    if remove:
        assert remove_damaged(tmp_path / "s", verify(tmp_path / "s")) == [failures]
        assert only(verify(tmp_path / "s"))[:2] == ("failures.csv", "missing")
    write(tmp_path / "in", tmp_path / "s")
    assert verify(tmp_path / "s") == []
    assert failures.read_bytes() == kept


# flipped bytes ------------------------------------------------------------------------------------------------------


def regions(shard: Path) -> dict[str, tuple[Path, int, int]]:
    """File, first byte and end of the samples, of every column and of what is before and behind them."""
    layout = read_layout(shard)
    end = layout.offset + layout.samples * layout.channels * layout.dtype.itemsize
    found = {"header": (shard, 0, layout.offset), "pcm": (shard, layout.offset, end)}
    if shard.suffix == ".h5":
        with h5py.File(shard) as file:
            columns = {name: file[f"clips/{name}"].id for name in COLUMNS}
            places = {name: (column.get_offset(), column.get_storage_size()) for name, column in columns.items()}
        found |= {name: (shard, at, at + size) for name, (at, size) in places.items()}
        return found | {"end": (shard, shard.stat().st_size - 100, shard.stat().st_size)}
    table = shard.with_suffix(".clips.npz")
    with zipfile.ZipFile(table) as archive:
        for name, member in ((name, archive.getinfo(f"{name}.npy")) for name in COLUMNS):
            found[name] = (table, member.header_offset, member.header_offset + 30 + member.file_size)
    return found | {"end": (table, table.stat().st_size - 100, table.stat().st_size)}


@pytest.mark.parametrize("region", ["header", "pcm", "end", *COLUMNS])
def test_flipped_byte_is_found(store: Path, region: str) -> None:
    rng = np.random.default_rng(len(region))
    shard = shards_of(store)[1]
    file, begin, end = regions(shard)[region]
    whole = file.read_bytes()
    for at in (begin, int(rng.integers(begin, end)), end - 1):
        flip(file, at)
        finding = only(verify(store))
        assert (finding.where, finding.kind) == (shard.name, "damaged")
        file.write_bytes(whole)
    assert verify(store) == []


def test_clips_whose_samples_changed_are_named(store: Path) -> None:
    shard = max(shards_of(store), key=lambda path: path.stat().st_size)
    ids = [name.decode() for name in read_columns(shard, ("clip_id",))["clip_id"]]
    layout, table = read_layout(shard), read_columns(shard, ("start", "length"))
    flip(shard, layout.offset + 2 * int(table["start"][1]))  # first byte of the second clip
    flip(shard, layout.offset + 2 * int(table["start"][2] + table["length"][2]) - 1)  # last of the third
    finding = only(verify(store))
    assert (finding.n_clips, finding.clip_ids) == (2, tuple(ids[1:3]))
    assert str(finding) == (
        f"{shard.name}: 2 of {len(ids)} clips are not what was written ({ids[1]}, {ids[2]}): delete it "
        "(tools/verify_store.py --remove-damaged does) and run the same tools/decode_to_hdf.py command again"
    )


def test_many_threads_find_what_one_does(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, shard in enumerate(shards_of(store)):
        flip(shard, read_layout(shard).offset + 101 * i)
    (store / "foreign.txt").touch()
    serial = verify(store)
    assert len(serial) == len(shards_of(store)) + 1
    monkeypatch.setattr(module, "_SPAN_BYTES", 3000)  # several spans a shard, some of part of a clip
    assert verify(store, workers=4) == serial


# shards that are not there, or not what they should be --------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_shard_is_found(store: Path, share: float) -> None:
    for file in (shards_of(store)[0], max(store.glob("shard-00000*"))):
        whole = file.read_bytes()
        os.truncate(file, int(share * len(whole)))
        finding = only(verify(store))
        assert finding.kind == "damaged"
        assert file.suffix == ".npz" or f"bytes in place of {len(whole)}" in finding.what
        file.write_bytes(whole + b"x")
        assert only(verify(store)).kind == "damaged"
        file.write_bytes(whole)


def test_missing_shard_is_found(store: Path) -> None:
    shard = shards_of(store)[1]
    n_clips = len(read_columns(shard, ("start",))["start"])
    shard.unlink()
    shard.with_suffix(".clips.npz").unlink(missing_ok=True)
    finding = only(verify(store))
    assert (finding.where, finding.kind, finding.n_clips) == (shard.name, "missing", n_clips)
    assert str(finding).endswith(": run the same tools/decode_to_hdf.py command again")


def test_missing_table_damages_its_shard(stores: Path, tmp_path: Path) -> None:
    store = shutil.copytree(stores / "npy", tmp_path / "store")
    (store / "shard-00001.clips.npz").unlink()
    finding = only(verify(store))
    assert (finding.where, finding.kind) == ("shard-00001.npy", "damaged")
    assert "its table shard-00001.clips.npz is missing" in finding.what


def test_swapped_shards_are_found(store: Path) -> None:
    first, second, *_ = shards_of(store)
    first.rename(store / "aside")
    second.rename(first)
    (store / "aside").rename(second)
    assert [finding.where for finding in verify(store)] == [first.name, second.name]


def test_foreign_files_and_leftovers_are_told_apart(store: Path, tmp_path: Path) -> None:
    shutil.copy(shards_of(store)[0], store / f"shard-00099{shards_of(store)[0].suffix}")
    (store / "notes.txt").touch()
    (store / ".shard-00003.part").touch()
    found = {finding.where: finding.kind for finding in verify(store)}
    foreign = f"shard-00099{shards_of(store)[0].suffix}"
    assert found == {foreign: "foreign", "notes.txt": "foreign", ".shard-00003.part": "leftover"}


def test_disk_that_fails_is_told_from_a_lack_of_rights(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(code: int) -> Any:
        def frame_checksum(path: Path, **_: int) -> int:
            raise OSError(code, os.strerror(code), str(path))

        return frame_checksum

    monkeypatch.setattr(module, "frame_checksum", fail(errno.EACCES))
    denied = verify(store)
    assert {finding.kind for finding in denied} == {"unreadable"}
    assert "it cannot be read (Permission denied): make it readable" in str(denied[0])
    assert remove_damaged(store, denied) == []
    monkeypatch.setattr(module, "frame_checksum", fail(errno.EIO))
    assert {finding.kind for finding in verify(store)} == {"damaged"}


def test_samples_that_the_disk_fails_to_read_are_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def checksum(file: Any, size: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "checksum", checksum)
    assert sum(len(finding.clip_ids) for finding in verify(store)) == N_CLIPS


# store.json ---------------------------------------------------------------------------------------------------------


def test_flipped_byte_in_store_json_is_found_or_says_the_same(store: Path) -> None:
    path = store / "store.json"
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 150).tolist():
        flip(path, at)
        findings = verify(store)
        if not findings:  # white space for white space
            assert json.loads(path.read_bytes()) == json.loads(whole)
        else:
            assert only(findings).kind == "unreadable"
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["sample_rate", "channels", "shards"])
def test_edited_store_json_is_found(audio: Path, store: Path, name: str) -> None:
    state = json.loads((store / "store.json").read_text())
    state[name] = [] if name == "shards" else state[name] + 1
    (store / "store.json").write_text(json.dumps(state))
    assert only(verify(store)).what.startswith("nothing else was checked, it is not what was written: copy it again")
    for use in (Store, partial(write, audio)):
        with pytest.raises(StoreError, match=r"store\.json is not what was written: copy it again, or decode again"):
            use(store)


def test_unfinished_store_is_a_finding_and_no_store_an_error(store: Path, tmp_path: Path) -> None:
    (store / "store.json").rename(store / ".begun.json")
    finding = only(verify(store))
    assert finding.kind == "unfinished"
    assert str(finding).endswith("run the same tools/decode_to_hdf.py command again, it goes on where it stopped")
    with pytest.raises(StoreError, match=r"gone does not exist: give the folder that tools/decode_to_hdf\.py"):
        verify(tmp_path / "gone")
    (store / ".begun.json").unlink()
    with pytest.raises(StoreError, match=r"holds no store\.json"):
        verify(store)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        verify(store, workers=0)


# mending ------------------------------------------------------------------------------------------------------------


def test_removed_shards_are_decoded_again(audio: Path, store: Path) -> None:
    shard = shards_of(store)[1]
    shard_format = json.loads((store / "store.json").read_text())["shard_format"]
    before = Store(store).table.drop(columns="start")
    flip(shard, read_layout(shard).offset)
    removed = remove_damaged(store, verify(store))
    assert shard in removed
    assert not any(path.exists() for path in removed)
    assert only(verify(store)).kind == "missing"
    write(audio, store, shard_format=shard_format)
    assert verify(store) == []
    assert Store(store).table.drop(columns="start").equals(before)


def test_damage_is_not_sealed_in_by_a_later_run(audio: Path, tmp_path: Path) -> None:
    """It was: every run described all shards anew, as it found them."""
    folder, store = shutil.copytree(audio, tmp_path / "in"), tmp_path / "store"
    write(folder, store)
    shard = shards_of(store)[0]
    file, begin, _ = regions(shard)["artist"]
    flip(file, begin)
    soundfile.write(folder / "new.wav", np.zeros(100, dtype=np.int16), RATE)
    write(folder, store)
    assert only(verify(store)).where == shard.name
