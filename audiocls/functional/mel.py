"""Mel scales and the triangular mel filterbank.

Equal to librosa.filters.mel. The two scales are HTK's formula and Slaney's Auditory Toolbox (linear below 1 kHz,
logarithmic above). Other auditory scales (Bark, ERB) are not here.
"""

import logging
import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor

MelScale = Literal["slaney", "htk"]
MelNorm = Literal["slaney"]

_logger = logging.getLogger(__name__)

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


def mel_filterbank(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: MelScale = "slaney",
    norm: MelNorm | None = "slaney",
) -> Tensor:
    """Triangular filters, evenly spaced in mel, over the bins of a Fourier transform.

    Filters narrower than a Fourier bin may hold no bin at all and stay silent; that is logged once, as a warning.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_mels: number of filters.
        f_min: lower edge of the lowest filter, in Hz.
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        mel_scale: "slaney" or "htk".
        norm: "slaney" gives each filter the same area over Hz; None gives each peak the height 1.
    Returns:
        Shape (n_mels, n_fft // 2 + 1), float32, non-negative; computed in float64.
    Raises:
        ValueError: if the frequencies are not 0 <= f_min < f_max <= sample_rate / 2, `n_mels` or `n_fft` is below 1, or
            `mel_scale` or `norm` is not one of those above.
    Source: Slaney, Auditory Toolbox, 1998; librosa.filters.mel, equal to it to 1e-7.

    >>> mel_filterbank(sample_rate=16000, n_fft=512, n_mels=40).shape
    torch.Size([40, 257])
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    _check_filterbank(sample_rate, n_fft, n_mels, f_min, f_max, norm)
    edges = mel_frequencies(n_mels + 2, f_min=f_min, f_max=f_max, mel_scale=mel_scale)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    ramps = edges[:, None] - bins
    width = edges.diff()[:, None]
    triangles = torch.minimum(-ramps[:-2] / width[:-1], ramps[2:] / width[1:]).clamp(min=0.0)
    filterbank = triangles.to(torch.float32)  # rounded before it is scaled too, since librosa does so
    if norm == "slaney":
        filterbank = (filterbank * (2.0 / (edges[2:] - edges[:-2]))[:, None]).to(torch.float32)
    n_empty = int((filterbank.amax(dim=1) == 0).sum())
    if n_empty:
        _warn_empty(n_empty, n_mels, n_fft, sample_rate)
    return filterbank


def _check_mel_scale(mel_scale: str) -> str:
    if mel_scale not in ("slaney", "htk"):
        raise ValueError(f"mel_scale must be 'slaney' or 'htk', got {mel_scale!r}")
    return mel_scale


def _check_filterbank(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float, norm: str | None) -> None:
    if n_fft < 1:
        raise ValueError(f"n_fft must be at least 1 sample, got {n_fft}")
    if n_mels < 1:
        raise ValueError(f"n_mels must be at least 1, got {n_mels}")
    if not 0 <= f_min < f_max:
        raise ValueError(f"f_min must be between 0 and f_max={f_max} Hz, got {f_min}")
    if f_max > sample_rate / 2:
        raise ValueError(
            f"f_max must be at most sample_rate / 2 = {sample_rate / 2} Hz, got {f_max}: lower it or leave it out"
        )
    if norm not in (None, "slaney"):
        raise ValueError(f"norm must be 'slaney' or None, got {norm!r}")


@cache  # one line for one filterbank, however often it is built
def _warn_empty(n_empty: int, n_mels: int, n_fft: int, sample_rate: int) -> None:
    _logger.warning(
        "%d of n_mels=%d mel filters hold no bin of n_fft=%d at %d Hz and stay silent: lower n_mels or raise n_fft",
        n_empty,
        n_mels,
        n_fft,
        sample_rate,
    )
