"""The gammatone filterbank, as the magnitude response of each filter at the bins of a Fourier transform.

The filters of Patterson and Holdsworth: t^(order - 1) exp(-2π b t) cos(2π f t) with b = 1.019 ERB(f), their centres
evenly spaced in ERB rate. Applied to a spectrum they give the energy of each filter's output, without its phase or its
ringing from frame to frame; a bank of recursive filters in time is not here.
"""

import torch
from torch import Tensor

from audiocls.functional.auditory import erb_bandwidth, erb_rate_to_hz, hz_to_erb_rate
from audiocls.functional.filterbanks import check_filterbank, refuse_empty

_BANDWIDTH = 1.019  # of a fourth-order gammatone, in ERBs
_LEAST = 0.1  # 20 dB below its peak a filter hears only what leaks into it


def gammatone_frequencies(n_bins: int, *, f_min: float, f_max: float) -> Tensor:
    """Frequencies evenly spaced in ERB rate, both ends included.

    Args:
        n_bins: how many; one alone stands on `f_min`.
        f_min: the lowest, in Hz.
        f_max: the highest, in Hz.
    Returns:
        Hz, shape (n_bins,), float64.

    >>> gammatone_frequencies(3, f_min=50.0, f_max=8000.0).round()
    tensor([  50., 1286., 8000.], dtype=torch.float64)
    """
    low, high = hz_to_erb_rate(torch.tensor([f_min, f_max], dtype=torch.float64))
    return erb_rate_to_hz(torch.linspace(float(low), float(high), n_bins, dtype=torch.float64))


def gammatone_filterbank(
    *, sample_rate: int, n_fft: int, n_bins: int, f_min: float = 50.0, f_max: float | None = None, order: int = 4
) -> Tensor:
    """Magnitude response of gammatone filters at the bins of a Fourier transform.

    Its square weighs power, itself weighs magnitude. The response is that of the analogue filter: 1 at its centre (a
    little more near 0 Hz, where the mirror image at the negative frequency reaches it).

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        n_bins: number of filters.
        f_min: centre of the lowest filter, in Hz.
        f_max: centre of the highest filter, in Hz; None is sample_rate / 2.
        order: number of poles.
    Returns:
        Shape (n_bins, n_fft // 2 + 1), float32, positive; computed in float64.
    Raises:
        ValueError: if a number is out of range, or a filter is so narrow that no Fourier bin comes within 20 dB of its
            peak.
    Source: Slaney 1993, Apple Technical Report 35; scipy.signal.gammatone(ftype="fir"), whose transform it is.

    >>> gammatone_filterbank(sample_rate=16000, n_fft=512, n_bins=64).shape
    torch.Size([64, 257])
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    check_filterbank(sample_rate, n_fft, n_bins, f_min, f_max)
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")

    def build(n_bins: int, n_fft: int) -> Tensor:
        centre = gammatone_frequencies(n_bins, f_min=f_min, f_max=f_max)[:, None]
        width = _BANDWIDTH * erb_bandwidth(centre)
        bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
        # The Laplace transform at 2πj times the bin's frequency: one pole at the centre, one at its negative.
        at_centre = torch.complex(torch.ones(1, dtype=torch.float64), (bins - centre) / width) ** -order
        mirrored = torch.complex(torch.ones(1, dtype=torch.float64), (bins + centre) / width) ** -order
        return (at_centre + mirrored).abs().to(torch.float32)

    filterbank = build(n_bins, n_fft)
    refuse_empty(filterbank, build, n_fft=n_fft, sample_rate=sample_rate, least=_LEAST)
    return filterbank
