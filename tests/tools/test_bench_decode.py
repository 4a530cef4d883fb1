"""The benchmark of decoding runs, measures ours, the limit and every peer that works, and its mp3 are what it says."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import bench_decode
import measuring


@pytest.fixture(scope="module")
def mp3s(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mp3")
    for seed in range(2):
        soundfile.write(folder / f"{seed}.mp3", bench_decode.music(seed, seconds=2), bench_decode.MP3_RATE)
    return folder


def not_installed(path: Path, sample_rate: int) -> np.ndarray:
    raise ImportError("no such library")


def test_table_and_csv(
    mp3s: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {name: bench_decode.PEERS[name] for name in (bench_decode.BARE, "PyAV, swresample")}
    monkeypatch.setattr(bench_decode, "PEERS", quick | {"absent": not_installed})
    path = tmp_path / "decode.csv"
    options = ["--minutes=0.1", "--turns=2", "--workers=1", f"--folder={tmp_path}", f"--csv={path}"]
    assert bench_decode.main([f"--source={mp3s}", *options]) == 0
    printed, complaints = capsys.readouterr()
    rows = {str(row["implementation"]): row for row in measuring.read_csv(path)}
    assert rows.keys() == {"audiocls", *quick}
    assert "absent left out: no such library" in complaints
    assert all(name in printed for name in rows)
    assert rows["audiocls"]["speed_to_ours"] == rows["limit: bare decoder"]["speed_to_limit"] == 1
    assert float(rows["audiocls"]["start_up_s"]) > 0
    # The same decoder, resampler and rounding: whatever else differed would be a fault of one of them.
    assert rows["audiocls"]["snr_db"] == pytest.approx(float(rows["limit: bare decoder"]["snr_db"]), abs=0.01)
    assert all(float(row["snr_db"]) > 20 for row in rows.values())  # a wrong rate, gain or offset gives below 10
    assert [path.name for path in tmp_path.iterdir()] == ["decode.csv"]


def test_a_turn_is_as_long_as_asked_whatever_the_files(mp3s: Path) -> None:
    files = sorted(mp3s.iterdir())
    task = bench_decode.plan(files, minutes=0.5, sample_rate=16000, workers=2)
    assert 60 <= task.seconds < 62
    assert len(task.paths) == 30
    assert set(task.paths) == set(files)
    assert len(bench_decode.plan(files, minutes=0.01, sample_rate=16000, workers=1).paths) == 1


def test_mp3_is_like_a_tagged_file_of_music(tmp_path: Path) -> None:
    bench_decode.write_mp3(tmp_path / "0003.mp3")
    data = (tmp_path / "0003.mp3").read_bytes()
    assert b"Info" in data[:200]
    assert b"LAME" in data[:200]
    info = soundfile.info(tmp_path / "0003.mp3")
    assert (info.samplerate, info.channels, info.duration) == (44100, 2, 30)
    assert len(data) * 8 / 30 == pytest.approx(256_000, rel=0.01)
    samples = soundfile.read(tmp_path / "0003.mp3")[0]
    assert np.abs(samples).max() > 0.5
    assert np.abs(samples[:, 0] - samples[:, 1]).max() > 0.1  # stereo indeed
    assert not np.array_equal(bench_decode.music(3, seconds=1), bench_decode.music(4, seconds=1))


@pytest.mark.parametrize("name", bench_decode.PEERS)
def test_every_peer_decodes_the_same_music(name: str, mp3s: Path) -> None:
    try:
        samples = bench_decode.PEERS[name](mp3s / "0.mp3", 16000)
    except (ImportError, OSError) as error:
        pytest.skip(f"not installed: {error}")
    assert len(samples) == pytest.approx(32000, abs=40)  # the resampler's own rounding and, of one, its tail
    assert bench_decode.snr_db(samples, mp3s / "0.mp3", 16000) > 20


def test_snr_is_that_of_the_error(mp3s: Path) -> None:
    path = mp3s / "0.mp3"
    exact = soundfile.read(path)[0].mean(axis=1)
    noise = np.random.default_rng(0).standard_normal(len(exact))
    noise *= 0.01 * np.sqrt(np.mean(exact**2) / np.mean(noise**2))
    assert bench_decode.snr_db(exact + noise, path, bench_decode.MP3_RATE) == pytest.approx(40, abs=1e-6)


def test_one_thread_each_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with bench_decode.one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--turns=1"], "argument --turns: must be at least 2 to have a spread, got 1"),
        (["--minutes=0"], "--minutes must be above 0, got 0"),
        (["--source=gone"], "gone does not exist"),
    ],
)
def test_wrong_arguments_say_what_to_type(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        bench_decode.main(arguments)
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_audio_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp3").write_bytes(b"no audio")
    with pytest.raises(SystemExit):
        bench_decode.main([f"--source={tmp_path}"])
    assert "--source must hold files that libsndfile reads: " in capsys.readouterr().err
