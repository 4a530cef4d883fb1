"""Starts kernels of `fused` on the driver of `fake_driver.cpp` and looks at what it is given; `test_fused_launch` runs
it.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import fused_kernels

DEVICE, STREAM = torch.device("cuda", 3), 0x1234567890


@lru_cache
def fake() -> ctypes.CDLL:
    """The driver's stand-in, on a path that `test_fused_launch` gives."""
    return ctypes.CDLL("libcuda.so.1")


class Started(ctypes.Structure):
    """As in the C++ source."""

    _fields_ = (
        ("kernel", ctypes.c_char * 32),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("fields", ctypes.c_ubyte * 256),
    )


class OnGpu(Tensor):
    """A tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:
        return DEVICE


def number(name: str) -> ctypes.c_int:
    return ctypes.c_int.in_dll(fake(), name)


def structure(fields: tuple[Tensor | float | None, ...]) -> ctypes.Structure:
    """Fields of a structure as ctypes lays them out."""
    kinds = {bool: ctypes.c_int, int: ctypes.c_int, float: ctypes.c_float}
    types = [(f"field{i}", kinds.get(type(field), ctypes.c_void_p)) for i, field in enumerate(fields)]
    made = type("Fields", (ctypes.Structure,), {"_fields_": types})()
    for (name, _), field in zip(types, fields, strict=True):
        setattr(made, name, field.data_ptr() if isinstance(field, Tensor) else field)
    return made


def checked(kernel: str, n_fft: int, dtype: torch.dtype, n_blocks: int, n_threads: int, *fields: Any) -> None:
    """Start a kernel, and look at what the driver was given."""
    expected = structure(fields)
    number("n_bytes").value = ctypes.sizeof(expected)
    LAUNCH(kernel, n_fft, dtype, n_blocks, n_threads, *fields)
    given = Started.in_dll(fake(), "started")
    assert given.kernel.decode() == kernel
    assert (*given.grid, *given.block) == (n_blocks, 1, 1, n_threads, 1, 1)
    assert (given.shared_bytes, given.stream) == (0, STREAM)
    assert given.context, "no context is current"
    assert bytes(given.fields)[: ctypes.sizeof(expected)] == bytes(expected)
    print(kernel)  # noqa: T201


LAUNCH, TABLES = fused_kernels.launch, fused_kernels.tables


def energy(waveform: Tensor, n_fft: int, filterbank: Tensor | None = None) -> Tensor:
    return fused_kernels.energy(
        waveform.as_subclass(OnGpu),
        None if filterbank is None else filterbank.as_subclass(OnGpu),
        frames=range(3, 50),
        hop_length=100,
        window=torch.ones(n_fft).as_subclass(OnGpu),
        left=n_fft // 2,
        pad_mode="reflect",
        magnitudes=True,
        logarithm=functional.decibel(ref=0.1),
    )


def main() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device", lambda device: nullcontext() if device == DEVICE else None)
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        patch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM))
        patch.setattr(fused_kernels, "tables", lambda n_fft, dtype, _: TABLES(n_fft, dtype, torch.device("cpu")))
        patch.setattr(fused_kernels, "launch", checked)
        made = energy(torch.zeros(2, 5000), 256, torch.ones(7, 129))
        assert made.shape == (2, 7, 47)
        given, shape = Started.in_dll(fake(), "started"), fused_kernels.SHAPES[256]
        assert given.grid[0] == 2 * -(-47 // shape.frames), "two clips"
        assert given.block[0] == shape.frames * shape.q(256)
        assert (number("n_retained").value, number("n_loaded").value) == (1, 1)
        energy(torch.zeros(2, 5000, dtype=torch.int16), 256)
        assert (number("n_retained").value, number("n_loaded").value) == (1, 2)
        with ThreadPoolExecutor(1) as thread:  # where no context is current
            thread.submit(energy, torch.zeros(2, 5000, dtype=torch.int16), 256).result()
        assert (number("n_retained").value, number("n_loaded").value) == (2, 2)
        number("answer").value = 700
        with pytest.raises(RuntimeError, match="CUDA_ERROR_ILLEGAL_ADDRESS of the GPU's driver"):
            energy(torch.zeros(2, 5000), 256)
