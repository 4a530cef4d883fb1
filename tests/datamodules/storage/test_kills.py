"""Runs that are killed, that run beside one another, and that find the disk full: nothing is lost, nothing differs."""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from datamodules.decoding.decode import Decoded, decode
from datamodules.storage.shards import StoreError
from datamodules.storage.verify import verify
from tests.datamodules.storage.stores import content, leftovers, make_clips, shards, write

N_CLIPS, SHARD_BYTES = 60, 30000  # some ten shards

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_clips(tmp_path_factory.mktemp("audio"), N_CLIPS)
    (folder / "class1" / "clip022.wav").write_bytes(b"")  # fails
    return folder


@pytest.fixture(scope="module")
def stored(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that was never killed makes."""
    out = tmp_path_factory.mktemp("stored") / "store"
    assert len(write(audio, out, shard_bytes=SHARD_BYTES).failures) == 1
    assert len(shards(out)) > 6
    return out


def start(audio: Path, out: Path, **settings: Any) -> BaseProcess:
    """A run in a process of its own, forked: it need not import anything, and may be killed after some milliseconds."""
    settings = {"shard_bytes": SHARD_BYTES} | settings
    process = multiprocessing.get_context("fork").Process(target=write, args=(audio, out), kwargs=settings)
    process.start()
    return process


def kill(process: BaseProcess) -> bool:
    """Whether it still ran."""
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def finish(*processes: BaseProcess) -> None:
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def wait_for(out: Path, sign: str, process: BaseProcess, number: int = 1) -> None:
    """Until so many files of that name are there, or the process has ended."""
    while process.is_alive() and len(list(out.glob(sign))) < number:
        time.sleep(0.0005)


_SIGNS = (".plan.tmp", ".begun.json", "failures.csv", "store.json")
_SHARD_SIGNS = (".shard-*.part", ".shard-*.tmp", "shard-*", ".shard-*.done")


def wait_for_moment(process: BaseProcess, out: Path, draw: random.Random, seconds: float) -> None:
    """Until a random time has passed, or some file is there, or so and so many shards have come so far."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, seconds))
        return
    sign, number = draw.choice(
        [*((sign, 1) for sign in _SIGNS), *((sign, draw.randint(1, 9)) for sign in _SHARD_SIGNS)]
    )
    wait_for(out, sign, process, number)


def kill_often(audio: Path, folder: Path, stored: Path, *, kills: int, seed: int, seconds: float, workers: int) -> None:
    """Kill runs of some `seconds` at random moments until one ends, and begin anew, until so many were killed."""
    draw = random.Random(seed)
    n_killed = n_ended = 0
    while n_killed < kills:
        out = folder / str(n_ended)
        while True:
            process = start(audio, out, workers=workers)
            wait_for_moment(process, out, draw, seconds)
            if not kill(process):
                break
            n_killed += 1
            for name, data in shards(out).items():
                assert data == (stored / name).read_bytes()
            if n_killed >= kills:
                finish(start(audio, out, workers=workers))
                break
        n_ended += 1
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in stored.iterdir()
        }


def test_killed_at_some_moments_it_ends_as_if_it_had_not_been(audio: Path, stored: Path, tmp_path: Path) -> None:
    kill_often(audio, tmp_path, stored, kills=8, seed=0, seconds=0.3, workers=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("workers")
def test_killed_a_hundred_times_it_ends_as_if_it_had_not_been(audio: Path, stored: Path, tmp_path: Path) -> None:
    kill_often(audio, tmp_path, stored, kills=100, seed=1, seconds=1.5, workers=2)


def decode_or_hang(path: Path, **settings: Any) -> Decoded:
    """At one clip of the first shard it stays."""
    if path.name == "clip006.wav":
        time.sleep(60)
    return decode(path, **settings)


def test_ranks_at_once_and_a_killed_one_leave_the_same_store(audio: Path, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    first, second = (start(audio, out, rank=rank, world_size=2, decoder=decode_or_hang) for rank in range(2))
    finish(second)
    assert kill(first)
    assert not (out / "store.json").exists()
    finish(*(start(audio, out, rank=rank, world_size=3) for rank in range(3)))
    assert (shards(out), leftovers(out)) == (shards(stored), [])
    assert verify(out) == []
    assert content(out).equals(content(stored))


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A decoder that never ends, in a module that worker processes can import: spawn hands them sys.path."""
    (tmp_path / "endless.py").write_text("import time\n\ndef decode(path, **settings):\n    time.sleep(60)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return __import__("endless").decode


@pytest.mark.usefixtures("workers")
def test_worker_whose_parent_was_killed_ends_and_lets_go(
    audio: Path, stored: Path, tmp_path: Path, endless: Callable[..., None]
) -> None:
    out = tmp_path / "s"
    process = start(audio, out, decoder=endless)
    wait_for(out, ".shard-*.journal", process)
    assert kill(process)  # and not its worker, which is in the middle of a clip
    assert write(audio, out).pending == 0
    assert shards(out) == shards(stored)


# a full disk --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_full_disk_ends_in_one_line_and_is_gone_on_with(audio: Path, stored: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("a small file system cannot be mounted here: needs root")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match=rf"^{disk / 's'}: No space left on device") as caught:
                write(audio, disk / "s", shard_bytes=SHARD_BYTES)
            assert "\n" not in str(caught.value)
            assert not (disk / "s" / "store.json").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert write(audio, disk / "s").kept > 0
        assert (shards(disk / "s"), leftovers(disk / "s")) == (shards(stored), [])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("workers")
def test_file_that_may_not_grow_ends_in_one_line(
    audio: Path, stored: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, before = tmp_path / "s", resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20, 3000, 30000):  # the plan does not fit, then the journal, then the samples
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(StoreError, match=rf"^{out}: .*File too large.*") as caught:
                write(audio, out, shard_bytes=SHARD_BYTES)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")
    assert write(audio, out).pending == 0
    assert shards(out) == shards(stored)


def test_folder_that_cannot_be_written_to_is_said(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file is no folder, and a store is one: give another folder as --out"):
        write(audio, tmp_path / "file" / "s")
