"""What a few headers and all sizes tell of the audio to come, held against what is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from datamodules.decoding import estimate
from datamodules.decoding.estimate import expect, expected_seconds, native_channels
from datamodules.decoding.sources import Source, find_sources

RATE = 8000


def write(path: Path, *, seconds: float, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.3 * np.random.default_rng(0).standard_normal((round(seconds * RATE), channels))
    soundfile.write(path, noise, RATE)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "au", "mp3"])
def test_a_header_tells_the_length(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.{suffix}", seconds=1.5)
    # mp3 at 8 kHz counts in frames of 72 ms, and its encoder adds up to two
    np.testing.assert_allclose(expected_seconds(find_sources(tmp_path)), 1.5, atol=0.15 if suffix == "mp3" else 1e-3)


def test_files_that_are_not_looked_at_count_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "LOOKED_AT", 10)
    seconds = np.random.default_rng(1).uniform(0.5, 3, 60)
    for i, length in enumerate(seconds):
        write(tmp_path / f"{i:02d}.{'wav' if i % 2 else 'flac'}", seconds=length, channels=1 + i % 2)
    expected = expect(find_sources(tmp_path))
    assert (expected.looked_at, expected.unreadable, expected.missing) == (10, 0, 0)
    # The bytes of a second are the same in every wav; flac adds some kB of padding, here 1 % of a clip.
    np.testing.assert_allclose(expected.seconds, seconds, rtol=0.05)
    # `sampled` holds those that were looked at, and they are known exactly
    assert np.isin(expected.sampled.round(3), seconds.round(3)).all()


def test_the_same_files_give_the_same(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"{i}.ogg", seconds=0.2 + 0.1 * i)
    sources = find_sources(tmp_path)
    np.testing.assert_array_equal(expected_seconds(sources), expected_seconds(sources))


@pytest.mark.usefixtures("workers")
def test_what_is_no_audio_has_no_seconds(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", seconds=1)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio")
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for a writer
    names = ("dangling.wav", "empty.wav", "good.wav", "pipe.wav", "text.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone")
    expected = expect([Source(name, tmp_path / name) for name in names])
    np.testing.assert_allclose(expected.seconds, [0, 0, 1, 0, 0], atol=1e-6)
    assert (expected.missing, expected.looked_at, expected.unreadable) == (2, 3, 2)


def test_nothing_to_decode_is_nothing_to_expect(tmp_path: Path) -> None:
    assert expected_seconds([]).shape == (0,)
    assert expected_seconds([Source("gone.wav", tmp_path / "gone.wav")]).tolist() == [0.0]


@pytest.mark.usefixtures("workers")
def test_names_that_ffmpeg_could_misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative `concat:x.wav` would be a protocol to it."""
    monkeypatch.chdir(tmp_path)
    names = ("concat:x.wav", "a%03d.wav", "new\nline.wav", "ü.wav", os.fsdecode(b"\xff.wav"))
    for name in names:
        write(tmp_path / "plain.wav", seconds=0.5)
        (tmp_path / "plain.wav").rename(tmp_path / name)
    np.testing.assert_allclose(expected_seconds([Source(name, Path(name)) for name in names]), 0.5)


def test_native_channels_are_those_of_most_files(tmp_path: Path) -> None:
    for i, channels in enumerate((1, 2, 2)):
        write(tmp_path / f"{i}.wav", seconds=0.1, channels=channels)
    assert native_channels(find_sources(tmp_path)) == 2
    write(tmp_path / "3.wav", seconds=0.1, channels=1)
    assert native_channels(find_sources(tmp_path)) == 2, "of equals the larger: nothing is lost"
    write(tmp_path / "4.wav", seconds=0.1, channels=1)
    assert native_channels(find_sources(tmp_path)) == 1


def test_native_channels_need_a_file_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    sources = [*find_sources(tmp_path), Source("gone.wav", tmp_path / "gone.wav")]
    message = "must be given as a number, got native: none of 1 files looked at can be read, 1 of 2 are missing"
    with pytest.raises(ValueError, match=message):
        native_channels(sources)


@pytest.mark.data
def test_real_recordings_agree_with_a_full_decode(recordings: Path) -> None:
    for folder in ("philharmonia", "esc10", "music"):
        sources = find_sources(recordings / folder)[:40]
        decoded = [_seconds(source.path) for source in sources]
        # a header may count the encoder's delay: two MPEG frames are 52 ms
        np.testing.assert_allclose(expected_seconds(sources), decoded, atol=0.06)


def _seconds(path: Path) -> float:
    samples, sample_rate = soundfile.read(path)
    return len(samples) / sample_rate
