"""The chroma filterbank: which pitch class each bin of a Fourier transform belongs to, in whatever octave.

Equal to librosa.filters.chroma. Tuning is given, not estimated.
"""

import torch
from torch import Tensor

from audiocls.functional.filterbanks import check_filterbank

_LOWEST_A_HZ = 27.5  # A0, the octave 0 of `center_octave`


def chroma_filterbank(
    *,
    sample_rate: int,
    n_fft: int,
    n_chroma: int = 12,
    f_min: float = 0.0,
    f_max: float | None = None,
    tuning: float = 0.0,
    center_octave: float = 5.0,
    octave_width: float | None = 2.0,
    norm: float | None = 2.0,
    base_c: bool = True,
) -> Tensor:
    """Gaussian bumps around each pitch class, over the bins of a Fourier transform.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_chroma: pitch classes an octave.
        f_min: bins below it count for nothing, in Hz.
        f_max: bins above it count for nothing, in Hz; None is sample_rate / 2.
        tuning: deviation from A440, in fractions of a pitch class.
        center_octave: octave above A0 = 27.5 Hz that counts the most.
        octave_width: width of the Gaussian over octaves around it, in octaves; None counts all octaves alike.
        norm: p of the p-norm that each Fourier bin has over the pitch classes before octaves are weighed (inf: its
            largest is 1); None leaves the bumps as they are.
        base_c: whether the first class is C (else A).
    Returns:
        Shape (n_chroma, n_fft // 2 + 1), float32, non-negative; computed in float64.
    Raises:
        ValueError: if a number is out of range.
    Source: Ellis 2007, Chroma feature analysis and synthesis; librosa.filters.chroma.

    >>> chroma_filterbank(sample_rate=22050, n_fft=2048).shape
    torch.Size([12, 1025])
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    check_filterbank(sample_rate, n_fft, n_chroma, f_min, f_max, count="n_chroma")
    if octave_width is not None and octave_width <= 0:
        raise ValueError(f"octave_width must be above 0 octaves or None, got {octave_width}")
    if norm is not None and norm <= 0:
        raise ValueError(f"norm must be the positive p of a p-norm (1.0, 2.0, inf) or None, got {norm}")

    # All bins up to the sample rate: the last one's width needs the bin after it.
    bins = torch.arange(n_fft, dtype=torch.float64) * sample_rate / n_fft  # in this order 8000 Hz are 8000 Hz exactly
    octaves = torch.log2(bins[1:] / (_LOWEST_A_HZ * 2.0 ** (tuning / n_chroma)))
    # 0 Hz lies in no octave; librosa puts it one and a half below the first bin, half a turn away from its class.
    first = octaves[:1] - 1.5 if n_fft > 1 else torch.zeros(1, dtype=torch.float64)
    place = n_chroma * torch.cat((first, octaves))
    width = torch.cat((place.diff().clamp(min=1.0), torch.ones(1, dtype=torch.float64)))

    half = round(n_chroma / 2)
    turn = (place - torch.arange(n_chroma, dtype=torch.float64)[:, None] + half).remainder(n_chroma) - half
    chroma = torch.exp(-0.5 * (2.0 * turn / width) ** 2)
    if norm is not None:
        chroma = chroma / torch.linalg.vector_norm(chroma, ord=norm, dim=0)
    if octave_width is not None:
        chroma = chroma * torch.exp(-0.5 * ((place / n_chroma - center_octave) / octave_width) ** 2)
    if base_c:
        chroma = chroma.roll(-3 * (n_chroma // 12), dims=0)
    heard = (bins >= f_min) & (bins <= f_max)
    return (chroma * heard)[:, : n_fft // 2 + 1].to(torch.float32)
