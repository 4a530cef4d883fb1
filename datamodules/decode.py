"""One audio file to int16 PCM at the asked rate: whole, said to be short or salvaged, or an error.

libsndfile reads most files, as float32: read as int16 it turns float wav into zeros and wraps loud Ogg round. What it
returns is believed where its length agrees with the frames that a walk over the file's bytes finds, since it estimates
the length of MPEG files and stops there: of a VBR file without a Xing tag it returns about half. What is in doubt, and
what it does not know (aac, wma, webm), FFmpeg decodes packet by packet; packets that cannot be read are counted.

Then the channels are averaged, the mean is resampled (soxr, HQ: flat to 0.9 of the new Nyquist frequency, 100 dB down
behind it), rounded, and clipped at full scale, which lossy formats exceed as a matter of course. Not done: loudness,
silence, dither.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any, NamedTuple

import av
import mutagen
import numpy as np
import soundfile
import soxr

from datamodules.ffmpeg import DecodeError, Heard, is_plausible, read_packets
from datamodules.survey import Survey, survey

__all__ = ["DecodeError", "Decoded", "decode", "to_pcm", "versions"]

FULL_SCALE = 32768
RESAMPLER = "soxr HQ"
_SHORT_SECONDS = 0.1  # demuxers' durations include encoder delays of up to 50 ms
_LIBSNDFILE_READS = ("wav", "aiff", "au", "flac", "ogg")
_WELL_KNOWN = {"mpeg_layer_iii": "mp3", "mpeg_layer_ii": "mp2", "mpeg_layer_i": "mp1"}


class Decoded(NamedTuple):
    """A decoded file.

    Args:
        pcm: int16, C-contiguous, shape (samples, channels).
        codec: what the file's content is, whatever its name: "mp3", "vorbis", "wav pcm_16", "aac".
        decoder: "soundfile" or "pyav".
        status: "ok"; "short", cut off against what its container promises; "salvaged", with parts lost on the way.
        note: what is missing, in one line; empty where `status` is "ok".
        clipped: values beyond full scale that were set to it.
        artist: from the file's tags; empty where they name none.
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


def decode(path: Path | str, *, sample_rate: int, channels: int = 1) -> Decoded:
    """Decode one file, by its content and not its name.

    Args:
        path: the file.
        sample_rate: of the result, in Hz.
        channels: of the result; 1 is the mean of the file's channels, a mono file is copied to every channel.
    Raises:
        DecodeError: for a file that is missing, empty, no audio, damaged beyond use, or whose sample rate changes.
        ValueError: if `sample_rate` or `channels` is below 1.
    """
    if sample_rate < 1 or channels < 1:
        raise ValueError(f"sample_rate and channels must be at least 1, got {sample_rate} Hz and {channels}")
    path = Path(path)
    data = _open_bytes(path)
    try:
        held = survey(data)
        if len(held.sample_rates) > 1:
            rates = " to ".join(f"{rate} Hz" for rate in held.sample_rates)
            raise DecodeError(path, "mp3", f"its sample rate changes from {rates} inside the file")
        heard = _read_soundfile(path)
        if heard is None or _in_doubt(heard, held):
            heard = read_packets(path, data, held)
    finally:
        data.close()
    status, note = _judge(heard, held)
    pcm, clipped = to_pcm(_mix(path, heard, channels), heard.sample_rate, sample_rate)
    if not len(pcm):
        reason = f"too short: {len(heard.samples)} samples at {heard.sample_rate} Hz are none at {sample_rate} Hz"
        raise DecodeError(path, heard.codec, reason)
    return Decoded(pcm, heard.codec, heard.decoder, status, note, clipped, *_read_tags(path))


def to_pcm(samples: np.ndarray, rate_in: int, rate_out: int) -> tuple[np.ndarray, int]:
    """Resample float samples (samples, channels), full scale 1, to int16; also returns how many values were clipped.

    >>> to_pcm(np.array([[0.5], [1.0], [-1.0]], dtype=np.float32), 8000, 8000)[0].ravel().tolist()
    [16384, 32767, -32768]
    """
    if rate_in != rate_out:
        samples = soxr.resample(samples, rate_in, rate_out, quality="HQ")
    scaled = np.rint(samples * np.float32(FULL_SCALE))
    clipped = int(np.count_nonzero((scaled > FULL_SCALE - 1) | (scaled < -FULL_SCALE)))
    return np.ascontiguousarray(np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)), clipped


def versions() -> dict[str, str]:
    """Of the libraries that decode and resample: PCM is the same to the bit only where these are the same."""
    return {
        "libsndfile": soundfile.__libsndfile_version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "soxr": soxr.__libsoxr_version__,
    }


def _open_bytes(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise DecodeError(path, "unknown", "no such file") from None
    except ValueError:  # mmap's word for a length of 0
        raise DecodeError(path, "unknown", "empty file (0 bytes)") from None
    except OSError as error:
        raise DecodeError(path, "unknown", f"cannot be read ({error.strerror})") from None


def _read_soundfile(path: Path) -> Heard | None:
    """What libsndfile makes of the file; None where it does not know it or stumbles."""
    try:
        with soundfile.SoundFile(path) as file:
            subtype = file.subtype.lower()
            codec = subtype if file.format == "OGG" else f"{file.format.lower()} {subtype}"
            codec = "flac" if file.format == "FLAC" else _WELL_KNOWN.get(subtype, codec)
            return Heard(file.read(dtype="float32", always_2d=True), file.samplerate, codec, "soundfile")
    except (soundfile.SoundFileError, RuntimeError):
        return None


def _in_doubt(heard: Heard, held: Survey) -> bool:
    n_samples = len(heard.samples)
    if held.present is not None and abs(n_samples - held.present) > held.slack:
        return True
    if held.declared is not None and n_samples < held.declared and held.kind == "flac":
        return True
    return n_samples == 0 or not is_plausible(heard.samples)


def _judge(heard: Heard, held: Survey) -> tuple[str, str]:
    """Status and note, from what was heard and what should be there."""
    n_samples, notes = len(heard.samples), [part for part in (held.damage, heard.damage) if part]
    declared = heard.declared if held.declared is None else held.declared
    cut = held.cut or heard.cut
    if heard.decoder == "pyav" and held.kind in _LIBSNDFILE_READS and not notes and not cut:
        notes.append("libsndfile stumbles over damage in it")
    if held.share < 1:
        declared = round(n_samples / held.share)
    slack = (
        _SHORT_SECONDS * heard.sample_rate if held.kind == "other" else max(2 * held.slack, heard.sample_rate // 100)
    )
    if declared is not None and declared - n_samples > slack:
        promised, got = declared / heard.sample_rate, n_samples / heard.sample_rate
        cut = f"cut short: {got:.2f} s of the {promised:.2f} s that it declares" + (f", {cut}" if cut else "")
    elif cut:
        cut = f"cut short after {n_samples / heard.sample_rate:.2f} s: {cut}"
    if notes:
        return "salvaged", "; ".join([*notes, cut] if cut else notes)
    return ("short", cut) if cut else ("ok", "")


def _mix(path: Path, heard: Heard, channels: int) -> np.ndarray:
    """To the asked number of channels; a product, since x.mean(axis=1) takes thirty times as long."""
    here = heard.samples.shape[1]
    if here == channels:
        return heard.samples
    if channels == 1:
        return heard.samples @ np.full((here, 1), 1 / here, dtype=np.float32)
    if here == 1:
        return np.repeat(heard.samples, channels, axis=1)
    raise DecodeError(path, heard.codec, f"{here} channels cannot become {channels}: decode with channels=1 or {here}")


# Tags ---------------------------------------------------------------------------------------------------------------


def _read_tags(path: Path) -> tuple[str, str, float]:
    """Artist, title and declared length in s; tags never fail a file."""
    try:
        file = mutagen.File(path, easy=True)  # pyright: ignore[reportPrivateImportUsage]
    except Exception:  # noqa: BLE001 - mutagen lets errors of every class through on damaged tags
        file = None
    if file is None:
        return "", "", math.nan
    seconds = float(getattr(file.info, "length", math.nan) or math.nan)
    return _first(file.tags, ("artist", "Author", "TPE1")), _first(file.tags, ("title", "Title", "TIT2")), seconds


def _first(tags: Any, names: tuple[str, ...]) -> str:
    """First value under any of the names: EasyID3's, ASF's, and those of ID3 inside wav and aiff."""
    for name in names:
        try:
            value = tags[name]
        except (KeyError, TypeError, ValueError):
            continue
        value = value[0] if isinstance(value, list) else value
        return " ".join(str(value).split())
    return ""
