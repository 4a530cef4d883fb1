"""The frames of MPEG audio (mp3, mp2, mp1), counted by walking from header to header.

A file of it is frames end to end, with tags before and behind; nothing else says how long it is. What a decoder hands
back is therefore held against this walk.

Source: ISO/IEC 11172-3 and 13818-3 (frame header; MPEG-2.5 as LAME writes it); the Xing, LAME and VBRI tags as LAME
3.100 writes and mpg123 reads them; ID3v2.4, section 3; APEv2.
"""

from __future__ import annotations

import mmap
import re
from functools import lru_cache
from typing import NamedTuple

_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
# version (2 bits of the header: 0 is 2.5, 2 is 2, 3 is 1) -> Hz; layer (3 is I, 2 is II, 1 is III) -> kbit/s
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBITS_1 = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBITS_2 = {
    3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    1: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

Bytes = bytes | mmap.mmap


class Frame(NamedTuple):
    """What the header of a frame says of it."""

    size: int  # bytes
    samples: int  # of one channel
    sample_rate: int  # Hz


class Tag(NamedTuple):
    """What the tag in place of a first frame says; zeros where there is none.

    Args:
        frames: 1 if there is a tag: it takes the place of a frame.
        audio_frames: how many frames it counts behind itself.
        trimmed: samples that the encoder has put before and behind the sound.
    """

    frames: int = 0
    audio_frames: int = 0
    trimmed: int = 0


class Walk(NamedTuple):
    """What a walk over all frames has met.

    Args:
        frames: whole frames.
        runs: first byte and the byte behind the last of frames that stand end to end.
        is_cut: whether the last frame is incomplete.
        lost: bytes that belong to no frame.
        sample_rates: of the frames, in Hz, each once.
    """

    frames: int
    runs: tuple[tuple[int, int], ...]
    is_cut: bool
    lost: int
    sample_rates: tuple[int, ...]


@lru_cache(maxsize=4096)
def read_header(header: bytes) -> Frame | None:
    """The four bytes that begin every MPEG audio frame; None where they are not such a header.

    Cached, since all frames of a file share some ten headers and the walk is over a thousand frames for half a minute.

    >>> read_header(bytes([0xFF, 0xFB, 0x90, 0x00]))
    Frame(size=417, samples=1152, sample_rate=44100)
    """
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or kbits in (0, 15) or rate == 3:
        return None  # reserved values; free format (0) says no length and is not counted
    sample_rate = _RATES[version][rate]
    bits_per_second = 1000 * (_KBITS_1 if version == 3 else _KBITS_2)[layer][kbits - 1]
    if layer == 3:
        return Frame(4 * (12 * bits_per_second // sample_rate + padding), 384, sample_rate)
    samples = 576 if layer == 1 and version != 3 else 1152
    return Frame(samples // 8 * bits_per_second // sample_rate + padding, samples, sample_rate)


def skip_id3(data: Bytes) -> int:
    """First byte behind the ID3v2 tags at the beginning."""
    start = 0
    while data[start : start + 3] == b"ID3":
        a, b, c, d = (*data[start + 6 : start + 10], 0, 0, 0, 0)[:4]
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
    return start


def audio_end(data: Bytes) -> int:
    """First byte of the ID3v1 and APE tags at the end."""
    end = len(data)
    if data[end - 128 : end - 125] == b"TAG":
        end -= 128
    if data[end - 32 : end - 24] == b"APETAGEX":
        has_header = data[end - 9] & 0x80
        end -= int.from_bytes(data[end - 20 : end - 16], "little") + (32 if has_header else 0)
    return max(0, end)


def find_start(data: Bytes, after_tags: int, end: int) -> int:
    """The first frame, which stands behind the tags, unless the size that they name is false; -1 for none."""
    start = _find_chain(data, after_tags, end, start_of_file=True)
    if after_tags == 0:
        return start
    position = inside = _find_chain(data, 10, end)
    while 0 <= position < after_tags and (frame := read_header(data[position : position + 4])) is not None:
        position += frame.size
    # Frames that run on from inside the tag across its end are audio; a chance chain in a picture breaks off.
    return inside if position > after_tags or start < 0 else start


def walk(data: Bytes, start: int, end: int) -> Walk:
    """Count the frames from `start`, passing over what is none."""
    position, n_frames, lost, is_cut = start, 0, 0, False
    runs: list[tuple[int, int]] = []
    rates: dict[int, None] = {}
    while position < end and not is_cut:
        run, n_run, is_cut = _walk_run(data, position, end, rates)
        runs, n_frames = [*runs, (position, run)], n_frames + n_run
        if is_cut or run == end:
            break
        position = _find_chain(data, run, end)
        gap = data[run : position if position >= 0 else end]
        is_cut = position < 0 and len(gap) < 4  # a header cut off
        lost += 0 if is_cut or gap.startswith(_TAGS) or (position < 0 and not any(gap)) else len(gap)
        if position < 0:
            break
    return Walk(n_frames, tuple(runs), is_cut, lost, tuple(rates))


def _walk_run(data: Bytes, position: int, end: int, rates: dict[int, None]) -> tuple[int, int, bool]:
    """Frames of one kind end to end: the byte behind them, their number, and whether one more is cut off."""
    kind, n_frames = data[position : position + 4], 0
    while position < end:
        header = data[position : position + 4]
        frame = read_header(header)
        if frame is None or not _same_kind(kind, header):
            break
        if position + frame.size > end:
            return position, n_frames, True
        rates[frame.sample_rate] = None
        position, n_frames = position + frame.size, n_frames + 1
    return position, n_frames, False


def read_tag(frame: bytes) -> Tag:
    """The Xing, Info or VBRI tag in place of a first frame."""
    if frame[36:40] == b"VBRI":
        return Tag(1, int.from_bytes(frame[50:54], "big"))
    at = next((i for i in (13, 21, 36, 15, 23, 38) if frame[i : i + 4] in (b"Xing", b"Info")), None)
    if at is None:
        return Tag()
    flags, at = frame[at + 7], at + 8
    count = int.from_bytes(frame[at : at + 4], "big") if flags & 1 else 0
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    gap = int.from_bytes(frame[at + 21 : at + 24], "big") if frame[at : at + 4] in (b"LAME", b"Lavc", b"Lavf") else 0
    return Tag(1, count, (gap >> 12) + (gap & 0xFFF))


def _find_chain(data: Bytes, start: int, end: int, *, start_of_file: bool = False) -> int:
    """First byte of three frames in a row of one version, layer and rate (fewer, if the file ends); -1 for none.

    A short chain at the very end counts only where `start_of_file`: a file may hold less than three frames.
    Three, since two headers that fit each other do turn up by chance in some megabytes of anything else.
    """
    for match in _SYNC.finditer(data, start, end):
        position, first, n_frames, ends = match.start(), data[match.start() : match.start() + 4], 0, False
        while n_frames < 3 and not ends and (frame := read_header(data[position : position + 4])) is not None:
            if not _same_kind(first, data[position : position + 4]):
                break
            ends = position + frame.size >= end
            position, n_frames = position + frame.size, n_frames + (position + frame.size <= end)
        if n_frames == 3 or (start_of_file and n_frames and ends):
            return match.start()
    return -1


def _same_kind(a: bytes, b: bytes) -> bool:
    return a[1] & 0xFE == b[1] & 0xFE and a[2] & 0x0C == b[2] & 0x0C
