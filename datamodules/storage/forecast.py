"""What `datamodules.storage.writer.write_store` would do, found out without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.decoding.estimate import expect
from datamodules.decoding.sources import Source
from datamodules.storage.begin import begin
from datamodules.storage.changes import STAMP_COLUMNS, are_stored
from datamodules.storage.index import read_index
from datamodules.storage.plan import read_plan
from datamodules.storage.shards import closed_shards, read_done, read_journal
from datamodules.storage.worker import Settings
from datamodules.storage.writer import check_folder, check_settings


class Forecast(NamedTuple):
    """What there is and what is to come.

    Args:
        files: that were asked for.
        missing: of them that are not there.
        looked_at: of those to decode, files whose header was tried.
        unreadable: of them that FFmpeg could not read.
        sampled: seconds of the others, ascending.
        stored: files that closed shards hold as they are now.
        growing: files of the others that growing shards hold, and that will not be decoded again.
        seconds: of audio to expect of those to decode.
        nbytes: of PCM to expect of them.
        settings: of the store, "native" channels found out.
    """

    files: int
    missing: int
    looked_at: int
    unreadable: int
    sampled: NDArray[np.float64]
    stored: int
    growing: int
    seconds: float
    nbytes: float
    settings: Settings

    @property
    def to_decode(self) -> int:
        """Files that the run would try."""
        return self.files - self.stored


def forecast(sources: list[Source], folder: Path, asked: Settings) -> Forecast:
    """Look at a store and at the files that are to go into it.

    Args:
        sources: the files.
        folder: of the store, which need not exist.
        asked: settings to decode with.
    Raises:
        ValueError: for settings out of range.
        StoreError: if `write_store` would refuse the folder for what it holds.
    """
    check_settings(asked)
    check_folder(folder)
    state = begin(folder, asked, sources)
    settings = Settings.of(state)
    index = read_index(closed_shards(folder, settings.shard_format), STAMP_COLUMNS, withdrawn=state["withdrawn"])
    stored = are_stored(sources, index)
    expected = expect([source for source, is_stored in zip(sources, stored.tolist(), strict=True) if not is_stored])
    limit = np.inf if settings.max_seconds is None else settings.max_seconds
    seconds = float(np.minimum(expected.seconds, limit).sum())
    return Forecast(
        files=len(sources),
        missing=expected.missing,
        looked_at=expected.looked_at,
        unreadable=expected.unreadable,
        sampled=expected.sampled,
        stored=int(stored.sum()),
        growing=_count_growing(folder),
        seconds=seconds,
        nbytes=seconds * settings.bytes_per_second,
        settings=settings,
    )


def _count_growing(folder: Path) -> int:
    done = read_done(folder)
    return sum(read_journal(folder, part.number)[0] for part in read_plan(folder) if part.number not in done)
