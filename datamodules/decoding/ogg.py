"""The pages of an Ogg file, counted by walking from one to the next.

Every page names its stream, its number in it, whether it is the stream's first or last, and a checksum over itself; the
position on a stream's last page says how many samples end there. Streams may follow each other in one file (a saved
broadcast, files put together), of which libsndfile reads the first.

Source: RFC 3533 (pages); Vorbis I, section 4.2.2, and RFC 7845 (what a stream's first page says).
"""

from __future__ import annotations

import mmap
import zlib
from typing import NamedTuple

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_OPUS_RATE = 48000  # Hz, whatever the rate of what was encoded
_FIRST, _LAST = 2, 4  # flags of a page


class Stream(NamedTuple):
    """A stream of sound: its rate in Hz, its first and its last sample."""

    sample_rate: int
    begin: int
    end: int


class Pages(NamedTuple):
    """What a walk over all pages has met.

    Args:
        streams: of Vorbis and Opus, in order.
        has_ended: whether the last page is whole and says that it is the last.
        lost_pages: missing by their numbers.
        bad_pages: that fail their checksum.
        lost_bytes: that belong to no page.
    """

    streams: tuple[Stream, ...]
    has_ended: bool
    lost_pages: int
    bad_pages: int
    lost_bytes: int


def walk(data: bytes | mmap.mmap) -> Pages:
    """Count the pages, passing over what is none."""
    position, lost_bytes, lost_pages, bad_pages, has_ended = 0, 0, 0, 0, False
    streams: list[Stream] = []
    known: dict[bytes, tuple[int, int | None]] = {}  # serial number -> number of its last page, index of its stream
    while position < len(data):
        if data[position : position + 4] != b"OggS":
            following = data.find(b"OggS", position)
            lost_bytes += (following if following >= 0 else len(data)) - position
            if following < 0:
                break
            position = following
        page = _read_page(data, position)
        if page is None:
            has_ended = False
            break
        serial, number, flags = page[14:18], int.from_bytes(page[18:22], "little"), page[5]
        before, index = known.get(serial, (number - 1, None))
        lost_pages += max(0, number - before - 1)
        bad_pages += not _is_whole(page)
        if flags & _FIRST:  # a serial number may be taken again
            begun = _begin(page[27 + page[26] :])
            index = None if begun is None else len(streams)
            streams += [] if begun is None else [begun]
        granule = int.from_bytes(page[6:14], "little", signed=True)
        if index is not None and granule > 0:  # -1 where no packet ends on the page
            streams[index] = streams[index]._replace(end=granule)
        known[serial], has_ended, position = (number, index), bool(flags & _LAST), position + len(page)
    return Pages(tuple(streams), has_ended, lost_pages, bad_pages, lost_bytes)


def _read_page(data: bytes | mmap.mmap, position: int) -> bytes | None:
    """The page that begins there; None where the file ends inside it."""
    header = data[position : position + 27]
    sizes = data[position + 27 : position + 27 + header[26]] if len(header) == 27 else b""
    stop = position + 27 + len(sizes) + sum(sizes)
    if len(header) < 27 or len(sizes) < header[26] or stop > len(data):
        return None
    return data[position:stop]


def _begin(packet: bytes) -> Stream | None:
    """The stream that a first packet announces; None where it is not of Vorbis or Opus."""
    if packet.startswith(b"\x01vorbis"):
        return Stream(int.from_bytes(packet[12:16], "little"), 0, 0)
    if packet.startswith(b"OpusHead"):
        skipped = int.from_bytes(packet[10:12], "little")
        return Stream(_OPUS_RATE, skipped, skipped)
    return None


def _is_whole(page: bytes) -> bool:
    """Ogg's CRC-32 is zlib's polynomial without bit reversal, from 0: so zlib runs over the reversed bits."""
    bare = page[:22] + bytes(4) + page[26:]
    register = zlib.crc32(bare.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return register.to_bytes(4, "little").translate(_REVERSED_BITS) == page[22:26][::-1]
