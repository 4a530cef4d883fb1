"""The inverse of `stft`: the waveform whose transform is nearest to a spectrum.

Least squares (Griffin and Lim 1984, eq. 6): frames are transformed back, windowed again, added where they overlap, and
divided by the sum of the squared windows. For a spectrum that is the transform of a waveform the result is that
waveform. No other synthesis window is offered.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls.functional.framing import window_in_frame


def istft(
    spectrum: Tensor,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    length: int | None = None,
) -> Tensor:
    """Inverse short-time Fourier transform.

    A sample is known as well as the windows over it are large: with center=True and a hop of at most a quarter of a
    Hann window every sample comes back to float32 rounding. Where the first or last window begins (center=False), or
    the clip ends in the last half window of a longer hop, rounding is divided by a small number; a sample on which
    every window is zero, like the first one under a Hann window without centring, comes back as zero.

    Args:
        spectrum: complex, shape (..., n_fft // 2 + 1, frames).
        n_fft: length of a frame and of the transform, in samples.
        hop_length: distance between frames, in samples.
        window: the window of the transform, shape (win_length,).
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        length: number of samples to return, at most what the frames span; None is all of it but the padding.
    Returns:
        Shape (..., length), real.
    Raises:
        ValueError: if the shape is not one of n_fft, frames leave samples between them uncovered, or `length` is more
            than they span.
    Source: librosa.istft, equal to it to float32 rounding.

    >>> waveform, window = torch.randn(2, 1000), torch.hann_window(512)
    >>> spectrum = torch.stft(waveform, 512, 128, window=window, return_complex=True)
    >>> back = istft(spectrum, n_fft=512, hop_length=128, window=window, length=1000)
    >>> torch.allclose(back, waveform, atol=1e-6)
    True
    """
    _check_inverse(spectrum, n_fft, hop_length, window)
    n_frames = spectrum.shape[-1]
    left = n_fft // 2 if center else 0
    total = n_fft + hop_length * (n_frames - 1)
    longest = total - left
    length = max(longest - left, 0) if length is None else length
    if not 0 <= length <= longest:
        raise ValueError(f"length must be between 0 and {longest} samples, which {n_frames} frames span, got {length}")

    frames = torch.fft.irfft(spectrum, n=n_fft, dim=-2)
    window = window_in_frame(window.to(frames), n_fft)[:, None]
    summed = _overlap_add(frames * window, hop_length)
    envelope = _overlap_add((window * window).expand(n_fft, n_frames), hop_length)
    kept = slice(left, left + length)
    summed, envelope = summed[..., kept], envelope[kept]
    return summed / torch.where(envelope > torch.finfo(envelope.dtype).tiny, envelope, 1.0)


def _overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Frames (..., n_fft, frames), each hop_length after the one before, added to one row of samples."""
    n_fft, n_frames = frames.shape[-2:]
    total = n_fft + hop_length * (n_frames - 1)
    rows = F.fold(frames.reshape(-1, n_fft, n_frames), (1, total), kernel_size=(1, n_fft), stride=(1, hop_length))
    return rows.reshape(*frames.shape[:-2], total)


def _check_inverse(spectrum: Tensor, n_fft: int, hop_length: int, window: Tensor) -> None:
    if not spectrum.is_complex() or spectrum.ndim < 2 or spectrum.shape[-2] != n_fft // 2 + 1:
        raise ValueError(
            f"spectrum must be complex (..., {n_fft // 2 + 1}, frames) for n_fft={n_fft}, "
            f"got {spectrum.dtype} {tuple(spectrum.shape)}"
        )
    if spectrum.shape[-1] < 1:
        raise ValueError("spectrum must hold at least 1 frame, got 0")
    if hop_length < 1:
        raise ValueError(f"hop_length must be at least 1 sample, got {hop_length}")
    # In the middle of a long clip the squared windows add up to the same numbers every hop_length samples.
    squares = F.pad(window.double() ** 2, (0, -window.shape[0] % hop_length)).reshape(-1, hop_length).sum(dim=0)
    if float(squares.min()) <= 1e-10 * float(squares.max()):
        raise ValueError(
            f"hop_length must be so short that windows of {window.shape[0]} samples overlap wherever they are zero, "
            f"got {hop_length}: samples between them would be lost; use {max(window.shape[0] // 4, 1)}"
        )
