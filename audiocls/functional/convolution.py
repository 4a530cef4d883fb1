"""Filtering of waveforms by many filters, directly or through the Fourier transform, whichever is quicker.

Like all of torch this is a correlation: filters are not turned round.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# From this many taps for each sample of stride on, the transform is quicker on a processor.
_FFT_TAPS = 128
_FILTERS_AT_ONCE = 8  # their spectra stay in the cache


def convolve(waveform: Tensor, filters: Tensor, *, stride: int = 1) -> Tensor:
    """Each waveform filtered by each filter, where the filter lies inside the waveform.

    Args:
        waveform: shape (batch, time).
        filters: shape (n_filters, length).
        stride: distance between outputs, in samples. Long filters at a short stride go through the transform.
    Returns:
        Shape (batch, n_filters, 1 + (time - length) // stride).

    >>> convolve(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 1.0]]))
    tensor([[[3., 5.]]])
    """
    # The number of blocks would become a condition of an exported graph, which is to take any length.
    if filters.shape[-1] > _FFT_TAPS * stride and not torch.compiler.is_exporting():
        return fft_convolve(waveform, filters)[..., ::stride]
    return F.conv1d(waveform.unsqueeze(1), filters.unsqueeze(1), stride=stride)


def fft_convolve(waveform: Tensor, filters: Tensor) -> Tensor:
    """As `convolve` with stride 1, by overlap-save: memory and time grow with the waveform, not with its square.

    Args:
        waveform: shape (batch, time).
        filters: shape (n_filters, length).
    Returns:
        Shape (batch, n_filters, time - length + 1); off by some 1e-7 of the largest output.

    >>> fft_convolve(torch.ones(1, 5), torch.ones(1, 3)).round(decimals=3)
    tensor([[[3., 3., 3.]]])
    """
    length = filters.shape[-1]
    n_fft = 4 << (length - 1).bit_length()  # four to eight lengths: little overlap, and still inside the cache
    hop = n_fft - length + 1
    n_out = waveform.shape[-1] - length + 1
    n_blocks = (n_out + hop - 1) // hop
    padded = F.pad(waveform, (0, n_blocks * hop + length - 1 - waveform.shape[-1]))
    spectrum = torch.fft.rfft(padded.unfold(-1, n_fft, hop)).unsqueeze(1)
    responses = torch.fft.rfft(filters, n_fft).conj().unsqueeze(1)
    blocks = [torch.fft.irfft(spectrum * some, n_fft)[..., :hop] for some in responses.split(_FILTERS_AT_ONCE)]
    return torch.cat([block.flatten(-2)[..., :n_out] for block in blocks], dim=1)
