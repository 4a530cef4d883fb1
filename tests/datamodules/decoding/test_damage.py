"""Damaged files: what is left of them comes out, and is said to be short or salvaged; none passes for whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile

from datamodules.decoding.decode import DecodeError, decode
from datamodules.decoding.headers import read_header
from datamodules.decoding.survey import survey
from tests.datamodules.decoding.audio_files import RATE, encode, flips, half, hole, tone_in_noise

SECONDS = 6


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("a.mp3", "2.9. s of the 6.00 s that it declares, its last MPEG frame is incomplete"),
        ("vbr.mp3", "its last MPEG frame is incomplete"),
        ("a.wav", "3.00 s of the 6.00 s that it declares"),
        ("adpcm.wav", r"3.0\d s of the 6.1\d s that it declares"),
        ("a.aiff", "3.00 s of the 6.00 s that it declares"),
        ("a.au", "3.00 s of the 6.00 s that it declares"),
        ("a.flac", r"2.\d\d s of the 6.00 s that it declares"),
        ("a.ogg", "its last Ogg page carries no end-of-stream flag"),
        ("a.m4a", r"2.\d\d s of the 6.0\d s that it declares"),
        ("a.aac", "its last packet is incomplete"),
        ("a.webm", r"2.\d\d s of the [56].\d\d s that it declares"),
    ],
)
def test_file_cut_in_half_is_short(damaged: Callable[..., Path], name: str, note: str) -> None:
    decoded = decode(damaged(name, half), sample_rate=16000)
    assert 0.3 < len(decoded.pcm) / (16000 * SECONDS) < 0.6
    assert decoded.status == "short"
    assert re.search(note, decoded.note)


def test_mp3_cut_between_frames_is_short_against_its_tag(damaged: Callable[..., Path]) -> None:
    def cut(data: bytearray) -> bytes:
        for end in range(len(data) // 2, 0, -1):
            held = survey(bytes(data[:end]))
            if not held.cut:
                return bytes(data[:end])
        raise AssertionError

    decoded = decode(damaged("a.mp3", cut), sample_rate=16000)
    assert decoded.status == "short"
    assert "of the 6.00 s that it declares" in decoded.note


@pytest.mark.parametrize("name", ["a.mp3", "vbr.mp3", "a.ogg", "a.flac", "a.m4a", "a.aac"])
@pytest.mark.parametrize("change", [hole, flips], ids=["hole", "flips"])
def test_damage_inside_is_salvaged_and_said(damaged: Callable[..., Path], name: str, change: Callable) -> None:
    # without frame headers to resynchronise at, aac in mp4 loses a packet or more to every flip
    few = change is flips and name in ("a.m4a", "a.aac", "a.ogg")
    decoded = decode(damaged(name, (lambda data: flips(data, 10)) if few else change), sample_rate=16000)
    assert decoded.status == "salvaged"
    assert decoded.note
    assert "\n" not in decoded.note
    # a hole of 4 kB is half a second of these; libogg drops every page with a flipped bit
    assert len(decoded.pcm) > (0.1 if name == "a.ogg" else 0.5) * 16000 * SECONDS


def test_junk_before_the_first_frame_is_passed_over(damaged: Callable[..., Path], whole: Path) -> None:
    junk = np.random.default_rng(0).integers(0, 256, 70000, dtype=np.uint8).tobytes()
    decoded = decode(damaged("a.mp3", lambda data: junk + data), sample_rate=16000)
    assert decoded.status == "salvaged"
    assert decoded.note == "70000 bytes before the first MPEG frame were passed over"
    assert len(decoded.pcm) == len(decode(whole / "a.mp3", sample_rate=16000).pcm)


def test_padding_before_the_first_frame_is_no_damage(damaged: Callable[..., Path], whole: Path) -> None:
    decoded = decode(damaged("a.mp3", lambda data: bytes(70000) + data), sample_rate=16000)
    assert (decoded.status, decoded.note) == ("ok", "")
    assert len(decoded.pcm) == len(decode(whole / "a.mp3", sample_rate=16000).pcm)


@pytest.mark.parametrize("size", [b"\x7f\x7f\x7f\x7f", b"\x00\x01\x00\x00"], ids=["past the end", "inside"])
def test_false_size_of_a_tag_costs_nothing(damaged: Callable[..., Path], whole: Path, size: bytes) -> None:
    decoded = decode(damaged("a.mp3", lambda data: b"ID3\x03\x00\x00" + size + bytes(20) + data), sample_rate=16000)
    assert len(decoded.pcm) == len(decode(whole / "a.mp3", sample_rate=16000).pcm)


def test_tags_around_an_mp3_are_no_damage(damaged: Callable[..., Path], whole: Path) -> None:
    art = np.random.default_rng(0).integers(0, 256, 16384, dtype=np.uint8).tobytes()
    head, tail = b"ID3\x03\x00\x00\x00\x01\x00\x00" + art, b"TAG" + bytes(125)
    decoded = decode(damaged("a.mp3", lambda data: head + data + tail), sample_rate=16000)
    assert (decoded.status, decoded.note, decoded.decoder) == ("ok", "", "soundfile")
    np.testing.assert_array_equal(decoded.pcm, decode(whole / "a.mp3", sample_rate=16000).pcm)


def test_wav_that_was_never_finished_is_read(damaged: Callable[..., Path], whole: Path) -> None:
    def unfinish(data: bytearray) -> bytes:
        data[4:8] = data[40:44] = bytes(4)
        return bytes(data)

    decoded = decode(damaged("a.wav", unfinish), sample_rate=16000)
    assert decoded.status == "salvaged"
    assert "its header says 0 bytes of samples (never finished), the 529200 bytes behind it were read" in decoded.note
    np.testing.assert_array_equal(decoded.pcm, decode(whole / "a.wav", sample_rate=16000).pcm)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_size_that_went_round_is_said(damaged: Callable[..., Path], name: str) -> None:
    """Of a recording of 4 GiB and a second there was a second, and that was said to be all."""
    data_chunk, order = (b"data", "little") if name == "a.wav" else (b"SSND", "big")

    def wrap(data: bytearray) -> bytes:
        at = data.index(data_chunk) + 4
        data[at : at + 4] = (2 * RATE).to_bytes(4, order)
        return bytes(data)

    decoded = decode(damaged(name, wrap), sample_rate=RATE)
    assert decoded.status == "salvaged"
    assert re.search("^[0-9]+ bytes behind its samples were not read$", decoded.note)


@pytest.mark.parametrize("behind", [b"\0" * 100, b"\0id3 \2\0\0\0ab", b"TAG" + b"x" * 125, b"\0\1"])
def test_what_stands_behind_the_samples_of_a_wav_is_no_damage(damaged: Callable[..., Path], behind: bytes) -> None:
    decoded = decode(damaged("a.wav", lambda data: bytes(data) + behind), sample_rate=RATE)
    assert (decoded.status, decoded.note) == ("ok", "")


def test_wav_written_into_a_pipe_is_whole(damaged: Callable[..., Path], whole: Path) -> None:
    def stream(data: bytearray) -> bytes:
        data[4:8] = data[40:44] = b"\xff" * 4
        return bytes(data)

    decoded = decode(damaged("a.wav", stream), sample_rate=16000)
    assert (decoded.status, decoded.note) == ("ok", "")
    np.testing.assert_array_equal(decoded.pcm, decode(whole / "a.wav", sample_rate=16000).pcm)


def test_sample_rate_that_changes_is_refused(tmp_path: Path, whole: Path) -> None:
    soundfile.write(tmp_path / "b.mp3", tone_in_noise(1), 32000)
    spliced = tmp_path / "spliced.mp3"
    spliced.write_bytes((whole / "vbr.mp3").read_bytes() + (tmp_path / "b.mp3").read_bytes())
    with pytest.raises(DecodeError, match="mp3: its sample rate changes from 44100 Hz to 32000 Hz inside the file"):
        decode(spliced, sample_rate=16000)


def test_samples_that_are_not_finite_do_not_get_through(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(8000, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(
        DecodeError, match="wav: damaged beyond use: none of its samples can be decoded, is finite and near"
    ):
        decode(tmp_path / "a.wav", sample_rate=8000)


def test_cut_m4a_without_its_index_says_so(damaged: Callable[..., Path]) -> None:
    with pytest.raises(DecodeError, match="mp4: damaged beyond use"):
        decode(damaged("tail.m4a", half), sample_rate=16000)


# cut anywhere -------------------------------------------------------------------------------------------------------

CUT: dict[str, dict[str, str]] = {
    "cbr.mp3": {"codec": "libmp3lame"},
    "vbr.mp3": {"codec": "libmp3lame", "abr": "1"},
    "vbr without a tag.mp3": {"codec": "libmp3lame", "abr": "1", "write_xing": "0", "id3v2_version": "0"},
    "index first.m4a": {"codec": "aac", "movflags": "faststart"},
    "index last.m4a": {"codec": "aac"},
    "a.aac": {"codec": "aac", "container": "adts"},
    "a.mka": {"codec": "flac"},
    "a.wma": {"codec": "wmav2", "container": "asf"},
    "a.avi": {"codec": "libmp3lame", "video": "1"},
    "a.wv": {"codec": "wavpack"},
    "a.ogg": {},
    "a.flac": {},
    "a.wav": {},
    "a.w64": {},
    "a.aiff": {},
    "a.caf": {},
}


@pytest.mark.parametrize("name", CUT)
def test_file_cut_at_any_tenth_is_never_whole(tmp_path: Path, name: str) -> None:
    samples = tone_in_noise(1, channels=2)
    if CUT[name]:
        encode(tmp_path / name, samples, **CUT[name])
    else:
        soundfile.write(tmp_path / name, samples, RATE)
    assert decode(tmp_path / name, sample_rate=8000).status == "ok"
    content = (tmp_path / name).read_bytes()
    said = {}
    for tenth in range(1, 10):
        (tmp_path / name).write_bytes(content[: len(content) * tenth // 10])
        try:
            decoded = decode(tmp_path / name, sample_rate=8000)
        except DecodeError as error:
            said[tenth] = error.reason
        else:
            assert len(decoded.pcm) < 8000
            assert decoded.status in ("short", "salvaged")
            said[tenth] = decoded.note
    ways = "cut short|could not be decoded|damaged beyond use|holds no samples|holds no audio|without audio"
    assert {tenth: note for tenth, note in said.items() if not re.search(ways, note)} == {}


# put together -------------------------------------------------------------------------------------------------------


def test_second_of_two_ogg_streams_is_not_lost(damaged: Callable[..., Path], whole: Path) -> None:
    """libsndfile reads the first stream of a chain and says nothing of the others."""
    decoded = decode(damaged("a.ogg", lambda data: bytes(data + data)), sample_rate=RATE)
    once = decode(whole / "a.ogg", sample_rate=RATE).pcm
    assert (decoded.status, decoded.decoder) == ("ok", "pyav")
    np.testing.assert_allclose(decoded.pcm[: len(once)], once, atol=1)  # FFmpeg rounds a step elsewhere
    assert 0 <= len(decoded.pcm) - 2 * len(once) < 2048  # it leaves the last block of the first stream whole


def test_second_of_two_mp3s_is_not_lost(damaged: Callable[..., Path], whole: Path) -> None:
    """libsndfile stops where the first file's tag says that it ends."""
    decoded = decode(damaged("xing.mp3", lambda data: bytes(data + data)), sample_rate=RATE)
    once = len(decode(whole / "xing.mp3", sample_rate=RATE).pcm)
    assert (decoded.status, decoded.note, decoded.decoder) == ("ok", "", "pyav")
    assert 0 <= len(decoded.pcm) - 2 * once < 4 * 1152  # padding around the second, and the frame that is its tag


def test_mono_and_stereo_mp3_put_together_are_refused(tmp_path: Path) -> None:
    for channels in (1, 2):
        samples = tone_in_noise(1, channels=channels)
        encode(tmp_path / f"{channels}.mp3", samples, codec="libmp3lame", write_xing="0", id3v2_version="0")
    both = tmp_path / "both.mp3"
    both.write_bytes((tmp_path / "1.mp3").read_bytes() + (tmp_path / "2.mp3").read_bytes())
    with pytest.raises(DecodeError, match="mp3: its number of channels changes inside the file"):
        decode(both, sample_rate=16000)


def test_mp3_of_a_variable_rate_in_a_wav_is_not_cut_in_half(tmp_path: Path) -> None:
    """libsndfile took its length from the first frames, and half of it was said to be all."""
    samples = tone_in_noise(3)
    samples[RATE:] *= 1e-3
    encode(tmp_path / "a.wav", samples, codec="libmp3lame", container="wav", abr="1")
    decoded = decode(tmp_path / "a.wav", sample_rate=RATE)
    assert (decoded.codec, decoded.status) == ("wav mp3", "ok")
    assert len(decoded.pcm) / RATE == pytest.approx(3, abs=0.05)


def test_title_that_is_no_utf8_does_not_cost_the_clip(damaged: Callable[..., Path]) -> None:
    path = damaged("a.m4a", bytes)
    tags = mutagen.File(path, easy=True)
    tags["title"] = "Strasse"
    tags.save()
    path.write_bytes(path.read_bytes().replace(b"Strasse", b"Stra\xdfe "))
    assert decode(path, sample_rate=RATE).status == "ok"
    header = read_header(path)
    assert header is not None
    assert header.channels == 1


def test_codec_that_nothing_here_decodes_is_said(damaged: Callable[..., Path]) -> None:
    path = damaged("a.wav", lambda data: data[:20] + b"\x34\x12" + data[22:])  # the number of its codec
    with pytest.raises(DecodeError, match=r"a\.wav: wav: FFmpeg has no decoder for its sound"):
        decode(path, sample_rate=RATE)
    assert read_header(path) is None


# no false alarms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.wav", "adpcm_yamaha", RATE), ("a.ogg", "flac", 48000)])
def test_codec_that_libsndfile_does_not_know_is_no_damage(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    """Once said to be salvaged, since libsndfile was thought to have stumbled."""
    encode(tmp_path / name, tone_in_noise(1, rate=rate), rate, codec=codec)
    decoded = decode(tmp_path / name, sample_rate=16000)
    assert (decoded.status, decoded.note) == ("ok", "")


def test_flac_stream_without_a_length_is_whole(damaged: Callable[..., Path], whole: Path) -> None:
    """As an encoder leaves it that writes into a pipe."""

    def forget_length(data: bytearray) -> bytes:
        data[21] &= 0xF0
        data[22:42] = bytes(20)
        return bytes(data)

    decoded = decode(damaged("a.flac", forget_length), sample_rate=RATE)
    assert (decoded.status, decoded.note) == ("ok", "")
    np.testing.assert_array_equal(decoded.pcm, decode(whole / "a.flac", sample_rate=RATE).pcm)


def test_film_is_as_long_as_its_sound(tmp_path: Path) -> None:
    """The length of a film is that of its pictures where they last longer."""
    encode(tmp_path / "a.mkv", tone_in_noise(1), codec="aac", video=True, video_seconds=3)
    decoded = decode(tmp_path / "a.mkv", sample_rate=16000)
    assert (decoded.status, decoded.note) == ("ok", "")
    assert abs(len(decoded.pcm) - 16000) < 2 * 1024 * 16000 / RATE  # the encoder's padding
