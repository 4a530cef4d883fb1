"""The benchmarks of loading run, measure ours and the limit, and every reader gives the samples of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import bench_index
import bench_loader
import measuring
from loader_peers import PEERS, MemoryCopy, Ours, Reading, Recordings

OPTIONS = ["--gigabytes=0.00021", "--clip_seconds=0.1", "--crop_seconds=0.05", "--turns=2", "--seconds=0.01"]
CROP = 800


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return bench_loader.make_recordings(tmp_path_factory.mktemp("clips"), gigabytes=0.0005, clip_seconds=0.1)


@pytest.mark.parametrize("cold", [False, True])
def test_table_and_csv(cold: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loader.csv"
    options = [*OPTIONS, "--workers=0", f"--folder={tmp_path}", f"--csv={path}", *(["--cold"] if cold else [])]
    assert bench_loader.main(options) == 0
    printed, complaints = capsys.readouterr()
    rows = measuring.read_csv(path)
    temperature, limit = ("cold", "limit: sequential read") if cold else ("warm", "limit: ours, samples in memory")
    for setting in (f"crops of 0.05 s, {temperature}", f"whole clips of 0.1 s, {temperature}"):
        found = {str(row["implementation"]): row for row in rows if row["setting"] == setting}
        assert {"audiocls", "audiocls, 1 thread", limit, "h5py, 0 workers", "wav files, 0 workers"} <= found.keys()
        assert all(f"{name}, 0 workers" in found or f"{name} left out: " in complaints for name in PEERS)
        assert found["audiocls"]["speed_to_ours"] == found[limit]["speed_to_limit"] == 1
        assert all(name in printed for name in found)
    for row in rows:
        n_samples = CROP if "crops" in str(row["setting"]) else 2 * CROP
        assert row["gb_per_s"] == pytest.approx(float(row["median"]) * 2 * n_samples / 1e9)
        assert float(row["cpu_us_a_crop"]) >= 0
    assert [path.name for path in tmp_path.iterdir()] == ["loader.csv"]


@pytest.mark.parametrize("name", ["audiocls", "audiocls, 1 thread", *PEERS])
def test_every_reader_gives_crops_of_all_clips_once_an_epoch(name: str, recordings: Recordings) -> None:
    reading = Reading(CROP, 4)
    threads = {"audiocls": 2, "audiocls, 1 thread": 1}
    try:
        batches = (
            Ours(recordings, reading, threads=threads[name]) if name in threads else PEERS[name](recordings, reading)
        )
    except ImportError as error:
        pytest.skip(f"not installed: {error}")
    clips = [soundfile.read(path, dtype="int16")[0] for path in recordings.wavs]
    # Eight samples of noise name their clip: the odds against it are 2**128.
    places = {clip[at : at + 8].tobytes(): (i, at) for i, clip in enumerate(clips) for at in range(len(clip) - 7)}
    epochs = [[crop.numpy().copy() for batch in batches for crop in batch] for _ in range(2)]
    heard = [[places[crop[:8].tobytes()] for crop in crops] for crops in epochs]
    for crops, found in zip(epochs, heard, strict=True):
        assert len({clip for clip, _ in found}) == len(found) == len(clips) // 4 * 4
        for crop, (clip, at) in zip(crops, found, strict=True):
            np.testing.assert_array_equal(crop, clips[clip][at : at + CROP])
    assert heard[0] != heard[1]


def test_the_limit_copies_as_much_as_others_read(recordings: Recordings) -> None:
    batches = list(MemoryCopy(recordings, Reading(CROP, 4), threads=2))
    assert len(batches) == len(recordings.wavs) // 4
    assert {(batch.shape, batch.dtype) for batch in batches} == {((4, CROP), torch.int16)}
    assert len({batch.data_ptr() for batch in batches}) == 1
    blocks = bench_loader.SequentialRead(recordings, Reading(CROP, 4))
    n_bytes = sum(path.stat().st_size for path in recordings.store.glob("*.h5"))
    assert sum(len(block) for block in blocks) == pytest.approx(n_bytes / (2 * CROP), abs=len(blocks.paths))


def test_consume_counts_whole_epochs_until_the_time_is_over() -> None:
    batches = [torch.ones(3, 5000, dtype=torch.int16)] * 4
    assert bench_loader.consume(batches, seconds=0) == 12
    crops = bench_loader.consume(batches, seconds=0.02)
    assert crops > 12
    assert crops % 12 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gigabytes=0.001"], "--gigabytes must hold a batch of 64 clips, got 0.001"),
        (["--crop_seconds=31"], "--crop_seconds must be above 0 and at most --clip_seconds, got 31.0"),
    ],
)
def test_wrong_arguments_say_what_to_type(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench_loader.main(arguments)
    assert message in capsys.readouterr().err


def test_walk_to_the_first_batch_of_many_clips(tmp_path: Path) -> None:
    store, table = bench_index.make_store(tmp_path, n_clips=200)
    steps = bench_index.walk(store, table)
    assert min(value for name, value in steps.items() if name.endswith(", s")) > 0
    assert [name.rpartition(", ")[2] for name in steps].count("MiB") == 2
