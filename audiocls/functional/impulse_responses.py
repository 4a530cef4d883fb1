"""Impulse responses of band-pass and low-pass filters, differentiable in their frequencies and widths.

For front-ends that filter the waveform itself. All are odd, centred on their middle sample, and computed in the dtype
of what they are given: float64 keeps the phase of a long filter right. Filters that are not symmetric are left out.
"""

import math

import torch
from torch import Tensor


def gabor(center: Tensor, width: Tensor, *, length: int) -> Tensor:
    """Gabor filters: a Gaussian in time and in frequency, as cosine and sine part.

    Args:
        center: angular frequencies, shape (n_filters,), in radians a sample.
        width: standard deviations in time, shape (n_filters,), in samples; sigma in the papers.
        length: of the filters in samples, odd.
    Returns:
        Shape (n_filters, 2, length); the gain of an analytic signal at the centre is 1 where `length` holds the
        Gaussian.
    Raises:
        ValueError: if `length` is not odd.
    Source: Zeghidour et al. 2021, arXiv:2101.08596, eq. 2.

    >>> gabor(torch.tensor([0.5]), torch.tensor([20.0]), length=201)[:, 1].sum().abs() < 1e-6
    tensor(True)
    """
    time = _time(length, center)
    angle = center.unsqueeze(-1) * time
    envelope = torch.exp(-0.5 * (time / width.unsqueeze(-1)) ** 2) / (math.sqrt(2 * math.pi) * width.unsqueeze(-1))
    return envelope.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1)


def windowed_sinc(low: Tensor, high: Tensor, *, length: int) -> Tensor:
    """Ideal band-pass filters cut out by a Hamming window.

    Args:
        low: lower edges, shape (n_filters,), in radians a sample.
        high: upper edges, same shape.
        length: of the filters in samples, odd.
    Returns:
        Shape (n_filters, 1, length); gain 1 inside a band that is wider than 8 pi / length, less in narrower ones.
    Raises:
        ValueError: if `length` is not odd.
    Source: Ravanelli and Bengio 2018, arXiv:1808.00158, eq. 4-6.

    >>> windowed_sinc(torch.tensor([0.0]), torch.tensor([torch.pi]), length=3).round(decimals=3) + 0.0
    tensor([[[0., 1., 0.]]])
    """
    time = _time(length, low)
    low, high = low.unsqueeze(-1), high.unsqueeze(-1)
    # not torch.sinc, whose second derivative in the middle is nan
    difference = torch.where(time == 0, high - low, torch.sin(high * time) - torch.sin(low * time))
    ideal = difference / (math.pi * torch.where(time == 0, 1.0, time))
    hamming = 0.54 + 0.46 * torch.cos(2 * math.pi / max(length - 1, 1) * time)
    return (ideal * hamming).unsqueeze(1)


def gaussian_window(width: Tensor, *, length: int) -> Tensor:
    """Gaussian low-pass filters with peak 1.

    Args:
        width: standard deviations, shape (n_filters,), in samples.
        length: of the filters in samples, odd.
    Returns:
        Shape (n_filters, length).
    Raises:
        ValueError: if `length` is not odd.
    Source: Zeghidour et al. 2021, arXiv:2101.08596, section 3.2.

    >>> gaussian_window(torch.tensor([1.0]), length=3).round(decimals=4)
    tensor([[0.6065, 1.0000, 0.6065]])
    """
    return torch.exp(-0.5 * (_time(length, width) / width.unsqueeze(-1)) ** 2)


def _time(length: int, like: Tensor) -> Tensor:
    """Samples from the middle of a filter, shape (length,)."""
    if length < 1 or length % 2 == 0:
        raise ValueError(f"length must be odd and at least 1 sample, got {length}")
    return torch.arange(-(length // 2), length // 2 + 1, dtype=like.dtype, device=like.device)
