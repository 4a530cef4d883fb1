"""Reading a PCM store: shards mapped into memory, any number of processes at once, no lock and no HDF5 in the loop.

HDF5 is asked once, where the samples of a shard begin; from there on they are an array. Nothing is open that a
fork or a pickle could spoil: mappings are made at first use and again in every process. Labels are not here, see
`datamodules.base`. Writing is in `datamodules.writer`, the format in `datamodules.shards`.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.index import Layout, read_columns, read_index, read_layout, read_state, to_bytes, to_text
from datamodules.shards import COLUMNS, SAMPLE_DTYPE, StoreError

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """The clips of a store, numbered from 0 in the order of their `clip_id`, whichever shard holds them.

    Args:
        path: folder that tools/decode_to_hdf.py has written.
    Raises:
        StoreError: if the store is missing, unfinished, foreign, of a newer version, or a shard is missing, cut short
            or no shard.

    Attributes:
        path: of the folder.
        sample_rate: in Hz.
        channels: of every clip.
        lengths: int64 (clips,), samples.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        state = read_state(self._find_state())
        self.sample_rate, self.channels = int(state["sample_rate"]), int(state["channels"])
        self._shards = [self.path / shard["name"] for shard in state["shards"]]
        self._withdrawn: list[str] = state["withdrawn"]
        self._layouts = [
            _checked_layout(path, shard) for path, shard in zip(self._shards, state["shards"], strict=True)
        ]
        index = read_index(self._shards, ("start", "length"), withdrawn=self._withdrawn)
        self._ids, self._shard, self._row = index.clip_id, index.shard, index.row
        self._starts, self.lengths = index.columns["start"], index.columns["length"]
        self._maps: dict[int, np.ndarray] = {}
        self._owner = os.getpid()

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {len(self)} clips, {self.sample_rate} Hz, {self.channels} channels"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])

    def _find_state(self) -> Path:
        if (self.path / "store.json").is_file():
            return self.path / "store.json"
        if (self.path / ".begun.json").exists():
            raise StoreError(
                f"{self.path} is not finished: run the same tools/decode_to_hdf.py command again, "
                f"it goes on where it stopped"
            )
        what = "holds no store.json" if self.path.is_dir() else "does not exist"
        raise StoreError(f"{self.path} {what}: give the folder that tools/decode_to_hdf.py has written as --out")

    # --- what there is ---

    @cached_property
    def clip_ids(self) -> np.ndarray:
        """Ids of the clips, numpy str (clips,), sorted."""
        return to_text(self._ids)

    @property
    def table(self) -> pd.DataFrame:
        """All columns of all clips, read from the shards at every call; row i is clip i."""
        import pandas as pd  # noqa: PLC0415 - takes 0.3 s, and reading samples does not need it

        names = tuple(name for name in COLUMNS if name != "clip_id")
        columns = read_index(self._shards, names, withdrawn=self._withdrawn).columns
        texts = {name: to_text(values) if COLUMNS[name] == "text" else values for name, values in columns.items()}
        return pd.DataFrame({"clip_id": self.clip_ids} | texts)

    @property
    def failures(self) -> pd.DataFrame:
        """What failed in the last run or is stored short or salvaged: clip_id, source, outcome, codec, reason."""
        import pandas as pd  # noqa: PLC0415 - as above

        path = self.path / "failures.csv"
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): copy it again") from None

    def rows(self, clip_ids: np.ndarray | list[str]) -> np.ndarray:
        """Positions of clips, int64, in the order asked for; -1 for those that the store does not hold."""
        asked = to_bytes(clip_ids)
        at = np.searchsorted(self._ids, asked)
        found = at < len(self._ids)
        found[found] = self._ids[at[found]] == asked[found]
        return np.where(found, at, -1).astype(np.int64)

    # --- samples ---

    def read(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Samples of one clip, a read-only view, int16 (samples, channels).

        Args:
            row: position of the clip.
            start: first sample.
            length: samples; to the clip's end where left out.
        Raises:
            IndexError: if there is no such clip or it has no such samples.
        """
        rows, starts = np.array([row]), np.array([start])
        lengths = np.array([self.lengths[row] - start if length is None and 0 <= row < len(self) else length or 0])
        self._check(rows, starts, lengths)
        first = int(self._starts[row]) + start
        return self._map(int(self._shard[row]))[first : first + int(lengths[0])]

    def read_into(self, out: np.ndarray, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Fill a batch; behind `lengths[i]` row i is left as it is.

        The kernel is told of all ranges before the first is copied, so that a disk works on them at once.

        Args:
            out: int16, shape (batch, channels, time).
            rows: position of each clip, (batch,).
            starts: first sample of each, (batch,).
            lengths: samples of each, at most time, (batch,).
        Raises:
            ValueError: if the shapes or the dtype of `out` do not fit.
            IndexError: if there is no such clip or it has no such samples.
        """
        rows, starts, lengths = (np.asarray(values) for values in (rows, starts, lengths))
        if out.dtype != np.int16 or out.ndim != 3 or out.shape[:2] != (len(rows), self.channels):
            raise ValueError(
                f"out must be int16 of shape ({len(rows)}, {self.channels}, time), got {out.dtype} {out.shape}"
            )
        if not rows.shape == starts.shape == lengths.shape:
            raise ValueError(f"rows, starts and lengths must agree, got {rows.shape}, {starts.shape}, {lengths.shape}")
        self._check(rows, starts, lengths)
        if len(rows) and lengths.max() > out.shape[2]:
            raise IndexError(f"lengths must be at most the {out.shape[2]} samples of out, got {lengths.max()}")
        firsts = (self._starts[rows] + starts).tolist()
        spans = list(zip(self._shard[rows].tolist(), firsts, lengths.tolist(), strict=True))
        for shard, first, length in spans:
            self._will_need(shard, first, length)
        for i, (shard, first, length) in enumerate(spans):
            out[i, :, :length] = self._map(shard)[first : first + length].T

    def verify(self) -> Iterator[str]:
        """Read every sample and compare checksums; yields the ids of clips that are not what was written."""
        checksums = read_index(self._shards, ("crc32",), withdrawn=self._withdrawn).columns["crc32"]
        for row, expected in enumerate(checksums.tolist()):
            if zlib.crc32(self.read(row).tobytes()) != expected:
                yield str(self.clip_ids[row])

    def _check(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        outside = (rows < 0) | (rows >= len(self))
        if outside.any():
            raise IndexError(f"row must be between 0 and {len(self) - 1}, got {rows[outside][0]}")
        beyond = (starts < 0) | (lengths < 0) | (starts + lengths > self.lengths[rows])
        if beyond.any():
            i = int(np.flatnonzero(beyond)[0])
            raise IndexError(
                f"{to_text(self._ids[rows[i : i + 1]])[0]} has samples 0 to {self.lengths[rows[i]]}, "
                f"got start {starts[i]} and length {lengths[i]}"
            )

    def _map(self, shard: int) -> np.ndarray:
        if self._owner != os.getpid():
            self._maps, self._owner = {}, os.getpid()
        if shard not in self._maps:
            offset, samples, channels, _ = self._layouts[shard]
            shape = (samples, channels)
            # A zero-length array cannot be mapped, and holds nothing to read.
            mapped = np.memmap(self._shards[shard], SAMPLE_DTYPE, "r", offset, shape) if samples else None
            self._maps[shard] = np.zeros(shape, SAMPLE_DTYPE) if mapped is None else mapped
        return self._maps[shard]

    def _will_need(self, shard: int, first: int, length: int) -> None:
        mapping = getattr(self._map(shard), "_mmap", None)
        if mapping is None or not length:
            return
        size = self.channels * SAMPLE_DTYPE.itemsize
        within = self._layouts[shard].offset % mmap.ALLOCATIONGRANULARITY + first * size
        page = within - within % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, page, within + length * size - page)


def _checked_layout(path: Path, described: dict[str, Any]) -> Layout:
    layout = read_layout(path)
    if path.stat().st_size != described["bytes"] or layout.samples != described["samples"]:
        raise StoreError(
            f"{path} must have {described['bytes']} bytes, got {path.stat().st_size}: copy it again, or decode again"
        )
    clips = len(read_columns(path, ("length",))["length"])
    if clips != described["clips"]:
        raise StoreError(f"{path} must hold {described['clips']} clips, got {clips}: copy it again, or decode again")
    return layout
