"""FFmpeg, packet by packet: what libsndfile does not know, and what can be saved of damaged files.

A packet that cannot be decoded is left out and counted, so are frames that are not finite, that exceed full scale
beyond reason, or that have another sample rate than the file: damage in a header looks like that. Where a tenth of it
has another rate it is no damage, and an error.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import av.logging
import numpy as np
from av.error import FFmpegError

from datamodules.decoding.survey import Survey
from datamodules.messages import printable

_IMPLAUSIBLE_PEAK = 8.0  # of full scale 1; mp3 reaches 1.4, damaged frames reach hundreds
# Containers whose duration is stored; of the others FFmpeg estimates it from the bit rate.
_DURATION_IS_STORED = ("mov", "matroska", "asf", "wv", "tta")
_NOT_AUDIO = "not an audio file (neither libsndfile nor FFmpeg recognises its content)"


class DecodeError(Exception):
    """A file that yields no PCM: `path`, `codec` ("unknown" if not recognised) and `reason`, each one line."""

    def __init__(self, path: Path, codec: str, reason: str) -> None:
        super().__init__(path, codec, reason)
        self.path, self.codec, self.reason = path, codec, reason

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.codec}: {self.reason}")


class Heard(NamedTuple):
    """What a decoder made of a file, before mixing and resampling."""

    samples: np.ndarray  # float32 (samples, channels)
    sample_rate: int
    codec: str
    decoder: str
    length: int  # samples in the whole file, of which `samples` may be the beginning
    declared: int | None = None  # samples that the demuxer promised
    damage: str = ""  # what could not be decoded
    cut: str = ""  # why the end looks cut off


def read_packets(path: Path, file: BinaryIO, data: mmap.mmap, held: Survey) -> Heard:
    """Decode packet by packet, leaving out what cannot be decoded.

    Args:
        path: named in errors only: FFmpeg might take it for a URL, and would let its suffix say what the file is.
        file: the file.
        data: its bytes.
        held: what is known of it.
    Raises:
        DecodeError: where nothing comes out.
    """
    av.logging.set_level(None)  # FFmpeg's lines would go to fd 2, past Python
    is_mpeg, known = held.kind == "mpeg", held.kind != "other"
    kind = held.kind if known else "unknown"
    if not known and (text := _describe_text(data)):
        raise DecodeError(path, kind, text)  # FFmpeg would follow a playlist to other files and into the network
    file.seek(0)
    frames = io.BytesIO(b"".join(data[begin:end] for begin, end in held.runs))  # without the junk between them
    source = frames if is_mpeg else io.FileIO(file.fileno(), closefd=False)
    try:
        with av.open(source, format="mp3" if is_mpeg else None, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DecodeError(path, kind, "holds no audio" if known else _NOT_AUDIO)
            if container.streams.audio[0].codec_context is None:
                raise DecodeError(path, kind, "FFmpeg has no decoder for its sound")
            heard = _drain(path, container, held.sample_rates[0] if is_mpeg else None)
    except FFmpegError as error:
        heard, reason = None, f"damaged beyond use ({error.strerror})"
    else:
        reason = "holds no samples"
        if heard.damage or heard.cut:
            reason = "damaged beyond use: none of its samples can be decoded, is finite and near full scale"
    if heard is None or not len(heard.samples):
        raise DecodeError(path, kind, reason if known else _NOT_AUDIO)
    return heard._replace(codec=f"{held.kind} {heard.codec}") if held.kind in ("wav", "aiff", "au") else heard


def _drain(path: Path, file: Any, known_rate: int | None) -> Heard:
    """Every packet of the first audio stream; `known_rate` is the one, in Hz, that all its headers name."""
    stream = file.streams.audio[0]
    codec, sample_rate = stream.codec_context.codec.canonical_name, known_rate or stream.codec_context.sample_rate
    parts: list[np.ndarray] = []
    bad: list[int] = []
    n_packets, changes, damage = 0, [], ""
    for n_packets, frames in enumerate(_each_packet(file, stream), 1):
        if isinstance(frames, str):
            damage = frames
        elif frames is None:
            bad.append(n_packets)
        for frame in frames if isinstance(frames, list) else ():
            samples = _to_float(frame)
            changed = frame.sample_rate != sample_rate or (parts and samples.shape[1] != parts[0].shape[1])
            if changed:
                changes.append(_describe_change(frame, sample_rate))
            if changed or not is_plausible(samples):
                bad.append(n_packets)
            else:
                parts.append(samples)
    if 10 * len(changes) > n_packets:  # fewer are damaged headers
        raise DecodeError(path, codec, changes[0])
    if parts and 2 * len(bad) > n_packets:
        raise DecodeError(path, codec, f"damaged beyond use: {len(bad)} of {n_packets} packets cannot be decoded")
    cut = "its last packet is incomplete" if bad == [n_packets] else ""
    if bad and not cut:
        damage = f"{len(bad)} of {n_packets} packets could not be decoded" + (f"; {damage}" if damage else "")
    samples = np.concatenate(parts) if parts else np.zeros((0, 1), dtype=np.float32)
    return Heard(samples, sample_rate, codec, "pyav", len(samples), _stored_length(file, stream), damage, cut)


def _each_packet(file: Any, stream: Any) -> Iterator[list[Any] | str | None]:
    """The frames of every packet, None for one that cannot be decoded, a text where the reading itself breaks off."""
    packets = file.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as error:
            yield f"reading stopped early ({error.strerror})"
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except FFmpegError:
            frames = None
        if packet.size or frames:  # the last one is empty and flushes the decoder
            yield frames


def _describe_change(frame: Any, sample_rate: int) -> str:
    if frame.sample_rate != sample_rate:
        return f"its sample rate changes from {sample_rate} Hz to {frame.sample_rate} Hz inside the file"
    return "its number of channels changes inside the file"


def _to_float(frame: Any) -> np.ndarray:
    """Samples of an FFmpeg frame, float32 (samples, channels), full scale 1."""
    values = frame.to_ndarray()
    values = values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if values.dtype.kind == "i":
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32)


def _stored_length(file: Any, stream: Any) -> int | None:
    """Samples that the container stores as its length; None where FFmpeg could only estimate it."""
    if not file.format.name.startswith(_DURATION_IS_STORED):
        return None
    sample_rate = stream.codec_context.sample_rate
    if stream.duration:
        return round(stream.duration * stream.time_base * sample_rate)
    if file.duration and not file.streams.video:  # that of a film is of whatever lasts longest
        return round(file.duration / 1e6 * sample_rate)
    return None


def _describe_text(data: mmap.mmap) -> str:
    """What a file of text is; empty where it is none."""
    head = data[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "not an audio file (a web page)"
    if head.startswith(b"id3"):
        return "not an audio file (a tag without audio)"
    if head and all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return "not an audio file (text)"
    return ""


def is_plausible(samples: np.ndarray) -> bool:
    """Whether all are finite and near full scale; a nan fails the comparison."""
    return bool(max(samples.max(initial=0.0), -samples.min(initial=0.0)) < _IMPLAUSIBLE_PEAK)
