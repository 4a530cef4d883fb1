"""The store: what is written is read, whatever was killed in between, and what is damaged is said."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from datamodules.samples import to_float
from datamodules.storage.index import read_layout
from datamodules.storage.seal import seal
from datamodules.storage.shards import StoreError
from datamodules.storage.store import Store
from tests.datamodules.storage.stores import N_CLIPS, RATE, flip, make_clips, pcm_of, write


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def stored(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several shards."""
    out = tmp_path_factory.mktemp("stored") / "store"
    write(audio, out, shard_bytes=40000)
    return out


@pytest.fixture
def copied(stored: Path, tmp_path: Path) -> Path:
    """A copy of that store, to be damaged."""
    return shutil.copytree(stored, tmp_path / "copied")


# what is written is read --------------------------------------------------------------------------------------------


def test_shard_can_be_read_by_anything_that_reads_hdf5(stored: Path) -> None:
    with h5py.File(stored / "shard-00000.h5") as file:
        pcm = file["pcm"]
        assert (pcm.dtype, pcm.chunks, pcm.compression, pcm.ndim) == (np.dtype("<i2"), None, None, 2)
        assert pcm.id.get_offset() > 0
        assert file.userblock_size == 0
        first = int(file["clips/clip_id"].asstr()[0][-7:-4])
        np.testing.assert_array_equal(pcm[: file["clips/length"][0]], pcm_of(first))


def test_shard_that_this_process_has_open_with_a_lock_can_be_read(stored: Path) -> None:
    with h5py.File(stored / "shard-00000.h5", "r"):
        assert len(Store(stored)) == N_CLIPS


def test_npy_shard_can_be_read_by_numpy_without_pickle(audio: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "s", shard_format="npy")
    pcm = np.load(tmp_path / "s" / "shard-00000.npy", allow_pickle=False)
    with np.load(tmp_path / "s" / "shard-00000.clips.npz", allow_pickle=False) as clips:
        np.testing.assert_array_equal(pcm[: clips["length"][0]], pcm_of(int(clips["clip_id"][0][-7:-4])))


def test_stereo_and_names_beyond_ascii(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-9999, 9999, (500, 2)).astype(np.int16)
    for name in ("ä.wav", "z.wav", "日本.wav"):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "in" / name, pcm, RATE)
    write(tmp_path / "in", tmp_path / "s", channels=2)
    store = Store(tmp_path / "s")
    assert store.clip_ids.tolist() == ["z.wav", "ä.wav", "日本.wav"]
    assert store.rows(["日本.wav", "b.wav", "ä.wav", "zz"]).tolist() == [2, -1, 1, -1]
    out = np.zeros((1, 300, 2), dtype=np.int16)
    store.read_into(out, np.array([1]), np.array([100]), np.array([300]))
    np.testing.assert_array_equal(out[0], pcm[100:400])


def pcm_at(store: Store, row: int) -> np.ndarray:
    """What was written as the clip of that row."""
    return pcm_of(int(store.clip_ids[row].removesuffix(".wav")[-3:]))


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("time", [700, 800])
def test_batch_is_filled_and_silent_behind_its_clips(stored: Path, mapped: bool, time: int) -> None:
    store = Store(stored, mapped=mapped)
    rows = np.array([23, 0, 7, 7])
    starts, lengths = np.array([0, 10, 100, 0]), np.array([700, 500, 1, 0])
    out = np.full((4, time, 1), 123, dtype=np.int16)
    store.read_into(out, rows, starts, lengths)
    for i in range(4):
        clip = pcm_at(store, rows[i])
        np.testing.assert_array_equal(out[i, : lengths[i]], clip[starts[i] : starts[i] + lengths[i]])
        assert not out[i, lengths[i] :].any()


def test_silence_of_mu_law_is_its_middle(audio: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "s", sample_format="mulaw")
    store = Store(tmp_path / "s")
    out = np.zeros((1, 10, 1), dtype=np.uint8)
    store.read_into(out, np.array([0]), np.array([0]), np.array([4]))
    assert np.abs(to_float(out[0, 4:])).max() < 1e-4
    assert out[0, :4].tolist() == store.read(0, 0, 4).tolist()


def test_reading_outside_is_an_error(stored: Path) -> None:
    store = Store(stored)
    n, out = int(store.lengths[3]), np.zeros((1, 100, 1), dtype=np.int16)
    for row, start, length in ((-1, 0, 1), (N_CLIPS, 0, 1), (N_CLIPS, 0, None)):
        with pytest.raises(IndexError, match=f"row must be between 0 and 23, got {row}"):
            store.read(row, start, length)
    for start, length in ((-1, 5), (0, n + 1), (n - 1, 2), (n + 1, None)):
        with pytest.raises(IndexError, match=rf"class0/clip009\.wav has samples 0 to {n}, got start {start}"):
            store.read(3, start, length)
    with pytest.raises(IndexError, match="lengths must be at most the 100 samples of out, got 101"):
        store.read_into(out, np.array([3]), np.array([0]), np.array([101]))
    with pytest.raises(ValueError, match=r"out must be int16 of shape \(1, time, 1\), got float32"):
        store.read_into(out.astype("f4"), np.array([3]), np.array([0]), np.array([1]))
    with pytest.raises(ValueError, match="out must be C-contiguous"):
        store.read_into(np.zeros((1, 1, 100), np.int16).transpose(0, 2, 1)[:, ::2], *3 * [np.array([0])])
    with pytest.raises(ValueError, match="rows, starts and lengths must agree"):
        store.read_into(out, np.array([3]), np.array([0, 1]), np.array([1]))
    with pytest.raises(ValueError, match="read-only"):
        store.read(0)[0] = 1


def _checksum(store: Store, results: Any) -> None:
    results.send(sum(int(store.read(row).astype(np.int64).sum()) for row in range(len(store))))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_store_survives_fork_and_spawn(stored: Path, method: str) -> None:
    store = Store(stored)
    expected = sum(int(pcm_of(i).astype(np.int64).sum()) for i in range(N_CLIPS))
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    store.read(0)  # a mapping is open in the parent
    process = context.Process(target=_checksum, args=(store, there))
    process.start()
    there.close()  # so that a child that dies ends the wait
    assert here.recv() == expected
    process.join()
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(again.read(5), store.read(5))


def _read_at_random(path: Path, seed: int, results: Any) -> None:
    store, generator = Store(path), np.random.default_rng(seed)
    out, wrong = np.empty((8, 300, 1), np.int16), 0
    for _ in range(50):
        rows = generator.integers(0, N_CLIPS, 8)
        starts = generator.integers(0, store.lengths[rows] - 300)
        store.read_into(out, rows, starts, np.full(8, 300))
        expected = [pcm_at(store, row)[start : start + 300] for row, start in zip(rows, starts, strict=True)]
        wrong += int((out != np.stack(expected)).sum())
    results.send(wrong)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_eight_processes_read_one_file_at_once(stored: Path) -> None:
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(8)]
    processes = [
        context.Process(target=_read_at_random, args=(stored, seed, there)) for seed, (_, there) in enumerate(pipes)
    ]
    for process, (_, there) in zip(processes, pipes, strict=True):
        process.start()
        there.close()
    assert [here.recv() for here, _ in pipes] == [0] * 8
    assert all(process.join() is None and process.exitcode == 0 for process in processes)


# stores that are not to be trusted ----------------------------------------------------------------------------------


def edit_state(path: Path, **changes: Any) -> None:
    state = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(state | changes))


def test_unfinished_missing_and_foreign_stores_say_what_to_do(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone does not exist: give the folder that tools/decode_to_hdf\.py"):
        Store(tmp_path / "gone")
    edit_state(copied, version=99)
    with pytest.raises(StoreError, match="is of version 99, this reads 2: update audiocls"):
        Store(copied)
    edit_state(copied, format="other")
    with pytest.raises(StoreError, match="is not of a PCM store"):
        Store(copied)
    (copied / "store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        Store(copied)
    (copied / "store.json").rename(copied / ".begun.json")
    with pytest.raises(StoreError, match=r"is not finished: run the same .* command again, it goes on where"):
        Store(copied)
    (copied / ".begun.json").unlink()
    with pytest.raises(StoreError, match=r"holds no store\.json"):
        Store(copied)


def test_damaged_shards_are_found_when_opened(copied: Path) -> None:
    shard = copied / "shard-00001.h5"
    data = shard.read_bytes()
    os.truncate(shard, len(data) - 1000)
    with pytest.raises(StoreError, match=r"shard-00001\.h5 (is|must|has)"):
        Store(copied)
    shard.write_bytes(data + b"x")
    with pytest.raises(StoreError, match=rf"must have {len(data)} bytes, got {len(data) + 1}"):
        Store(copied)
    shard.write_bytes(b"no shard at all")
    with pytest.raises(StoreError, match="is not a shard of PCM"):
        Store(copied)
    with h5py.File(shard, "w") as file:
        file.create_dataset("pcm", data=np.zeros((10, 1), "i2"), chunks=(5, 1))
    with pytest.raises(StoreError, match="its pcm is not contiguous"):
        Store(copied)
    shard.unlink()
    with pytest.raises(StoreError, match=r"shard-00001\.h5 is missing: copy the whole store"):
        Store(copied)


@pytest.mark.parametrize("column", ["start", "length"])
@pytest.mark.parametrize("row", [1, -1])
def test_a_table_that_points_at_other_samples_is_found_when_opened(copied: Path, column: str, row: int) -> None:
    for value in (1, 10**9, -1):
        with h5py.File(copied / "shard-00001.h5", "r+") as file:
            file[f"clips/{column}"][row] = value
        with pytest.raises(StoreError, match=r"shard-00001\.h5 must hold its clips end to end, and its table says"):
            Store(copied)


def test_columns_of_differing_length_are_found_when_opened(copied: Path) -> None:
    with h5py.File(copied / "shard-00001.h5", "r+") as file:
        ids = file["clips/clip_id"][:-1]
        del file["clips/clip_id"]
        file["clips/clip_id"] = ids
        length = file.id.get_filesize()
    state = json.loads((copied / "store.json").read_text())
    state["shards"][1]["bytes"] = length
    (copied / "store.json").write_text(json.dumps(seal(state)))
    with pytest.raises(StoreError, match=r"has no table of clips that can be read \(its columns differ in length\)"):
        Store(copied)


def test_a_header_that_moves_the_samples_is_found_when_opened(copied: Path) -> None:
    """Every clip was then a piece of its neighbours."""
    path = copied / "shard-00001.h5"
    begin, data = read_layout(path).offset, path.read_bytes()
    state = json.loads((copied / "store.json").read_text())["shards"][1]
    layout = begin.to_bytes(8, "little") + state["pcm_bytes"].to_bytes(8, "little")  # as HDF5 writes a contiguous one
    moved = (begin + 64).to_bytes(8, "little") + layout[8:]
    assert data.count(layout) == 1
    path.write_bytes(data.replace(layout, moved))
    with pytest.raises(StoreError, match=rf"samples from byte {begin} on, got [0-9]+ from byte {begin + 64} on: copy"):
        Store(copied)


def test_a_damaged_npy_shard_is_said_in_one_line(audio: Path, tmp_path: Path) -> None:
    """zipfile's and numpy's own errors came through as tracebacks."""
    write(audio, tmp_path / "s", shard_format="npy")
    for name, places in (("shard-00000.clips.npz", range(0, 3000, 97)), ("shard-00000.npy", range(6, 128, 3))):
        path = tmp_path / "s" / name
        for at in places:
            flip(path, at)
            with contextlib.suppress(StoreError):
                Store(tmp_path / "s")
            flip(path, at)
