"""Combined frequency and periodicity: a spectrum, its cepstrum, and the pitches that both of them hold.

The spectrum shows a note with its harmonics, the cepstrum (a spectrum of the spectrum) shows it with its subharmonics;
on a common logarithmic axis their product keeps the note. Each transform is followed by a root, which flattens the
envelope, and by zeros where the other axis is out of range.

The settings are those of Su and Yang's code, whose triangles are kept; but centres of Fourier bins stand where they
are, and a triangle that falls between two points listens to the nearest, where that code leaves most of them silent.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audiocls.functional.cqt import cqt_frequencies
from audiocls.functional.framing import PadMode
from audiocls.functional.stft import for_onnx, magnitude, power_spectrum, stft


class CFPMaps(NamedTuple):
    """The parts of a combined map, each of shape (..., n_bins, frames) or, on linear axes, (..., points, frames)."""

    spectrum: Tensor
    """Magnitude of the Fourier transform."""
    frequency: Tensor
    """What the last transform to frequency leaves: notes and harmonics."""
    periodicity: Tensor
    """What the last transform to time lag leaves: notes and subharmonics."""

    @property
    def combined(self) -> Tensor:
        """Product of frequency and periodicity: notes."""
        return self.frequency * self.periodicity


def cfp_frequencies(*, f_min: float, f_max: float, bins_per_octave: int = 48) -> Tensor:
    """Centres of the bins of a combined map, between f_min and f_max.

    Args:
        f_min: lower edge of the lowest bin, in Hz, positive.
        f_max: no edge reaches it, in Hz.
        bins_per_octave: bins to a doubling of frequency, at least 1.
    Returns:
        Hz, shape (n_bins,), float64.
    Raises:
        ValueError: if `f_min` is not positive, or f_max leaves no room for a bin.

    >>> cfp_frequencies(f_min=100.0, f_max=1000.0, bins_per_octave=1)
    tensor([200., 400.], dtype=torch.float64)
    """
    return _edges(f_min, f_max, bins_per_octave)[1:-1]


def cfp_filterbanks(
    *, sample_rate: int, n_fft: int, f_min: float, f_max: float, bins_per_octave: int = 48
) -> tuple[Tensor, Tensor]:
    """Triangles with logarithmic centres over Fourier bins, and the same over time lags.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transforms, in samples.
        f_min: lower edge of the lowest bin, in Hz.
        f_max: no edge reaches it, in Hz; at most sample_rate / 2.
        bins_per_octave: bins to a doubling of frequency.
    Returns:
        Over frequency (n_bins, n_freqs) and over lag (n_bins, n_lags), float32, non-negative, no wider than they need
        to be; computed in float64.
    Raises:
        ValueError: if a frequency is out of range, or n_fft cannot hold the lag of f_min.

    >>> over_frequency, over_lag = cfp_filterbanks(sample_rate=16000, n_fft=8000, f_min=80.0, f_max=1000.0)
    >>> over_frequency.shape, over_lag.shape
    (torch.Size([173, 494]), torch.Size([173, 200]))
    """
    if f_max > sample_rate / 2:
        raise ValueError(f"f_max must be at most sample_rate / 2 = {sample_rate / 2} Hz, got {f_max}: lower it")
    edges = _edges(f_min, f_max, bins_per_octave)
    points = torch.arange(n_fft // 2 + 1, dtype=torch.float64)
    if sample_rate / f_min > n_fft / 2:
        raise ValueError(
            f"n_fft must be at least 2 * sample_rate / f_min = {math.ceil(2 * sample_rate / f_min)} samples, "
            f"two periods of it, got {n_fft}"
        )
    return _triangles(edges, points * (sample_rate / n_fft)), _triangles(edges, sample_rate / points)


def cfp_maps(
    waveform: Tensor,
    *,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    f_min: float,
    f_max: float,
    exponents: Sequence[float] = (0.24, 0.6, 1.0),
    pad_mode: PadMode = "constant",
) -> CFPMaps:
    """The parts of a combined map on linear axes: Fourier bins, and time lags in samples.

    Gradients are finite, and zero where a map is.

    Args:
        waveform: shape (..., time), float32 or float64.
        sample_rate: in Hz.
        n_fft: length of the transforms, in samples: points are sample_rate / n_fft apart.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft.
        f_min: frequencies below it are taken out, in Hz.
        f_max: lags below 1 / f_max are taken out, in Hz.
        exponents: of the spectrum, of the cepstrum, of its spectrum, and so on; at least two, positive.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
    Returns:
        Each of shape (..., n_fft // 2 + 1, 1 + time // hop_length), non-negative.
    Raises:
        ValueError: if there are fewer than two exponents, or one is not positive.
    Source: Su and Yang 2015, doi:10.1109/TASLP.2015.2442411, whose gamma the exponents are.

    >>> sizes = {"sample_rate": 8000, "n_fft": 1000, "hop_length": 100, "window": torch.ones(500)}
    >>> cfp_maps(torch.zeros(1, 1000), f_min=80.0, f_max=1000.0, **sizes).periodicity.shape
    torch.Size([1, 501, 11])
    """
    check_exponents(exponents)
    spectrum = stft(waveform, n_fft=n_fft, hop_length=hop_length, window=window, pad_mode=pad_mode)
    # Frames before frequencies, so that transforms run along memory; turned back at the end.
    size = magnitude(power_spectrum(spectrum)).transpose(-1, -2) / torch.linalg.vector_norm(window)
    out_of_range = (round(f_min * n_fft / sample_rate), round(sample_rate / f_max))
    parts = [_power(size, exponents[0])] * 2
    for layer, exponent in enumerate(exponents[1:], start=1):
        # Real and even in, real and even out, so that half of either says all.
        turned = torch.fft.irfft(for_onnx(parts[(layer + 1) % 2]), n=n_fft, norm="ortho")[..., : n_fft // 2 + 1]
        kept = torch.arange(n_fft // 2 + 1, device=turned.device) >= out_of_range[layer % 2]
        parts[layer % 2] = _power(turned.to(size.dtype) * kept, exponent)
    return CFPMaps(*(part.transpose(-1, -2) for part in (size, *parts)))


def cfp(
    waveform: Tensor,
    *,
    sample_rate: int,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    f_min: float = 80.0,
    f_max: float = 1000.0,
    bins_per_octave: int = 48,
    exponents: Sequence[float] = (0.24, 0.6, 1.0),
    pad_mode: PadMode = "constant",
) -> CFPMaps:
    """Combined frequency and periodicity with all its parts, on one logarithmic axis.

    Args:
        waveform: shape (..., time), float32 or float64.
        sample_rate: in Hz.
        n_fft: length of the transforms, in samples.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft.
        f_min: lower edge of the lowest bin, in Hz.
        f_max: no edge reaches it, in Hz.
        bins_per_octave: bins to a doubling of frequency.
        exponents: as of `cfp_maps`.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
    Returns:
        Each of shape (..., n_bins, 1 + time // hop_length); `.combined` is the map of notes.
    Raises:
        ValueError: as `cfp_maps` and `cfp_filterbanks`.

    >>> maps = cfp(torch.zeros(1, 4000), sample_rate=8000, n_fft=4000, hop_length=100, window=torch.ones(500))
    >>> maps.combined.shape
    torch.Size([1, 173, 41])
    """
    banks = cfp_filterbanks(
        sample_rate=sample_rate, n_fft=n_fft, f_min=f_min, f_max=f_max, bins_per_octave=bins_per_octave
    )
    over_frequency, over_lag = (bank.to(waveform) for bank in banks)
    spectrum, frequency, periodicity = cfp_maps(
        waveform,
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop_length,
        window=window,
        f_min=f_min,
        f_max=f_max,
        exponents=exponents,
        pad_mode=pad_mode,
    )
    n_freqs, n_lags = over_frequency.shape[1], over_lag.shape[1]
    return CFPMaps(
        over_frequency @ spectrum[..., :n_freqs, :],
        over_frequency @ frequency[..., :n_freqs, :],
        over_lag @ periodicity[..., :n_lags, :],
    )


def check_exponents(exponents: Sequence[float]) -> None:
    """Raise a ValueError unless there are two positive exponents at least: one a transform."""
    if len(exponents) < 2 or min(exponents) <= 0:
        raise ValueError(
            f"exponents must be at least two positive numbers, for the spectrum and the cepstrum, got {list(exponents)}"
        )


def _power(values: Tensor, exponent: float) -> Tensor:
    """Positive values to a power; zero, with gradient zero, for zero and negative ones."""
    silent = values <= 0  # which nan is not: it stays nan
    return torch.where(silent, 0.0, torch.where(silent, 1.0, values).pow(exponent))


def _edges(f_min: float, f_max: float, bins_per_octave: int) -> Tensor:
    """Frequencies from f_min to below f_max, each the centre between its neighbours' triangles."""
    n_octaves = math.log2(f_max / f_min) if f_max > f_min > 0 else 0.0
    edges = cqt_frequencies(math.ceil(n_octaves * bins_per_octave) or 1, f_min=f_min, bins_per_octave=bins_per_octave)
    if len(edges) < 3:
        raise ValueError(
            f"f_max must be more than {2 ** (2 / bins_per_octave):.4g} times f_min={f_min} Hz to hold a bin of "
            f"bins_per_octave={bins_per_octave}, got {f_max}"
        )
    return edges


def _triangles(edges: Tensor, points: Tensor) -> Tensor:
    """Triangles between every three neighbouring edges over points in Hz, cut after the last point that counts."""
    low, centre, high = (edges[i : len(edges) - 2 + i, None] for i in range(3))
    triangles = torch.minimum((points - low) / (centre - low), (high - points) / (high - centre)).clamp(min=0.0)
    empty = triangles.amax(dim=1) == 0
    nearest = (points - centre[empty]).abs().argmin(dim=1)
    triangles[empty, nearest] = 1.0
    n_points = int(triangles.any(dim=0).nonzero()[-1]) + 1
    return triangles[:, :n_points].to(torch.float32)
