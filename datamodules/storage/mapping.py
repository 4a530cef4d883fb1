"""Files side by side in one range of addresses, so that all samples of a store are one array.

A gather over any number of shards is then one call, made without Python's lock. The range is reserved first and the
files are mapped into it, read-only and shared: a page is in memory once, however many processes read it. It is given
back when the last array that views it is gone.

Each file begins on a page of its own, so that between two files stand bytes that are samples of neither: headers, and
the rest of a page. Nobody but `store.py` computes addresses here.

Source: POSIX mmap with MAP_FIXED, mincore and madvise as Linux has them.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PAGE = mmap.PAGESIZE
_MAP_FIXED, _MAP_NORESERVE, _PROT_NONE, _MADV_RANDOM, _MADV_WILLNEED = 0x10, 0x4000, 0, 1, 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
# Called without letting go of Python's lock: to get it back takes longer than the call.
_MINCORE = ctypes.PyDLL(None).mincore
_MINCORE.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


class Mapping:
    """Files mapped end to end, each from the beginning of a page.

    Args:
        paths: of the files, none of them empty; they must not shrink while they are mapped.
    Raises:
        OSError: if a file cannot be opened, or the system has no room for the addresses.

    Attributes:
        begins: byte in the mapping at which each file begins.
        nbytes: of the whole range.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        sizes = [path.stat().st_size for path in paths]
        pages = [-(-size // PAGE) * PAGE for size in sizes]
        self.begins = [0, *itertools.accumulate(pages)]
        self.nbytes = max(self.begins.pop(), PAGE)
        self.address = _map(None, self.nbytes, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, -1)
        # Not at the interpreter's exit, when a thread may still read; the system takes everything back by itself then.
        weakref.finalize(self, _LIBC.munmap, self.address, self.nbytes).atexit = False
        for path, begin, size in zip(paths, self.begins, sizes, strict=True):
            file = os.open(path, os.O_RDONLY)
            try:
                _map(self.address + begin, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, file)
            finally:
                os.close(file)
        # Readers say themselves what they need next: guessing it, the kernel reads twenty times as much from the disk.
        _LIBC.madvise(self.address, self.nbytes, _MADV_RANDOM)
        # The kernel tells only those who may write a file which of its pages are in memory; others it tells "all".
        self._can_tell = all(os.access(path, os.W_OK) for path in paths)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """For numpy: the range as read-only bytes, kept mapped for as long as an array views it."""
        return {"version": 3, "shape": (self.nbytes,), "typestr": "|u1", "data": (self.address, True)}

    def will_need(self, begin: int, nbytes: int) -> None:
        """Have the disk fetch a range soon; returns at once."""
        page = begin - begin % PAGE
        _LIBC.madvise(self.address + page, begin + nbytes - page, _MADV_WILLNEED)

    def are_resident(self, begins: Iterable[int]) -> bool:
        """Whether the pages of some bytes are all in memory; false where the system does not tell."""
        if not self._can_tell:
            return False
        state = ctypes.create_string_buffer(1)
        for begin in begins:
            _MINCORE(self.address + begin - begin % PAGE, 1, state)
            if not state.raw[0] & 1:
                return False
        return True


def _map(address: int | None, size: int, protection: int, flags: int, file: int) -> int:
    result = _LIBC.mmap(address, size, protection, flags, file, 0)
    if result is None or result == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot map {size} bytes ({os.strerror(number)}): raise ulimit -v")
    return result
