"""Path `fused` where there is no GPU: its kernels, compiled for this processor, are started in place of those of a GPU.

The fixture `emulated_fused` (conftest) gives it to a test.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from audiocls.functional import fused, fused_kernels
from tests import emulator
from tests.emulator import Emulator, Flush

KERNELS = {"arrange": 2, "energy": 1}  # of the tensors that a kernel is given it writes so many, the last ones
RUNS: tuple[tuple[int, Flush], ...] = ((0, "end"), (1, "start"), (77, "end"))


class EmulatedFused:
    """Starts kernels on the processor.

    Attributes:
        order: of threads between barriers, and of blocks: 0 forward, 1 backward, others shuffled by this seed.
        flush: the end of tensors behind which nobody may read or write.
        launched: names of kernels that were started.
    """

    def __init__(self, folder: Path) -> None:
        self.order = 0
        self.flush: Flush = "end"
        self.launched: list[str] = []
        self._folder = folder

    def launch(
        self, kernel: str, n_fft: int, dtype: torch.dtype, n_blocks: int, n_threads: int, *fields: Tensor | float | None
    ) -> None:
        """As `fused_kernels.launch`, which it replaces."""
        built = _built(fused_kernels.SOURCE, n_fft, dtype, self._folder)
        values = [field.data_ptr() if isinstance(field, Tensor) else field or 0 for field in fields]
        given = struct.pack(f"{built._fields[kernel]}0P", *values)
        assert fused_kernels.packed(fields) == given, "the source has fields of other types"
        tensors = [field for field in fields if isinstance(field, Tensor)]
        for written in tensors[-KERNELS[kernel] :]:
            written.fill_(torch.nan if written.is_floating_point() else 2**30)  # so that what is left out is found
        built.launch(kernel, n_blocks, n_threads, fields, order=self.order, flush=self.flush)
        self.launched.append(kernel)

    def in_any_order(self, compute: Callable[[], Tensor]) -> Tensor:
        """What is computed, which must be the same bit by bit in whatever order threads run."""
        results = []
        for self.order, self.flush in RUNS:
            before = self.launched.count("energy")
            results.append(compute())
            assert self.launched.count("energy") > before
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=0, atol=0, equal_nan=True)
        return results[0]


@lru_cache
def _built(source: Path, n_fft: int, dtype: torch.dtype, folder: Path) -> Emulator:
    return emulator.build(source, tuple(KERNELS), fused_kernels.defines(n_fft, dtype), folder)


@contextmanager
def emulated(folder: Path) -> Iterator[EmulatedFused]:
    """Path `fused` on the processor, as long as this lasts; `folder` takes what is compiled."""
    if emulator.compiler() is None:
        pytest.skip("no C++ compiler here to run CUDA kernels on the processor with")
    kernels = EmulatedFused(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_kernels, "launch", kernels.launch)
        patch.setattr(fused, "_lacking", lambda device: None)
        fused._fault.cache_clear()
        yield kernels
    fused._fault.cache_clear()


class Operators(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))
