"""A folder of files as they turn up: each is decoded rightly, against a second decoder, or listed with a reason."""

from __future__ import annotations

import csv
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
from scipy.io import wavfile
from scipy.signal import correlate

from datamodules.decoding.decode import DecodeError, decode
from datamodules.decoding.sources import SUFFIXES, find_sources
from datamodules.decoding.survey import Survey, survey
from datamodules.storage.writer import write_store
from tests.datamodules.decoding.audio_files import encode, read_by_ffmpeg, tone_in_noise

SECONDS = 0.4


class Odd(NamedTuple):
    """A file to make: how, and the tone in noise that goes into it."""

    write: Callable[[Path, np.ndarray, int], None]
    rate: int = 44100
    channels: int = 1
    seconds: float = SECONDS

    @property
    def samples(self) -> np.ndarray:
        return tone_in_noise(self.seconds, rate=self.rate, channels=self.channels)

    def make(self, path: Path) -> None:
        self.write(path, self.samples, self.rate)

    def changed(self, change: Callable[[bytes], bytes] = bytes, *, like: str = "") -> Odd:
        """`like`: the suffix that says the format, where the file's own does not."""

        def write(path: Path, samples: np.ndarray, rate: int) -> None:
            whole = path.with_name(f"whole{like or path.suffix}")
            self.write(whole, samples, rate)
            path.write_bytes(change(whole.read_bytes()))

        return self._replace(write=write)


def by_libsndfile(subtype: str | None = None, *, form: str | None = None, **sound: Any) -> Odd:
    return Odd(lambda path, samples, rate: soundfile.write(path, samples, rate, subtype=subtype, format=form), **sound)


def by_ffmpeg(codec: str, *, rate: int = 44100, channels: int = 1, **options: Any) -> Odd:
    return Odd(lambda path, samples, rate: encode(path, samples, rate, codec=codec, **options), rate, channels)


NOISE = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
PICTURE = b"ID3\x03\x00\x00\x00\x12\x27\x60" + NOISE[: 0x12 << 14 | 0x27 << 7 | 0x60]
APE_TAG = b"APETAGEX\xd0\x07\x00\x00" + (32).to_bytes(4, "little") + bytes(16)
MP3 = by_ffmpeg("libmp3lame")
BARE_MP3 = by_ffmpeg("libmp3lame", write_xing="0", id3v2_version="0")
VBR = {"abr": "1"}

ODD: dict[str, Odd] = {
    **{f"{subtype.lower()}.wav": by_libsndfile(subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")},
    **{f"{subtype.lower()}.wav": by_libsndfile(subtype) for subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW")},
    **{f"{subtype.lower()}.wav": by_libsndfile(subtype) for subtype in ("IMA_ADPCM", "GSM610")},
    "extensible.wav": by_libsndfile("PCM_24", form="WAVEX"),
    "g721.wav": by_libsndfile("G721_32"),
    "ms_adpcm.wav": by_ffmpeg("adpcm_ms"),
    "yamaha.wav": by_ffmpeg("adpcm_yamaha"),
    "mp3 inside.wav": by_ffmpeg("libmp3lame"),
    "sphere.wav": by_libsndfile("PCM_16", form="NIST"),
    **{f"{rate} hz.wav": by_libsndfile(rate=rate) for rate in (8000, 44101, 96000, 192000)},
    **{f"{channels} channels.wav": by_libsndfile(channels=channels) for channels in (2, 3, 4, 5, 6)},
    **{f"{n} samples.wav": by_libsndfile(seconds=n / 44100) for n in (1, 3)},
    "a.rf64": by_libsndfile("PCM_16", form="RF64"),
    "a.w64": by_libsndfile("PCM_16", form="W64"),
    "a.aiff": by_libsndfile(),
    "a.aif": by_libsndfile("FLOAT", form="AIFF"),
    "a.aifc": by_libsndfile("ULAW", form="AIFF"),
    "a.au": by_libsndfile("ULAW"),
    "a.caf": by_libsndfile("PCM_24"),
    "alac.caf": by_libsndfile("ALAC_16", form="CAF"),
    "a.flac": by_libsndfile(channels=2),
    "24 bit.flac": by_libsndfile("PCM_24"),
    "behind a tag.flac": by_libsndfile().changed(lambda data: PICTURE + data),
    "unknown length.flac": by_libsndfile().changed(lambda data: data[:21] + data[21:22] + bytes(4) + data[26:]),
    "a.ogg": by_libsndfile(channels=2),
    "a.oga": by_libsndfile("VORBIS", form="OGG", rate=22050),
    "two in one.ogg": by_libsndfile().changed(lambda data: data + data),
    "flac inside.ogg": by_ffmpeg("flac", rate=48000),
    "a.opus": by_libsndfile("OPUS", form="OGG", rate=48000),
    "by ffmpeg.opus": by_ffmpeg("libopus", rate=48000, channels=2),
    "a.mp3": by_libsndfile(channels=2),
    "by ffmpeg.mp3": by_ffmpeg("libmp3lame", channels=2),
    "vbr.mp3": by_ffmpeg("libmp3lame", **VBR),
    "vbr without a tag.mp3": by_ffmpeg("libmp3lame", write_xing="0", id3v2_version="0", **VBR),
    "cbr without a tag.mp3": BARE_MP3,
    **{f"{rate} hz.mp3": by_libsndfile(rate=rate) for rate in (8000, 11025, 16000, 22050, 32000, 48000)},
    "picture.mp3": BARE_MP3.changed(lambda data: PICTURE + data),
    "two in one.mp3": BARE_MP3.changed(lambda data: data + data),
    "tags behind.mp3": BARE_MP3.changed(lambda data: data + APE_TAG + b"TAG" + bytes(125)),
    "a.mp2": by_ffmpeg("mp2", channels=2),
    "a.m4a": by_ffmpeg("aac", channels=2),
    "alac.m4a": by_ffmpeg("alac", channels=2),
    "a.m4b": by_ffmpeg("aac", container="mp4"),
    "a.aac": by_ffmpeg("aac", container="adts"),
    "a.wma": by_ffmpeg("wmav2", container="asf", channels=2),
    "a.wv": by_ffmpeg("wavpack", channels=2),
    "a.tta": by_ffmpeg("tta"),
    "a.amr": by_ffmpeg("libopencore_amrnb", rate=8000),
    "a.mka": by_ffmpeg("pcm_s16le", channels=6),
    "film.mp4": by_ffmpeg("aac", video=True),
    "film.mov": by_ffmpeg("pcm_s16be", video=True),
    "film.3gp": by_ffmpeg("libopencore_amrnb", rate=8000, video=True),
    "film.mkv": by_ffmpeg("aac", video=True),
    "sound.webm": by_ffmpeg("libopus", rate=48000),
    "film.avi": by_ffmpeg("pcm_s16le", video=True),
    "film.wmv": by_ffmpeg("wmav2", container="asf", video=True),
    "m4a in truth.mp3": by_ffmpeg("aac").changed(like=".m4a"),
    "flac in truth.wav": by_libsndfile().changed(like=".flac"),
    "mp3 in truth.wav": MP3.changed(like=".mp3"),
    "Ärger ☂ 音.wav": by_libsndfile(),
    "x" * 251 + ".wav": by_libsndfile(),
    "new\nline.mp3": MP3,
    os.fsdecode(b"latin \xe9.m4a"): by_ffmpeg("aac").changed(like=".m4a"),
    os.fsdecode(b"latin \xe9.wav"): by_libsndfile().changed(like=".wav"),
}


# What one of the two decoders does not do; the other is held against the samples that were written.
FFMPEG_CANNOT = {"g721.wav": "takes it for another codec"}
LENGTHS_DIFFER = {
    "a.oga": "FFmpeg leaves the last block whole",
    "two in one.ogg": "libsndfile reads the first stream",
    "vbr without a tag.mp3": "libsndfile estimates the number of frames",
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """The folder, and the same files under names that every library can open."""
    folder, made, plain = tmp_path_factory.mktemp("odd"), tmp_path_factory.mktemp("made"), {}
    for i, name in enumerate(ODD):
        plain[name] = made / f"{i}{os.path.splitext(name)[1]}"
        ODD[name].make(plain[name])
        shutil.copy(plain[name], folder / name)
    return folder, plain


def hear_again(path: Path, decoder: str) -> np.ndarray | None:
    """By the decoder that was not used; None where it does not know the file."""
    if decoder == "soundfile":
        return read_by_ffmpeg(path)
    try:
        return soundfile.read(path, dtype="float32", always_2d=True)[0]
    except (soundfile.SoundFileError, ValueError):  # the latter where it does not know how long the file is
        return None


def is_heard(written: np.ndarray, heard: np.ndarray) -> bool:
    """Whether every channel is what was written, in full but for the edges that codecs blur and shift."""
    heard = heard[: len(written) + 4096]  # where two files are put together, the first
    lag = int(np.argmax(correlate(heard[:, 0], written[:, 0]))) - len(written) + 1
    begin, end = max(0, -lag), min(len(written), len(heard) - lag)
    a, b = written[begin:end], heard[begin + lag : end + lag]
    likeness = (a * b).sum(axis=0) / np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    # wma gives up its first block of 2048; encoders' own delays are below that; gsm keeps 0.98 of a tone in noise
    return abs(lag) <= 2048 and end - begin >= len(written) - 2048 and bool(likeness.min() > 0.95)


@pytest.mark.parametrize("name", ODD)
def test_odd_file_is_decoded_rightly(odd: tuple[Path, dict[str, Path]], name: str) -> None:
    folder, plain = odd
    path = {source.clip_id: source.path for source in find_sources(folder)}[name]
    made = ODD[name]
    heard = decode(path, sample_rate=made.rate, channels=made.channels, exact_channels=True, sample_format="float32")
    assert (heard.status, heard.note) == ("ok", "")
    assert is_heard(made.samples, heard.pcm)
    again = None if name in FFMPEG_CANNOT else hear_again(plain[name], heard.decoder)
    if again is not None:
        both = min(len(again), len(heard.pcm))
        assert len(again) == len(heard.pcm) or name in LENGTHS_DIFFER
        # both decoders of a lossy format round as they like
        assert np.abs(heard.pcm[:both] - again[:both]).max() <= 1e-3 * np.abs(again).max()


@pytest.mark.filterwarnings("ignore:Chunk .non-data. not understood")
@pytest.mark.parametrize(
    "name", ["pcm_u8.wav", "pcm_16.wav", "pcm_32.wav", "float.wav", "double.wav", "6 channels.wav"]
)
def test_wav_is_what_scipy_reads(odd: tuple[Path, dict[str, Path]], name: str) -> None:
    rate, theirs = wavfile.read(odd[1][name])
    theirs = theirs.reshape(len(theirs), -1)
    if theirs.dtype.kind != "f":
        theirs = theirs / 128 - 1 if theirs.dtype == np.uint8 else theirs / -float(np.iinfo(theirs.dtype).min)
    ours = decode(odd[0] / name, sample_rate=rate, channels=theirs.shape[1], sample_format="float32").pcm
    np.testing.assert_array_equal(ours, theirs.astype(np.float32))


def test_every_suffix_is_made_here() -> None:
    assert set(SUFFIXES) == {os.path.splitext(name)[1] for name in ODD}


@pytest.mark.usefixtures("workers")
def test_folder_of_odd_files_becomes_a_store(odd: tuple[Path, dict[str, Path]], tmp_path: Path) -> None:
    make_unreadable(odd[0])
    summary = write_store(find_sources(odd[0]), tmp_path / "store", sample_rate=16000)
    assert {failure.clip_id: failure.reason for failure in summary.failures} == {
        **UNREADABLE,
        "1 samples.wav": "too short: 1 samples at 44100 Hz are none at 16000 Hz",
    }
    assert summary.clips == len(ODD) - 1
    assert (summary.short, summary.salvaged) == (0, 0)
    with (tmp_path / "store" / "failures.csv").open(newline="", encoding="utf-8") as file:
        assert {row["clip_id"] for row in csv.DictReader(file)} == {*UNREADABLE, "1 samples.wav"}


# what is no file ----------------------------------------------------------------------------------------------------

UNREADABLE = {
    "no samples.wav": "holds no samples",
    "empty.mp3": "empty file (0 bytes)",
    "to nothing.wav": "a link to a file that is not there",
    "to itself.wav": "cannot be read (Too many levels of symbolic links)",
    "pipe.wav": "cannot be read (it is a pipe)",
    "device.wav": "cannot be read (it is a device)",
    "socket.wav": "cannot be read (it is a socket)",
    "playlist.mp3": "not an audio file (text)",
}


def make_unreadable(folder: Path) -> None:
    soundfile.write(folder / "no samples.wav", np.zeros(0), 44100)
    (folder / "empty.mp3").touch()
    (folder / "to nothing.wav").symlink_to("gone.wav")
    (folder / "to itself.wav").symlink_to("to itself.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "device.wav").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket is at most 108 bytes long
        listener.bind("socket.wav")
        os.chdir(here)
    (folder / "playlist.mp3").write_text("#EXTM3U\n#EXTINF:1,\npcm_16.wav\n")


@pytest.mark.timeout(20)  # a pipe that is opened waits for ever
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_listed_and_named(tmp_path: Path, name: str) -> None:
    make_unreadable(tmp_path)
    (path,) = (source.path for source in find_sources(tmp_path) if source.clip_id == name)
    with pytest.raises(DecodeError) as caught:
        decode(path, sample_rate=16000)
    assert caught.value.reason == UNREADABLE[name]


def test_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"cannot be read \(it is a folder\)"):
        decode(tmp_path, sample_rate=16000)


def test_name_with_a_null_character_says_so() -> None:
    with pytest.raises(DecodeError, match=r"no such file \(its name holds a null character\)"):
        decode("a\0.wav", sample_rate=16000)


def test_error_of_a_name_with_a_newline_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(tmp_path / "new\nline.wav", sample_rate=16000)
    assert "\n" not in str(caught.value)
    assert r"new\nline.wav" in str(caught.value)


def test_file_that_vanishes_after_it_was_listed_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    (source,) = find_sources(tmp_path)
    source.path.unlink()
    with pytest.raises(DecodeError, match="unknown: no such file"):
        decode(source.path, sample_rate=8000)


def test_file_that_vanishes_while_it_is_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.5), 8000)

    def survey_and_remove(data: Any) -> Survey:
        (tmp_path / "a.wav").unlink()
        return survey(data)

    monkeypatch.setattr("datamodules.decoding.decode.survey", survey_and_remove)
    assert len(decode(tmp_path / "a.wav", sample_rate=8000).pcm) == 100


def test_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DecodeError, match=r"unknown: cannot be read \(Permission denied\)"):
        decode(tmp_path / "a.wav", sample_rate=8000)


def test_file_without_permission_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(DecodeError, match=r"unknown: cannot be read \(Permission denied\)"):
        decode(tmp_path / "a.wav", sample_rate=8000)
