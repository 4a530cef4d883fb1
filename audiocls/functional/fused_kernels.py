"""The Triton kernel of `fused`: frames of samples in, energies out, and nothing between them in memory.

**The transform.** A frame of N = P Q samples, n = n1 Q + n2, has the bins k = k1 + P k2

    X[k] = sum over n2 of  e(n2 k2 / Q)  e(n2 k1 / N)  A[k1, n2],      A[k1, n2] = sum over n1 of x[n] e(n1 k1 / P)

with e(t) = exp(-2 pi i t): a product with a matrix P wide, a turn of each number, a product with a matrix Q wide.
Samples are real, so k1 from 0 to P/2 - 1 with all of k2 gives every bin, those above N/2 as the mirror of ones below,
but for two kinds: k1 = P/2, of which A is a sum of alternating signs and real, takes the places where k1 = 0 would be
its own mirror; and bin N/2 is one more sum of alternating signs. Columns k2 are taken in groups from both ends, so that
a group and its mirror are neighbouring bins, whose products with filters that are zero there are left out.

**Cost.** A frame takes 2 N P + 4 N Q multiplications and additions for the transform, against 2 N (N + 2) by a dense
matrix; P and Q are powers of two with the least sum 2 P + 4 Q, and Q at least 16, the narrowest product there is. Each
product is three on tensor cores ("tf32x3": high times high, high times low, low times high), which gives float32's
accuracy: powers off by 6e-7 of a frame's peak and bands within 80 dB of it by 0.002 dB, as with the fast transform. One
alone, which Triton takes unasked, is off by 1 to 6 dB. From memory come 4 hop_length bytes a frame, or 2 of int16, for
what frames share comes from a cache; to memory go 4 n_bins. At 1024/320/64 these are 1.5 kB, where padded samples,
frames and a spectrum in memory are written and read with 30 kB. The price are 0.2 million operations a frame, three
times on tensor cores, so that arithmetic and not memory is the limit: by calculation, an H200's cores at 40 % of their
peak make 3 million seconds of audio a second, and its memory could bring 30 million.

**Tiles.** A program holds at most 8192 samples in frames, at n_fft 1024 for instance 8 frames, in 8 warps. So it needs
at most 255 registers a thread, spills none but up to 8 bytes at n_fft 4096, and takes 44 to 84 KiB of shared memory,
below the 99 KiB of the smallest GPUs with such cores; as compiled for compute capability 8.0 and 9.0. Twice the samples
spill. Numbers were checked in Triton's interpreter, the accuracy of three products by emulation.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from audiocls.functional.scaling import Logarithm

FILTERS = 16  # in a tile of filters: the height of a product on tensor cores
_MOST_TILES = 8  # of filters in a program; more of them do not fit beside the transform
_SAMPLES = 8192  # in the frames of a program
_MOST_FRAMES = 16  # of short ones: energies of more do not fit beside the transform
N_WARPS = 8
_FACTORS = {256: (16, 16), 512: (32, 16), 1024: (32, 32), 2048: (64, 32), 4096: (64, 64)}  # n_fft: (P, Q)


class Tables(NamedTuple):
    """Matrices of the factored transform, float32, computed in float64."""

    stage1: Tensor  # (2, P / 2, P), cosines and sines over n1
    twiddle: Tensor  # (2, P / 2, Q), the turn between both stages
    stage2: Tensor  # (groups, 2, Q, 4 steps), over n2 from real and from imaginary parts, to (mirror, step, part)
    half: Tensor  # (groups, Q, 2 steps), over n2 from the alternating sum, to (step, part) of k1 = P / 2


def settings(n_fft: int, n_bins: int | None) -> dict[str, int]:
    """The constants that the kernel is compiled with, for a length of frames and a number of filters, or none."""
    p, q = _FACTORS[n_fft]
    steps = min(4, 128 // p)  # a group is 64 or 128 bins wide
    n_tiles = 0 if n_bins is None else -(-n_bins // FILTERS)
    n_sets = max(-(-n_tiles // _MOST_TILES), 1)
    return {
        "FRAMES": min(_SAMPLES // n_fft, _MOST_FRAMES),
        "P": p,
        "Q": q,
        "STEPS": steps,
        "FILTERS": FILTERS,
        "FILTER_TILES": -(-n_tiles // n_sets),
        "SPLITS": min(N_WARPS, steps * p // 16),
    }


@lru_cache(maxsize=32)
def tables(n_fft: int, device: torch.device) -> Tables:
    """Matrices of the transform of `n_fft` samples."""
    p, q = _FACTORS[n_fft]
    steps = settings(n_fft, None)["STEPS"]
    n1, n2 = torch.arange(p, dtype=torch.float64), torch.arange(q, dtype=torch.float64)
    slot, column = n1[: p // 2], torch.arange(q // 2, dtype=torch.float64)

    def turns(rows: Tensor, columns: Tensor, period: int) -> Tensor:
        angle = -2 * torch.pi * torch.outer(rows, columns) / period
        return torch.stack((angle.cos(), angle.sin()))  # (parts, rows, columns)

    cosine, sine = turns(n2, torch.cat((column, q - 1 - column)), q).unflatten(-1, (2, -1, steps))
    stage2 = torch.stack((torch.stack((cosine, sine), dim=-1), torch.stack((-sine, cosine), dim=-1)))
    half = turns(n2, column + 0.5, q).unflatten(-1, (-1, steps))
    made = (
        turns(slot, n1, p),
        turns(slot, n2, n_fft),
        stage2.permute(3, 0, 1, 2, 4, 5),  # (groups, from part, n2, mirror, step, to part)
        half.permute(2, 1, 3, 0),  # (groups, n2, step, part)
    )
    return Tables(*(table.to(torch.float32).contiguous().to(device) for table in made))


@triton.jit
def _read(waveform, clip, place, wanted, time, PADDING: tl.constexpr):
    """Samples as float32 at places of a clip, some of which may lie outside of it."""
    if PADDING == "constant":
        wanted = wanted & (place >= 0) & (place < time)
    else:
        if PADDING == "reflect, repeatedly":
            period = tl.maximum(2 * (time - 1), 1)
            place = ((place % period) + period) % period  # the remainder has the sign of what is divided
        place = tl.abs(place)
        place = tl.minimum(place, 2 * (time - 1) - place)
    samples = tl.load(waveform + clip * time + place, mask=wanted, other=0)
    if samples.dtype == tl.int16:
        samples = samples.to(tl.float32) * 0.000030517578125  # 2 ** -15
    return samples


@triton.jit
def _finished(energy, per_octave, offset, floor, shift, LOGARITHM: tl.constexpr):
    """Energies as they are written."""
    if LOGARITHM:
        energy = tl.log2(tl.maximum(energy + offset, floor, propagate_nan=tl.PropagateNan.ALL)) * per_octave - shift
    return energy


@triton.jit(
    do_not_specialize=["time", "hop_length", "left", "first_frame", "n_frames", "n_frame_tiles", "n_bins"]
)  # else each length of a clip that is or is not a multiple of 16 would be compiled anew
def energy_kernel(
    waveform,
    window,
    stage1,
    twiddle,
    stage2,
    half,
    filterbank,
    occupied,
    out,
    time,
    hop_length,
    left,
    first_frame,
    n_frames,
    n_frame_tiles,
    n_bins,
    per_octave,
    offset,
    floor,
    shift,
    PADDING: tl.constexpr,
    MAGNITUDE: tl.constexpr,
    LOGARITHM: tl.constexpr,
    FRAMES: tl.constexpr,
    P: tl.constexpr,
    Q: tl.constexpr,
    STEPS: tl.constexpr,
    FILTERS: tl.constexpr,
    FILTER_TILES: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Energies of some filters, or power of all bins, for FRAMES frames of a clip; arguments are those of `energy`.

    With LOGARITHM, what is written is `per_octave * log2(max(energy + offset, floor)) - shift`.
    """
    SLOTS: tl.constexpr = P // 2
    N_FFT: tl.constexpr = P * Q
    N_FREQS: tl.constexpr = N_FFT // 2 + 1
    BINS: tl.constexpr = STEPS * P  # of a group
    clip = (tl.program_id(0) // n_frame_tiles).to(tl.int64)  # times the length of a clip may pass 2 ** 31
    first = (tl.program_id(0) % n_frame_tiles) * FRAMES
    first_tile = tl.program_id(1) * FILTER_TILES

    # Windowed frames, (n1, frame and n2).
    n1, n2, slot = tl.arange(0, P), tl.arange(0, Q), tl.arange(0, SLOTS)
    column = tl.arange(0, FRAMES * Q)
    n = n1[:, None] * Q + (column % Q)[None, :]
    frame = first + column // Q
    place = (first_frame + frame)[None, :] * hop_length - left + n
    x = _read(waveform, clip, place, (frame < n_frames)[None, :], time, PADDING) * tl.load(window + n)

    # Alternating sums: over n1 for k1 = P / 2, over n for bin N / 2.
    odd = tl.reshape(tl.sum(tl.where((n1 % 2 == 0)[:, None], x, -x), axis=0), (FRAMES, Q))
    even = tl.reshape(tl.sum(x, axis=0), (FRAMES, Q))
    last = tl.sum(tl.where((n2 % 2 == 0)[None, :], even, -even), axis=1)
    last = tl.abs(last) if MAGNITUDE else last * last

    # First stage and turn, (k1 and frame, n2).
    stage1 += slot[:, None] * P + n1[None, :]
    a_re = tl.dot(tl.load(stage1), x, input_precision="tf32x3")
    a_im = tl.dot(tl.load(stage1 + SLOTS * P), x, input_precision="tf32x3")
    twiddle += slot[:, None] * Q + (column % Q)[None, :]
    turn_re, turn_im = tl.load(twiddle), tl.load(twiddle + SLOTS * Q)
    b_re = tl.reshape(a_re * turn_re - a_im * turn_im, (SLOTS * FRAMES, Q))
    b_im = tl.reshape(a_re * turn_im + a_im * turn_re, (SLOTS * FRAMES, Q))

    tile_frame = first + tl.arange(0, FRAMES)
    wanted = tile_frame < n_frames
    out_bin = n_frames.to(tl.int64)  # from one bin to the next
    out += clip * n_bins * out_bin
    mirror, step, filters = tl.arange(0, 2), tl.arange(0, STEPS), tl.arange(0, FILTERS)
    stage2 += n2[:, None] * (4 * STEPS) + tl.arange(0, 4 * STEPS)[None, :]
    half += n2[:, None] * (2 * STEPS) + tl.arange(0, 2 * STEPS)[None, :]
    energies = ()
    for _ in tl.static_range(FILTER_TILES):
        energies = energies + (tl.zeros((SPLITS, FILTERS, FRAMES), tl.float32),)  # noqa: RUF005  Triton unpacks none

    for group in range(0, Q // 2 // STEPS):
        # Second stage and power, (k1, frame, mirror, step).
        y = tl.dot(b_re, tl.load(stage2), input_precision="tf32x3")
        y = tl.dot(b_im, tl.load(stage2 + 4 * Q * STEPS), acc=y, input_precision="tf32x3")
        power = tl.sum(tl.reshape(y * y, (SLOTS, FRAMES, 2, STEPS, 2)), axis=4)
        z = tl.sum(odd[:, :, None] * tl.load(half)[None, :, :], axis=1)  # a product this small would be mostly padding
        z = tl.sum(tl.reshape(z * z, (FRAMES, STEPS, 2)), axis=2)
        own_mirror = (slot == 0)[:, None, None, None] & (mirror == 1)[None, None, :, None]
        power = tl.where(own_mirror, z[None, :, None, :], power)
        if MAGNITUDE:
            power = tl.sqrt(power)

        # The bins that these are, (mirror, step, k1): neighbours, in runs upwards and downwards.
        multiple = ((group * STEPS + step) * P)[None, :, None]
        up = multiple + slot[None, None, :]
        down = multiple + tl.where(slot == 0, SLOTS, P - slot)[None, None, :]
        bins = tl.reshape(tl.where((mirror == 0)[:, None, None], up, down), (2 * STEPS, SLOTS))
        if FILTER_TILES == 0:
            power = tl.reshape(tl.permute(power, (1, 2, 3, 0)), (FRAMES, 2 * STEPS, SLOTS))
            power = _finished(power, per_octave, offset, floor, shift, LOGARITHM)
            tl.store(out + bins[None, :, :] * out_bin + tile_frame[:, None, None], power, mask=wanted[:, None, None])
        else:
            # Each warp takes a part of the bins: all of them for 16 filters would be the same work in every warp.
            power = tl.reshape(tl.permute(power, (2, 3, 0, 1)), (SPLITS, BINS // SPLITS, FRAMES))
            bins = tl.reshape(bins, (SPLITS, 1, BINS // SPLITS))
            updated = ()
            for i in tl.static_range(FILTER_TILES):
                energy = energies[i]
                of_tile = (first_tile + i) * FILTERS + filters
                here = tl.load(occupied + of_tile * (Q // 2 // STEPS) + group, mask=of_tile < n_bins, other=0)
                if tl.max(here.to(tl.int32), axis=0) > 0:
                    weights = filterbank + of_tile[None, :, None] * N_FREQS + bins
                    weight = tl.load(weights, mask=(of_tile < n_bins)[None, :, None], other=0.0)
                    energy = tl.dot(weight, power, acc=energy, input_precision="tf32x3")
                updated = updated + (energy,)  # noqa: RUF005
            energies = updated
        stage2 += 8 * Q * STEPS
        half += 2 * Q * STEPS

    if FILTER_TILES == 0:
        last = _finished(last, per_octave, offset, floor, shift, LOGARITHM)
        tl.store(out + N_FFT // 2 * out_bin + tile_frame, last, mask=wanted)
    for i in tl.static_range(FILTER_TILES):
        of_tile = (first_tile + i) * FILTERS + filters
        weight = tl.load(filterbank + of_tile * N_FREQS + N_FFT // 2, mask=of_tile < n_bins, other=0.0)
        energy = tl.sum(energies[i], axis=0) + weight[:, None] * last[None, :]
        energy = _finished(energy, per_octave, offset, floor, shift, LOGARITHM)
        entry = of_tile[:, None] * out_bin + tile_frame[None, :]
        tl.store(out + entry, energy, mask=wanted[None, :] & (of_tile < n_bins)[:, None])


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
    Returns:
        Shape (clips, n_bins, frames).
    """
    n_fft, (n_clips, time) = len(window), waveform.shape
    constants = settings(n_fft, None if filterbank is None else len(filterbank))
    n_bins = n_fft // 2 + 1 if filterbank is None else len(filterbank)
    out = window.new_empty(n_clips, n_bins, len(frames))
    if out.numel() == 0:
        return out
    n_frame_tiles = triton.cdiv(len(frames), constants["FRAMES"])
    n_sets = 1 if filterbank is None else triton.cdiv(n_bins, FILTERS * constants["FILTER_TILES"])
    occupied = None
    if filterbank is not None:  # which filters have any weight in each group of bins
        filterbank = filterbank.contiguous()
        groups = filterbank[:, :-1].unflatten(1, (-1, constants["STEPS"] * constants["P"]))
        occupied = (groups != 0).any(dim=-1).view(torch.uint8)
    taken = logarithm or Logarithm(0.0)
    if pad_mode == "reflect" and time <= left:
        pad_mode = "reflect, repeatedly"
    with torch.cuda.device_of(waveform):
        kernel: Any = energy_kernel  # its parameters are typed as Triton sees them
        kernel[(n_clips * n_frame_tiles, n_sets)](
            waveform.contiguous(),
            window.contiguous(),
            *tables(n_fft, waveform.device),
            filterbank=filterbank,
            occupied=occupied,
            out=out,
            time=time,
            hop_length=hop_length,
            left=left,
            first_frame=frames.start,
            n_frames=len(frames),
            n_frame_tiles=n_frame_tiles,
            n_bins=n_bins,
            per_octave=taken.per_octave,
            offset=taken.offset,
            floor=taken.floor,
            shift=taken.shift,
            PADDING=pad_mode,
            MAGNITUDE=magnitudes,
            LOGARITHM=logarithm is not None,
            **constants,
            num_warps=N_WARPS,
        )
    return out
