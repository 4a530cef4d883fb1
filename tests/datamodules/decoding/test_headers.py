"""Headers are read in a process that a file may kill or stop."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from datamodules.decoding.headers import Header, _serve, read_header, read_headers
from tests.datamodules.layouts.clips import write_clip


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A clip, a pipe that nobody writes to, which FFmpeg waits for, and a clip."""
    for name in ("a.wav", "c.wav"):
        write_clip(tmp_path / name, seconds=0.5)
    os.mkfifo(tmp_path / "b.wav")
    return [tmp_path / name for name in ("a.wav", "b.wav", "c.wav")]


def test_header_that_never_ends_costs_its_file_alone(paths: list[Path]) -> None:
    assert read_headers(paths, patience=0.5) == [Header(0.5, 1), None, Header(0.5, 1)]
    assert not multiprocessing.active_children()


def test_header_that_kills_its_reader_costs_its_file_alone(paths: list[Path]) -> None:
    def kill() -> None:
        time.sleep(2)  # starting and the first header take a quarter of it
        for child in multiprocessing.active_children():
            child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    assert read_headers(paths, patience=60) == [Header(0.5, 1), None, Header(0.5, 1)]
    killer.join()


def test_reader_whose_parent_was_killed_ends_in_silence(paths: list[Path]) -> None:
    here, there = multiprocessing.Pipe()
    here.close()
    _serve(there, paths)


def test_in_this_process_it_reads_the_same(paths: list[Path]) -> None:
    assert read_header(paths[0]) == Header(0.5, 1)
    assert read_header(Path(__file__)) is None


def test_no_file_needs_no_process() -> None:
    assert read_headers([]) == []
