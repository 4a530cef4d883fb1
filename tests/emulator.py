"""CUDA kernels on a processor: their source compiled by the machine's C++ compiler, see `cuda_on_host.h`.

Tensors lie in memory of their own between pages that nobody may touch, so that a kernel that leaves one ends in an
error, which names kernel, block and thread.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeAlias

from torch import Tensor

HEADER = Path(__file__).with_name("cuda_on_host.h")

Argument: TypeAlias = Tensor | int | float | None
Flush: TypeAlias = Literal["start", "end"]

_GUARD = 256 * mmap.PAGESIZE  # before and behind a tensor
_MPROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_MPROTECT.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_OPTIONS = (
    "-std=c++20",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # products and sums as they are written
    "-fno-math-errno",
    "-fno-strict-aliasing",  # two floats are read as a float2
    "-fsanitize=bounds,alignment,shift,signed-integer-overflow,integer-divide-by-zero",
    "-fno-sanitize-recover=all",
    "-U_FORTIFY_SOURCE",  # it takes a jump from one stack to another for an error
    *(f"-Werror={warning}" for warning in ("array-bounds", "double-promotion", "return-type", "uninitialized")),
)


def compiler() -> str | None:
    """The C++ compiler of this machine: the one that CXX names, g++ or clang++; or none."""
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["g++", "clang++"])), None)


def build(source: Path, kernels: Sequence[str], defines: Mapping[str, str | int], folder: Path) -> Emulator:
    """Compile kernels for this processor.

    Args:
        source: a file of CUDA C++ that includes nothing; each kernel takes one struct by value.
        kernels: names of the kernels to launch, `extern "C"`.
        defines: macros and what they stand for.
        folder: takes the library, which is used again as long as source and macros stay.
    Raises:
        RuntimeError: what the compiler says against it.
    """
    program = compiler()
    if program is None:
        raise RuntimeError("found no C++ compiler: install g++ or clang++, or let CXX name one")
    lines = [f'#include "{HEADER}"', *(f"#define {name} {value}" for name, value in defines.items())]
    lines += [f'#include "{source.resolve()}"', *(f"EXPORT({kernel})" for kernel in kernels)]
    text = "\n".join([*lines, ""])
    identity = hashlib.sha256("\0".join([program, *_OPTIONS, HEADER.read_text(), source.read_text(), text]).encode())
    library = folder / f"{source.stem}-{identity.hexdigest()[:16]}.so"
    if not library.exists():
        with TemporaryDirectory(dir=folder) as own:  # other processes may build the same
            unit, made, linked = (Path(own, f"kernels.{kind}") for kind in ("cpp", "o", "so"))
            unit.write_text(text)
            _run([program, *_OPTIONS, "-c", str(unit), "-o", str(made)])
            _run([program, "-shared", str(made), "-o", str(linked)])  # apart, without the library behind -fsanitize
            linked.rename(library)
    return Emulator(library, kernels)


def _run(command: Sequence[str]) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {ended.returncode}:\n{ended.stderr}")


class Emulator:
    """Kernels of one source, ready to launch."""

    def __init__(self, library: Path, kernels: Sequence[str]) -> None:
        loaded = ctypes.CDLL(str(library))
        launch = ctypes.CFUNCTYPE(
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_double,
        )
        fields = ctypes.CFUNCTYPE(ctypes.c_char_p)
        self._launch = {kernel: launch((f"launch_{kernel}", loaded)) for kernel in kernels}
        self._fields = {kernel: fields((f"fields_{kernel}", loaded))().decode() for kernel in kernels}

    def launch(
        self,
        kernel: str,
        n_blocks: int,
        n_threads: int,
        arguments: Sequence[Argument],
        *,
        order: int = 0,
        flush: Flush = "end",
        seconds: float = 20.0,
    ) -> None:
        """Run a kernel; tensors hold afterwards what it wrote.

        Args:
            kernel: its name.
            n_blocks: blocks of the grid, which has one dimension.
            n_threads: threads of a block, which has one dimension.
            arguments: fields of the struct that the kernel takes: contiguous tensors in main memory, or None, for
                pointers, and numbers. Tensors may be one and the same, but not overlap in part.
            order: of threads between barriers, and of blocks: 0 forward, 1 backward, others shuffled by this seed.
            flush: the end of a tensor that touches forbidden memory. At "start" addresses are aligned as those of a
                GPU; at "end" to 16 bytes only if the tensor is a multiple of them, else to a number.
            seconds: of the processor's time after which the launch has failed.
        Raises:
            ValueError: an argument does not suit its field.
            RuntimeError: the launch failed, with where and why.
        """
        fields = self._fields[kernel]
        if len(arguments) != len(fields):
            raise ValueError(f"{kernel} takes {len(fields)} arguments, those of its struct, got {len(arguments)}")
        guarded: dict[tuple[int, int], Guarded] = {}
        values: list[int | float] = []
        for i, (field, argument) in enumerate(zip(fields, arguments, strict=True)):
            name = f"arguments[{i}] of {kernel}"
            _check(argument, field, name)
            if isinstance(argument, Tensor):
                place = argument.data_ptr(), argument.nbytes
                if place not in guarded:
                    guarded[place] = Guarded(argument, name, flush)
                values.append(guarded[place].address)
            else:
                values.append(0 if argument is None else argument)
        packed = struct.pack(f"@{fields}{'0P' if 'P' in fields else ''}", *values)  # padded as a struct is
        error = self._launch[kernel](packed, len(packed), n_blocks, n_threads, order, seconds)
        if error is not None:
            raise RuntimeError(_with_place(error.decode(), guarded.values()))
        for memory in guarded.values():
            memory.copy_back()


def _check(argument: Argument, field: str, name: str) -> None:
    """A ValueError if an argument does not suit its field."""
    kinds = {"P": (Tensor, type(None)), "i": (int,), "f": (float, int)}[field]
    if not isinstance(argument, kinds):
        names = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
        raise ValueError(f"{name} must be {names}, got {argument!r:.40}")
    if isinstance(argument, Tensor) and (argument.device.type != "cpu" or not argument.is_contiguous()):
        raise ValueError(f"{name} must be contiguous and in main memory: call .cpu().contiguous()")
    if field == "i" and isinstance(argument, int) and not -(2**31) <= argument < 2**31:
        raise ValueError(f"{name} must fit into 32 bits, got {argument}")


class Guarded:
    """A copy of a tensor's numbers between pages that nobody may touch."""

    def __init__(self, tensor: Tensor, name: str, flush: Flush) -> None:
        self.tensor, self.name = tensor, name
        inside = -(-max(tensor.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, _GUARD + inside + _GUARD, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._kept = ctypes.c_char.from_buffer(memory)  # and the memory with it
        self._first = ctypes.addressof(self._kept) + _GUARD
        self._after = self._first + inside
        self.address = self._first if flush == "start" else self._after - tensor.nbytes
        ctypes.memset(self._first, 0xFF, inside)
        ctypes.memmove(self.address, tensor.data_ptr(), tensor.nbytes)
        for address in (self._first - _GUARD, self._after):
            if _MPROTECT(address, _GUARD, 0):
                raise OSError(ctypes.get_errno(), "cannot guard memory")

    def copy_back(self) -> None:
        """Give the tensor its numbers; a RuntimeError if bytes next to them are not what they were."""
        end = self.address + self.tensor.nbytes
        for first, after, where in (
            (self._first, self.address, "before the start"),
            (end, self._after, "past the end"),
        ):
            if ctypes.string_at(first, after - first).strip(b"\xff"):
                raise RuntimeError(f"something was written {where} of {self.name}")
        ctypes.memmove(self.tensor.data_ptr(), self.address, self.tensor.nbytes)

    def place(self, address: int) -> str | None:
        """An address next to this memory in words."""
        if self._first - _GUARD <= address < self._first:
            return f"{self.address - address} bytes before the start of {self.name}"
        if self._after <= address < self._after + _GUARD:
            return f"{address - self.address - self.tensor.nbytes} bytes past the end of {self.name}"
        return None


def _with_place(error: str, guarded: Iterable[Guarded]) -> str:
    """An error's text with the tensor that its address is next to."""
    found = re.search(r"at address (0x[0-9a-f]+)", error)
    places = [memory.place(int(found[1], 16)) for memory in guarded] if found else []
    return ", ".join([error, *filter(None, places)])
