"""Bands of a given shape over the bins of a Fourier transform, differentiable in where they begin, peak and end."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

BandShape = Literal["triangle", "gauss", "gammatone"]
BandNorm = Literal["slaney"]


def band_responses(
    edges: Tensor, *, sample_rate: int, n_fft: int, shape: BandShape = "triangle", norm: BandNorm | None = "slaney"
) -> Tensor:
    """A filterbank of bands, all of one shape.

    A Gaussian and a gammatone have the triangle's peak and its half height where the triangle has it.

    Args:
        edges: lower edges, centres and upper edges in Hz, shape (3, n_bins), float64.
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        shape: "triangle", "gauss", or "gammatone" (the power of one of fourth order, near its centre).
        norm: "slaney" divides each band by half the distance between its edges, which gives triangles the same area
            over Hz; None gives each peak the height 1.
    Returns:
        Shape (n_bins, n_fft // 2 + 1), float32, non-negative.
    Raises:
        ValueError: if `shape` or `norm` is not one of those above.
    Source: Slaney, Auditory Toolbox, 1998; librosa.filters.mel, whose triangles it equals to 1e-6 of their peak.

    >>> band_responses(torch.tensor([[0.0], [2.0], [4.0]]).double(), sample_rate=8, n_fft=8, norm=None)
    tensor([[0.0000, 0.5000, 1.0000, 0.5000, 0.0000]])
    """
    if shape not in get_args(BandShape):
        raise ValueError(f"shape must be one of {', '.join(get_args(BandShape))}, got {shape!r}")
    if norm not in (None, "slaney"):
        raise ValueError(f"norm must be 'slaney' or None, got {norm!r}")
    lower, center, upper = edges.unsqueeze(-1)
    frequencies = torch.arange(n_fft // 2 + 1, dtype=edges.dtype, device=edges.device) * (sample_rate / n_fft)
    offset = frequencies - center
    distance = torch.where(offset < 0, -offset / (center - lower), offset / (upper - center))
    height = _height(distance, shape)
    return (height if norm is None else height * (2.0 / (upper - lower))).to(torch.float32)


def _height(distance: Tensor, shape: BandShape) -> Tensor:
    """Height of a band at a distance from its centre, in units of the half width of a triangle: 1/2 at 1/2 for all."""
    if shape == "triangle":
        return (1.0 - distance).clamp(min=0.0)
    if shape == "gauss":
        return torch.exp(-4.0 * math.log(2.0) * distance**2)
    return (1.0 + 4.0 * (2.0**0.25 - 1.0) * distance**2) ** -4.0
