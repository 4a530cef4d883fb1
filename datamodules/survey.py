"""What an audio file itself says and holds, counted from its bytes without decoding anything.

Decoders hand back less than a file holds without an error, so their results are held against this: a walk over every
MPEG audio frame or Ogg page, and the sizes that the headers of wav, aiff, au and flac declare. Formats not named here
(mp4, asf, matroska) are counted by their demuxer instead.

Source: MPEG-1 and -2 audio, ISO/IEC 11172-3 and 13818-3 (frame header); the Xing, LAME and VBRI tags as LAME 3.100
writes and mpg123 reads them; Ogg, RFC 3533; FLAC, RFC 9639; RIFF WAVE, AIFF and Sun au by their published headers.
"""

from __future__ import annotations

import mmap
import re
import zlib
from typing import NamedTuple

_CHUNKS = (b"LIST", b"fact", b"cue ", b"smpl", b"bext", b"id3 ", b"ID3 ")  # what may stand behind an empty "data"
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_TAIL_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")
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


class Survey(NamedTuple):
    """What a file holds by its own framing; samples are those of one channel.

    Args:
        kind: "mpeg", "wav", "aiff", "au", "flac", "ogg" or "other".
        start: byte at which the audio's own framing begins (behind tags and junk).
        present: samples that the frames in the file decode to; None where only a decoder can tell.
        slack: by how many samples a right decode may differ from `present`.
        declared: samples that the container promises; None where it promises none.
        share: bytes of samples in the file over those that the header promises; below 1 it was cut short.
        cut: why the end of the file looks cut off; empty where it does not.
        damage: what between the frames could not be read; empty where nothing.
        sample_rates: the rates that the frames name, in Hz; empty where they were not read.
    """

    kind: str
    start: int = 0
    present: int | None = None
    slack: int = 0
    declared: int | None = None
    share: float = 1.0
    cut: str = ""
    damage: str = ""
    sample_rates: tuple[int, ...] = ()


def survey(data: bytes | mmap.mmap) -> Survey:
    """Count what the bytes of an audio file hold.

    >>> survey(b"fLaC" + bytes(4) + bytes(10) + (44100 << 44 | 15 << 36 | 88200).to_bytes(8, "big")).declared
    88200
    """
    magic = data[:4]
    if magic in (b"RIFF", b"RF64", b"FORM"):
        return _survey_chunks(data, byte_order="big" if magic == b"FORM" else "little")
    if magic == b".snd":
        return _survey_au(data)
    if magic == b"fLaC":
        total = int.from_bytes(data[21:26], "big") & ((1 << 36) - 1)
        return Survey("flac", declared=total or None)
    if magic == b"OggS":
        return _survey_ogg(data)
    if data[4:8] == b"ftyp" or magic in (b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75", b"caff"):
        return Survey("other")  # mp4, matroska, asf, caf: their payload may hold bytes that look like MPEG frames
    return _survey_mpeg(data)


# wav, aiff, au ------------------------------------------------------------------------------------------------------


def _survey_chunks(data: bytes | mmap.mmap, *, byte_order: str) -> Survey:
    """RIFF and IFF alike: chunks of a name, a size and a body padded to an even length."""
    kind, body_name = ("aiff", b"SSND") if byte_order == "big" else ("wav", b"data")
    position, long_size = 12, None
    while position + 8 <= len(data):
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], byte_order)  # pyright: ignore[reportArgumentType]
        if name == b"ds64":  # RF64 keeps the true sizes here
            long_size = int.from_bytes(data[position + 16 : position + 24], "little")
        if name == body_name:
            if size == 0xFFFFFFFF and long_size is not None:
                size = long_size
            following = data[position + 8 : position + 12]
            return _survey_body(kind, position + 8, size, len(data) - position - 8, is_chunk=following in _CHUNKS)
        position += 8 + size + (size & 1)
    return Survey(kind, cut=f"it has no {body_name.decode()!r} chunk")


def _survey_au(data: bytes | mmap.mmap) -> Survey:
    start, size = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    return _survey_body("au", start, size, len(data) - start)


def _survey_body(kind: str, start: int, size: int, here: int, *, is_chunk: bool = False) -> Survey:
    unknown = size >= 0xFFFFF000 or 0x7FFFF000 <= size <= 0x7FFFFFFF  # what ffmpeg and sox write into a pipe
    if unknown or size == here == 0 or (size == 0 and is_chunk):
        return Survey(kind, start)
    if size == 0:
        damage = f"its header says 0 bytes of samples (never finished), the {here} bytes behind it were read"
        return Survey(kind, start, damage=damage)
    return Survey(kind, start, share=min(1.0, here / size))


# Ogg ----------------------------------------------------------------------------------------------------------------


def _survey_ogg(data: bytes | mmap.mmap) -> Survey:
    """Pages in a row; each names its stream, its number in it, and whether it is the stream's last."""
    position, lost_bytes, lost_pages, bad_pages, ended, numbers = 0, 0, 0, 0, False, {}
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            following = data.find(b"OggS", position)
            lost_bytes += (following if following >= 0 else len(data)) - position
            if following < 0:
                break
            position = following
        header = data[position : position + 27]
        sizes = data[position + 27 : position + 27 + header[26]] if len(header) == 27 else b""
        stop = position + 27 + len(sizes) + sum(sizes)
        if len(header) < 27 or len(sizes) < header[26] or stop > len(data):
            ended = False
            break
        bad_pages += not _page_is_whole(data[position:stop])
        serial, number = header[14:18], int.from_bytes(header[18:22], "little")
        lost_pages += max(0, number - numbers.get(serial, number - 1) - 1)
        numbers[serial], ended, position = number, bool(header[5] & 4), stop
    counts = (
        (lost_pages, "pages are missing"),
        (bad_pages, "pages fail their checksum"),
        (lost_bytes, "bytes are no page"),
    )
    damage = ", ".join(f"{count} Ogg {what}" for count, what in counts if count)
    cut = "" if ended else "its last Ogg page carries no end-of-stream flag"
    return Survey("ogg", cut=cut, damage=damage)


def _page_is_whole(page: bytes) -> bool:
    """Ogg's CRC-32 is zlib's polynomial without bit reversal, from 0: so zlib runs over the reversed bits."""
    bare = page[:22] + bytes(4) + page[26:]
    register = zlib.crc32(bare.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return register.to_bytes(4, "little").translate(_REVERSED_BITS) == page[22:26][::-1]


# MPEG audio ---------------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    size: int  # bytes
    samples: int  # of one channel
    sample_rate: int  # Hz


def _read_header(header: bytes) -> _Frame | None:
    """The four bytes that begin every MPEG audio frame; None where they are not such a header."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    kbits, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 0 or kbits in (0, 15) or rate == 3:
        return None  # reserved values; free format (0) says no length and is not counted
    sample_rate = _RATES[version][rate]
    bits_per_second = 1000 * (_KBITS_1 if version == 3 else _KBITS_2)[layer][kbits - 1]
    if layer == 3:
        return _Frame(4 * (12 * bits_per_second // sample_rate + padding), 384, sample_rate)
    samples = 576 if layer == 1 and version != 3 else 1152
    return _Frame(samples // 8 * bits_per_second // sample_rate + padding, samples, sample_rate)


def _audio_bounds(data: bytes | mmap.mmap) -> tuple[int, int]:
    """First byte behind the ID3v2 tags, and first byte of the ID3v1 and APE tags at the end."""
    start, end = 0, len(data)
    while data[start : start + 3] == b"ID3":
        a, b, c, d = (*data[start + 6 : start + 10], 0, 0, 0, 0)[:4]
        start += 10 + (a << 21 | b << 14 | c << 7 | d)
    if data[end - 128 : end - 125] == b"TAG":
        end -= 128
    if data[end - 32 : end - 24] == b"APETAGEX":
        has_header = data[end - 9] & 0x80
        end -= int.from_bytes(data[end - 20 : end - 16], "little") + (32 if has_header else 0)
    return (start if start < len(data) else 10), max(0, end)  # an ID3 size past the end is false


def _find_chain(data: bytes | mmap.mmap, start: int, end: int, *, start_of_file: bool = False) -> int:
    """First byte of three frames in a row of one version, layer and rate (fewer, if they end the file); -1 for none.

    A short chain at the very end counts only where `start_of_file`: a file may hold less than three frames.
    Three, since two headers that fit each other do turn up by chance in some megabytes of anything else.
    """
    for match in _SYNC.finditer(data, start, end):
        position, first, n_frames = match.start(), data[match.start() : match.start() + 4], 0
        while n_frames < 3 and (frame := _read_header(data[position : position + 4])) is not None:
            if not _same_kind(first, data[position : position + 4]) or position + frame.size > end:
                break
            position, n_frames = position + frame.size, n_frames + 1
        if n_frames == 3 or (start_of_file and n_frames and position == end):
            return match.start()
    return -1


def _find_start(data: bytes | mmap.mmap, after_tags: int, end: int) -> int:
    """The first frame, which stands behind the tags, unless the size that they name is false; -1 for none."""
    start = _find_chain(data, after_tags, end, start_of_file=True)
    if after_tags == 0:
        return start
    position = inside = _find_chain(data, 10, end)
    while 0 <= position < after_tags and (frame := _read_header(data[position : position + 4])) is not None:
        position += frame.size
    # Frames that run on from inside the tag across its end are audio; a chance chain in a picture breaks off.
    return inside if position > after_tags or start < 0 else start


def _same_kind(a: bytes, b: bytes) -> bool:
    return a[1] & 0xFE == b[1] & 0xFE and a[2] & 0x0C == b[2] & 0x0C


def _survey_mpeg(data: bytes | mmap.mmap) -> Survey:
    after_tags, end = _audio_bounds(data)
    start = _find_start(data, after_tags, end)
    if start < 0:
        return Survey("other")
    first = _read_header(data[start : start + 4])
    assert first is not None  # _find_chain has read it
    tagged, tag_frames, trimmed = _read_tag(data[start : start + first.size])
    n_frames, cut, lost, sample_rates = _walk(data, start, end)
    n_audio = n_frames - tagged
    damage = []
    if start < after_tags:
        damage.append("the size in its ID3 tag is false")
    elif any(data[after_tags:start]):  # zeros are padding
        damage.append(f"{start - after_tags} bytes before the first MPEG frame were passed over")
    if lost:
        damage.append(f"{lost} bytes between MPEG frames belong to none")
    return Survey(
        "mpeg",
        start=start,
        present=max(0, n_audio * first.samples - trimmed),
        slack=2 * first.samples,  # the first frame after a cut has lost its bit reservoir, the last may be held back
        declared=tag_frames * first.samples - trimmed if tag_frames else None,
        cut="its last MPEG frame is incomplete" if cut else "",
        damage="; ".join(damage),
        sample_rates=sample_rates,
    )


def _walk(data: bytes | mmap.mmap, start: int, end: int) -> tuple[int, bool, int, tuple[int, ...]]:
    """Count the frames: (frames, whether the last is incomplete, bytes that belong to none, rates in Hz)."""
    position, n_frames, lost, kind, rates = start, 0, 0, data[start : start + 4], []
    while position < end:
        header = data[position : position + 4]
        frame = _read_header(header)
        if frame is None or not _same_kind(kind, header):
            following = _find_chain(data, position, end)
            if following < 0:
                tail = data[position:end]
                if len(tail) < 4:  # a header cut off
                    return n_frames, True, lost, tuple(rates)
                lost += len(tail) if any(tail) and not tail.startswith(_TAIL_TAGS) else 0
                break
            lost += following - position
            position, kind = following, data[following : following + 4]
            continue
        if position + frame.size > end:
            return n_frames, True, lost, tuple(rates)
        if frame.sample_rate not in rates:
            rates.append(frame.sample_rate)
        position, n_frames = position + frame.size, n_frames + 1
    return n_frames, False, lost, tuple(rates)


def _read_tag(frame: bytes) -> tuple[bool, int, int]:
    """The tag in place of a first frame: (whether there is one, audio frames it counts, samples to trim)."""
    if frame[36:40] == b"VBRI":
        return True, int.from_bytes(frame[50:54], "big"), 0
    at = next((i for i in (13, 21, 36, 15, 23, 38) if frame[i : i + 4] in (b"Xing", b"Info")), None)
    if at is None:
        return False, 0, 0
    flags, at = frame[at + 7], at + 8
    count = int.from_bytes(frame[at : at + 4], "big") if flags & 1 else 0
    at += 4 * (flags & 1) + 4 * (flags >> 1 & 1) + 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
    gap = int.from_bytes(frame[at + 21 : at + 24], "big") if frame[at : at + 4] in (b"LAME", b"Lavc", b"Lavf") else 0
    return True, count, (gap >> 12) + (gap & 0xFFF)
