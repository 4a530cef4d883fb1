"""What an audio file itself says and holds, counted from its bytes without decoding anything.

Decoders hand back less than a file holds without an error, so their results are held against this: a walk over every
MPEG audio frame or Ogg page, and the sizes that the headers of wav, w64, aiff, au, caf and flac declare. Of the other
containers (mp4, matroska, asf, avi) only the outermost sizes are looked at, which say whether the file's end is there.

Source: FLAC, RFC 9639; EBML, RFC 8794; ISO base media, ISO/IEC 14496-12, section 4.2; ASF, revision 01.20.03, section
3.2; RIFF WAVE, RF64 (EBU Tech 3306), Wave64, AIFF, CAF and Sun au by their published headers.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Literal, NamedTuple

from datamodules.decoding import mpeg, ogg

_LOOKED_AT = 4096  # bytes behind the samples
_CHUNKS = (b"LIST", b"fact", b"cue ", b"smpl", b"bext", b"id3 ", b"ID3 ")  # what may stand behind an empty "data"
_EBML, _SEGMENT = b"\x1aE\xdf\xa3", b"\x18\x53\x80\x67"
_ASF, _ASF_FILE_PROPERTIES = b"\x30\x26\xb2\x75", bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # that a file may begin with
# Nothing is counted in these, and what looks like MPEG frames in them is part of something else.
_UNCOUNTED = {
    b"wvpk": "wavpack",
    b"TTA1": "true audio",
    b"MAC ": "monkey's audio",
    b"#!AM": "amr",
    b"NIST": "nist",
    b"FLV\x01": "flv",
    b"\0\0\x01\xba": "mpeg program stream",
    b"RIFF": "riff",
    b"FORM": "iff",
}

Bytes = bytes | mmap.mmap


class Survey(NamedTuple):
    """What a file holds by its own framing; samples are those of one channel.

    Args:
        kind: by its first bytes: "mpeg", "wav", "flac", "ogg", "mp4", ...; "other" where they are none that is known.
        runs: where MPEG frames stand end to end, from byte to byte; what lies between is tags and junk.
        present: samples that the frames in the file decode to; None where only a decoder can tell.
        slack: by how many samples a right decode may differ from `present`.
        declared: samples that the container promises; None where it promises none.
        share: bytes of samples in the file over those that the header promises; below 1 it was cut short.
        cut: why the end of the file looks cut off; empty where it does not.
        damage: what between the frames could not be read; empty where nothing.
        sample_rates: the rates that the frames name, in Hz; empty where they were not read.
    """

    kind: str
    runs: tuple[tuple[int, int], ...] = ()
    present: int | None = None
    slack: int = 0
    declared: int | None = None
    share: float = 1.0
    cut: str = ""
    damage: str = ""
    sample_rates: tuple[int, ...] = ()


def survey(data: Bytes) -> Survey:
    """Count what the bytes of an audio file hold.

    >>> survey(b"fLaC" + bytes(4) + bytes(10) + (44100 << 44 | 15 << 36 | 88200).to_bytes(8, "big")).declared
    88200
    """
    magic, form = data[:4], data[8:12]
    if magic in (b"RIFF", b"RF64", b"BW64") and form == b"WAVE":
        return _survey_chunks(data, "wav", b"data", _riff_chunks(data, "little"))
    if magic == b"FORM" and form in (b"AIFF", b"AIFC"):
        return _survey_chunks(data, "aiff", b"SSND", _riff_chunks(data, "big"))
    if magic == b"riff" and data[24:28] == b"wave":
        return _survey_chunks(data, "w64", b"data", _w64_chunks(data))
    if magic == b"caff":
        return _survey_chunks(data, "caf", b"data", _caf_chunks(data))
    if magic == b".snd":
        start, size = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
        return _survey_body("au", size, len(data) - start)
    if magic == b"OggS":
        return _survey_ogg(data)
    if data[4:8] in _MP4_BOXES or magic in (_EBML, _ASF) or (magic == b"RIFF" and form == b"AVI "):
        return _survey_container(data)
    after_tags = mpeg.skip_id3(data)
    if data[after_tags : after_tags + 4] == b"fLaC":
        total = int.from_bytes(data[after_tags + 21 : after_tags + 26], "big") & ((1 << 36) - 1)
        return Survey("flac", declared=total or None)
    if magic in _UNCOUNTED or _is_transport_stream(data):
        return Survey(_UNCOUNTED.get(magic, "mpeg transport stream"))
    return _survey_mpeg(data, after_tags if after_tags < len(data) else 10)  # a size past the end is false


def _is_transport_stream(data: Bytes) -> bool:
    return len(data) > 2 * 188 and data[0] == data[188] == data[376] == 0x47


# wav, w64, aiff, au, caf --------------------------------------------------------------------------------------------

_Chunk = tuple[bytes, int, int]  # name, first byte of the body, bytes that it is said to have


def _riff_chunks(data: Bytes, byte_order: Literal["little", "big"]) -> Iterator[_Chunk]:
    """RIFF and IFF alike: a name, a size, a body padded to an even length; RF64 keeps the long size in a `ds64`."""
    position, long_size = 12, None
    while position + 8 <= len(data):
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], byte_order)
        if name == b"ds64":
            long_size = int.from_bytes(data[position + 16 : position + 24], "little")
        if name == b"data" and size == 0xFFFFFFFF and long_size is not None:
            size = long_size
        yield name, position + 8, size
        position += 8 + size + (size & 1)


def _w64_chunks(data: Bytes) -> Iterator[_Chunk]:
    """A GUID that begins with the name, a size that counts these 24 bytes too, a body padded to eight."""
    position = 40
    while position + 24 <= len(data):
        size = max(24, int.from_bytes(data[position + 16 : position + 24], "little"))
        yield data[position : position + 4], position + 24, size - 24
        position += size + -size % 8


def _caf_chunks(data: Bytes) -> Iterator[_Chunk]:
    position = 8
    while position + 12 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 12], "big")
        yield data[position : position + 4], position + 12, size
        position += 12 + size


def _survey_chunks(data: Bytes, kind: str, body_name: bytes, chunks: Iterator[_Chunk]) -> Survey:
    """How much of the chunk of samples is there."""
    for name, start, size in chunks:
        if name == body_name:
            is_chunk = data[start : start + 4] in _CHUNKS
            body = _survey_body(kind, size, len(data) - start, is_chunk=is_chunk)
            stray = _stray_bytes(data, start + size) if kind in ("wav", "aiff") and not body.damage else 0
            return body._replace(damage=f"{stray} bytes behind its samples were not read") if stray else body
    return Survey(kind, cut=f"it has no {body_name.decode()!r} chunk")


def _stray_bytes(data: Bytes, end: int) -> int:
    """How many bytes behind the samples begin no chunk: then their size is false, or went round at 4 GiB."""
    names = (data[at : at + 4] for at in (end, end + 1))  # with and without the byte that pads an odd length
    if end + 8 > len(data) or any(all(32 <= letter < 127 for letter in name) for name in names):
        return 0
    return len(data) - end if any(data[end : end + _LOOKED_AT]) else 0  # zeros are padding


def _survey_body(kind: str, size: int, here: int, *, is_chunk: bool = False) -> Survey:
    streamed = 0xFFFFF000 <= size <= 0xFFFFFFFF or 0x7FFFF000 <= size <= 0x7FFFFFFF or size >= 1 << 62
    if streamed or size == here == 0 or (size == 0 and is_chunk):  # ffmpeg and sox write such sizes into a pipe
        return Survey(kind)
    if size == 0:
        damage = f"its header says 0 bytes of samples (never finished), the {here} bytes behind it were read"
        return Survey(kind, damage=damage)
    return Survey(kind, share=min(1.0, here / size))


# mp4, matroska, asf, avi --------------------------------------------------------------------------------------------


def _survey_container(data: Bytes) -> Survey:
    """Only whether it is all there: what is in it is counted by its demuxer."""
    magic = data[:4]
    if magic == _EBML:
        kind, size = "matroska", _matroska_size(data)
    elif magic == _ASF:
        kind, size = "asf", _asf_size(data)
    elif magic == b"RIFF":
        kind, size = "avi", 8 + int.from_bytes(data[4:8], "little")
    else:
        kind, size = "mp4", _mp4_size(data)
    return Survey(kind, cut=f"the file ends {size - len(data)} bytes early" if size > len(data) else "")


def _mp4_size(data: Bytes) -> int:
    """End of the last box; a size of 1 stands for a long one behind the name, 0 for the rest of the file."""
    position = 0
    while position + 8 <= len(data):
        size, head = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if size < head or not data[position + 4 : position + 8].isalnum():
            break  # the rest, or junk behind the boxes
        position += size
    return position


def _matroska_size(data: Bytes) -> int:
    """End of the segment, the element behind the header; 0 where its size is left open."""
    header_size, position = _read_vint(data, 4)
    position += header_size or 0
    if data[position : position + 4] != _SEGMENT:
        return 0
    size, position = _read_vint(data, position + 4)
    return 0 if size is None else position + size


def _read_vint(data: Bytes, position: int) -> tuple[int | None, int]:
    """EBML's number of variable length, None if all its bits are set ("unknown"), and the byte behind it."""
    first = data[position] if position < len(data) else 0
    length = 9 - first.bit_length()
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[position : position + length], "big") & ones
    return (None if value == ones else value), position + length


def _asf_size(data: Bytes) -> int:
    """As the header's file properties say; 0 for a broadcast, which knows none."""
    at = data.find(_ASF_FILE_PROPERTIES, 0, 1 << 16)
    if at < 0 or at + 92 > len(data) or data[at + 88] & 1:
        return 0
    return int.from_bytes(data[at + 40 : at + 48], "little")


# Ogg and MPEG -------------------------------------------------------------------------------------------------------


def _survey_ogg(data: Bytes) -> Survey:
    pages = ogg.walk(data)
    counts = (
        (pages.lost_pages, "pages are missing"),
        (pages.bad_pages, "pages fail their checksum"),
        (pages.lost_bytes, "bytes are no page"),
    )
    rates = tuple(dict.fromkeys(stream.sample_rate for stream in pages.streams))
    return Survey(
        "ogg",
        present=sum(stream.end - stream.begin for stream in pages.streams) if pages.streams else None,
        slack=max(rates, default=0) // 20,  # the first block may be held back, and the last page be cut
        cut="" if pages.has_ended else "its last Ogg page carries no end-of-stream flag",
        damage=", ".join(f"{count} Ogg {what}" for count, what in counts if count),
        sample_rates=rates,
    )


def _survey_mpeg(data: Bytes, after_tags: int) -> Survey:
    end = mpeg.audio_end(data)
    start = mpeg.find_start(data, after_tags, end)
    if start < 0:
        return Survey("other")
    first = mpeg.read_header(data[start : start + 4])
    assert first is not None  # find_start has read it
    tag = mpeg.read_tag(data[start : start + first.size])
    met = mpeg.walk(data, start, end)
    damage = []
    if start < after_tags:
        damage.append("the size in its ID3 tag is false")
    elif any(data[after_tags:start]):  # zeros are padding
        damage.append(f"{start - after_tags} bytes before the first MPEG frame were passed over")
    if met.lost:
        damage.append(f"{met.lost} bytes between MPEG frames belong to none")
    return Survey(
        "mpeg",
        runs=met.runs,
        present=max(0, (met.frames - tag.frames) * first.samples - tag.trimmed),
        slack=2 * first.samples,  # the first frame after a cut has lost its bit reservoir, the last may be held back
        declared=tag.audio_frames * first.samples - tag.trimmed if tag.audio_frames else None,
        cut="its last MPEG frame is incomplete" if met.is_cut else "",
        damage="; ".join(damage),
        sample_rates=met.sample_rates,
    )
