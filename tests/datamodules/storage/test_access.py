"""Mapped or read: the same samples from any number of shards, and nothing that a fork or an early end could spoil."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datamodules.storage.access import MappedValues, ReadValues
from datamodules.storage.mapping import PAGE, Mapping

KINDS = [MappedValues, ReadValues]
OFFSETS = [0, 16, 4096 + 8]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[np.ndarray]]:
    """Three files of random int16 behind headers of other lengths."""
    folder = tmp_path_factory.mktemp("values")
    generator = np.random.default_rng(0)
    paths, values = [], []
    for i, (offset, size) in enumerate(zip(OFFSETS, (5000, 1, 100_000), strict=True)):
        values.append(generator.integers(-9999, 9999, size).astype(np.int16))
        paths.append(folder / str(i))
        paths[-1].write_bytes(b"\xff" * offset + values[-1].tobytes())
    return paths, values


def random_ranges(values: list[np.ndarray], begins: np.ndarray, *, longest: int) -> tuple[np.ndarray, np.ndarray, list]:
    generator = np.random.default_rng(1)
    shard = generator.integers(len(values), size=200)
    lengths = np.array([len(values[i]) for i in shard])
    sizes = np.minimum(generator.integers(1, longest + 1, 200), lengths)
    starts = generator.integers(0, lengths - sizes + 1)
    expected = [values[i][start : start + size] for i, start, size in zip(shard, starts, sizes, strict=True)]
    return begins[shard] + starts, sizes, expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("longest", [1, 100, 4000])
def test_ranges_of_all_shards_are_what_stands_in_the_files(files: tuple, kind: type, longest: int) -> None:
    paths, values = files
    source = kind(paths, OFFSETS, np.dtype(np.int16))
    at, sizes, expected = random_ranges(values, source.begins, longest=longest)
    out = np.full((len(at), longest), 7, dtype=np.int16)
    source.will_need(at, sizes)
    source.gather(out, at, sizes)
    for row, size, wanted in zip(out, sizes, expected, strict=True):
        assert (row[:size] == wanted).all()
    assert all((source.view(*span) == wanted).all() for *span, wanted in zip(at, sizes, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_full_rows_up_to_the_last_value_of_the_last_shard(files: tuple, kind: type) -> None:
    paths, values = files
    source = kind(paths, OFFSETS, np.dtype(np.int16))
    out = np.empty((3, 100), dtype=np.int16)
    starts = np.array([0, 50, 100_000 - 100])
    source.gather(out, source.begins[2] + starts, np.full(3, 100))
    assert (out == np.stack([values[2][start : start + 100] for start in starts])).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.uint8])
def test_every_sample_format(tmp_path: Path, kind: type, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 255, 999).astype(dtype)
    (tmp_path / "a").write_bytes(bytes(8) + values.tobytes())
    source = kind([tmp_path / "a"], [8], np.dtype(dtype))
    assert (source.view(int(source.begins[0]), 999) == values).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_shard_at_all(kind: type) -> None:
    assert len(kind([], [], np.dtype(np.int16)).begins) == 0


def test_what_is_mapped_cannot_be_written(files: tuple) -> None:
    view = MappedValues(files[0], OFFSETS, np.dtype(np.int16)).view(0, 10)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1


def test_addresses_are_given_back_when_the_last_view_is_gone(files: tuple) -> None:
    def mapped() -> bool:
        return str(files[0][2]) in Path("/proc/self/maps").read_text()

    source = MappedValues(files[0], OFFSETS, np.dtype(np.int16))
    view = source.view(int(source.begins[2]), 100)
    expected = files[1][2][:100]
    del source
    gc.collect()
    assert mapped()
    assert (view == expected).all()
    del view
    gc.collect()
    assert not mapped()


def test_files_that_are_read_are_closed(files: tuple) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = ReadValues(files[0], OFFSETS, np.dtype(np.int16))
    assert len(os.listdir("/proc/self/fd")) == before + 3
    del source
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_that_shrinks_while_it_is_read_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(4000))
    source = ReadValues([path], [0], np.dtype(np.int16))
    path.write_bytes(bytes(100))
    with pytest.raises(OSError, match="has become shorter while it was read: copy it again"):
        source.view(1000, 100)


def test_no_room_for_the_addresses_says_so(files: tuple) -> None:
    script = (
        "import resource; from pathlib import Path; from datamodules.storage.mapping import Mapping\n"
        "path = Path(__import__('sys').argv[1]); used = int(Path('/proc/self/statm').read_text().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 100_000, -1))\n"
        "try:\n    Mapping([path] * 10)\nexcept OSError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(files[0][2])],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=True,
    )
    assert "cannot map" in done.stdout
    assert "raise ulimit -v" in done.stdout


def test_what_is_in_memory_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(64 * PAGE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    mapping = Mapping([path])
    if mapping.are_resident([0]):
        pytest.skip("this file system keeps its pages")
    assert not mapping.are_resident([40 * PAGE])
    np.asarray(mapping)[40 * PAGE]
    assert mapping.are_resident([40 * PAGE])
    mapping.will_need(8 * PAGE + 5, 3 * PAGE)
    for _ in range(200):
        if mapping.are_resident(page * PAGE for page in range(8, 12)):
            break
        time.sleep(0.01)
    assert mapping.are_resident(page * PAGE for page in range(8, 12))
