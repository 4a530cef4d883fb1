"""Two ways to the samples of shards: mapped into memory, or read with system calls.

Either makes one array of values of all shards, in which a place is a number; `begins` says where each shard's samples
stand in it. A gather copies many ranges into the rows of a batch.
"""

from __future__ import annotations

import itertools
import os
import warnings
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.storage.mapping import Mapping

_LOOK_AT = 8  # ranges of a batch that are looked at to tell whether it is in memory


class MappedValues:
    """The samples of mapped shards.

    Args:
        paths: of the shards.
        offsets: byte in each at which its samples begin.
        dtype: of the samples.
    Raises:
        OSError: if a shard cannot be opened or mapped.

    Attributes:
        begins: place of each shard's first value, int64 (shards,).
    """

    def __init__(self, paths: Sequence[Path], offsets: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._mapping = Mapping(paths)
        begins = np.array(self._mapping.begins, dtype=np.int64) + np.array(offsets, dtype=np.int64)
        assert not (begins % dtype.itemsize).any(), "HDF5 and npy both align arrays to 8 bytes or more"
        self.begins = begins // dtype.itemsize
        self._values = np.asarray(self._mapping).view(dtype)

    def view(self, at: int, size: int) -> np.ndarray:
        """Values, read-only, without a copy."""
        return self._values[at : at + size]

    def gather(self, out: np.ndarray, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Copy `sizes[i]` values from `at[i]` on to the beginning of row i; `out` is (batch, values), C-contiguous."""
        width, full = out.shape[1], sizes == out.shape[1]
        rest = np.arange(len(out))
        if 2 * np.count_nonzero(full) > len(full):
            # One call without Python's lock. Short rows take another's values first: reading on behind their own end
            # might fetch from the disk what nobody needs.
            windows = self._tensor.as_strided((len(self._tensor) - width + 1, width), (1, 1))
            places = torch.from_numpy(np.where(full, at, at[full][0]))
            torch.index_select(windows, 0, places, out=torch.from_numpy(out))
            rest = np.flatnonzero(~full)
        for i in rest.tolist():
            out[i, : sizes[i]] = self._values[at[i] : at[i] + sizes[i]]

    def will_need(self, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Have the disk fetch ranges soon, unless they look as if they were in memory; returns at once."""
        itemsize = self._values.itemsize
        if self._mapping.are_resident((at[:: -(-len(at) // _LOOK_AT) or 1] * itemsize).tolist()):
            return  # to ask for what is there takes as long as to copy it
        for begin, nbytes in zip((at * itemsize).tolist(), (sizes * itemsize).tolist(), strict=True):
            self._mapping.will_need(begin, nbytes)

    @cached_property
    def _tensor(self) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
            return torch.from_numpy(self._values)


class ReadValues:
    """The samples of shards that are read with system calls, for file systems on which mapping is slow or unsafe.

    Args:
        paths: of the shards.
        offsets: byte in each at which its samples begin.
        dtype: of the samples.
    Raises:
        OSError: if a shard cannot be opened.

    Attributes:
        begins: place of each shard's first value, int64 (shards,).
    """

    def __init__(self, paths: Sequence[Path], offsets: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._paths, self._dtype = paths, dtype
        self._offsets = np.array(offsets, dtype=np.int64)
        self._files = [os.open(path, os.O_RDONLY) for path in paths]
        weakref.finalize(self, _close, self._files)
        sizes = [(os.fstat(file).st_size - at) // dtype.itemsize for file, at in zip(self._files, offsets, strict=True)]
        self.begins = np.array([0, *itertools.accumulate(sizes)][:-1], dtype=np.int64)

    def view(self, at: int, size: int) -> np.ndarray:
        """Values, in an array of their own."""
        out = np.empty((1, size), dtype=self._dtype)
        self.gather(out, np.array([at]), np.array([size]))
        return out[0]

    def gather(self, out: np.ndarray, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Copy `sizes[i]` values from `at[i]` on to the beginning of row i; `out` is (batch, values), C-contiguous."""
        for row, (shard, offset), size in zip(out, self._find(at), sizes.tolist(), strict=True):
            wanted = memoryview(row[:size]).cast("B")
            got = 0
            while got < len(wanted):
                n = os.preadv(self._files[shard], [wanted[got:]], offset + got)
                if n == 0:
                    raise OSError(f"{self._paths[shard]} has become shorter while it was read: copy it again")
                got += n

    def will_need(self, at: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Have the disk fetch ranges soon; returns at once."""
        for (shard, offset), size in zip(self._find(at), sizes.tolist(), strict=True):
            os.posix_fadvise(self._files[shard], offset, size * self._dtype.itemsize, os.POSIX_FADV_WILLNEED)

    def _find(self, at: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Shard and byte of each place."""
        shard = np.searchsorted(self.begins, at, side="right") - 1
        offset = self._offsets[shard] + (at - self.begins[shard]) * self._dtype.itemsize
        return list(zip(shard.tolist(), offset.tolist(), strict=True))


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)
