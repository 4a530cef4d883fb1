"""Writing a store: going on with it, what fails on the way, several ranks, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from datamodules.decoding.sources import Source, find_sources
from datamodules.samples import SAMPLE_DTYPES, from_float
from datamodules.storage.index import read_columns
from datamodules.storage.locks import lock, lock_slice, lock_store
from datamodules.storage.shards import StoreError
from datamodules.storage.store import Store
from datamodules.storage.verify import verify
from datamodules.storage.worker import Outcome
from datamodules.storage.writer import write_store
from tests.datamodules.storage.stores import N_CLIPS, RATE, content, leftovers, make_clips, pcm_of, shards, write


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


def stop_after(n_clips: int) -> Callable[[Outcome], None]:
    """As Ctrl-C would."""
    seen: list[Outcome] = []

    def step(outcome: Outcome) -> None:
        seen.append(outcome)
        if len(seen) == n_clips:
            signal.raise_signal(signal.SIGINT)

    return step


def stop(audio: Path, out: Path, n_clips: int = 5, **settings: Any) -> None:
    """A run that is stopped after some clips."""
    with pytest.raises(KeyboardInterrupt):
        write(audio, out, on_clip=stop_after(n_clips), **settings)


# what is written ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
def test_samples_and_columns_come_back(audio: Path, tmp_path: Path, shard_format: str) -> None:
    summary = write(audio, tmp_path / "s", shard_format=shard_format, shard_bytes=40000)
    store = Store(tmp_path / "s")
    assert (summary.clips, summary.kept, summary.failures, len(store)) == (N_CLIPS, 0, [], N_CLIPS)
    assert summary.seconds == summary.decoded == sum(len(pcm_of(i)) for i in range(N_CLIPS)) / RATE
    assert (store.sample_rate, store.channels) == (RATE, 1)
    assert store.clip_ids.tolist() == [source.clip_id for source in find_sources(audio)]
    assert leftovers(tmp_path / "s") == []
    table = store.table
    for row, clip_id in enumerate(store.clip_ids):
        expected = pcm_of(int(clip_id[-7:-4]))
        np.testing.assert_array_equal(store.read(row), expected)
        line = table.iloc[row]
        assert line.length == len(expected) == store.lengths[row]
        status = (audio / clip_id).stat()
        assert (line.source_bytes, line.source_mtime) == (status.st_size, status.st_mtime)
        assert (line.source, line.status, line.codec) == (str(audio / clip_id), "ok", "wav pcm_16")
    assert verify(tmp_path / "s") == []


def test_hdf5_and_npy_hold_the_same(audio: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "hdf5")
    write(audio, tmp_path / "npy", shard_format="npy")
    pd.testing.assert_frame_equal(content(tmp_path / "hdf5"), content(tmp_path / "npy"))


@pytest.mark.parametrize("sample_format", list(SAMPLE_DTYPES))
def test_every_sample_format_is_stored_as_it_is_decoded(audio: Path, tmp_path: Path, sample_format: Any) -> None:
    write(audio, tmp_path / "s", sample_format=sample_format)
    store = Store(tmp_path / "s")
    expected, _ = from_float(pcm_of(0).astype(np.float32) / 32768, sample_format)
    np.testing.assert_array_equal(store.read(0), expected)
    assert json.loads((tmp_path / "s" / "store.json").read_text())["sample_format"] == sample_format
    assert verify(tmp_path / "s") == []


def test_silent_clipped_and_offset_clips_are_counted(tmp_path: Path) -> None:
    ramp = np.linspace(-0.5, 0.5, 800)
    (tmp_path / "in").mkdir()
    for name, sound in (("zero", 0 * ramp), ("loud", 4 * ramp), ("off", 0.1 * ramp + 0.02), ("fine", ramp)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", sound, RATE, subtype="FLOAT")
    for sample_format, n_clipped in (("int16", 1), ("mulaw", 1), ("float32", 0)):
        summary = write(tmp_path / "in", tmp_path / sample_format, sample_format=sample_format)
        assert (summary.silent, summary.clipped, summary.offset) == (1, n_clipped, 1), sample_format


def test_no_more_than_max_seconds_of_a_clip_are_stored(audio: Path, tmp_path: Path) -> None:
    write(audio, tmp_path / "s", max_seconds=0.15)
    store = Store(tmp_path / "s")
    assert store.lengths.max() == 1200
    np.testing.assert_array_equal(store.read(0), pcm_of(0)[:1200])


def test_native_channels_are_those_of_most_files_and_the_others_fail(audio: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "s"
    folder.mkdir()
    for name, channels in (("a", 2), ("b", 1), ("c", 2)):
        soundfile.write(folder / f"{name}.wav", np.repeat(pcm_of(0), channels, axis=1), RATE)
    assert [failure.clip_id for failure in write(folder, out, channels=None).failures] == ["b.wav"]
    assert (Store(out).channels, len(Store(out))) == (2, 2)
    for name in ("a", "c"):
        (folder / f"{name}.wav").unlink()
    assert write(folder, out, channels=None).clips == 2  # the store's number, not that of the files left
    with pytest.raises(StoreError, match="was begun with --channels native, not --channels 2: type --channels native"):
        write(folder, out, channels=2)


# going on -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_workers_share_a_small_set_and_their_number_does_not_matter(audio: Path, stored: Path, tmp_path: Path) -> None:
    summary = write(audio, tmp_path / "s", workers=2)
    assert len(shards(tmp_path / "s")) == 2  # of which one would have held all
    assert summary.nbytes == sum(len(data) for data in shards(tmp_path / "s").values())
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))


def test_finished_store_is_left_as_it_is(audio: Path, copied: Path) -> None:
    before = {path.name: path.read_bytes() for path in copied.iterdir()}
    summary = write(audio, copied)
    assert (summary.kept, summary.decoded) == (N_CLIPS, 0)
    assert {path.name: path.read_bytes() for path in copied.iterdir()} == before


@pytest.mark.usefixtures("workers")
def test_stopped_run_is_no_store_and_ends_as_if_it_had_not_been(audio: Path, stored: Path, tmp_path: Path) -> None:
    started: list[tuple[int, int]] = []
    stop(audio, tmp_path / "s", 10, shard_bytes=40000)
    with pytest.raises(StoreError, match="is not finished"):
        Store(tmp_path / "s")
    summary = write(audio, tmp_path / "s", shard_bytes=1, workers=2, on_start=lambda *counts: started.append(counts))
    assert summary.kept >= 10
    assert started == [(summary.kept, N_CLIPS - summary.kept)]
    assert shards(tmp_path / "s") == shards(stored)
    assert leftovers(tmp_path / "s") == []


def test_files_that_come_while_a_store_is_under_way_are_further_shards(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    write(folder, tmp_path / "whole", shard_bytes=40000)
    stop(folder, out, shard_bytes=40000)
    assert leftovers(out)  # under way
    soundfile.write(folder / "aaa.wav", pcm_of(100), RATE)
    summary = write(folder, out)
    assert (summary.clips, summary.pending, leftovers(out)) == (N_CLIPS + 1, 0, [])
    made, before = shards(out), shards(tmp_path / "whole")
    assert {name: made[name] for name in before} == before
    assert len(made) == len(before) + 1


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


def test_file_that_was_only_touched_is_not_decoded_again(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    write(folder, out)
    before, path = shards(out), folder / "class1" / "clip001.wav"
    os.utime(path, (1, 1))
    assert write(folder, out).decoded == 0
    assert shards(out) == before
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))  # as many bytes, but others
    os.utime(path, (1, 1))
    assert write(folder, out).kept == N_CLIPS - 1
    assert Store(out).read(int(Store(out).rows(["class1/clip001.wav"])[0]))[-1] != pcm_of(1)[-1]


def test_file_that_changed_and_now_fails_is_withdrawn_until_it_is_mended(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    path = folder / "class1" / "clip001.wav"
    write(folder, out)
    path.write_bytes(b"")
    before = shards(out)
    for _ in range(2):
        assert [failure.reason for failure in write(folder, out).failures] == ["empty file (0 bytes)"]
        assert Store(out).rows(["class1/clip001.wav"]).tolist() == [-1]
        assert len(Store(out).table) == N_CLIPS - 1
        assert Store(out).failures.clip_id.tolist() == ["class1/clip001.wav"]
        assert shards(out) == before  # and none that is empty
    path.unlink()
    write(folder, out)
    assert Store(out).rows(["class1/clip001.wav"]).tolist() == [-1]  # what it once was does not come back
    soundfile.write(path, pcm_of(1), RATE)
    assert write(folder, out).failures == []
    assert len(Store(out)) == N_CLIPS
    assert len(Store(out).failures) == 0


def test_sources_that_are_gone_are_marked_and_keep_their_clips(audio: Path, tmp_path: Path) -> None:
    folder, out = shutil.copytree(audio, tmp_path / "in"), tmp_path / "s"
    sources = find_sources(folder)
    write_store(sources, out, sample_rate=RATE)
    (folder / "class0" / "clip000.wav").unlink()
    assert write_store(sources, out, sample_rate=RATE).clips == N_CLIPS  # as a table lists it still
    summary = write(folder, out)  # as a folder no longer does
    assert (summary.clips, summary.gone) == (N_CLIPS, 1)
    failures = Store(out).failures
    assert failures[["clip_id", "outcome"]].to_numpy().tolist() == [["class0/clip000.wav", "gone"]]
    assert write(folder / "class1", out).gone == 1  # another folder into the same store: the first is still there


def test_shard_that_was_deleted_is_decoded_again_into_a_new_one(audio: Path, stored: Path, copied: Path) -> None:
    name = sorted(shards(copied))[-1]
    (copied / name).unlink()
    n_lost = len(read_columns(stored / name, ("length",))["length"])
    summary = write(audio, copied)
    assert (summary.clips, summary.kept) == (N_CLIPS, N_CLIPS - n_lost)
    assert name not in shards(copied)
    assert verify(copied) == []
    pd.testing.assert_frame_equal(content(copied), content(stored))


# what fails ---------------------------------------------------------------------------------------------------------

_DECODERS = """
import os, signal, time
from pathlib import Path
from datamodules.decoding.decode import decode

def fragile(path, **settings):
    name = Path(path).name
    with open("attempts", "a") as attempts:
        attempts.write(f"{name}\\n")
    if name == "clip004.wav":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "clip007.wav":
        time.sleep(60)
    if name == "clip009.wav":
        raise RuntimeError("a library\\nbroke")
    return decode(path, **settings)

def stopping(path, **settings):
    raise SystemExit(3)

def removing(path, **settings):
    decoded = decode(path, **settings)
    if Path(path).name == "clip004.wav":
        os.remove(path)
    if Path(path).name == "clip007.wav":
        os.utime(path, (1, 1))
    return decoded

def deaf(path, **settings):
    assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), "hears Ctrl-C"
    return decode(path, **settings)
"""


@pytest.fixture
def decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that the worker processes can import too: spawn hands them sys.path."""
    (tmp_path / "bad_decoders.py").write_text(_DECODERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return __import__("bad_decoders")


_REASONS = {
    "class0/clip009.wav": "RuntimeError: a library broke",
    "class1/clip004.wav": "the decoder was ended by SIGSEGV",
    "class1/clip007.wav": "took longer than 2 s",
}


@pytest.mark.usefixtures("workers")
def test_crash_hang_and_error_cost_their_clip_alone(audio: Path, stored: Path, tmp_path: Path, decoders: Any) -> None:
    seen: list[Outcome] = []
    out = tmp_path / "s"
    summary = write(audio, out, workers=2, decoder=decoders.fragile, clip_timeout=2.0, on_clip=seen.append)
    assert {failure.clip_id: failure.reason for failure in summary.failures} == _REASONS
    assert sorted(outcome.clip_id for outcome in seen) == [source.clip_id for source in find_sources(audio)]
    assert leftovers(out) == []
    whole = content(stored)
    pd.testing.assert_frame_equal(content(out), whole[~whole.clip_id.isin(_REASONS)].reset_index(drop=True))
    failures = Store(out).failures
    assert failures.columns.tolist() == ["clip_id", "source", "outcome", "codec", "reason"]
    assert dict(zip(failures.clip_id, failures.reason, strict=True)) == _REASONS
    assert set(failures.outcome) == {"failed"}
    assert write(audio, out).failures == []  # tried again
    pd.testing.assert_frame_equal(content(out), whole)


@pytest.mark.usefixtures("workers")
def test_what_failed_before_a_stop_is_not_tried_again(audio: Path, tmp_path: Path, decoders: Any) -> None:
    sources = [source for source in find_sources(audio) if source.clip_id[-7:-4] in ("003", "004", "009", "023")]
    settings: dict[str, Any] = {"sample_rate": RATE, "decoder": decoders.fragile}
    with pytest.raises(KeyboardInterrupt):
        write_store(sources, tmp_path / "s", on_clip=stop_after(3), **settings)
    summary = write_store(sources, tmp_path / "s", **settings)
    assert [failure.clip_id for failure in summary.failures] == ["class0/clip009.wav", "class1/clip004.wav"]
    attempts = Path("attempts").read_text().split()
    assert [attempts.count(name) for name in ("clip004.wav", "clip009.wav")] == [1, 1]


def test_source_that_vanishes_or_changes_while_it_is_decoded_has_failed(
    audio: Path, tmp_path: Path, decoders: Any
) -> None:
    folder = shutil.copytree(audio, tmp_path / "in")
    sources = find_sources(folder)
    (folder / "class0" / "clip000.wav").unlink()
    summary = write_store(sources, tmp_path / "s", sample_rate=RATE, decoder=decoders.removing)
    reasons = {failure.clip_id: failure.reason for failure in summary.failures}
    assert sorted(reasons) == ["class0/clip000.wav", "class1/clip004.wav", "class1/clip007.wav"]
    assert reasons["class0/clip000.wav"] == "no such file"
    assert reasons["class1/clip004.wav"].startswith("FileNotFoundError")
    assert reasons["class1/clip007.wav"] == "it changed while it was decoded: run again"
    assert write(folder, tmp_path / "s").clips == N_CLIPS - 2


def test_the_first_worker_of_a_process_is_deaf_to_ctrl_c(audio: Path, tmp_path: Path, decoders: Any) -> None:
    """It was not: starting multiprocessing's resource tracker, once a process, let SIGINT through again."""
    code = (
        "import sys; from pathlib import Path; from bad_decoders import deaf; "
        "from datamodules.decoding.sources import find_sources; from datamodules.storage.writer import write_store; "
        f"print(write_store(find_sources(Path({str(audio)!r}))[:4], Path({str(tmp_path / 's')!r}), "
        f"sample_rate={RATE}, decoder=deaf).failures)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(tmp_path), capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def _environment(*folders: Path) -> dict[str, str]:
    paths = [*map(str, folders), str(Path(__file__).parents[3])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.usefixtures("workers")
def test_the_only_clip_may_kill_its_worker(audio: Path, tmp_path: Path, decoders: Any) -> None:
    sources = find_sources(audio)[:1]
    summary = write_store(sources, tmp_path / "s", sample_rate=RATE, decoder=decoders.stopping)
    assert [failure.reason for failure in summary.failures] == ["the decoder left with 3"]
    assert len(Store(tmp_path / "s")) == 0
    assert Store(tmp_path / "s").table.empty
    assert leftovers(tmp_path / "s") == []


def test_file_that_is_missing_or_damaged_is_listed(audio: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes((audio / "class0" / "clip000.wav").read_bytes()[:900])
    sources = [Source("gone.wav", tmp_path / "gone.wav"), Source("cut.wav", cut)]
    summary = write_store(sources, tmp_path / "s", sample_rate=RATE)
    assert (summary.clips, summary.short, summary.salvaged) == (1, 1, 0)
    failures = Store(tmp_path / "s").failures.set_index("clip_id")
    assert failures.loc["gone.wav", ["outcome", "reason"]].tolist() == ["failed", "no such file"]
    assert failures.loc["cut.wav", "outcome"] == "short"
    assert "cut short" in failures.loc["cut.wav", "reason"]


# ranks --------------------------------------------------------------------------------------------------------------


def test_ranks_share_the_shards_and_the_last_one_finishes(audio: Path, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    first = write(audio, out, shard_bytes=40000, rank=1, world_size=2)
    n_shards = len(shards(stored))
    assert (first.pending, len(shards(out))) == ((n_shards + 1) // 2, n_shards // 2)
    with pytest.raises(StoreError, match="is not finished"):
        Store(out)
    assert write(audio, out, rank=1, world_size=2).pending == first.pending  # nothing left for it
    assert write(audio, out, rank=2, world_size=3).pending > 0  # any other number goes on
    last = write(audio, out, workers=2)
    assert (last.pending, last.clips) == (0, N_CLIPS)
    assert shards(out) == shards(stored)
    assert leftovers(out) == []


def test_rank_that_comes_late_leaves_the_finished_store_alone(tmp_path: Path) -> None:
    out, sources = tmp_path / "s", [Source("a.wav", tmp_path / "a.wav")]
    write_store(sources, out, sample_rate=RATE, rank=0, world_size=2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    late = write_store(sources, out, sample_rate=RATE, rank=1, world_size=2)
    assert ([failure.reason for failure in late.failures], late.pending) == (["no such file"], 0)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    soundfile.write(tmp_path / "a.wav", pcm_of(0), RATE)
    assert write_store(sources, out, sample_rate=RATE).clips == 1  # a plain run tries again


def test_ranks_that_add_a_file_try_what_failed_again_and_finish(tmp_path: Path) -> None:
    out, sources = tmp_path / "s", [Source(f"{name}.wav", tmp_path / f"{name}.wav") for name in "abc"]
    write_store(sources, out, sample_rate=RATE)
    soundfile.write(tmp_path / "d.wav", pcm_of(0), RATE)
    sources.append(Source("d.wav", tmp_path / "d.wav"))
    first, last = (write_store(sources, out, sample_rate=RATE, rank=rank, world_size=2) for rank in range(2))
    assert (first.pending, last.pending, last.clips) == (1, 0, 1)
    assert Store(out).failures["clip_id"].tolist() == ["a.wav", "b.wav", "c.wav"]


def test_second_writer_is_refused(audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    with lock_store(out), pytest.raises(StoreError, match="is being written by another run: wait for its end"):
        write(audio, out)
    with lock_store(out, rank=0, world_size=2):
        with pytest.raises(StoreError, match="is being written by another run"):
            write(audio, out)
        with pytest.raises(StoreError, match="is being written by another run of rank 0"):
            write(audio, out, rank=0, world_size=2)
        assert write(audio, out, rank=1, world_size=2).pending == 1
    assert write(audio, out).pending == 0
    assert leftovers(out) == []


def test_shard_that_another_process_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.storage.locks._DYING_SECONDS", 0.1)
    with (
        lock_slice(tmp_path, 3),
        pytest.raises(StoreError, match=r"shard 3 is being written by another process: .* same --world-size"),
        lock_slice(tmp_path, 3),
    ):
        pass
    assert leftovers(tmp_path) == []


def test_lock_file_goes_with_the_last_who_shares_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with lock(path, shared=True):
        with lock(path, shared=True):
            pass
        assert path.exists()
        with pytest.raises(BlockingIOError), lock(path):
            pass
    assert not path.exists()


def test_file_system_without_locks_is_written_all_the_same(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    assert write(audio, tmp_path / "s", rank=0, world_size=1).clips == N_CLIPS
    assert leftovers(tmp_path / "s") == []


# what is refused ----------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_with_what_to_type(audio: Path, copied: Path) -> None:
    for settings, typed in (
        ({"sample_rate": 16000}, "--sample-rate 8000, not --sample-rate 16000: type --sample-rate 8000, or"),
        ({"channels": 2}, "type --channels 1, or"),
        ({"channels": None}, "not --channels native: type --channels 1, or"),
        ({"shard_format": "npy"}, "type --format hdf5, or"),
        ({"sample_format": "float32", "max_seconds": 2}, "type --dtype int16 no --max-seconds, or give another"),
    ):
        with pytest.raises(StoreError, match=typed):
            write(audio, copied, **settings)
    assert len(Store(copied)) == N_CLIPS


def test_store_of_the_first_version_is_refused(audio: Path, copied: Path) -> None:
    state = json.loads((copied / "store.json").read_text())
    (copied / "store.json").write_text(json.dumps(state | {"version": 1}))
    with pytest.raises(StoreError, match="is of version 1, this reads 2: decode again, into a new folder"):
        write(audio, copied)


def test_folder_with_other_files_is_refused(audio: Path) -> None:
    with pytest.raises(StoreError, match="holds 'class0' and is no PCM store: give a new folder"):
        write(audio, audio)
    assert leftovers(audio) == []


def test_two_files_of_one_name_are_refused(audio: Path, tmp_path: Path) -> None:
    sources = [Source("a.wav", audio / "x.wav"), Source("a.wav", audio / "y.wav")]
    with pytest.raises(ValueError, match=r"clip_id must be unique, got 'a\.wav' for .*x\.wav and for .*y\.wav"):
        write_store(sources, tmp_path / "s", sample_rate=RATE)


def test_a_path_that_the_system_refuses_is_named_without_its_error(tmp_path: Path) -> None:
    sources = [Source("long.wav", tmp_path / f"{'x' * 300}.wav")]
    (failed,) = write_store(sources, tmp_path / "s", sample_rate=RATE).failures
    assert failed.reason == "cannot be read (File name too long)"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("sample_rate", 0),
        ("channels", 0),
        ("sample_format", "int8"),
        ("max_seconds", 0),
        ("workers", 0),
        ("shard_bytes", 0),
        ("clip_timeout", 0),
        ("shard_format", "x"),
        ("world_size", 0),
        ("rank", 1),
    ],
)
def test_settings_out_of_range(audio: Path, tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be"):
        write(audio, tmp_path / "s", **{setting: value})
    assert not (tmp_path / "s").exists()
