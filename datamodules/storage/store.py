"""Reading a PCM store: all shards mapped as one array, any number of processes at once, no lock, no HDF5 in the loop.

HDF5 is asked once, where the samples of a shard begin; from there on a clip is a place in one array, and a batch is
one gather from it, made without Python's lock. Nothing is open that a fork or a pickle could spoil. On network file
systems, where mapped files are slow or die with the connection, `mapped=False` reads ranges with system calls instead.

Labels are not here, see `datamodules.base`. Writing is in `writer.py`, the format in `shards.py`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.samples import SAMPLE_DTYPES, from_float
from datamodules.storage.access import MappedValues, ReadValues
from datamodules.storage.index import Layout, find_rows, read_columns, read_index, read_layout, to_text
from datamodules.storage.seal import FAILURES_FILE, read_sealed
from datamodules.storage.shards import COLUMNS, StoreError

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """The clips of a store, numbered from 0 in the order of their `clip_id`, whichever shard holds them.

    Args:
        path: folder that tools/decode_to_hdf.py has written.
        mapped: whether shards are mapped into memory; false reads with system calls.
    Raises:
        StoreError: if the store is missing, unfinished, foreign, of a newer version, or its `store.json` is not what
            was written; or a shard is missing, cut short or no shard, or its table does not fit its samples.

    Attributes:
        path: of the folder.
        sample_rate: in Hz.
        channels: of every clip.
        dtype: of the samples, see `datamodules.samples`.
        lengths: int64 (clips,), samples.
    """

    def __init__(self, path: Path | str, *, mapped: bool = True) -> None:
        self.path, self.mapped = Path(path), mapped
        state = read_sealed(self._find_state())
        self.sample_rate, self.channels = int(state["sample_rate"]), int(state["channels"])
        self.dtype = SAMPLE_DTYPES[state["sample_format"]]
        self._silence = from_float(np.zeros(1, np.float32), state["sample_format"])[0][0]
        self._shards = [self.path / shard["name"] for shard in state["shards"]]
        self._withdrawn: list[str] = state["withdrawn"]
        layouts = [self._checked_layout(path, shard) for path, shard in zip(self._shards, state["shards"], strict=True)]
        index = read_index(self._shards, ("start", "length"), withdrawn=self._withdrawn)
        self._ids, self.lengths = index.clip_id, index.columns["length"]
        self._values = (MappedValues if mapped else ReadValues)(
            self._shards, [layout.offset for layout in layouts], self.dtype
        )
        # Place of each clip's first sample: values into the one array of all shards.
        self._at = self._values.begins[index.shard] + index.columns["start"] * self.channels

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}): {len(self)} clips, {self.sample_rate} Hz, {self.channels} channels"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "mapped": self.mapped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

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

        path = self.path / FAILURES_FILE
        try:
            return pd.read_csv(path, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read ({error}): copy it again") from None

    def rows(self, clip_ids: np.ndarray | list[str]) -> np.ndarray:
        """Positions of clips, int64, in the order asked for; -1 for those that the store does not hold."""
        return find_rows(self._ids, clip_ids)

    # --- samples ---

    def read(self, row: int, start: int = 0, length: int | None = None) -> np.ndarray:
        """Samples of one clip, read-only, of the store's dtype, (samples, channels).

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
        at, size = int(self._at[row]) + start * self.channels, int(lengths[0]) * self.channels
        self._values.will_need(np.array([at]), np.array([size]))
        return self._values.view(at, size).reshape(-1, self.channels)

    def read_into(self, out: np.ndarray, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Fill a batch; what stands behind `lengths[i]` in row i becomes silence.

        Args:
            out: of the store's dtype, C-contiguous, shape (batch, time, channels), whatever it held before.
            rows: position of each clip, (batch,).
            starts: first sample of each, (batch,).
            lengths: samples of each, at most time, (batch,).
        Raises:
            ValueError: if the shapes or the dtype of `out` do not fit.
            IndexError: if there is no such clip or it has no such samples.
        """
        rows, starts, lengths = (np.asarray(values) for values in (rows, starts, lengths))
        if out.dtype != self.dtype or out.ndim != 3 or (len(out), out.shape[2]) != (len(rows), self.channels):
            raise ValueError(
                f"out must be {self.dtype} of shape ({len(rows)}, time, {self.channels}), got {out.dtype} {out.shape}"
            )
        if not out.flags.c_contiguous:
            raise ValueError("out must be C-contiguous: allocate it as (batch, time, channels)")
        if not rows.shape == starts.shape == lengths.shape:
            raise ValueError(f"rows, starts and lengths must agree, got {rows.shape}, {starts.shape}, {lengths.shape}")
        self._check(rows, starts, lengths)
        if len(rows) and lengths.max() > out.shape[1]:
            raise IndexError(f"lengths must be at most the {out.shape[1]} samples of out, got {lengths.max()}")
        flat = out.reshape(len(out), -1)
        self._values.gather(flat, self._places(rows, starts), lengths * self.channels)
        for i in np.flatnonzero(lengths < out.shape[1]):
            out[i, lengths[i] :] = self._silence

    def will_need(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        """Have the disk fetch ranges that are to be read soon, unless they are in memory; returns at once.

        Args:
            rows: position of each clip, (batch,).
            starts: first sample of each, (batch,).
            lengths: samples of each, (batch,).
        """
        self._values.will_need(self._places(rows, starts), lengths * self.channels)

    def _places(self, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return self._at[rows] + starts * self.channels

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

    def _checked_layout(self, path: Path, described: dict[str, Any]) -> Layout:
        layout = read_layout(path)
        if path.stat().st_size != described["bytes"]:
            raise StoreError(
                f"{path} must have {described['bytes']} bytes, got {path.stat().st_size}: copy it again, "
                f"or decode again"
            )
        if (layout.offset, layout.samples) != (described["offset"], described["samples"]):
            raise StoreError(
                f"{path} must hold {described['samples']} samples from byte {described['offset']} on, got "
                f"{layout.samples} from byte {layout.offset} on: copy it again, or decode again"
            )
        if (layout.channels, layout.dtype) != (self.channels, self.dtype):
            raise StoreError(
                f"{path} must hold {self.channels} channels of {self.dtype}, got {layout.channels} of {layout.dtype}: "
                f"it is of another store; copy it again, or decode again"
            )
        table = read_columns(path, ("start", "length"))
        if len(table["length"]) != described["clips"]:
            raise StoreError(
                f"{path} must hold {described['clips']} clips, got {len(table['length'])}: copy it again, "
                f"or decode again"
            )
        # Else a flipped bit would train on another clip's samples, under this one's label.
        edges = np.append(0, np.cumsum(table["length"]))
        if (table["start"] != edges[:-1]).any() or edges[-1] != layout.samples:
            raise StoreError(
                f"{path} must hold its clips end to end, and its table says otherwise: copy it again, or decode again"
            )
        return layout
