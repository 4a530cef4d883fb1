"""Which file goes into which shard: decided once, kept on the disk, followed until every shard is whole.

A plan is a list of slices, each the files of one shard in their order, so that what a shard holds depends on the plan
alone: not on how many processes and machines work on it, nor on who was killed when. Files that come later are further
slices behind those that there are.

`.plan` in a store's folder holds one line of JSON, the slices' numbers and sizes, and behind it clip_id and path of
every file, each ended by a zero byte, which no path can hold. It is published whole.
"""

from __future__ import annotations

import json
import math
import os
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.decoding.sources import Source
from datamodules.storage.shards import StoreError, publish

PLAN_FILE = ".plan"


class Slice(NamedTuple):
    """The files of one shard.

    Args:
        number: of the shard.
        clips: (clip_id, absolute path) of each, in the order in which they are written.
    """

    number: int
    clips: list[tuple[str, str]]


def absolute(path: Path) -> str:
    """A path as the plan and the store name it, whatever the folder that a later run is started in."""
    text = str(path)
    return text if text.startswith(os.sep) else os.path.abspath(text)


def cut(sources: list[Source], nbytes: NDArray[np.float64], *, first: int, shard_bytes: int, least: int) -> list[Slice]:
    """Cut files into slices of about equal size, none empty.

    Args:
        sources: the files, in the order in which they are to be stored.
        nbytes: of PCM expected of each, (sources,).
        first: number of the first slice.
        shard_bytes: at most expected of a slice, save where one file has more.
        least: number of slices below which no worker would be without one; fewer only where there are fewer files.

    >>> sources = [Source(name, Path("/", name)) for name in "abcde"]
    >>> [len(part.clips) for part in cut(sources, np.array([4.0, 1, 1, 1, 1]), first=0, shard_bytes=4, least=1)]
    [1, 4]
    """
    weights = nbytes + 1.0  # files of which nothing is expected take their turn too
    n_slices = min(len(sources), max(least, math.ceil(nbytes.sum() / shard_bytes)))
    ends = np.cumsum(weights)
    steps = np.arange(1, n_slices)
    inner = np.searchsorted(ends, steps * ends[-1] / n_slices, side="right")
    inner = np.maximum(np.maximum.accumulate(inner - steps), 0) + steps  # at least one file each
    inner = np.minimum(inner, len(sources) - n_slices + steps)
    clips = [(source.clip_id, absolute(source.path)) for source in sources]
    edges = [0, *inner.tolist(), len(sources)]
    return [Slice(first + i, clips[begin:end]) for i, (begin, end) in enumerate(pairwise(edges))]


def write_plan(folder: Path, slices: list[Slice]) -> None:
    """Publish the plan of a store. Raises ValueError if a name holds a zero byte."""
    header = {"numbers": [part.number for part in slices], "sizes": [len(part.clips) for part in slices]}
    texts = "".join(f"{clip_id}\0{path}\0" for part in slices for clip_id, path in part.clips)
    if texts.count("\0") != 2 * sum(header["sizes"]):
        clip_id = next(c for part in slices for c, path in part.clips if "\0" in c + path)
        raise ValueError(f"clip_id must hold no zero byte, got {clip_id!r}: no file has such a name")
    temporary = folder / f"{PLAN_FILE}.tmp"
    temporary.write_bytes(json.dumps(header).encode() + b"\n" + texts.encode("utf-8", "surrogateescape"))
    publish(temporary, folder / PLAN_FILE)


def read_plan(folder: Path) -> list[Slice]:
    """The slices of a store under way, none where nothing is. Raises StoreError if the plan is damaged."""
    try:
        header, _, data = (folder / PLAN_FILE).read_bytes().partition(b"\n")
    except FileNotFoundError:
        return []
    try:
        numbers, sizes = (json.loads(header)[name] for name in ("numbers", "sizes"))
        texts = data.decode("utf-8", "surrogateescape").split("\0")
        if len(texts) != 2 * sum(sizes) + 1:
            raise ValueError(f"{len(texts) // 2} files of {sum(sizes)}")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / PLAN_FILE} is damaged ({error}): delete it and run the same command again, shards that are "
            f"whole are kept"
        ) from None
    clips = list(zip(texts[0:-1:2], texts[1:-1:2], strict=True))
    edges = pairwise(accumulate(sizes, initial=0))
    return [Slice(number, clips[begin:end]) for number, (begin, end) in zip(numbers, edges, strict=True)]
