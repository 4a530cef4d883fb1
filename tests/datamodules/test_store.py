"""The store: what is written is read, whatever was killed in between, and what is damaged is said."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile

from datamodules.pool import Outcome
from datamodules.shards import ShardWriter, StoreError
from datamodules.sources import Source, find_sources
from datamodules.store import Store
from datamodules.writer import Summary, write_store

RATE = 8000
N_CLIPS = 24


def pcm_of(i: int) -> np.ndarray:
    """Clip i: noise of its own seed and length."""
    rng = np.random.default_rng(i)
    return rng.integers(-20000, 20000, (int(rng.integers(800, 4000)), 1)).astype(np.int16)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    for i in range(N_CLIPS):
        (folder / f"class{i % 3}").mkdir(exist_ok=True)
        soundfile.write(folder / f"class{i % 3}" / f"clip{i:03d}.wav", pcm_of(i), RATE)
    return folder


def write(audio: Path, out: Path, **settings: Any) -> Summary:
    return write_store(find_sources(audio), out, **({"sample_rate": RATE} | settings))


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


def content(path: Path) -> pd.DataFrame:
    """All that a store holds, save where in which shard; samples as bytes."""
    store = Store(path)
    table = store.table.drop(columns="start")
    table["pcm"] = [store.read(row).tobytes() for row in range(len(store))]
    return table


def leftovers(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if file.name.startswith("."))


# what is written is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
def test_samples_and_columns_come_back(audio: Path, tmp_path: Path, shard_format: str) -> None:
    summary = write(audio, tmp_path / "s", shard_format=shard_format, shard_bytes=40000)
    store = Store(tmp_path / "s")
    assert (summary.clips, summary.kept, summary.failures, len(store)) == (N_CLIPS, 0, [], N_CLIPS)
    assert (store.sample_rate, store.channels) == (RATE, 1)
    assert store.clip_ids.tolist() == [source.clip_id for source in find_sources(audio)]
    assert leftovers(tmp_path / "s") == []
    table = store.table
    for row, clip_id in enumerate(store.clip_ids):
        expected = pcm_of(int(clip_id[-7:-4]))
        np.testing.assert_array_equal(store.read(row), expected)
        line = table.iloc[row]
        full_scale = expected.astype(float) / 32768
        assert line.length == len(expected) == store.lengths[row]
        # float32 of the column
        assert line.peak == pytest.approx(np.abs(full_scale).max(), rel=1e-6)
        # float32 of the sum over some thousand samples
        assert line.rms == pytest.approx(np.sqrt(np.mean(full_scale**2)), rel=1e-5)
        status = (audio / clip_id).stat()
        assert (line.source_bytes, line.source_mtime) == (status.st_size, status.st_mtime)
        assert (line.source, line.status, line.codec) == (str(audio / clip_id), "ok", "wav pcm_16")
    assert list(store.verify()) == []


def test_hdf5_and_npy_hold_the_same(audio: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "hdf5")
    write(audio, tmp_path / "npy", shard_format="npy")
    pd.testing.assert_frame_equal(content(tmp_path / "hdf5"), content(tmp_path / "npy"))


def test_shard_can_be_read_by_anything_that_reads_hdf5(stored: Path) -> None:
    with h5py.File(stored / "shard-00000.h5") as file:
        pcm = file["pcm"]
        assert (pcm.dtype, pcm.chunks, pcm.compression, pcm.ndim) == (np.dtype("<i2"), None, None, 2)
        assert pcm.id.get_offset() > 0
        assert file.userblock_size == 0
        first = int(file["clips/clip_id"].asstr()[0][-7:-4])
        np.testing.assert_array_equal(pcm[: file["clips/length"][0]], pcm_of(first))


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
    out = np.zeros((1, 2, 300), dtype=np.int16)
    store.read_into(out, np.array([1]), np.array([100]), np.array([300]))
    np.testing.assert_array_equal(out[0], pcm[100:400].T)


def test_batch_is_filled_and_the_rest_left_alone(stored: Path) -> None:
    store = Store(stored)
    rows = np.array([23, 0, 7, 7])
    starts, lengths = np.array([0, 10, 100, 0]), np.array([700, 500, 1, 0])
    out = np.full((4, 1, 800), 123, dtype=np.int16)
    store.read_into(out, rows, starts, lengths)
    for i in range(4):
        expected = store.read(int(rows[i]), int(starts[i]), int(lengths[i]))[:, 0]
        np.testing.assert_array_equal(out[i, 0, : lengths[i]], expected)
        assert (out[i, 0, lengths[i] :] == 123).all()


def test_reading_outside_is_an_error(stored: Path) -> None:
    store = Store(stored)
    n, out = int(store.lengths[3]), np.zeros((1, 1, 100), dtype=np.int16)
    for row, start, length in ((-1, 0, 1), (N_CLIPS, 0, 1), (N_CLIPS, 0, None)):
        with pytest.raises(IndexError, match=f"row must be between 0 and 23, got {row}"):
            store.read(row, start, length)
    for start, length in ((-1, 5), (0, n + 1), (n - 1, 2), (n + 1, None)):
        with pytest.raises(IndexError, match=rf"class0/clip009\.wav has samples 0 to {n}, got start {start}"):
            store.read(3, start, length)
    with pytest.raises(IndexError, match="lengths must be at most the 100 samples of out, got 101"):
        store.read_into(out, np.array([3]), np.array([0]), np.array([101]))
    with pytest.raises(ValueError, match=r"out must be int16 of shape \(1, 1, time\), got float32"):
        store.read_into(out.astype("f4"), np.array([3]), np.array([0]), np.array([1]))
    with pytest.raises(ValueError, match="rows, starts and lengths must agree"):
        store.read_into(out, np.array([3]), np.array([0, 1]), np.array([1]))
    with pytest.raises(ValueError, match="read-only"):
        store.read(0)[0] = 1


def _checksum(store: Store, results: Any) -> None:
    results.send(sum(int(store.read(row).astype(np.int64).sum()) for row in range(len(store))))


@pytest.mark.parametrize("method", ["fork", "spawn"])
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


# resuming -----------------------------------------------------------------------------------------------------------


def test_number_of_workers_does_not_matter(audio: Path, stored: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "s", workers=3, shard_bytes=30000)
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))


def test_finished_store_is_left_as_it_is(audio: Path, copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    summary = write(audio, copied)
    assert (summary.kept, summary.decoded) == (N_CLIPS, 0)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


def test_files_can_be_added_and_changed_later(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    write(folder, out)
    soundfile.write(folder / "aaa.wav", pcm_of(100), RATE)
    soundfile.write(folder / "class1" / "clip001.wav", pcm_of(101), RATE)
    summary = write(folder, out)
    assert (summary.clips, summary.kept) == (N_CLIPS + 1, N_CLIPS - 1)
    store = Store(out)
    assert len(store) == N_CLIPS + 1
    np.testing.assert_array_equal(store.read(0), pcm_of(100))
    np.testing.assert_array_equal(store.read(int(store.rows(["class1/clip001.wav"])[0])), pcm_of(101))
    write(folder, tmp_path / "fresh")
    pd.testing.assert_frame_equal(content(out), content(tmp_path / "fresh"))


def test_file_that_changed_and_now_fails_is_withdrawn_until_it_is_mended(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    write(folder, out)
    (folder / "class1" / "clip001.wav").write_bytes(b"")
    assert [failure.reason for failure in write(folder, out).failures] == ["empty file (0 bytes)"]
    assert Store(out).rows(["class1/clip001.wav"]).tolist() == [-1]
    assert len(Store(out).table) == N_CLIPS - 1
    assert Store(out).failures.clip_id.tolist() == ["class1/clip001.wav"]
    soundfile.write(folder / "class1" / "clip001.wav", pcm_of(1), RATE)
    assert write(folder, out).failures == []
    assert len(Store(out)) == N_CLIPS
    assert len(Store(out).failures) == 0


def test_sources_that_are_gone_do_not_take_the_clips_with_them(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    sources = find_sources(folder)
    write_store(sources, out, sample_rate=RATE)
    (folder / "class0" / "clip000.wav").unlink()
    assert write_store(sources, out, sample_rate=RATE).clips == N_CLIPS  # as a table lists it still
    assert write(folder, out).clips == N_CLIPS  # as a folder no longer does


def shard_row(i: int) -> dict[str, Any]:
    """What the columns say of clip i."""
    row = {"clip_id": f"class/clip{i:03d}.wav", "source": "", "source_bytes": 0, "source_mtime": 0.0}
    row |= {"codec": "wav pcm_16", "decoder": "soundfile", "status": "ok", "note": "", "clipped": 0}
    return row | {"artist": "", "title": "", "declared_seconds": len(pcm_of(i)) / RATE}


def begin_shard(folder: Path, audio: Path, n_clips: int) -> ShardWriter:
    """A growing shard with the first clips, as a killed worker leaves it, and the settings beside it."""
    folder.mkdir()
    stored = {"format": "audiocls PCM store", "version": 1, "sample_rate": RATE, "channels": 1, "shard_format": "hdf5"}
    (folder / ".begun.json").write_text(json.dumps(stored))
    shard = ShardWriter(folder, 0, shard_format="hdf5", channels=1)
    for source in find_sources(audio)[:n_clips]:
        i, status = int(source.clip_id[-7:-4]), source.path.stat()
        where = {"clip_id": source.clip_id, "source": str(source.path)}
        shard.add(pcm_of(i), **shard_row(i) | where | {"source_bytes": status.st_size, "source_mtime": status.st_mtime})
    return shard


def tear_journal(shard: ShardWriter) -> None:
    os.truncate(shard.journal, shard.journal.stat().st_size - 7)


def tear_part(shard: ShardWriter) -> None:
    os.truncate(shard.part, shard.part.stat().st_size - 7)


def append_unjournalled(shard: ShardWriter) -> None:
    with shard.part.open("ab") as part:
        part.write(bytes(1001))


def flip_in_last_clip(shard: ShardWriter) -> None:
    flip(shard.part, shard.part.stat().st_size - 10)


def scribble(shard: ShardWriter) -> None:
    with shard.journal.open("ab") as journal:
        journal.write(b'{"clip_id": 3}\n[]\nnot json\n')


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "n_kept"),
    [
        (lambda shard: None, 10),
        (tear_journal, 9),
        (tear_part, 9),
        (append_unjournalled, 10),
        (flip_in_last_clip, 9),
        (scribble, 10),
        (lambda shard: shard.part.unlink(), 0),
        (lambda shard: shard.journal.unlink(), 0),
    ],
    ids=[
        "whole",
        "journal torn",
        "part torn",
        "no line for the last",
        "flipped",
        "false lines",
        "no part",
        "no journal",
    ],
)
def test_part_is_recovered_up_to_its_damage(audio: Path, tmp_path: Path, damage: Any, n_kept: int) -> None:
    damage(begin_shard(tmp_path / "s", audio, 10))
    shard = ShardWriter(tmp_path / "s", 0, shard_format="hdf5", channels=1)
    assert len(shard.rows) == n_kept
    shard.add(pcm_of(99), **shard_row(99))
    path = shard.close()
    assert path is not None
    with h5py.File(path) as file:
        names = [name.decode() for name in file["clips/clip_id"][()]]
        pcm = np.split(file["pcm"][()], file["clips/start"][1:])
    assert len(names) == len(pcm) == n_kept + 1
    for name, samples in zip(names, pcm, strict=True):
        np.testing.assert_array_equal(samples, pcm_of(int(name[-7:-4])))
    assert leftovers(tmp_path / "s") == [".begun.json"]


def test_growing_shard_of_a_killed_run_is_closed_and_kept(audio: Path, stored: Path, tmp_path: Path) -> None:
    tear_journal(begin_shard(tmp_path / "s", audio, 10))
    assert write(audio, tmp_path / "s").kept == 9
    assert leftovers(tmp_path / "s") == []
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))


def test_kill_between_publishing_and_clearing_away(audio: Path, stored: Path, tmp_path: Path) -> None:
    shard = begin_shard(tmp_path / "s", audio, 10)
    part, journal = shard.part.read_bytes(), shard.journal.read_bytes()
    shard.close()
    shard.part.write_bytes(part)
    shard.journal.write_bytes(journal)
    (tmp_path / "s" / ".shard-00007.tmp").write_bytes(b"half a shard")
    assert write(audio, tmp_path / "s").kept == 10
    assert leftovers(tmp_path / "s") == []
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))


# workers that die ---------------------------------------------------------------------------------------------------

_DECODERS = """
import os, signal, time
from pathlib import Path
from datamodules.decode import decode

def fragile(path, **settings):
    name = Path(path).name
    if name == "clip004.wav":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "clip007.wav":
        time.sleep(60)
    if name == "clip009.wav":
        raise RuntimeError("a library\\nbroke")
    return decode(path, **settings)

def stopping(path, **settings):
    raise SystemExit(3)

def deaf(path, **settings):
    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), "hears Ctrl-C"
    return decode(path, **settings)
"""


@pytest.fixture
def decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that the worker processes can import too: spawn hands them sys.path."""
    (tmp_path / "bad_decoders.py").write_text(_DECODERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__("bad_decoders")


def test_crash_hang_and_error_cost_their_clip_alone(audio: Path, stored: Path, tmp_path: Path, decoders: Any) -> None:
    seen: list[Outcome] = []
    out = tmp_path / "s"
    summary = write(audio, out, workers=2, decoder=decoders.fragile, clip_timeout=2.0, on_clip=seen.append)
    reasons = {failure.clip_id: failure.reason for failure in summary.failures}
    assert reasons == {
        "class1/clip004.wav": "the decoder was ended by SIGSEGV",
        "class1/clip007.wav": "took longer than 2 s",
        "class0/clip009.wav": "RuntimeError: a library broke",
    }
    assert sorted(outcome.clip_id for outcome in seen) == [source.clip_id for source in find_sources(audio)]
    assert leftovers(out) == []
    whole = content(stored)
    pd.testing.assert_frame_equal(content(out), whole[~whole.clip_id.isin(reasons)].reset_index(drop=True))
    failures = Store(out).failures
    assert failures.columns.tolist() == ["clip_id", "source", "outcome", "codec", "reason"]
    assert dict(zip(failures.clip_id, failures.reason, strict=True)) == reasons
    assert set(failures.outcome) == {"failed"}
    assert write(audio, out).failures == []  # tried again
    pd.testing.assert_frame_equal(content(out), whole)


def test_the_first_worker_of_a_process_is_deaf_to_ctrl_c(audio: Path, tmp_path: Path, decoders: Any) -> None:
    """It was not: starting multiprocessing's resource tracker, once a process, let SIGINT through again."""
    code = (
        "import sys; from pathlib import Path; from bad_decoders import deaf; "
        "from datamodules.sources import find_sources; from datamodules.writer import write_store; "
        f"print(write_store(find_sources(Path({str(audio)!r}))[:4], Path({str(tmp_path / 's')!r}), "
        f"sample_rate={RATE}, decoder=deaf).failures)"
    )
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n", done.stderr


def test_every_clip_may_kill_its_worker(audio: Path, tmp_path: Path, decoders: Any) -> None:
    sources = find_sources(audio)[:2]
    summary = write_store(sources, tmp_path / "s", sample_rate=RATE, decoder=decoders.stopping)
    assert [failure.reason for failure in summary.failures] == ["the decoder left with 3"] * 2
    assert len(Store(tmp_path / "s")) == 0
    assert Store(tmp_path / "s").table.empty


def test_file_that_is_missing_or_damaged_is_listed(audio: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes((audio / "class0" / "clip000.wav").read_bytes()[:900])
    sources = [Source("cut.wav", cut), Source("gone.wav", tmp_path / "gone.wav")]
    summary = write_store(sources, tmp_path / "s", sample_rate=RATE)
    assert (summary.clips, summary.short, summary.salvaged) == (1, 1, 0)
    failures = Store(tmp_path / "s").failures.set_index("clip_id")
    assert failures.loc["gone.wav", ["outcome", "reason"]].tolist() == ["failed", "no such file"]
    assert failures.loc["cut.wav", "outcome"] == "short"
    assert "cut short" in failures.loc["cut.wav", "reason"]


# stores that are not to be trusted ----------------------------------------------------------------------------------


def test_flipped_byte_is_found(copied: Path) -> None:
    store = Store(copied)
    row = int(store.rows(["class2/clip011.wav"])[0])
    shard = next(path for path in copied.glob("shard-*.h5") if _holds(path, b"class2/clip011.wav"))
    with h5py.File(shard) as file:
        at = file["clips/clip_id"][()].tolist().index(b"class2/clip011.wav")
        offset = file["pcm"].id.get_offset() + 2 * int(file["clips/start"][at])
    flip(shard, offset + 2 * int(store.lengths[row]) - 1)
    assert list(Store(copied).verify()) == ["class2/clip011.wav"]


def _holds(path: Path, clip_id: bytes) -> bool:
    with h5py.File(path) as file:
        return clip_id in file["clips/clip_id"][()]


def edit_state(path: Path, **changes: Any) -> None:
    state = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(state | changes))


def test_unfinished_missing_and_foreign_stores_say_what_to_do(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"gone does not exist: give the folder that tools/decode_to_hdf\.py"):
        Store(tmp_path / "gone")
    edit_state(copied, version=99)
    with pytest.raises(StoreError, match="is of version 99, this reads up to 1: update audiocls"):
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


def test_other_settings_are_refused_with_what_to_type(audio: Path, copied: Path) -> None:
    for settings, typed in (
        ({"sample_rate": 16000}, "type --sample-rate 8000, or"),
        ({"channels": 2}, "type --channels 1, or"),
        ({"shard_format": "npy"}, "type --format hdf5, or"),
    ):
        with pytest.raises(StoreError, match=typed):
            write(audio, copied, **settings)
    assert len(Store(copied)) == N_CLIPS


def test_folder_with_other_files_is_refused(audio: Path) -> None:
    with pytest.raises(StoreError, match="holds 'class0' and is no PCM store: give a new folder"):
        write(audio, audio)
    assert leftovers(audio) == []


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sample_rate", 0),
        ("channels", 0),
        ("workers", 0),
        ("shard_bytes", 0),
        ("clip_timeout", 0),
        ("shard_format", "x"),
    ],
)
def test_settings_out_of_range(audio: Path, tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be"):
        write(audio, tmp_path / "s", **{setting: value})
    assert not (tmp_path / "s").exists()


def test_second_writer_is_refused(audio: Path, tmp_path: Path) -> None:
    def again(_: Outcome) -> None:
        with pytest.raises(StoreError, match="is being written by another run"):
            write(audio, tmp_path / "s")

    write_store(find_sources(audio)[:2], tmp_path / "s", sample_rate=RATE, on_clip=again)


def test_interrupted_run_is_no_store_and_is_gone_on_with(audio: Path, stored: Path, tmp_path: Path) -> None:
    def stop(outcome: Outcome) -> None:
        if outcome.clip_id == "class1/clip004.wav":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        write(audio, tmp_path / "s", on_clip=stop)
    with pytest.raises(StoreError, match="is not finished"):
        Store(tmp_path / "s")
    assert write(audio, tmp_path / "s").kept >= 9  # those in front of it: 8 of class0, clip001 and clip004
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))
