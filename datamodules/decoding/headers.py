"""What the headers of files say of their length and channels, by FFmpeg.

They are read in a process of their own: a file that kills or stops its reader costs itself alone.
"""

from __future__ import annotations

import contextlib
import os
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple

import av
import av.logging
import numpy as np
from av.error import FFmpegError

from datamodules.processes import start_process


class Header(NamedTuple):
    """Of one file.

    Args:
        seconds: of audio; nan where the container does not say.
        channels: of its first audio stream.
    """

    seconds: float
    channels: int


def read_headers(paths: list[Path], *, patience: float = 10.0) -> list[Header | None]:
    """The header of each file; None where FFmpeg finds no audio, dies of it, or takes longer than `patience` (s)."""
    headers: list[Header | None] = []
    while len(headers) < len(paths):
        headers += _read_until_it_ends(paths[len(headers) :], patience)
    return headers


def read_header(path: Path) -> Header | None:
    """The header of a file, in this process; None where FFmpeg finds no audio."""
    av.logging.set_level(None)  # FFmpeg's lines would go to fd 2, past Python
    try:
        # The absolute path: of a relative one "a:b.mp3" FFmpeg takes "a" for a protocol.
        with av.open(os.path.abspath(path), metadata_errors="replace") as file:
            sound = file.streams.audio[0].codec_context if file.streams.audio else None
            if sound is None:  # also where FFmpeg knows no decoder for it
                return None
            return Header(file.duration / av.time_base if file.duration else np.nan, sound.channels)
    except (FFmpegError, ValueError):  # ValueError: a name that is not UTF-8
        return None


def _read_until_it_ends(paths: list[Path], patience: float) -> list[Header | None]:
    """The headers up to the first that the reader dies of or hangs at, and None for that one."""
    process, pipe = start_process(_serve, paths)
    headers: list[Header | None] = []
    try:
        pipe.recv()  # it has started, which takes longer than a header
        while len(headers) < len(paths):
            if not pipe.poll(patience):
                return [*headers, None]
            headers.append(pipe.recv())
    except (EOFError, ConnectionError):
        return [*headers, None]
    finally:
        process.kill()
        process.join()
        pipe.close()
    return headers


def _serve(pipe: connection.Connection, paths: list[Path]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent has gone
        pipe.send("started")
        for path in paths:
            pipe.send(read_header(path))
