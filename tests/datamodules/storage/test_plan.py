"""The plan: every file in one slice, slices of about equal size, and the same plan when it is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.decoding.sources import Source
from datamodules.storage.plan import PLAN_FILE, Slice, cut, read_plan, write_plan
from datamodules.storage.shards import StoreError


def sources_of(n: int) -> list[Source]:
    return [Source(f"clip{i:06d}.wav", Path(f"/in/clip{i:06d}.wav")) for i in range(n)]


@pytest.mark.parametrize("seed", range(20))
def test_every_file_is_in_one_slice_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, least = int(rng.integers(1, 60)), int(rng.integers(1, 12))
    nbytes = np.where(rng.random(n) < 0.3, 0, rng.pareto(1.0, n) * 1000)  # nothing expected, some huge
    slices = cut(sources_of(n), nbytes, first=7, shard_bytes=3000, least=least)
    assert [clip for part in slices for clip in part.clips] == [(name, str(path)) for name, path in sources_of(n)]
    assert [part.number for part in slices] == list(range(7, 7 + len(slices)))
    assert all(part.clips for part in slices)
    assert len(slices) == min(n, max(least, int(np.ceil(nbytes.sum() / 3000))))


def test_slices_are_of_equal_size_and_not_of_equal_number() -> None:
    nbytes = np.concatenate([np.full(1000, 10.0), np.full(100, 100.0)])
    slices = cut(sources_of(1100), nbytes, first=0, shard_bytes=5000, least=1)
    # half of the bytes are in small files, half in large ones; the weight of a file adds one byte
    np.testing.assert_allclose([len(part.clips) for part in slices], [500, 500, 50, 50], atol=40)


def test_files_of_which_nothing_is_expected_are_spread() -> None:
    slices = cut(sources_of(100), np.zeros(100), first=0, shard_bytes=1, least=4)
    assert [len(part.clips) for part in slices] == [25] * 4


def test_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_plan(tmp_path) == []
    names = ["a\tb\n.wav", "日本.wav", "\udcff.wav", "", "x" * 4000, "{}\n[]"]
    slices = [Slice(3, [(name, f"/in/{name}") for name in names]), Slice(9, [("z", "/z")])]
    write_plan(tmp_path, slices)
    assert read_plan(tmp_path) == slices
    assert [path.name for path in tmp_path.iterdir()] == [PLAN_FILE]


def test_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clip_id must hold no zero byte, got 'b\\x00'"):
        write_plan(tmp_path, [Slice(0, [("a", "/a"), ("b\0", "/b")])])
    assert read_plan(tmp_path) == []


@pytest.mark.parametrize("damaged", [b"", b"[]\n", b"{}\n", b'{"numbers": [0], "sizes": [2]}\na\0/a\0b\0'])
def test_damaged_plan_is_refused(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / PLAN_FILE).write_bytes(damaged)
    with pytest.raises(StoreError, match=r"\.plan is damaged .*: delete it and run the same command again"):
        read_plan(tmp_path)
