"""Audio files that the tests of decoding share: whole ones, one a format, and damaged copies of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.datamodules.decoding.audio_files import RATE, encode, tone_in_noise

SECONDS = 6


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of undamaged files of six seconds, one a format."""
    folder, x = tmp_path_factory.mktemp("whole"), tone_in_noise(SECONDS)
    for name in ("a.mp3", "a.ogg", "a.flac", "a.wav", "a.aiff", "a.au"):
        soundfile.write(folder / name, x, RATE)
    soundfile.write(folder / "float.wav", x, RATE, subtype="FLOAT")
    soundfile.write(folder / "double.wav", x, RATE, subtype="DOUBLE")
    soundfile.write(folder / "adpcm.wav", x, RATE, subtype="IMA_ADPCM")
    encode(folder / "xing.mp3", x, codec="libmp3lame")
    encode(folder / "vbr.mp3", x, codec="libmp3lame", write_xing="0", id3v2_version="0", abr="1")
    encode(folder / "a.m4a", x, codec="aac", movflags="faststart")
    encode(folder / "tail.m4a", x, codec="aac")
    encode(folder / "a.aac", x, codec="aac", container="adts")
    encode(folder / "a.wma", x, codec="wmav2", container="asf")
    encode(folder / "a.webm", tone_in_noise(SECONDS, rate=48000), 48000, codec="libopus")
    return folder


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a changed copy of one of the files: `damaged("a.mp3", lambda data: data[:1000])`."""

    def write(name: str, change: Callable[[bytearray], bytes], *, as_name: str | None = None) -> Path:
        path = tmp_path / (as_name or name)
        path.write_bytes(change(bytearray((whole / name).read_bytes())))
        return path

    return write
