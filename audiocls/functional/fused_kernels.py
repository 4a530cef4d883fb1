"""The CUDA kernel of `fused`: what it computes, its tables, and how it is compiled and started.

**The transform.** Of a frame of N real samples the even ones are taken for real parts and the odd ones for imaginary
parts of M = N / 2 complex numbers, z[n] = x[2n] + i x[2n + 1]. With M = P Q, n = n1 Q + n2 and k = k1 + P k2,

    Z[k1 + P k2] = sum over n2 of e(n2 k2 / Q) e(n2 k1 / M) A[k1, n2],   A[k1, n2] = sum over n1 of z[n] e(n1 k1 / P)

with e(t) = exp(-2 pi i t): a transform of P numbers, a turn of each, a transform of Q numbers; and the bins are

    X[k] = E + e(k / N) O,   X[M - k] = conj(E - e(k / N) O),   2 E = Z[k] + conj Z[M - k],  2i O = Z[k] - conj Z[M - k]

Q threads take a frame. Thread n2 has A[:, n2] in its registers, P complex numbers; between both transforms rows become
columns through shared memory, once, real parts first, so that a frame needs no more of it than M + P numbers. Then a
thread has column k1 and, where P = 2 Q, the column of its mirror P - k1, which is all that X[k] and X[M - k] ask for;
where P = Q, half of a column comes from the thread that has the mirror, by a shuffle. Transforms in registers are of
radix 4 and written out by the compiler, with their turns as constants.

**Energies.** Powers of the frames of a block, FRAMES one after another, lie in shared memory, and a thread takes one
frame and four filters, from the first bin to the last at which any of the four has weights. `arrange_filters` lays them
out for that and looks for these bins: once where a filterbank is fixed, else in every call. Sums are in one order, so
that equal input gives equal output, bit by bit, in whatever batch. What is written is the logarithm of the energies
where it is fixed.

**Cost.** From memory come 4 hop_length bytes a frame, or 2 of int16, since what frames share comes from a cache; to
memory go 4 n_bins. At 1024/320/64 these are 1.5 kB, where padded samples, frames and a spectrum in memory are written
and read with 30 kB. A frame takes 34 thousand instructions of a thread, as compiled for compute capability 9.0: 18
thousand additions and multiplications of the transform, 9 thousand to read, exchange and write its numbers, 7 thousand
of the filters. So instructions, and close behind them reads and writes of caches and shared memory, are the limit, and
not memory: an H200, which issues 29 million million a second, makes at most 0.86 thousand million frames by
calculation, 8.6 million seconds of such audio, where its memory could bring 54. Tensor cores would be no faster, for to
be as exact they take three products each, 0.6 million operations a frame; nor would they run on every GPU.

**Registers.** As compiled for compute capabilities 7.5 to 12.0, a thread has 80 registers to n_fft 512, 128 at 1024 and
2048, at most 255 at 4096, and spills nothing; a block has 17 to 35 KiB of shared memory, which every GPU has. The
compiler is NVRTC, which comes with torch, and takes a second for a length of frames; no compiler is asked of the
machine.

The numbers are tested by the same source compiled for a processor, where threads run in any order.
"""

import ctypes
import struct
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audiocls.functional.scaling import Logarithm

SOURCE = Path(__file__).with_name("fused_energy.cu")
_GROUP = 4  # filters that a thread takes at a time
_ARRANGING = 256  # threads of a group of filters
_KINDS = {int: "i", bool: "i", float: "f"}  # of fields of a structure, as `struct` calls them; others are addresses
_PAIR = 8  # bytes of two numbers, which are read at a time
_SAMPLES = {torch.float32: ("float", 1.0), torch.int16: ("short", 2.0**-15)}  # name in C, and unit


class Shape(NamedTuple):
    """How a length of frames is laid out over threads."""

    p: int  # length of the first transform, and complex numbers in the registers of a thread
    frames: int  # of a block

    def q(self, n_fft: int) -> int:
        """Length of the second transform, and threads of a frame."""
        return n_fft // 2 // self.p


SHAPES = {256: Shape(16, 32), 512: Shape(16, 16), 1024: Shape(32, 16), 2048: Shape(32, 8), 4096: Shape(64, 4)}


class Tables(NamedTuple):
    """Turns of the transform, complex64, computed in complex128."""

    turns: Tensor  # (P, Q), between both stages, times half the unit of samples: half because of 2 E and 2 O
    halves: Tensor  # (M,), between even and odd samples


@cache  # for good: what a stream may still read must not be freed
def tables(n_fft: int, dtype: torch.dtype, device: torch.device) -> Tables:
    """Turns of the transform of `n_fft` samples of a dtype."""
    p, q = SHAPES[n_fft].p, SHAPES[n_fft].q(n_fft)

    def turn(part: Tensor) -> Tensor:
        return torch.polar(torch.ones_like(part), -2 * torch.pi * part)

    plain: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}  # whatever the defaults are
    between = turn(torch.outer(torch.arange(p, **plain), torch.arange(q, **plain)) / (p * q)) * _SAMPLES[dtype][1] / 2
    halves = turn(torch.arange(n_fft // 2, **plain) / n_fft)
    return Tables(*(table.to(torch.complex64).to(device) for table in (between, halves)))


def defines(n_fft: int, dtype: torch.dtype) -> dict[str, int | str]:
    """What the source is compiled with, for a length of frames and a kind of samples."""
    shape, (sample, _) = SHAPES[n_fft], _SAMPLES[dtype]
    return {"N_FFT": n_fft, "P": shape.p, "FRAMES": shape.frames, "SAMPLE": sample, "PAIR": f"{sample}2"}


@cache
def compiled(n_fft: int, dtype: torch.dtype, capability: tuple[int, int]) -> bytes:
    """The kernels in the machine code of a compute capability, by NVRTC.

    Raises:
        RuntimeError: if they cannot be compiled for it, with what the compiler says.
    """
    nvrtc = _bindings("nvrtc")
    given = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17", "--prec-sqrt=false"]
    given += [f"-D{name}={value}" for name, value in defines(n_fft, dtype).items()]
    source, options = SOURCE.read_bytes(), [option.encode() for option in given]
    program = _asked(nvrtc.nvrtcCreateProgram(source, SOURCE.name.encode(), 0, [], []))
    try:
        ended = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if int(ended[0]):
            log = bytearray(_asked(nvrtc.nvrtcGetProgramLogSize(program)))
            _asked(nvrtc.nvrtcGetProgramLog(program, log))
            raise RuntimeError(log.rstrip(b"\0\n").decode(errors="replace") or str(ended[0]))
        code = bytearray(_asked(nvrtc.nvrtcGetCUBINSize(program)))
        _asked(nvrtc.nvrtcGetCUBIN(program, code))
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@cache
def _loaded(n_fft: int, dtype: torch.dtype, capability: tuple[int, int]) -> Any:
    """A library of the driver's, which serves every device of a compute capability."""
    driver = _bindings("driver")
    return _asked(driver.cuLibraryLoadData(compiled(n_fft, dtype, capability), [], [], 0, [], [], 0))


@cache
def _kernel(name: str, n_fft: int, dtype: torch.dtype, device: torch.device) -> int:
    """A kernel's handle, which the driver takes in place of a function's."""
    driver = _bindings("driver")
    library = _loaded(n_fft, dtype, torch.cuda.get_device_capability(device))
    return int(_asked(driver.cuLibraryGetKernel(library, name.encode())))


def _bindings(name: str) -> Any:
    """NVIDIA's own, loaded when a kernel is asked for: where there is no GPU they need not be installed."""
    return import_module(f"cuda.bindings.{name}")


def _asked(answer: tuple[Any, ...]) -> Any:
    """What a call of the driver or the compiler returns beside its error, which is raised."""
    error, *returned = answer
    if int(error):
        raise RuntimeError(f"{error.name} of the GPU's driver or compiler")
    return returned[0] if returned else None


def launch(kernel: str, n_fft: int, dtype: torch.dtype, n_blocks: int, n_threads: int, *fields: Any) -> None:
    """Start a kernel on the current stream of the device that its tensors are on.

    Args:
        kernel: its name in the source.
        n_fft: length of a frame that it is compiled for.
        dtype: of samples that it is compiled for.
        n_blocks: in the grid.
        n_threads: in a block.
        *fields: of the one structure that the kernel takes, as `packed` takes them.
    """
    driver = _bindings("driver")
    device = next(field.device for field in fields if isinstance(field, Tensor))
    values = packed(fields)
    held = ctypes.create_string_buffer(values, len(values))
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(held))
    with torch.cuda.device(device):
        if not int(_asked(driver.cuCtxGetCurrent())):  # in a thread that has asked nothing of CUDA yet
            primary = driver.cuDevicePrimaryCtxRetain(_asked(driver.cuDeviceGet(device.index)))
            _asked(driver.cuCtxSetCurrent(_asked(primary)))
        started = _kernel(kernel, n_fft, dtype, device)
        stream = torch.cuda.current_stream(device).cuda_stream
        _asked(driver.cuLaunchKernel(started, n_blocks, 1, 1, n_threads, 1, 1, 0, stream, parameters, 0))


def packed(fields: Sequence[Tensor | float | None]) -> bytes:
    """A structure as C lays it out.

    Args:
        fields: contiguous tensors and None, for addresses; int and bool, for int32; and float, for float32.

    >>> len(packed((None, torch.zeros(1), 3, True, 0.5)))
    32
    """
    kinds = "".join(_KINDS.get(type(field), "P") for field in fields)
    values = [field.data_ptr() if isinstance(field, Tensor) else field or 0 for field in fields]
    return struct.pack(kinds + "0P", *values)  # up to where another one would begin


class Arrangement(NamedTuple):
    """A filterbank as the kernel reads it."""

    weights: Tensor  # (groups, n_freqs, 4), of four filters side by side
    bands: Tensor  # (groups, 2), int32, from and to which bin any of the four has weights


def arrange_filters(filterbank: Tensor, dtype: torch.dtype) -> Arrangement:
    """A filterbank (n_bins, n_freqs) on a GPU as the kernel for samples of a dtype reads it."""
    (n_bins, n_freqs), filterbank = filterbank.shape, filterbank.contiguous()
    n_groups = -(-n_bins // _GROUP)
    made = Arrangement(
        filterbank.new_empty(n_groups, n_freqs, _GROUP), filterbank.new_empty(n_groups, 2, dtype=torch.int32)
    )
    launch("arrange", 2 * (n_freqs - 1), dtype, n_groups, _ARRANGING, filterbank, *made, n_bins)
    return made


def kept_filters(filterbank: Tensor, dtype: torch.dtype) -> Arrangement:
    """The same once it is done, so that calls on whatever stream may read it later."""
    made = arrange_filters(filterbank, dtype)
    if filterbank.is_cuda:
        torch.cuda.current_stream(filterbank.device).synchronize()
    return made


def energy(
    waveform: Tensor,
    filterbank: Tensor | None,
    *,
    frames: range,
    hop_length: int,
    window: Tensor,
    left: int,
    pad_mode: str,
    magnitudes: bool,
    logarithm: Logarithm | None = None,
    arranged: Arrangement | None = None,
) -> Tensor:
    """Energies of some frames of waveforms, by the kernel.

    Args:
        waveform: shape (clips, time), float32 or int16, on the device of the kernel.
        filterbank: shape (n_bins, n_fft // 2 + 1); None leaves the bins of the transform.
        frames: which frames of each clip, none of which reaches further outside of it than padding does.
        hop_length: distance between frames, in samples.
        window: shape (n_fft,).
        left: samples of padding at either end.
        pad_mode: "constant" (zeros) or "reflect".
        magnitudes: whether the bins are magnitudes, not powers.
        logarithm: what is taken of the energies; its share of a clip's peak is left out.
        arranged: the filterbank as `arrange_filters` has it; None arranges it now.
    Raises:
        ValueError: if a clip is longer than the kernel counts.
    Returns:
        Shape (clips, n_bins, frames).
    """
    n_fft, (n_clips, time) = len(window), waveform.shape
    n_bins = n_fft // 2 + 1 if filterbank is None else len(filterbank)
    out = window.new_empty(n_clips, n_bins, len(frames))
    if out.numel() == 0:
        return out
    if time >= 2**31:
        raise ValueError(f"waveform must be below 2 ** 31 samples for path 'fused', got {time}: set path to 'fft'")
    waveform, window = waveform.contiguous(), window.contiguous()
    if window.data_ptr() % _PAIR:
        window = window.clone()
    shape, taken = SHAPES[n_fft], logarithm or Logarithm(0.0)
    n_tiles = -(-len(frames) // shape.frames)
    if arranged is None and filterbank is not None:
        arranged = arrange_filters(filterbank, waveform.dtype)
    launch(
        "energy",
        n_fft,
        waveform.dtype,
        n_clips * n_tiles,
        shape.frames * shape.q(n_fft),
        *(waveform, window, *tables(n_fft, waveform.dtype, waveform.device), *(arranged or (None, None)), out),
        *(time, int(hop_length), left, frames.start, len(frames), n_tiles, n_bins),
        *(_padding(pad_mode, repeatedly=time <= left), magnitudes, logarithm is not None),
        *map(float, (taken.per_octave, taken.offset, taken.floor, taken.shift)),
    )
    return out


def _padding(pad_mode: str, *, repeatedly: bool) -> int:
    return 0 if pad_mode == "constant" else 2 if repeatedly else 1
