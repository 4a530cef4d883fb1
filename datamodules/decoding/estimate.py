"""How much audio files will give, before any is decoded: from a few headers and every file's size.

Good enough to cut work into equal parts and to say how many hours and gigabytes to expect, no more: a header may lie,
and a file that was not looked at counts as its size tells. What a file truly holds, `decode.py` says.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.decoding.headers import read_headers
from datamodules.decoding.sources import Source

LOOKED_AT = 256  # files: a header takes some milliseconds to read, and their median is good to a few per cent


class Expected(NamedTuple):
    """What decoding will give.

    Args:
        seconds: of audio, float64, one for each source.
        missing: sources that are no file.
        looked_at: files whose header was tried.
        unreadable: those of them that FFmpeg could not read.
        sampled: seconds of the others, ascending.
        channels: how many of the others have 1, 2, ... channels.
    """

    seconds: NDArray[np.float64]
    missing: int
    looked_at: int
    unreadable: int
    sampled: NDArray[np.float64]
    channels: Counter[int]


def expect(sources: list[Source]) -> Expected:
    """Read the headers of at most `LOOKED_AT` files, evenly spread over the list; a function of the files alone.

    A file that was not looked at has its size times the median of seconds a byte of those with its suffix, or of all.
    A file that is missing or cannot be read has 0 s.
    """
    sizes = _sizes(sources)
    present = np.flatnonzero(sizes >= 0)
    chosen = np.unique(np.linspace(0, len(present) - 1, min(len(present), LOOKED_AT)).round().astype(int))
    looked_at = present[chosen].tolist()
    headers = dict(zip(looked_at, read_headers([sources[i].path for i in looked_at]), strict=True))
    known = {i: header.seconds for i, header in headers.items() if header and not np.isnan(header.seconds)}
    seconds = np.maximum(sizes, 0) * _seconds_per_byte(sources, sizes, known)
    for i, header in headers.items():
        seconds[i] = 0.0 if header is None else known.get(i, seconds[i])
    return Expected(
        seconds=seconds,
        missing=len(sources) - len(present),
        looked_at=len(headers),
        unreadable=sum(header is None for header in headers.values()),
        sampled=np.sort(list(known.values())),
        channels=Counter(header.channels for header in headers.values() if header),
    )


def expected_seconds(sources: list[Source]) -> NDArray[np.float64]:
    """Seconds of audio to expect of each source, float64 (sources,).

    >>> from pathlib import Path
    >>> expected_seconds([Source("gone.wav", Path("gone.wav"))])
    array([0.])
    """
    return expect(sources).seconds


def native_channels(sources: list[Source]) -> int:
    """The number of channels that most files have; of two that as many have, the larger.

    Raises:
        ValueError: if no file that was looked at can be read.
    """
    expected = expect(sources)
    if not expected.channels:
        raise ValueError(
            f"channels must be given as a number, got native: none of {expected.looked_at} files looked at can be "
            f"read, {expected.missing} of {len(sources)} are missing"
        )
    return max(expected.channels, key=lambda n_channels: (expected.channels[n_channels], n_channels))


def _sizes(sources: list[Source]) -> NDArray[np.int64]:
    """Bytes of each; -1 where there is no file, and for what opening would wait on (a pipe, a device)."""
    sizes = np.full(len(sources), -1, dtype=np.int64)
    for i, source in enumerate(sources):
        try:
            status = os.stat(source.path)
        except (OSError, ValueError):  # ValueError: a zero byte in a name
            continue
        if stat.S_ISREG(status.st_mode):
            sizes[i] = status.st_size
    return sizes


def _seconds_per_byte(sources: list[Source], sizes: NDArray[np.int64], known: dict[int, float]) -> NDArray[np.float64]:
    """For each source the median of its suffix, of all suffixes where none of its own is known, 0 where none is."""
    suffixes = [source.path.suffix.lower() for source in sources]
    rates: dict[str, list[float]] = defaultdict(list)
    for i, seconds in known.items():
        rates[suffixes[i]].append(seconds / max(1, sizes[i]))
    medians = {suffix: float(np.median(values)) for suffix, values in rates.items()}
    overall = float(np.median(np.concatenate(list(rates.values())))) if known else 0.0
    return np.array([medians.get(suffix, overall) for suffix in suffixes])
