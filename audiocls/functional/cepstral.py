"""Cepstra: the cosine transform of a spectrum that is compressed already, liftering, and differences over frames.

The transform is orthonormal DCT-II, equal to scipy.fft.dct(norm="ortho"); MFCC is it after librosa's decibels of a mel
spectrogram, LFCC after those of torchaudio's linear triangles. Differences are Savitzky-Golay slopes, as librosa's and
torchaudio's are.
"""

import math
from typing import Literal

import torch
from torch import Tensor

DeltaMode = Literal["nearest", "interp"]


def dct_matrix(n_coefficients: int, n_bins: int) -> Tensor:
    """The first rows of the orthonormal DCT-II.

    Args:
        n_coefficients: rows, at most n_bins.
        n_bins: length of what is transformed.
    Returns:
        Shape (n_coefficients, n_bins), float32, computed in float64; its rows are orthonormal.
    Raises:
        ValueError: if `n_coefficients` is not between 1 and n_bins.
    Source: scipy.fft.dct(type=2, norm="ortho").

    >>> dct_matrix(1, 4)
    tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """
    if not 1 <= n_coefficients <= n_bins:
        raise ValueError(f"n_coefficients must be between 1 and n_bins={n_bins}, got {n_coefficients}")
    row = torch.arange(n_coefficients, dtype=torch.float64)[:, None]
    column = torch.arange(n_bins, dtype=torch.float64) + 0.5
    matrix = torch.cos(math.pi / n_bins * row * column) * math.sqrt(2.0 / n_bins)
    matrix[0] /= math.sqrt(2.0)
    return matrix.to(torch.float32)


def lifter_weights(n_coefficients: int, lifter: float) -> Tensor:
    """Weights that raise the middle coefficients of a cepstrum, 1 + lifter / 2 · sin(π (k + 1) / lifter).

    Args:
        n_coefficients: number of coefficients.
        lifter: period in coefficients, non-negative; 0 leaves all as they are.
    Returns:
        Shape (n_coefficients,), float32.
    Raises:
        ValueError: if `lifter` is negative.
    Source: Juang, Rabiner and Wilpon 1987; librosa.feature.mfcc(lifter=...).

    >>> lifter_weights(3, 0.0)
    tensor([1., 1., 1.])
    """
    if lifter < 0:
        raise ValueError(f"lifter must be at least 0 coefficients, got {lifter}")
    if lifter == 0:
        return torch.ones(n_coefficients, dtype=torch.float32)
    order = torch.arange(1, n_coefficients + 1, dtype=torch.float64)
    return (1.0 + lifter / 2.0 * torch.sin(math.pi * order / lifter)).to(torch.float32)


def cepstrum(log_spectrogram: Tensor, *, n_coefficients: int, lifter: float = 0.0) -> Tensor:
    """Cepstral coefficients of a compressed spectrogram: MFCC of decibels on mel bands, LFCC on linear ones.

    Args:
        log_spectrogram: shape (..., freq, frames).
        n_coefficients: how many to keep, at most the number of bands.
        lifter: period of the liftering in coefficients; 0 is none.
    Returns:
        Shape (..., n_coefficients, frames), in units of the input.
    Raises:
        ValueError: if `n_coefficients` exceeds the number of bands, or `lifter` is negative.
    Source: Davis and Mermelstein 1980; librosa.feature.mfcc.

    >>> cepstrum(torch.ones(1, 1, 4, 2), n_coefficients=2)[0, 0, :, 0]
    tensor([2., 0.])
    """
    matrix = dct_matrix(n_coefficients, log_spectrogram.shape[-2])
    weighted = lifter_weights(n_coefficients, lifter)[:, None] * matrix
    # One matrix a clip: a product that broadcasts would tie an exported graph to batches, or clips, longer than one.
    clips = log_spectrogram.reshape(-1, *log_spectrogram.shape[-2:])
    coefficients = torch.bmm(weighted.to(clips).expand(clips.shape[0], -1, -1), clips)
    return coefficients.reshape(*log_spectrogram.shape[:-2], *coefficients.shape[-2:])


def deltas(features: Tensor, *, width: int = 9, order: int = 1, mode: DeltaMode = "nearest") -> Tensor:
    """Local slope (or curvature) over frames: the derivative of the polynomial that fits the frames around each.

    Args:
        features: shape (..., frames).
        width: frames that are fitted, odd, at least 3 and above `order`.
        order: of the derivative and of the polynomial: 1 is the slope, 2 the curvature.
        mode: what stands outside the clip: "nearest" repeats the first and last frame, so that any clip will do;
            "interp" fits the edge frames by the polynomial of the first and last `width` frames.
    Returns:
        Same shape, per frame (per frame squared, ...).
    Raises:
        ValueError: if `width`, `order` or `mode` is not one of those above, or a clip is shorter than `width` frames
            where `mode` is "interp".
    Source: librosa.feature.delta for both modes; torchaudio.functional.compute_deltas is "nearest" of order 1.

    >>> deltas(torch.tensor([1.0, 2.0, 3.0, 4.0]), width=3)
    tensor([0.5000, 1.0000, 1.0000, 0.5000])
    """
    return local_slope(features, delta_kernel(width, order), mode=mode)


def local_slope(features: Tensor, kernel: Tensor, *, mode: DeltaMode = "nearest") -> Tensor:
    """`deltas` with a kernel that is made once.

    Args:
        features: shape (..., frames).
        kernel: from `delta_kernel`, shape (width,).
        mode: "nearest" or "interp", as in `deltas`.
    Returns:
        Same shape.
    Raises:
        ValueError: if `mode` is neither, or a clip is shorter than the kernel where it is "interp".

    >>> local_slope(torch.arange(4.0), delta_kernel(3, 1), mode="interp")
    tensor([1., 1., 1., 1.])
    """
    width = kernel.shape[0]
    if mode not in ("nearest", "interp"):
        raise ValueError(f"mode must be 'nearest' or 'interp', got {mode!r}")
    if mode == "interp" and features.shape[-1] < width:
        raise ValueError(
            f"features must hold at least width={width} frames with mode 'interp', got {features.shape[-1]}: "
            "lower width or use mode 'nearest'"
        )
    padded = _repeat_edges(features, width // 2) if mode == "nearest" else features
    n_slopes = padded.shape[-1] - width + 1
    weights = kernel.to(features).unbind()
    # shifted sums, not a convolution: they take any leading dimensions and any strides as they are
    slopes = torch.stack([weight * padded[..., k : k + n_slopes] for k, weight in enumerate(weights)]).sum(dim=0)
    # with "interp": the derivative of that order of a polynomial of the same order is one number
    return slopes if mode == "nearest" else _repeat_edges(slopes, width // 2)


def _repeat_edges(features: Tensor, n_frames: int) -> Tensor:
    """Features (..., frames) with the first and the last frame repeated before and after."""
    leading = features.shape[:-1]
    first, last = features[..., :1].expand(*leading, n_frames), features[..., -1:].expand(*leading, n_frames)
    return torch.cat((first, features, last), dim=-1)


def delta_kernel(width: int, order: int) -> Tensor:
    """Weights of the frames in `deltas`, from the first to the last.

    Args:
        width: frames, odd, at least 3 and above `order`.
        order: of the derivative, at least 1.
    Returns:
        Shape (width,), float64.
    Raises:
        ValueError: if `width` or `order` is out of range.
    Source: Savitzky and Golay 1964; scipy.signal.savgol_coeffs(width, order, deriv=order), turned round.

    >>> delta_kernel(5, 1).round(decimals=2)[3:]
    tensor([0.1000, 0.2000], dtype=torch.float64)
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    if width < 3 or width % 2 == 0 or width <= order:
        raise ValueError(f"width must be an odd number of frames, at least 3 and above order={order}, got {width}")
    place = torch.arange(width, dtype=torch.float64) - width // 2
    # Least squares: row `order` of the pseudo-inverse gives the coefficient of place**order; its derivative is that
    # coefficient times order!.
    powers = place[:, None] ** torch.arange(order + 1, dtype=torch.float64)
    return math.factorial(order) * torch.linalg.pinv(powers)[order]
