"""Triangular filterbanks over the bins of a Fourier transform, evenly spaced on a scale of frequency.

Each is a matrix (n_bins, n_fft // 2 + 1). The triangles and their norms are librosa.filters.mel's, the linear ones
torchaudio's LFCC's. Filters that are no triangles are elsewhere: `gammatone`, `chroma`.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from audiocls.functional.auditory import bark_to_hz, erb_rate_to_hz, hz_to_bark, hz_to_erb_rate
from audiocls.functional.mel import MelScale, hz_to_mel, mel_frequencies, mel_to_hz

FrequencyScale = Literal["linear", "log", "log2", "bark", "erb", "slaney", "htk"]
MelNorm = Literal["slaney"] | float

_SEARCHED = 2**23  # weights of the largest filterbank that is tried to say which n_fft would do

_logger = logging.getLogger(__name__)

# each scale, and the way back from it, for a tensor of Hz in float64
_WARPS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "linear": (torch.clone, torch.clone),
    "log": (torch.log, torch.exp),
    "bark": (hz_to_bark, bark_to_hz),
    "erb": (hz_to_erb_rate, erb_rate_to_hz),
    "slaney": (hz_to_mel, mel_to_hz),
    "htk": (lambda hz: hz_to_mel(hz, mel_scale="htk"), lambda mel: mel_to_hz(mel, mel_scale="htk")),
}


def band_edges(n_bins: int, *, f_min: float, f_max: float, freq_scale: FrequencyScale) -> Tensor:
    """Frequencies at which triangles begin, peak and end: filter k spans edges k to k + 2 and peaks at edge k + 1.

    All scales but one put the first edge on `f_min` and the last on `f_max`. "log2" counts octaves as a musical scale
    does: the peaks are f_min · 2^(k / b) with b = n_bins / log2(f_max / f_min) bins an octave, so that `f_min` is the
    first peak and `f_max` would be the next after the last.

    Args:
        n_bins: number of filters.
        f_min: in Hz; positive for "log" and "log2".
        f_max: in Hz.
        freq_scale: "linear" (Hz), "log" or "log2" (equal ratios), "bark", "erb" (ERB rate), "slaney" or "htk" (mel).
    Returns:
        Hz, shape (n_bins + 2,), float64, ascending.
    Raises:
        ValueError: if `freq_scale` is not one of those above, or `f_min` is 0 where ratios are to be equal.

    >>> band_edges(3, f_min=100.0, f_max=800.0, freq_scale="log2").round()
    tensor([ 50., 100., 200., 400., 800.], dtype=torch.float64)
    """
    if freq_scale not in get_args(FrequencyScale):
        raise ValueError(f"freq_scale must be one of {', '.join(get_args(FrequencyScale))}, got {freq_scale!r}")
    if f_min <= 0 and freq_scale in ("log", "log2"):
        raise ValueError(f"f_min must be above 0 Hz for freq_scale {freq_scale!r}, got {f_min}: 32.7 Hz is the note C1")
    if freq_scale == "log2":
        step = (f_max / f_min) ** (1 / n_bins)
        return f_min * step ** torch.arange(-1, n_bins + 1, dtype=torch.float64)
    warp, unwarp = _WARPS[freq_scale]
    low, high = warp(torch.tensor([f_min, f_max], dtype=torch.float64))
    return unwarp(torch.linspace(float(low), float(high), n_bins + 2, dtype=torch.float64))


def triangular_filterbank(
    *,
    sample_rate: int,
    n_fft: int,
    n_bins: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    freq_scale: FrequencyScale = "linear",
    norm: MelNorm | None = None,
    count: str = "n_bins",
) -> Tensor:
    """Triangular filters, evenly spaced on a scale of frequency, over the bins of a Fourier transform.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_bins: number of filters.
        f_min: lower edge of the lowest filter (for "log2" its peak), in Hz; positive for "log" and "log2".
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        freq_scale: "linear", "log", "log2", "bark", "erb", "slaney" or "htk"; see `band_edges`.
        norm: "slaney" gives each filter the same area over Hz; a positive p the same p-norm over the bins (1.0 their
            sum, 2.0 the root of their squares, inf their peak); None gives each triangle the height 1.
        count: what the caller calls `n_bins`.
    Returns:
        Shape (n_bins, n_fft // 2 + 1), float32, non-negative; computed in float64.
    Raises:
        ValueError: if a number is out of range, or a filter is so narrow that it holds no Fourier bin.
    Source: librosa.filters.mel for the triangles, torchaudio.functional.linear_fbanks for "linear".

    >>> triangular_filterbank(sample_rate=16000, n_fft=512, n_bins=40, freq_scale="bark").shape
    torch.Size([40, 257])
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    check_filterbank(sample_rate, n_fft, n_bins, f_min, f_max, count=count)

    def build(n_bins: int, n_fft: int) -> Tensor:
        edges = band_edges(n_bins, f_min=f_min, f_max=f_max, freq_scale=freq_scale)
        return _triangles(edges, sample_rate=sample_rate, n_fft=n_fft, norm=norm)

    filterbank = build(n_bins, n_fft)
    refuse_empty(filterbank, build, n_fft=n_fft, sample_rate=sample_rate, count=count)
    return filterbank


def mel_filterbank(
    *,
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: MelScale = "slaney",
    norm: MelNorm | None = "slaney",
    allow_empty: bool = True,
) -> Tensor:
    """Triangular filters, evenly spaced in mel, over the bins of a Fourier transform.

    Filters narrower than a Fourier bin may hold no bin at all and stay silent. Published settings have such, so unless
    they are refused that is logged once, as a warning.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_mels: number of filters.
        f_min: lower edge of the lowest filter, in Hz.
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        mel_scale: "slaney" or "htk".
        norm: "slaney", a positive p, or None, as in `triangular_filterbank`.
        allow_empty: whether filters that hold no bin are only warned of.
    Returns:
        Shape (n_mels, n_fft // 2 + 1), float32, non-negative; computed in float64.
    Raises:
        ValueError: if the frequencies are not 0 <= f_min < f_max <= sample_rate / 2, `n_mels` or `n_fft` is below 1,
            `mel_scale` or `norm` is not one of those above, or a filter holds no bin and that is not allowed.
    Source: Slaney, Auditory Toolbox, 1998; librosa.filters.mel, equal to it to 1e-7.

    >>> mel_filterbank(sample_rate=16000, n_fft=512, n_mels=40).shape
    torch.Size([40, 257])
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    check_filterbank(sample_rate, n_fft, n_mels, f_min, f_max, count="n_mels")

    def build(n_mels: int, n_fft: int) -> Tensor:
        edges = mel_frequencies(n_mels + 2, f_min=f_min, f_max=f_max, mel_scale=mel_scale)
        return _triangles(edges, sample_rate=sample_rate, n_fft=n_fft, norm=norm)

    filterbank = build(n_mels, n_fft)
    if not allow_empty:
        refuse_empty(filterbank, build, n_fft=n_fft, sample_rate=sample_rate, count="n_mels")
    elif n_empty := _n_empty(filterbank):
        _warn_empty(n_empty, n_mels, n_fft, sample_rate)
    return filterbank


def check_filterbank(
    sample_rate: int, n_fft: int, n_bins: int, f_min: float, f_max: float, *, count: str = "n_bins"
) -> None:
    """Refuse sizes and frequencies that no filterbank has.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_bins: number of filters.
        f_min: lowest frequency, in Hz.
        f_max: highest frequency, in Hz.
        count: what the caller calls `n_bins`.
    Raises:
        ValueError: if a size is below 1, or the frequencies are not 0 <= f_min < f_max <= sample_rate / 2.
    """
    if sample_rate < 1:
        raise ValueError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
    if n_fft < 1:
        raise ValueError(f"n_fft must be at least 1 sample, got {n_fft}")
    if n_bins < 1:
        raise ValueError(f"{count} must be at least 1, got {n_bins}")
    if not 0 <= f_min < f_max:
        raise ValueError(f"f_min must be between 0 and f_max={f_max} Hz, got {f_min}")
    if f_max > sample_rate / 2:
        raise ValueError(
            f"f_max must be at most sample_rate / 2 = {sample_rate / 2} Hz, got {f_max}: lower it or leave it out"
        )


def refuse_empty(
    filterbank: Tensor,
    build: Callable[[int, int], Tensor],
    *,
    n_fft: int,
    sample_rate: int,
    least: float = 0.0,
    count: str = "n_bins",
) -> None:
    """Refuse a filterbank with filters that fall between the Fourier bins, and say which size has none.

    Args:
        filterbank: shape (n_bins, n_freqs).
        build: the same filterbank for another (n_bins, n_fft).
        n_fft: length of the transform, in samples.
        sample_rate: in Hz.
        least: what the largest weight of a filter must exceed.
        count: what the caller calls `n_bins`.
    Raises:
        ValueError: if a filter's largest weight is at most `least`.
    """
    n_empty = _n_empty(filterbank, least)
    if not n_empty:
        return
    n_bins = len(filterbank)
    fewer, too_many = 0, n_bins
    while too_many - fewer > 1:
        middle = (fewer + too_many) // 2
        fewer, too_many = (fewer, middle) if _n_empty(build(middle, n_fft), least) else (middle, too_many)
    lengths = [n_fft << k for k in range(1, 9) if n_bins * (n_fft << k) <= _SEARCHED]
    longer = next((length for length in lengths if not _n_empty(build(n_bins, length), least)), 0)
    cures = [f"{name}={value}" for name, value in ((count, fewer), ("n_fft", longer)) if value]
    raise ValueError(
        f"{n_empty} of {count}={n_bins} filters hold no bin of n_fft={n_fft} at {sample_rate} Hz and would stay "
        f"silent: {' or '.join(cures) or 'a higher f_min'} would do"
    )


def _triangles(edges: Tensor, *, sample_rate: int, n_fft: int, norm: MelNorm | None) -> Tensor:
    """One triangle for each three neighbouring edges, shape (len(edges) - 2, n_fft // 2 + 1), float32."""
    is_p = isinstance(norm, (int, float)) and norm > 0
    if not (norm is None or norm == "slaney" or is_p):
        raise ValueError(f"norm must be 'slaney', a positive number (1.0, 2.0, inf) or None, got {norm!r}")
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    ramps = edges[:, None] - bins
    width = edges.diff()[:, None]
    triangles = torch.minimum(-ramps[:-2] / width[:-1], ramps[2:] / width[1:]).clamp(min=0.0)
    filterbank = triangles.to(torch.float32)  # rounded before it is scaled too, since librosa does so
    if norm is None:
        return filterbank
    if norm == "slaney":
        return (filterbank * (2.0 / (edges[2:] - edges[:-2]))[:, None]).to(torch.float32)
    length = torch.linalg.vector_norm(filterbank.double(), ord=norm, dim=1, keepdim=True)
    return torch.where(length > 0, filterbank / length, 0.0).to(torch.float32)


def _n_empty(filterbank: Tensor, least: float = 0.0) -> int:
    return int((filterbank.amax(dim=1) <= least).sum())


@cache  # one line for one filterbank, however often it is built
def _warn_empty(n_empty: int, n_mels: int, n_fft: int, sample_rate: int) -> None:
    _logger.warning(
        "%d of n_mels=%d mel filters hold no bin of n_fft=%d at %d Hz and stay silent: lower n_mels or raise n_fft",
        n_empty,
        n_mels,
        n_fft,
        sample_rate,
    )
