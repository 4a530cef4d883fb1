"""What the closed shards of a store hold: the layout of each, its columns, and one sorted index over all of them.

The index is a handful of numpy arrays, whatever the number of clips. A clip that stands in two shards, since its file
has changed, counts in the later one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from datamodules.samples import SAMPLE_DTYPES
from datamodules.storage.shards import COLUMNS, StoreError

STORE_KIND = "audiocls PCM store"
STORE_VERSION = 2
_DTYPES = tuple(SAMPLE_DTYPES.values())


class Layout(NamedTuple):
    """Where the samples of a shard lie in its file."""

    offset: int  # bytes
    samples: int
    channels: int
    dtype: np.dtype


class Index(NamedTuple):
    """One row a clip, ordered by `clip_id`; arrays of shape (clips,).

    Args:
        clip_id: UTF-8 bytes.
        shard: which shard holds it, from 0.
        row: its row in that shard's table.
        columns: the columns that were asked for.
    """

    clip_id: np.ndarray
    shard: np.ndarray
    row: np.ndarray
    columns: dict[str, np.ndarray]


def read_index(shards: list[Path], names: tuple[str, ...] = (), *, withdrawn: list[str] | None = None) -> Index:
    """Merge the tables of closed shards.

    Args:
        shards: paths, in the order of their numbers.
        names: columns to read beside `clip_id`.
        withdrawn: clips to leave out although a shard holds them.
    """
    tables = [read_columns(path, ("clip_id", *names)) for path in shards]
    if not tables:
        empty = np.zeros(0, dtype=np.int64)
        texts = np.zeros(0, dtype="S1")
        columns = {name: texts if COLUMNS[name] == "text" else np.zeros(0, dtype=COLUMNS[name]) for name in names}
        return Index(texts, empty, empty, columns)
    merged = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    counts = [len(table["clip_id"]) for table in tables]
    shard = np.repeat(np.arange(len(shards)), counts)
    row = np.concatenate([np.arange(count) for count in counts])
    ids = merged.pop("clip_id")
    order = np.argsort(ids, kind="stable")  # bytes of UTF-8 sort as the texts do; the last of equals is the latest
    ordered = ids[order]
    keep = np.append(ordered[1:] != ordered[:-1], True)
    if withdrawn:
        keep &= ~np.isin(ordered, to_bytes(withdrawn))
    order = order[keep]
    return Index(ids[order], shard[order], row[order], {name: values[order] for name, values in merged.items()})


def find_rows(ids: np.ndarray, clip_ids: np.ndarray | list[str]) -> np.ndarray:
    """Positions of clips in an index's `clip_id`, int64, in the order asked for; -1 for those that it does not hold."""
    asked = to_bytes(clip_ids)
    at = np.searchsorted(ids, asked)
    found = at < len(ids)
    found[found] = ids[at[found]] == asked[found]
    return np.where(found, at, -1).astype(np.int64)


def read_state(path: Path) -> dict[str, Any]:
    """`store.json` of any store, see also `seal.py`. Raises StoreError if it is foreign or of another version."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"{path} cannot be read ({error}): copy it again, or decode again") from None
    if not isinstance(state, dict) or state.get("format") != STORE_KIND or type(state.get("version")) is not int:
        raise StoreError(f"{path} is not of a PCM store: give the folder that tools/decode_to_hdf.py has written")
    if state["version"] != STORE_VERSION:
        what = "update audiocls" if state["version"] > STORE_VERSION else "decode again, into a new folder"
        raise StoreError(f"{path} is of version {state['version']}, this reads {STORE_VERSION}: {what}")
    return state


def read_layout(path: Path) -> Layout:
    """Where the samples lie. Raises StoreError if the file is no shard or shorter than its samples."""
    try:
        layout = _read_layout_hdf5(path) if path.suffix == ".h5" else _read_layout_npy(path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: copy the whole store, or decode again") from None
    except Exception as error:  # noqa: BLE001 - HDF5, numpy and zipfile let errors of every class through
        raise StoreError(f"{path} is not a shard of PCM ({_one_line(error)}): copy it again, or decode again") from None
    end = layout.offset + layout.samples * layout.channels * layout.dtype.itemsize
    if end > path.stat().st_size:
        raise StoreError(f"{path} is cut short: {path.stat().st_size} bytes of {end}: copy it again, or decode again")
    return layout


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def _read_layout_hdf5(path: Path) -> Layout:
    with _open_hdf5(path) as file:
        pcm = file["pcm"]
        if not isinstance(pcm, h5py.Dataset) or pcm.dtype not in _DTYPES or pcm.ndim != 2:
            raise ValueError("its pcm is not (samples, channels) in one of the store's sample formats")
        offset = pcm.id.get_offset() if pcm.chunks is None else None
        if offset is None:
            raise ValueError("its pcm is not contiguous")
        samples, channels = pcm.shape
        return Layout(offset, samples, channels, pcm.dtype)


def _open_hdf5(path: Path) -> h5py.File:
    """Without a lock, which network file systems may not have and a shard that never changes does not need."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        return h5py.File(path, "r")  # this process has it open with a lock, and HDF5 allows one way at a time


def _read_layout_npy(path: Path) -> Layout:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if fortran_order or dtype not in _DTYPES or len(shape) != 2:
            raise ValueError("it is not (samples, channels) in C order in one of the store's sample formats")
        samples, channels = shape
        return Layout(file.tell(), samples, channels, dtype)


def read_columns(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Columns of a shard's clips, texts as UTF-8 bytes. Raises StoreError if one is missing."""
    try:
        if path.suffix == ".h5":
            with _open_hdf5(path) as file:
                columns = {name: np.asarray(file[f"clips/{name}"]) for name in names}
        else:
            with np.load(path.with_suffix(".clips.npz"), allow_pickle=False) as table:
                columns = {name: table[name] for name in names}
        if len({values.shape for values in columns.values()}) != 1:
            raise ValueError("its columns differ in length")
        return columns
    except Exception as error:  # noqa: BLE001 - as above
        raise StoreError(f"{path} has no table of clips that can be read ({_one_line(error)}): copy it again") from None


def to_text(values: np.ndarray) -> np.ndarray:
    """A text column as numpy str."""
    try:
        return values.astype(str)  # ASCII, ten times as fast
    except UnicodeDecodeError:
        return np.char.decode(values, "utf-8", "surrogateescape")


def to_bytes(texts: np.ndarray | list[str]) -> np.ndarray:
    """Texts as a text column stores them."""
    # in parts, so that a million bytes objects never exist at once
    parts = [_encode(texts[first : first + 65536]) for first in range(0, len(texts), 65536)]
    return np.concatenate(parts) if parts else np.array([], dtype=np.bytes_)


def _encode(texts: np.ndarray | list[str]) -> np.ndarray:
    try:
        return np.array([*map(str.encode, texts)])
    except UnicodeEncodeError:  # names of files that are no UTF-8
        return np.array([text.encode("utf-8", "surrogateescape") for text in texts])
