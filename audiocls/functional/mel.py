"""Mel scales: HTK's formula and Slaney's Auditory Toolbox (linear below 1 kHz, logarithmic above)."""

import math
from typing import Literal

import torch
from torch import Tensor

MelScale = Literal["slaney", "htk"]

# Slaney's scale: 15 mels a kHz up to 1 kHz, then 27 mels for each factor of 6.4 in frequency.
_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_BREAK_MEL = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27.0


def hz_to_mel(frequency: Tensor, *, mel_scale: MelScale = "slaney") -> Tensor:
    """Frequency to mel.

    Args:
        frequency: in Hz, any shape, non-negative.
        mel_scale: "slaney" (Auditory Toolbox, librosa's default) or "htk" (2595 log10(1 + f / 700)).
    Returns:
        Mels, same shape, float64.
    Raises:
        ValueError: if `mel_scale` is neither.
    Source: librosa.hz_to_mel.

    >>> hz_to_mel(torch.tensor([60.0, 1000.0]))
    tensor([ 0.9000, 15.0000], dtype=torch.float64)
    """
    frequency = frequency.to(torch.float64)
    if _check_mel_scale(mel_scale) == "htk":
        return 2595.0 * torch.log10(1.0 + frequency / 700.0)
    above = frequency.clamp(min=_SLANEY_BREAK_HZ)  # keeps the logarithm finite where the linear part is taken
    logarithmic = _SLANEY_BREAK_MEL + torch.log(above / _SLANEY_BREAK_HZ) / _SLANEY_LOG_STEP
    return torch.where(frequency >= _SLANEY_BREAK_HZ, logarithmic, frequency / _SLANEY_HZ_PER_MEL)


def mel_to_hz(mel: Tensor, *, mel_scale: MelScale = "slaney") -> Tensor:
    """Mel to frequency, the inverse of `hz_to_mel`.

    Args:
        mel: in mels, any shape.
        mel_scale: "slaney" or "htk".
    Returns:
        Hz, same shape, float64.
    Raises:
        ValueError: if `mel_scale` is neither.
    Source: librosa.mel_to_hz.

    >>> mel_to_hz(torch.tensor([0.9, 3.0])).round(decimals=3)
    tensor([ 60., 200.], dtype=torch.float64)
    """
    mel = mel.to(torch.float64)
    if _check_mel_scale(mel_scale) == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    logarithmic = _SLANEY_BREAK_HZ * torch.exp(_SLANEY_LOG_STEP * (mel - _SLANEY_BREAK_MEL))
    return torch.where(mel >= _SLANEY_BREAK_MEL, logarithmic, _SLANEY_HZ_PER_MEL * mel)


def mel_frequencies(n_mels: int, *, f_min: float, f_max: float, mel_scale: MelScale = "slaney") -> Tensor:
    """Frequencies evenly spaced in mel, both ends included.

    Args:
        n_mels: how many, at least 2.
        f_min: the lowest, in Hz.
        f_max: the highest, in Hz.
        mel_scale: "slaney" or "htk".
    Returns:
        Hz, shape (n_mels,), float64.
    Source: librosa.mel_frequencies.

    >>> mel_frequencies(3, f_min=0.0, f_max=800.0)
    tensor([  0., 400., 800.], dtype=torch.float64)
    """
    low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), mel_scale=mel_scale)
    return mel_to_hz(torch.linspace(float(low), float(high), n_mels, dtype=torch.float64), mel_scale=mel_scale)


def _check_mel_scale(mel_scale: str) -> str:
    if mel_scale not in ("slaney", "htk"):
        raise ValueError(f"mel_scale must be 'slaney' or 'htk', got {mel_scale!r}")
    return mel_scale
