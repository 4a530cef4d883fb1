"""One audio file to PCM at the asked rate: whole, said to be short or salvaged, or an error.

libsndfile reads most files, as float32: read as int16 it turns float wav into zeros and wraps loud Ogg round. What it
returns is believed where its length agrees with the frames that a walk over the file's bytes finds, since it estimates
the length of MPEG files and stops there: of a VBR file without a Xing tag it returns about half, and of Ogg streams one
behind the other the first. What is in doubt, and what it does not know (aac, wma, webm), FFmpeg decodes packet by
packet; those that cannot be read are counted. The file is opened once, and no library is told its name.

Then the channels are averaged, the mean is resampled (soxr, HQ: flat to 0.9 of the new Nyquist frequency, 100 dB down
behind it), rounded, and clipped at full scale, which lossy formats exceed as a matter of course. Not done: loudness,
silence, dither.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import mutagen
import numpy as np
import soundfile
import soxr

from datamodules.decoding.ffmpeg import DecodeError, Heard, is_plausible, read_packets
from datamodules.decoding.survey import Survey, survey
from datamodules.messages import one_of
from datamodules.samples import SAMPLE_DTYPES, SampleFormat, from_float

__all__ = ["DecodeError", "Decoded", "check_pcm", "decode", "to_pcm", "versions"]

RESAMPLER = "soxr HQ"
LEAST_HZ, MOST_HZ = 100, 1_048_575  # below, kilohertz were meant; above, FLAC has no word for it and no recorder goes
_SHORT_SECONDS = 0.1  # demuxers' durations include encoder delays of up to 50 ms
_MARGIN_SECONDS = 0.1  # kept behind the cut: the resampler's filter reaches 75 samples of the lower rate
_MPEG = {"mpeg_layer_iii": "mp3", "mpeg_layer_ii": "mp2", "mpeg_layer_i": "mp1"}
_LIBSNDFILE_READS = ("pcm_", "adpcm_ms", "adpcm_ima_wav")  # FFmpeg's names
_TAG_LETTERS = 200  # that are kept: in a shard every clip's field is as wide as the widest
_NO_FILE = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class Decoded(NamedTuple):
    """A decoded file.

    Args:
        pcm: in the asked format, C-contiguous, shape (samples, channels).
        codec: what the file's content is, whatever its name: "mp3", "vorbis", "wav pcm_16", "aac".
        decoder: "soundfile" or "pyav".
        status: "ok"; "short", cut off against what its container promises; "salvaged", with parts lost on the way.
        note: what is missing, in one line; empty where `status` is "ok".
        clipped: values beyond full scale that were set to it.
        artist: from the file's tags, at most 200 letters; empty where they name none.
        title: likewise.
        declared_seconds: length by tags and headers, in s; nan where they say none. Often wrong, not used to judge.
    """

    pcm: np.ndarray
    codec: str
    decoder: str
    status: str
    note: str
    clipped: int
    artist: str
    title: str
    declared_seconds: float


def decode(
    path: Path | str,
    *,
    sample_rate: int,
    channels: int = 1,
    exact_channels: bool = False,
    sample_format: SampleFormat = "int16",
    max_seconds: float | None = None,
) -> Decoded:
    """Decode one file, by its content and not its name.

    Args:
        path: the file.
        sample_rate: of the result, in Hz.
        channels: of the result; 1 is the mean of the file's channels, a mono file is copied to every channel.
        exact_channels: refuse a file that has another number of channels, instead of mixing or copying.
        sample_format: of the result: "int16", "int32", "float32" or "mulaw".
        max_seconds: keep no more than the beginning. The status still speaks of the whole file, but where its frames
            are counted (mp3, ogg) the rest is not decoded: damage there that leaves the framing alone goes unnoticed.
    Raises:
        DecodeError: for a file that is missing, empty, no audio, damaged beyond use, or whose sample rate changes.
        ValueError: if a number is out of range or `sample_format` is none of the four.
    """
    check_pcm(sample_rate, channels, sample_format, max_seconds)
    path = Path(path)
    with _open(path) as file, _map(path, file) as data:
        heard, held = _hear(path, file, data, math.inf if max_seconds is None else max_seconds + _MARGIN_SECONDS)
        tags = _read_tags(file)
    (status, note), codec, decoder = _judge(heard, held), heard.codec, heard.decoder
    samples, rate_in = _mix(path, heard, channels, exact=exact_channels), heard.sample_rate
    del heard  # its memory serves the resampler
    n_kept = None if max_seconds is None else round(max_seconds * sample_rate)
    pcm, clipped = to_pcm(samples, rate_in, sample_rate, sample_format=sample_format, n_kept=n_kept)
    if not len(pcm):
        reason = f"too short: {len(samples)} samples at {rate_in} Hz are none at {sample_rate} Hz"
        raise DecodeError(path, codec, reason)
    return Decoded(pcm, codec, decoder, status, note, clipped, *tags)


def to_pcm(
    samples: np.ndarray,
    rate_in: int,
    rate_out: int,
    *,
    sample_format: SampleFormat = "int16",
    n_kept: int | None = None,
) -> tuple[np.ndarray, int]:
    """Resample float samples (samples, channels), full scale 1; also returns how many of the kept ones were clipped.

    >>> to_pcm(np.array([[0.5], [1.0], [-1.0]], dtype=np.float32), 8000, 8000)[0].ravel().tolist()
    [16384, 32767, -32768]
    """
    if rate_in != rate_out:
        samples = soxr.resample(samples, rate_in, rate_out, quality="HQ")
    return from_float(samples[:n_kept], sample_format)


def versions() -> dict[str, str]:
    """Of the libraries that decode and resample: PCM is the same to the bit only where these are the same."""
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "soxr": soxr.__libsoxr_version__,
    }


def check_pcm(sample_rate: int, channels: int, sample_format: str, max_seconds: float | None) -> None:
    """Raise ValueError for PCM that no file is decoded to; the arguments are those of `decode`."""
    if not LEAST_HZ <= sample_rate <= MOST_HZ:
        raise ValueError(f"sample_rate must be between {LEAST_HZ} and {MOST_HZ} Hz, such as 16000, got {sample_rate}")
    if channels < 1:
        raise ValueError(f"channels must be at least 1, got {channels}")
    one_of("sample_format", sample_format, SAMPLE_DTYPES)
    if max_seconds is not None and not 1 <= max_seconds * sample_rate < math.inf:
        raise ValueError(
            f"max_seconds must be finite and at least {1 / sample_rate:.3g} s, a sample at {sample_rate} Hz, or be "
            f"left out, got {max_seconds}"
        )


# Hearing ------------------------------------------------------------------------------------------------------------


def _open(path: Path) -> BinaryIO:
    """The file, opened once for all who read it; a pipe or a device is refused before it can hang."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
        reason = f"cannot be read (it is {_NO_FILE.get(stat.S_IFMT(mode), 'a device')})"
    except FileNotFoundError:
        reason = "a link to a file that is not there" if path.is_symlink() else "no such file"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except ValueError:
        reason = "no such file (its name holds a null character)"
    raise DecodeError(path, "unknown", reason)


def _map(path: Path, file: BinaryIO) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # mmap's word for a length of 0
        raise DecodeError(path, "unknown", "empty file (0 bytes)") from None
    except OSError as error:
        raise DecodeError(path, "unknown", f"cannot be read ({error.strerror})") from None


def _hear(path: Path, file: BinaryIO, data: mmap.mmap, seconds: float) -> tuple[Heard, Survey]:
    """The beginning of the file, from the decoder that is to be believed, and what the file itself says and holds."""
    held = survey(data)
    if len(held.sample_rates) > 1:
        rates = " to ".join(f"{rate} Hz" for rate in held.sample_rates)
        codec = "mp3" if held.kind == "mpeg" else held.kind
        raise DecodeError(path, codec, f"its sample rate changes from {rates} inside the file")
    heard = _read_soundfile(file, held, seconds)
    if heard is not None and held.kind == "mpeg" and heard.codec not in _MPEG.values():
        held = Survey("other")  # a format that libsndfile knows by its magic, and chance frames in its samples
    if heard is None or _in_doubt(heard, held):
        heard = read_packets(path, file, data, held)
    if len(heard.samples) > seconds * heard.sample_rate:
        heard = heard._replace(samples=heard.samples[: math.ceil(seconds * heard.sample_rate)])
    return heard, held


def _read_soundfile(file: BinaryIO, held: Survey, seconds: float) -> Heard | None:
    """What libsndfile makes of the file; None where it does not know it or stumbles.

    Where the survey has counted all that is there and found no damage, no more is read than the `seconds` wanted.
    """
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            subtype = sound.subtype.lower()
            codec = subtype if sound.format == "OGG" else f"{sound.format.lower()} {subtype}"
            codec = "flac" if sound.format == "FLAC" else _MPEG.get(subtype, codec)
            wanted = sound.frames
            if held.present is not None and not held.damage:
                wanted = math.ceil(min(wanted, seconds * sound.samplerate))
            samples = sound.read(wanted, dtype="float32", always_2d=True)
            length = len(samples)
            if length == wanted < sound.frames:
                length = max(length, held.present or 0)
            return Heard(samples, sound.samplerate, codec, "soundfile", length)
    except (soundfile.SoundFileError, RuntimeError, ValueError, MemoryError):  # the last for a length that is a lie
        return None


def _in_doubt(heard: Heard, held: Survey) -> bool:
    if held.present is not None and abs(heard.length - held.present) > held.slack:
        return True
    if held.declared is not None and heard.length < held.declared and held.kind == "flac":
        return True
    if heard.codec in _MPEG.values() and held.kind != "mpeg":
        return True  # in a wav, where no frames were counted: the length is a guess
    return heard.length == 0 or not is_plausible(heard.samples)


def _judge(heard: Heard, held: Survey) -> tuple[str, str]:
    """Status and note, from what was heard and what should be there."""
    n_samples, sample_rate = heard.length, heard.sample_rate
    notes = [part for part in (held.damage, heard.damage) if part]
    cut = held.cut or heard.cut
    if heard.decoder == "pyav" and not notes and not cut and _should_libsndfile_read(heard, held):
        notes.append("libsndfile stumbles over damage in it")
    if held.kind == "mpeg" and held.present is not None and not notes and held.present - n_samples > held.slack:
        lost = (held.present - n_samples) / sample_rate
        notes.append(f"{lost:.2f} s of the {held.present / sample_rate:.2f} s in its frames could not be decoded")
    declared, slack = held.declared, max(2 * held.slack, sample_rate // 100)
    if held.share < 1:
        declared = round(n_samples / held.share)
    elif declared is None:
        declared, slack = heard.declared, _SHORT_SECONDS * sample_rate
    if declared is not None and declared - n_samples > slack:
        promised, got = declared / sample_rate, n_samples / sample_rate
        cut = f"cut short: {got:.2f} s of the {promised:.2f} s that it declares" + (f", {cut}" if cut else "")
    elif cut:
        cut = f"cut short after {n_samples / sample_rate:.2f} s: {cut}"
    if notes:
        return "salvaged", "; ".join([*notes, cut] if cut else notes)
    return ("short", cut) if cut else ("ok", "")


def _should_libsndfile_read(heard: Heard, held: Survey) -> bool:
    """Whether it is a codec that libsndfile knows in a container that it knows: then it has met damage."""
    if held.kind == "flac":
        return held.declared is not None  # of a stream without a length it is told none
    return held.kind in ("wav", "aiff", "au") and heard.codec.rpartition(" ")[2].startswith(_LIBSNDFILE_READS)


def _mix(path: Path, heard: Heard, channels: int, *, exact: bool) -> np.ndarray:
    """To the asked number of channels; a product, since x.mean(axis=1) takes thirty times as long."""
    here = heard.samples.shape[1]
    if here == channels:
        return heard.samples
    if exact:
        copy = f" or --channels {max(here, channels)} to copy mono" if 1 in (here, channels) else ""
        ways = f"--channels 1 to average every file{copy}"
        raise DecodeError(path, heard.codec, f"its number of channels is {here}, not {channels}: type {ways}")
    if channels == 1:
        return heard.samples @ np.full((here, 1), 1 / here, dtype=np.float32)
    if here == 1:
        return np.repeat(heard.samples, channels, axis=1)
    raise DecodeError(path, heard.codec, f"{here} channels cannot become {channels}: decode with channels=1 or {here}")


# Tags ---------------------------------------------------------------------------------------------------------------


def _read_tags(file: BinaryIO) -> tuple[str, str, float]:
    """Artist, title and declared length in s; tags never fail a file."""
    file.seek(0)
    try:
        tagged = mutagen.File(file, easy=True)  # pyright: ignore[reportPrivateImportUsage]
    except Exception:  # noqa: BLE001 - mutagen lets errors of every class through on damaged tags
        tagged = None
    if tagged is None:
        return "", "", math.nan
    seconds = float(getattr(tagged.info, "length", math.nan) or math.nan)
    return _first(tagged.tags, ("artist", "Author", "TPE1")), _first(tagged.tags, ("title", "Title", "TIT2")), seconds


def _first(tags: Any, names: tuple[str, ...]) -> str:
    """First value under any of the names: EasyID3's, ASF's, and those of ID3 inside wav and aiff."""
    for name in names:
        try:
            value = tags[name]
        except (KeyError, TypeError, ValueError):
            continue
        value = value[0] if isinstance(value, list) else value
        return " ".join(str(value).split())[:_TAG_LETTERS]
    return ""
