"""Runs that are killed, that run beside one another, and that find the disk full: nothing is lost, nothing differs."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.storage.shards import StoreError
from datamodules.storage.verify import verify
from tests.datamodules.storage.stores import RATE, content, leftovers, make_clips, shards, write

N_CLIPS, SHARD_BYTES = 120, 50000  # some twelve shards

_RUN = f"""
import sys, time
from pathlib import Path
from datamodules.decoding.decode import decode
from datamodules.storage.shards import StoreError
from datamodules.decoding.sources import find_sources
from datamodules.storage.writer import write_store

def endless(path, **settings):
    time.sleep(600)

def main():
    sources, (rank, world_size) = find_sources(Path(sys.argv[1])), map(int, sys.argv[3:5])
    print("begins", flush=True)
    try:
        settings = dict(sample_rate={RATE}, shard_bytes={SHARD_BYTES}, workers=2)
        settings["decoder"] = endless if "endless" in sys.argv else decode
        write_store(sources, Path(sys.argv[2]), rank=rank, world_size=world_size, **settings)
    except StoreError as error:
        sys.exit(str(error))

if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_clips(tmp_path_factory.mktemp("audio"), N_CLIPS)
    (folder / "class1" / "clip022.wav").write_bytes(b"")  # fails
    return folder


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(_RUN)
    return path


@pytest.fixture(scope="module")
def stored(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that was never killed makes."""
    out = tmp_path_factory.mktemp("stored") / "store"
    assert len(write(audio, out, shard_bytes=SHARD_BYTES).failures) == 1
    assert len(shards(out)) > 6
    return out


def start(
    script: Path, audio: Path, out: Path, *more: str, rank: int = 0, world_size: int = 1
) -> subprocess.Popen[str]:
    """A run of its own group; returns when it is about to begin."""
    command = [sys.executable, str(script), str(audio), str(out), str(rank), str(world_size), *more]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, env=environment, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def kill(process: subprocess.Popen[str]) -> bool:
    """Whether it still ran."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode != 0


_SIGNS = (".plan.tmp", ".begun.json", "failures.csv", "store.json")
_SHARD_SIGNS = (".shard-*.part", ".shard-*.tmp", "shard-*", ".shard-*.done")


def wait_for_moment(process: subprocess.Popen[str], out: Path, draw: random.Random) -> None:
    """Until a random time has passed, or some file is there, or so and so many shards have come so far."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, 1.5))
        return
    sign, number = draw.choice(
        [*((sign, 1) for sign in _SIGNS), *((sign, draw.randint(1, 9)) for sign in _SHARD_SIGNS)]
    )
    while process.poll() is None and len(list(out.glob(sign))) < number:
        time.sleep(0.0005)


def kill_often(script: Path, audio: Path, folder: Path, stored: Path, *, kills: int, seed: int) -> None:
    """Kill runs at random moments until one ends, and begin anew, until so many were killed."""
    draw = random.Random(seed)
    n_killed = n_ended = 0
    while n_killed < kills:
        out = folder / str(n_ended)
        while True:
            process = start(script, audio, out)
            wait_for_moment(process, out, draw)
            if not kill(process):
                break
            n_killed += 1
            for name, data in shards(out).items():
                assert data == (stored / name).read_bytes()
            if n_killed >= kills:
                assert start(script, audio, out).wait() == 0
                break
        n_ended += 1
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in stored.iterdir()
        }


def test_killed_at_some_moments_it_ends_as_if_it_had_not_been(
    script: Path, audio: Path, stored: Path, tmp_path: Path
) -> None:
    kill_often(script, audio, tmp_path, stored, kills=6, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_a_hundred_times_it_ends_as_if_it_had_not_been(
    script: Path, audio: Path, stored: Path, tmp_path: Path
) -> None:
    kill_often(script, audio, tmp_path, stored, kills=100, seed=1)


def test_ranks_at_once_and_a_killed_one_leave_the_same_store(
    script: Path, audio: Path, stored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    first, second = (start(script, audio, out, rank=rank, world_size=2) for rank in range(2))
    while first.poll() is None and not list(out.glob(".shard-*.journal")):
        time.sleep(0.002)
    assert kill(first)
    assert second.wait(60) == 0
    assert not (out / "store.json").exists()
    others = [start(script, audio, out, rank=rank, world_size=3) for rank in range(3)]
    for process in others:
        assert process.communicate(timeout=60)[1] == ""
    assert (shards(out), leftovers(out)) == (shards(stored), [])
    assert verify(out) == []
    assert content(out).equals(content(stored))


def test_worker_whose_parent_was_killed_ends_and_lets_go(
    script: Path, audio: Path, stored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "s"
    process = start(script, audio, out, "endless")
    while process.poll() is None and not list(out.glob(".shard-*.journal")):
        time.sleep(0.002)
    process.kill()  # and not its group: the worker is in the middle of a clip
    process.wait()
    again = start(script, audio, out)
    assert again.communicate(timeout=60)[1] == ""
    assert shards(out) == shards(stored)


# a full disk --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_full_disk_ends_in_one_line_and_is_gone_on_with(audio: Path, stored: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("a small file system cannot be mounted here: needs root")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match=rf"^{disk / 's'}: No space left on device") as caught:
                write(audio, disk / "s", shard_bytes=SHARD_BYTES, workers=2)
            assert "\n" not in str(caught.value)
            assert not (disk / "s" / "store.json").exists()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert write(audio, disk / "s").kept > 0
        assert (shards(disk / "s"), leftovers(disk / "s")) == (shards(stored), [])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("limit", [20, 3000, 30000])  # the plan does not fit, or the journal, or the samples
def test_file_that_may_not_grow_ends_in_one_line(
    script: Path, audio: Path, stored: Path, tmp_path: Path, limit: int
) -> None:
    out = tmp_path / "s"
    process = start(script, audio, out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith(f"{out}: ")
    assert errors.count("\n") == 1
    assert "File too large" in errors
    again = start(script, audio, out)
    assert again.communicate(timeout=60)[1] == ""
    assert shards(out) == shards(stored)


def test_folder_that_cannot_be_written_to_is_said(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file is no folder, and a store is one: give another folder as --out"):
        write(audio, tmp_path / "file" / "s")
