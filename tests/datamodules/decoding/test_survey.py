"""What a file itself says and holds, counted against what was written into it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import soundfile

from datamodules.decoding.survey import survey
from tests.datamodules.decoding.audio_files import RATE, encode, tone_in_noise

N = 6 * RATE


def test_vbr_without_a_tag_is_what_libsndfile_halves(whole: Path) -> None:
    """The reason for the walk: libsndfile and mutagen agree on a wrong length. Fails once libsndfile is mended."""
    assert len(soundfile.read(whole / "vbr.mp3")[0]) < 0.8 * N
    assert survey((whole / "vbr.mp3").read_bytes()).present == pytest.approx(N, abs=2 * 1152)


def test_what_looks_like_one_frame_at_the_end_is_no_other_rate(whole: Path) -> None:
    """Damage once made a file end in four bytes that read as a header of another rate, whose frame just fitted."""
    header = b"\xff\xfb\x98\x00"  # 128 kbit/s at 32 kHz: 576 bytes
    held = survey((whole / "vbr.mp3").read_bytes() + b"??" + header + bytes(572))
    assert held.sample_rates == (RATE,)
    assert held.damage == "578 bytes between MPEG frames belong to none"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
def test_walk_counts_what_lame_wrote(tmp_path: Path, rate: int) -> None:
    """MPEG-1, -2 and -2.5; the encoder's tag names the exact length, which libsndfile decodes."""
    soundfile.write(tmp_path / "a.mp3", tone_in_noise(2, rate=rate), rate)
    held = survey((tmp_path / "a.mp3").read_bytes())
    assert held.present == 2 * rate == len(soundfile.read(tmp_path / "a.mp3")[0])
    assert held.sample_rates == (rate,)


def test_flac_length_is_read_from_its_header() -> None:
    header = b"fLaC" + bytes(14) + struct.pack(">Q", 48000 << 44 | 1 << 41 | 15 << 36 | 123456)
    assert survey(header).declared == 123456


CONTAINERS: dict[str, dict[str, str]] = {
    "a.mp4": {"codec": "aac"},
    "a.mov": {"codec": "pcm_s16be"},
    "a.mka": {"codec": "flac"},
    "a.wma": {"codec": "wmav2", "container": "asf"},
    "a.avi": {"codec": "libmp3lame", "video": "1"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_says_by_how_much_it_was_cut(tmp_path: Path, name: str) -> None:
    encode(tmp_path / name, tone_in_noise(0.5), **CONTAINERS[name])
    data = (tmp_path / name).read_bytes()
    assert survey(data).cut == survey(data + b"junk").cut == ""
    assert survey(data[:-1]).cut == "the file ends 1 bytes early"
    assert survey(data[: len(data) // 2]).cut.startswith("the file ends ")


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF"])
def test_share_is_that_of_the_samples(tmp_path: Path, form: str) -> None:
    soundfile.write(tmp_path / "a", tone_in_noise(1), RATE, format=form, subtype="PCM_16")
    data = (tmp_path / "a").read_bytes()
    assert survey(data).share == 1
    # headers of some kB (CAF's padding) before the samples
    assert survey(data[: len(data) // 4]).share == pytest.approx(0.25, abs=0.05)
    assert survey(data[: len(data) // 4]).share < 0.2501


def test_ogg_streams_are_counted_one_behind_the_other(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.ogg", tone_in_noise(1), RATE)
    soundfile.write(tmp_path / "a.opus", tone_in_noise(1, rate=48000), 48000, format="OGG", subtype="OPUS")
    vorbis, opus = (tmp_path / "a.ogg").read_bytes(), (tmp_path / "a.opus").read_bytes()
    assert (survey(vorbis).present, survey(vorbis).sample_rates) == (RATE, (RATE,))
    assert (survey(vorbis + vorbis).present, survey(vorbis + vorbis).damage) == (2 * RATE, "")
    assert survey(opus).present == 48000
    assert survey(vorbis + opus).sample_rates == (RATE, 48000)


def test_tag_between_mpeg_frames_is_no_damage_and_zeros_are(whole: Path) -> None:
    frames = (whole / "vbr.mp3").read_bytes()
    tag = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)
    alone, tagged, holed = (survey(frames + between + frames) for between in (b"", tag, bytes(138)))
    assert (tagged.present, tagged.damage) == (alone.present, "")
    assert holed.damage == "138 bytes between MPEG frames belong to none"
    assert tagged.runs == ((0, len(frames)), (len(frames) + len(tag), 2 * len(frames) + len(tag)))


@pytest.mark.parametrize("n_frames", [1, 2])
def test_short_mp3_that_is_cut_inside_a_frame_says_so(whole: Path, n_frames: int) -> None:
    """Once not recognised, since three frames in a row were asked for, and then believed to be whole."""
    frames = (whole / "vbr.mp3").read_bytes()
    cuts = [survey(frames[:end]) for end in range(200, 4000, 7)]
    found = [held for held in cuts if held.kind == "mpeg" and held.present == 1152 * n_frames]
    assert found
    assert sum(not held.cut for held in found) <= 1  # where the cut falls between two frames


@pytest.mark.parametrize(
    "magic",
    [b"RIFF\0\0\0\0ACON", b"FORM\0\0\0\0ILBM", b"\0\0\x01\xba", b"FLV\x01", b"wvpk", b"TTA1", b"NIST_1A"],
)
def test_frames_inside_other_formats_are_not_counted(whole: Path, magic: bytes) -> None:
    held = survey(magic + bytes(100) + (whole / "vbr.mp3").read_bytes())
    assert (held.present, held.cut, held.damage) == (None, "", "")
    assert held.kind not in ("mpeg", "wav", "aiff", "other")
