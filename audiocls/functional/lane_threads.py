"""How the compiled loops of `lane_kernels` are reached, and shared out among threads."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from threading import Thread
from types import ModuleType

import torch

_TILES_PER_THREAD = 16  # at least, about a tenth of a millisecond: what starting a thread takes


@cache
def kernels() -> ModuleType:
    """`lane_kernels`, imported when it is first needed: numba takes half a second."""
    from audiocls.functional import lane_kernels  # noqa: PLC0415

    return lane_kernels


def share(kernel: Callable[..., None], arguments: Sequence[object], n_tiles: int) -> None:
    """All tiles, shared out among as many threads as torch uses."""
    n_threads = max(min(torch.get_num_threads(), n_tiles // _TILES_PER_THREAD), 1)
    ends = [n_tiles * i // n_threads for i in range(n_threads + 1)]
    others = [Thread(target=kernel, args=(*arguments, *part)) for part in pairwise(ends[1:])]
    for thread in others:
        thread.start()
    kernel(*arguments, ends[0], ends[1])
    for thread in others:
        thread.join()
