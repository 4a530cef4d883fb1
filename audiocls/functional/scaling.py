"""Scales of amplitude: PCM to float, power to decibel, power to logarithm.

Decibel and logarithm are one formula with other numbers, `Logarithm`, which kernels take where they make the power.

The decibel follows librosa.power_to_db, with the floor of `top_db` set by each clip alone, so that a clip's numbers do
not depend on the batch it is in. Slow gain control (PCEN) is not a scale and is not here.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Logarithm(NamedTuple):
    """per_octave * log2(max(power + offset, floor)) - shift.

    Attributes:
        per_octave: what a factor of two is worth.
        offset: added to the power, in its units.
        floor: what is below counts as this much, positive.
        share: of the largest number of a clip, which is its floor where that is higher.
        shift: taken off at the end.
    """

    per_octave: float
    offset: float = 0.0
    floor: float = torch.finfo(torch.float32).tiny
    share: float = 0.0
    shift: float = 0.0


def natural_logarithm(offset: float) -> Logarithm:
    """log(power + offset), as `log_offset`.

    >>> take_logarithm(torch.zeros(1), natural_logarithm(1.0))
    tensor([0.])
    """
    return Logarithm(math.log(2), float(offset))


def decibel(*, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = None) -> Logarithm:
    """10 log10(power / ref), as `power_to_db`, which says what the numbers are.

    Raises:
        ValueError: if `ref` or `amin` is not positive, or `top_db` is negative.

    >>> take_logarithm(torch.tensor([100.0]), decibel())
    tensor([20.])
    """
    if amin <= 0:
        raise ValueError(f"amin must be positive, got {amin}: the logarithm of zero has no value")
    if ref <= 0:
        raise ValueError(f"ref must be positive, got {ref}: it is the power that stands for 0 dB")
    if top_db is not None and top_db < 0:
        raise ValueError(f"top_db must be at least 0 dB or None, got {top_db}")
    share = 0.0 if top_db is None else 10.0 ** (-top_db / 10)
    shift = 10 * math.log10(max(amin, ref))
    return Logarithm(10 * math.log10(2), floor=float(amin), share=share, shift=shift)


def take_logarithm(power: Tensor, logarithm: Logarithm) -> Tensor:
    """The logarithm of power; at the floor the value is constant and the gradient zero.

    Args:
        power: non-negative, shape (..., channels, freq, frames); the last three dimensions (or all, if there are fewer)
            are one clip.
        logarithm: which one.
    Returns:
        Same shape and dtype.

    >>> take_logarithm(torch.tensor([1.0, 8.0]), Logarithm(per_octave=1.0))
    tensor([0., 3.])
    """
    if power.dtype in (torch.float16, torch.bfloat16):  # where a floor 80 dB down is zero, or off by 0.02 dB
        return take_logarithm(power.float(), logarithm).to(power.dtype)
    per_octave, offset, least, share, shift = logarithm
    power = power + offset if offset else power
    floor: float | Tensor = least
    if share:
        clip_dims = tuple(range(max(power.ndim - 3, 0), power.ndim))
        floor = (power.amax(dim=clip_dims, keepdim=True) * share).clamp(min=least)
    # The larger of both by a sum: a comparison takes as long as the logarithm, and the way back would need two more.
    # In place, for every copy costs as much again.
    floored = power if offset >= least and not share else (power - floor).relu_() + floor
    taken = floored.log2_().mul_(per_octave)
    return taken.sub_(shift) if shift else taken


def pcm_to_float(waveform: Tensor) -> Tensor:
    """PCM, or float of any width, to float32 in [-1, 1).

    Args:
        waveform: any shape; int16 or int32 PCM, uint8 mu-law codes (mu = 255, 256 levels), or float already in [-1, 1),
            which is only converted to float32.
    Returns:
        Same shape, float32; int16 is divided by 32768, which is exact.
    Raises:
        TypeError: if `waveform` is of another dtype: its full scale would be a guess.
    Source of mu-law: torchaudio.functional.mu_law_decoding.

    >>> pcm_to_float(torch.tensor([-32768, 0, 16384], dtype=torch.int16))
    tensor([-1.0000,  0.0000,  0.5000])
    >>> pcm_to_float(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    if waveform.dtype == torch.int16:
        return waveform.to(torch.float32).mul_(2.0**-15)
    if waveform.is_floating_point():
        return waveform.to(torch.float32)
    if waveform.dtype == torch.int32:
        return waveform.to(torch.float32).mul_(2.0**-31)
    if waveform.dtype == torch.uint8:
        level = waveform.to(torch.float32) * (2 / 255) - 1
        return level.sign() * torch.expm1(level.abs() * math.log1p(255)) / 255
    raise TypeError(
        f"waveform must be int16 or int32 PCM, uint8 mu-law or float in [-1, 1), got {waveform.dtype}: "
        "divide it by its own full scale and pass float32"
    )


def power_to_db(power: Tensor, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = None) -> Tensor:
    """Power to decibel, 10 log10(power / ref), with a floor below each clip's own peak.

    Where power is under `amin` or under the floor the value is constant and the gradient is zero (finite on silence).

    Args:
        power: non-negative power, shape (..., channels, freq, frames); the last three dimensions (or all, if there are
            fewer) are one clip.
        ref: power that is 0 dB.
        amin: smallest power that is told apart from silence.
        top_db: dynamic range kept below the peak of each clip, in dB; None keeps all of it.
    Returns:
        Same shape and dtype, in dB.
    Raises:
        ValueError: if `ref` or `amin` is not positive, or `top_db` is negative.
    Source: librosa.power_to_db; equal to it clip by clip.

    >>> power_to_db(torch.tensor([[1.0, 0.1, 1e-12]]), top_db=80.0)
    tensor([[  0., -10., -80.]])
    """
    return take_logarithm(power, decibel(ref=ref, amin=amin, top_db=top_db))


def log_offset(power: Tensor, offset: float | Tensor) -> Tensor:
    """Natural logarithm of power plus a small offset, which is the floor that silence falls to.

    Args:
        power: non-negative power, shape (..., freq, frames).
        offset: positive, in units of power: one number, or one a bin, shape (freq,).
    Returns:
        Same shape; natural log of power.

    >>> log_offset(torch.zeros(1, 2, 3), 1.0).abs().max()
    tensor(0.)
    """
    return torch.log(power + _per_bin(offset))


def log1p_gain(power: Tensor, gain: float | Tensor) -> Tensor:
    """log(1 + gain * power): linear for weak power, logarithmic for strong, zero for silence.

    Args:
        power: non-negative power, shape (..., freq, frames).
        gain: positive, per unit of power: one number, or one a bin, shape (freq,).
    Returns:
        Same shape; dimensionless, non-negative.
    Source: Schlüter and Gutenbrunner 2022, arXiv:2207.05508, whose trainable logarithm it is.

    >>> log1p_gain(torch.zeros(1, 2, 3), 1e4).abs().max()
    tensor(0.)
    """
    return torch.log1p(_per_bin(gain) * power)


def _per_bin(value: float | Tensor) -> float | Tensor:
    """One number a bin, shape (freq,), made to broadcast over frames."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value
