"""A growing shard: what it holds when it is closed, and what is left of it when it was torn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules.samples import SAMPLE_DTYPES, from_float, to_float
from datamodules.storage.index import read_columns, read_layout
from datamodules.storage.shards import ShardWriter, StoreError, closed_shards, read_done, read_journal
from tests.datamodules.storage.stores import RATE, flip, leftovers, pcm_of

FAILURE = {"clip_id": "a.wav", "source": "/a.wav", "outcome": "failed", "codec": "unknown", "reason": "no such file"}


def row_of(i: int) -> dict[str, Any]:
    """What the columns say of clip i."""
    row = {"clip_id": f"class/clip{i:03d}.wav", "source": "/ä\n.wav", "source_bytes": 9, "source_mtime": 1.5}
    row |= {"source_crc32": 2**32 - 1, "codec": "wav pcm_16", "decoder": "soundfile", "status": "ok", "note": ""}
    return row | {"clipped": 0, "artist": "", "title": "", "declared_seconds": len(pcm_of(i)) / RATE}


def open_shard(folder: Path, **settings: Any) -> ShardWriter:
    return ShardWriter(folder, 0, **({"shard_format": "hdf5", "channels": 1} | settings))


def begin_shard(folder: Path, n_clips: int, **settings: Any) -> ShardWriter:
    """A growing shard with a failure behind its third clip, as a killed worker leaves it."""
    shard = open_shard(folder, **settings)
    for i in range(n_clips):
        shard.add(pcm_of(i), row_of(i))
        if i == 2:
            shard.fail(FAILURE)
    return shard


def tear_journal(shard: ShardWriter) -> None:
    os.truncate(shard.journal, shard.journal.stat().st_size - 7)


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
def test_samples_stand_from_the_first_where_the_shard_has_them(tmp_path: Path, shard_format: str) -> None:
    """Closing writes what stands around them, and not them again."""
    shard = begin_shard(tmp_path, 3, shard_format=shard_format)
    grown = shard.part.read_bytes()
    path = shard.close()
    assert path is not None
    begin = read_layout(path).offset
    assert path.read_bytes()[begin : len(grown)] == grown[begin:]
    assert not shard.part.exists()


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
def test_shard_that_was_published_when_its_run_was_killed_is_left_as_it_is(tmp_path: Path, shard_format: str) -> None:
    shard = begin_shard(tmp_path, 3, shard_format=shard_format)
    journal = shard.journal.read_bytes()
    path = shard.close()
    assert path is not None
    content = path.read_bytes()
    (tmp_path / ".shard-00000.done").unlink()
    shard.journal.write_bytes(journal)  # as a kill between publishing and saying so leaves it
    again = open_shard(tmp_path, shard_format=shard_format)
    assert len(again.rows) == 3
    assert again.close() == path
    assert path.read_bytes() == content
    assert sorted(read_done(tmp_path)) == [0]
    assert not shard.journal.exists()
    assert not shard.part.exists()


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


@pytest.mark.parametrize(
    ("damage", "n_kept"),
    [
        pytest.param(lambda shard: None, 10, id="whole"),
        pytest.param(tear_journal, 9, id="journal torn"),
        pytest.param(tear_part, 9, id="part torn"),
        pytest.param(append_unjournalled, 10, id="no line for the last"),
        pytest.param(flip_in_last_clip, 9, id="flipped"),
        pytest.param(scribble, 10, id="false lines"),
        pytest.param(lambda shard: shard.part.unlink(), 0, id="no part"),
        pytest.param(lambda shard: shard.journal.unlink(), 0, id="no journal"),
    ],
)
def test_part_is_recovered_up_to_its_damage(tmp_path: Path, damage: Any, n_kept: int) -> None:
    damage(begin_shard(tmp_path, 10))
    shard = open_shard(tmp_path)
    assert len(shard.rows) == n_kept
    assert read_journal(tmp_path, 0) == (n_kept, int(n_kept > 2))
    for i in range(n_kept, 11):
        shard.add(pcm_of(i), row_of(i))
    path = shard.close()
    assert path is not None
    with h5py.File(path) as file:
        pcm = np.split(file["pcm"][()], file["clips/start"][1:])
    assert len(pcm) == 11
    for i, samples in enumerate(pcm):
        np.testing.assert_array_equal(samples, pcm_of(i))
    assert leftovers(tmp_path) == [".shard-00000.done"]
    assert read_done(tmp_path) == {0: [FAILURE] if n_kept > 2 else []}


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
def test_torn_or_whole_the_closed_shard_is_the_same_to_the_byte(tmp_path: Path, shard_format: str) -> None:
    made = []
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
        shard = open_shard(tmp_path / name, shard_format=shard_format)
        for i in range(6):
            shard.add(pcm_of(i), row_of(i))
            if name == "torn" and i % 2:
                shard = open_shard(tmp_path / name, shard_format=shard_format)
        shard.close()
        made.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("shard-*")})
    assert made[0] == made[1]
    assert len(made[0]) == (2 if shard_format == "npy" else 1)


@pytest.mark.parametrize("shard_format", ["hdf5", "npy"])
@pytest.mark.parametrize("sample_format", list(SAMPLE_DTYPES))
def test_every_sample_format_comes_back_with_its_levels(tmp_path: Path, shard_format: str, sample_format: Any) -> None:
    time = np.arange(4000) / RATE
    sound = np.stack([0.5 * np.sin(2 * np.pi * 440 * time) + 0.2, np.full(4000, -0.1)], axis=1).astype(np.float32)
    pcm, _ = from_float(sound, sample_format)
    shard = open_shard(tmp_path, shard_format=shard_format, sample_format=sample_format, channels=2)
    shard.add(pcm, row_of(0))
    shard.add(pcm[:100], row_of(1))
    path = shard.close()
    assert path is not None
    layout = read_layout(path)
    stored = np.memmap(path, layout.dtype, "r", layout.offset, (layout.samples, layout.channels))
    assert layout.dtype == SAMPLE_DTYPES[sample_format]
    np.testing.assert_array_equal(stored, np.concatenate([pcm, pcm[:100]]))
    levels = {name: values[0] for name, values in read_columns(path, ("peak", "rms", "dc", "source")).items()}
    exact = to_float(pcm).astype(np.float64)
    # sums of 8,000 values in float32
    assert levels["peak"] == pytest.approx(np.abs(exact).max(), rel=1e-6)
    assert levels["rms"] == pytest.approx(np.sqrt(np.mean(exact**2)), rel=1e-5)
    assert levels["dc"] == pytest.approx(exact.mean(), rel=1e-4)
    assert levels["source"].decode() == "/ä\n.wav"


def test_shard_without_a_clip_is_none_but_is_marked(tmp_path: Path) -> None:
    shard = open_shard(tmp_path)
    shard.fail(FAILURE)
    assert shard.close() is None
    assert closed_shards(tmp_path, "hdf5") == []
    assert read_done(tmp_path) == {0: [FAILURE]}


def test_shards_are_in_the_order_of_their_numbers_and_no_other_file_is_one(tmp_path: Path) -> None:
    for name in ("shard-100000.h5", "shard-00002.h5", "shard-99999.h5", "shard-mine.h5", "shard-00001.npy"):
        (tmp_path / name).touch()
    assert [path.name for path in closed_shards(tmp_path, "hdf5")] == [
        "shard-00002.h5",
        "shard-99999.h5",
        "shard-100000.h5",
    ]


def test_pcm_of_another_format_is_refused(tmp_path: Path) -> None:
    for pcm in (pcm_of(0).astype(np.float32), pcm_of(0)[:, 0], np.repeat(pcm_of(0), 2, axis=1)):
        with pytest.raises(ValueError, match=r"pcm must be int16 \(samples, 1\), got"):
            open_shard(tmp_path).add(pcm, row_of(0))


def test_clip_that_changes_on_the_disk_is_not_published(tmp_path: Path) -> None:
    shard = begin_shard(tmp_path, 3)
    flip(shard.part, 3000)
    with pytest.raises(StoreError, match=r"clip000\.wav is not what was written: check the disk"):
        shard.close()
    assert closed_shards(tmp_path, "hdf5") == []
