"""Decoding: whole files of every format come out whole, in the form that is asked for; what is no audio says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from datamodules.decoding.decode import DecodeError, decode, to_pcm
from datamodules.samples import from_float
from tests.datamodules.decoding.audio_files import RATE, half, tone_in_noise

SECONDS = 6
N = RATE * SECONDS


# whole files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "decoder"),
    [
        ("a.mp3", "mp3", "soundfile"),
        ("xing.mp3", "mp3", "soundfile"),
        ("vbr.mp3", "mp3", "pyav"),
        ("a.ogg", "vorbis", "soundfile"),
        ("a.flac", "flac", "soundfile"),
        ("a.wav", "wav pcm_16", "soundfile"),
        ("float.wav", "wav float", "soundfile"),
        ("double.wav", "wav double", "soundfile"),
        ("adpcm.wav", "wav ima_adpcm", "soundfile"),
        ("a.aiff", "aiff pcm_16", "soundfile"),
        ("a.au", "au pcm_16", "soundfile"),
        ("a.m4a", "aac", "pyav"),
        ("a.aac", "aac", "pyav"),
        ("a.wma", "wmav2", "pyav"),
        ("a.webm", "opus", "pyav"),
    ],
)
def test_whole_file_comes_out_whole(whole: Path, name: str, codec: str, decoder: str) -> None:
    decoded = decode(whole / name, sample_rate=RATE)
    assert (decoded.codec, decoded.decoder, decoded.status, decoded.note) == (codec, decoder, "ok", "")
    assert decoded.pcm.dtype == np.int16
    assert decoded.pcm.flags.c_contiguous
    # encoders pad to their frame: at most two of 2048 samples (wma), and two of 1152 in front of an mp3 without a tag
    assert -2048 <= len(decoded.pcm) - N <= 4096
    middle = decoded.pcm[N // 4 : N // 4 + RATE, 0].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    # tone and noise; at 64 kbit/s LAME scales its input by 0.95 and codecs leave out high noise
    assert middle.std() / 32768 == pytest.approx(np.hypot(0.5 / np.sqrt(2), 0.05), rel=0.06)


def test_pcm16_wav_is_stored_bit_for_bit(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, (1000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, 8000)
    np.testing.assert_array_equal(decode(tmp_path / "a.wav", sample_rate=8000, channels=2).pcm, pcm)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.m4a", "a.webm"])
def test_content_decides_and_not_the_name(damaged: Callable[..., Path], whole: Path, name: str) -> None:
    renamed = decode(damaged(name, bytes, as_name="clip.mp3"), sample_rate=16000)
    np.testing.assert_array_equal(renamed.pcm, decode(whole / name, sample_rate=16000).pcm)
    assert renamed.status == "ok"


def test_loud_ogg_is_clipped_and_does_not_wrap(tmp_path: Path) -> None:
    loud = 1.5 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "a.ogg", loud, RATE)
    decoded = decode(tmp_path / "a.ogg", sample_rate=RATE)
    assert decoded.clipped > 0.4 * RATE  # a sine of 1.5 is over full scale for 53 % of its time
    over = np.abs(loud) > 1.2
    np.testing.assert_array_equal(np.sign(decoded.pcm[over, 0]), np.sign(loud[over]))


def test_tags_are_read(whole: Path, damaged: Callable[..., Path]) -> None:
    for name in ("a.mp3", "a.flac", "a.ogg", "a.m4a"):
        path = damaged(name, bytes)
        tags = mutagen.File(path, easy=True)
        if tags.tags is None:
            tags.add_tags()
        tags["artist"], tags["title"] = "Ärtist\nB", "T"
        tags.save()
        decoded = decode(path, sample_rate=8000)
        assert (decoded.artist, decoded.title, decoded.status) == ("Ärtist B", "T", "ok")
        # mutagen reads headers; aac and mp3 count their padding
        assert decoded.declared_seconds == pytest.approx(SECONDS, abs=0.05)


def test_a_tag_of_megabytes_does_not_widen_a_column(damaged: Callable[..., Path]) -> None:
    """One title of 3 MB made a shard of 200 short clips 600 MB large."""
    path = damaged("a.flac", bytes)
    tags = mutagen.File(path, easy=True)
    tags["artist"], tags["title"] = "A", "x " * 1_000_000
    tags.save()
    decoded = decode(path, sample_rate=8000)
    assert (decoded.artist, decoded.title, decoded.status) == ("A", "x " * 100, "ok")


# channels and rate --------------------------------------------------------------------------------------------------


def test_mono_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    stereo = np.stack([np.full(100, 8000), np.full(100, -2000)], axis=1).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", stereo, 8000)
    assert np.unique(decode(tmp_path / "a.wav", sample_rate=8000).pcm).tolist() == [3000]


def test_mono_file_fills_every_channel(whole: Path) -> None:
    pcm = decode(whole / "a.wav", sample_rate=RATE, channels=2).pcm
    assert pcm.shape == (N, 2)
    np.testing.assert_array_equal(pcm[:, 0], pcm[:, 1])


def test_three_channels_cannot_become_two(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, 3)), 8000)
    with pytest.raises(DecodeError, match="3 channels cannot become 2: decode with channels=1 or 3"):
        decode(tmp_path / "a.wav", sample_rate=8000, channels=2)


def test_exact_channels_refuses_what_would_be_mixed_or_copied(tmp_path: Path, whole: Path) -> None:
    soundfile.write(tmp_path / "stereo.wav", np.zeros((100, 2)), 8000)
    kept = decode(tmp_path / "stereo.wav", sample_rate=8000, channels=2, exact_channels=True)
    assert kept.pcm.shape == (100, 2)
    with pytest.raises(
        DecodeError, match="is 2, not 1: type --channels 1 to average every file or --channels 2 to copy"
    ):
        decode(tmp_path / "stereo.wav", sample_rate=8000, channels=1, exact_channels=True)
    with pytest.raises(
        DecodeError, match="is 1, not 2: type --channels 1 to average every file or --channels 2 to copy"
    ):
        decode(whole / "a.wav", sample_rate=8000, channels=2, exact_channels=True)


# form ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_format", ["int16", "int32", "float32", "mulaw"])
def test_sample_format_is_that_of_the_stores(tmp_path: Path, sample_format: str) -> None:
    loud = 1.2 * tone_in_noise(0.1, channels=2) / 0.5
    soundfile.write(tmp_path / "a.wav", loud, RATE, subtype="FLOAT")
    decoded = decode(tmp_path / "a.wav", sample_rate=RATE, channels=2, sample_format=sample_format)
    stored, clipped = from_float(loud, sample_format)
    np.testing.assert_array_equal(decoded.pcm, stored)
    assert (decoded.pcm.dtype, decoded.clipped) == (stored.dtype, clipped)
    assert decoded.pcm.flags.c_contiguous


@pytest.mark.parametrize("name", ["a.mp3", "vbr.mp3", "a.ogg", "a.flac", "a.wav", "a.m4a"])
@pytest.mark.parametrize("rate_out", [8000, RATE, 96000])
def test_max_seconds_keeps_the_beginning_of_the_whole(whole: Path, name: str, rate_out: int) -> None:
    everything = decode(whole / name, sample_rate=rate_out)
    for seconds in (0.0123, 2.5, 60):
        decoded = decode(whole / name, sample_rate=rate_out, max_seconds=seconds)
        assert len(decoded.pcm) == min(round(seconds * rate_out), len(everything.pcm))
        assert (decoded.status, decoded.note) == ("ok", "")
        assert decoded.pcm.flags.c_contiguous
        # Where libsndfile may read the beginning of a file that it cannot read whole, FFmpeg rounds a step elsewhere.
        np.testing.assert_allclose(decoded.pcm, everything.pcm[: len(decoded.pcm)], atol=1 if name == "vbr.mp3" else 0)


def test_max_seconds_does_not_hide_that_the_file_is_cut(damaged: Callable[..., Path]) -> None:
    for name in ("a.mp3", "a.ogg", "a.flac", "a.wav"):
        path = damaged(name, half)
        decoded = decode(path, sample_rate=8000, max_seconds=1)
        assert decoded.status == decode(path, sample_rate=8000).status == "short"
        assert "cut short" in decoded.note
        assert len(decoded.pcm) == 8000


def test_clipping_is_counted_in_what_is_kept(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.repeat([0.5, 2.0], 8000), 8000, subtype="FLOAT")
    assert decode(tmp_path / "a.wav", sample_rate=8000, max_seconds=1).clipped == 0
    assert decode(tmp_path / "a.wav", sample_rate=8000, max_seconds=1.5).clipped == 4000


@pytest.mark.parametrize("rate_out", [8000, 16000, 22050, 48000])
@pytest.mark.parametrize("n_samples", [44100, 12345])
def test_length_follows_the_rates(rate_out: int, n_samples: int) -> None:
    pcm, _ = to_pcm(np.zeros((n_samples, 1), dtype=np.float32), RATE, rate_out)
    assert abs(len(pcm) - round(n_samples * rate_out / RATE)) <= 1


@pytest.mark.parametrize("rate_out", [8000, 16000, 22050])
def test_tone_keeps_frequency_and_level_and_what_lies_above_vanishes(rate_out: int) -> None:
    time = np.arange(RATE) / RATE
    low, high = 0.4 * rate_out, 0.6 * rate_out  # 0.8 and 1.2 of the new Nyquist frequency
    kept, _ = to_pcm((0.5 * np.sin(2 * np.pi * low * time)).astype("f4")[:, None], RATE, rate_out)
    steady = slice(rate_out // 10, -rate_out // 10)  # away from the ends, where the filter rings
    spectrum = np.abs(np.fft.rfft(kept[:, 0] * np.hanning(len(kept))))
    assert np.argmax(spectrum) == pytest.approx(low, abs=1)
    assert kept[steady].std() / 32768 == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)  # soxr HQ is flat to 0.91 of it
    folded, _ = to_pcm((0.5 * np.sin(2 * np.pi * high * time)).astype("f4")[:, None], RATE, rate_out)
    # 100 dB down is below half a step of int16: what remains is the rounding of at most one step
    assert np.abs(folded[steady]).max() <= 1


# no audio -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"unknown: empty file \(0 bytes\)"),
        (b"<!DOCTYPE html><html><body>404</body></html>" * 20, r"unknown: not an audio file \(a web page\)"),
        (b"some words\n" * 40, r"unknown: not an audio file \(text\)"),
        (b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128), r"unknown: not an audio file \(a tag without audio\)"),
        (np.random.default_rng(0).integers(0, 256, 200_000, dtype=np.uint8).tobytes(), "unknown: not an audio file"),
        (bytes(10000), "unknown: not an audio file"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "wav: damaged beyond use"),
    ],
    ids=["empty", "html", "text", "tag only", "random", "zeros", "wav header cut"],
)
def test_what_is_no_audio_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "clip.mp3"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=message) as caught:
        decode(path, sample_rate=16000)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.codec}: {caught.value.reason}"


def test_wav_without_samples_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    with pytest.raises(DecodeError, match="wav: holds no samples"):
        decode(tmp_path / "a.wav", sample_rate=8000)


def test_clip_shorter_than_a_sample_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1), 44100)
    with pytest.raises(DecodeError, match="too short: 1 samples at 44100 Hz are none at 8000 Hz"):
        decode(tmp_path / "a.wav", sample_rate=8000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be between 100 and 1048575 Hz, such as 16000, got 0"),
        ({"sample_rate": 16}, "sample_rate must be between 100 and 1048575 Hz, such as 16000, got 16"),
        ({"sample_rate": 99_999_999}, "sample_rate must be between 100 and 1048575 Hz, such as 16000, got 99999999"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"sample_format": "int24"}, "sample_format must be one of int16, int32, float32, mulaw, got 'int24'"),
        *(
            ({"max_seconds": value}, "max_seconds must be finite and at least 6.25e-05 s, a sample at 16000 Hz, or be")
            for value in (0, 1e-9, math.nan, math.inf)
        ),
    ],
)
def test_settings_out_of_range(whole: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(whole / "a.wav", **{"sample_rate": 16000, **settings})
