"""Framing: how many frames there are, what stands before the first sample, and the window.

Padding and windows are numpy's and scipy's, so that frames equal librosa's sample by sample. Cutting frames itself is
left to the transform, which can do it without a copy.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PadMode = Literal["constant", "reflect"]
WindowSpec = str | tuple[str | float, ...]


def n_frames(n_samples: int, *, n_fft: int, hop_length: int, center: bool) -> int:
    """Number of frames of a clip.

    Args:
        n_samples: length of the clip, in samples.
        n_fft: length of a frame, in samples.
        hop_length: distance between frames, in samples.
        center: whether the clip is padded by n_fft // 2 samples on both sides, so that frame i is centred on sample
            i * hop_length.
    Returns:
        At least 1.
    Raises:
        ValueError: if the clip holds no sample, or is shorter than one frame and `center` is false, or `hop_length` is
            not positive.

    >>> n_frames(16000, n_fft=400, hop_length=160, center=True)
    101
    """
    if hop_length < 1:
        raise ValueError(f"hop_length must be at least 1 sample, got {hop_length}")
    if n_samples < 1:
        raise ValueError(f"waveform must hold at least 1 sample, got {n_samples}")
    if center:
        n_samples = n_samples + 2 * (n_fft // 2)
    if n_samples < n_fft:
        raise ValueError(
            f"waveform must hold at least n_fft={n_fft} samples, got {n_samples}: set center=True or pad the clip"
        )
    return 1 + (n_samples - n_fft) // hop_length


def pad(waveform: Tensor, left: int, right: int, mode: PadMode) -> Tensor:
    """Samples before and after a waveform: zeros, or the waveform mirrored at its first and last sample.

    A mirror longer than the clip goes back and forth, down to a clip of one sample, which is repeated.

    Args:
        waveform: shape (..., time).
        left: samples before, at least 0.
        right: samples after, at least 0.
        mode: "constant" (zeros) or "reflect" (the edge sample is not repeated).
    Returns:
        Shape (..., left + time + right), same dtype.
    Raises:
        ValueError: if `mode` is neither, or there is no sample to mirror.
    Source: numpy.pad; equal to it bit by bit.

    >>> pad(torch.tensor([1.0, 2.0, 3.0]), 4, 1, "reflect")
    tensor([1., 2., 3., 2., 1., 2., 3., 2.])
    """
    if mode == "constant":
        return F.pad(waveform, (left, right))
    if mode != "reflect":
        raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {mode!r}")
    time = waveform.shape[-1]
    if time < 1:
        raise ValueError("pad_mode 'reflect' needs at least 1 sample, got 0: use 'constant' or drop the clip")
    if left < time and right < time:
        # Three times as quick as torch's own mirror, which looks up every sample.
        before, after = waveform[..., 1 : left + 1], waveform[..., time - 1 - right : time - 1]
        return torch.cat((before.flip(-1), waveform, after.flip(-1)), dim=-1)
    return waveform[..., _reflected(time, left, right, waveform.device)]


def pad_to_frames(waveform: Tensor, *, n_fft: int, hop_length: int, center: bool, pad_mode: PadMode) -> Tensor:
    """A waveform with what its first and last frame need outside of it.

    Args:
        waveform: shape (..., time).
        n_fft: length of a frame, in samples.
        hop_length: distance between frames, in samples.
        center: whether frame i is centred on sample i * hop_length (else nothing is added).
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
    Returns:
        Shape (..., time + 2 * (n_fft // 2)), or as it was.
    Raises:
        ValueError: as `n_frames` and `pad`.

    >>> pad_to_frames(torch.ones(3), n_fft=2, hop_length=1, center=True, pad_mode="constant")
    tensor([0., 1., 1., 1., 0.])
    """
    n_frames(waveform.shape[-1], n_fft=n_fft, hop_length=hop_length, center=center)  # raises for too short a clip
    return pad(waveform, n_fft // 2, n_fft // 2, pad_mode) if center else waveform


def _reflected(time: int, left: int, right: int, device: torch.device) -> Tensor:
    """Index of the sample that stands at each place of a clip mirrored at both ends, without end."""
    # Mirroring repeats after going there and back: 0 1 2 3 2 1 | 0 1 2 ... has period 2 (time - 1).
    period = max(2 * (time - 1), 1)
    place = torch.arange(-left, time + right, device=device).remainder(period)
    return torch.minimum(place, period - place).remainder(time)


def window(name: WindowSpec, win_length: int) -> Tensor:
    """A periodic (DFT-even) window, as the short-time Fourier transform needs it.

    Args:
        name: any name scipy.signal.get_window takes ("hann", "hamming", "blackman", "boxcar", ...), or one that needs
            parameters with them: ("kaiser", 14.0), ("gaussian", 30.0).
        win_length: in samples.
    Returns:
        Shape (win_length,), float32; computed in float64.
    Raises:
        ValueError: if `win_length` is below 1, scipy does not know `name`, or its parameters are not those it needs.
    Source: scipy.signal.get_window(name, win_length, fftbins=True).

    >>> window("hann", 4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    from scipy.signal import get_window  # noqa: PLC0415  takes half a second, and a list of options needs no window

    if win_length < 1:
        raise ValueError(f"win_length must be at least 1 sample, got {win_length}")
    try:
        samples = get_window(name, win_length, fftbins=True)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "window must be a name that scipy.signal.get_window takes, with its parameters where it needs them as in "
            f"('kaiser', 14.0), got {name!r}: {error}"
        ) from error
    return torch.as_tensor(samples, dtype=torch.float64).to(torch.float32)


def window_in_frame(window: Tensor, n_fft: int) -> Tensor:
    """A window in the middle of a frame, zeros around it.

    Args:
        window: shape (win_length,).
        n_fft: length of the frame, in samples.
    Returns:
        Shape (n_fft,).
    Raises:
        ValueError: if the window is longer than the frame.
    Source: librosa.util.pad_center.

    >>> window_in_frame(torch.ones(2), 5)
    tensor([0., 1., 1., 0., 0.])
    """
    win_length = window.shape[0]
    if win_length > n_fft:
        raise ValueError(f"win_length must be between 1 and n_fft={n_fft} samples, got {win_length}")
    if win_length == n_fft:
        return window
    left = (n_fft - win_length) // 2
    return F.pad(window, (left, n_fft - win_length - left))


def stretched_hann(win_length: Tensor, n_fft: int, *, middle: float) -> Tensor:
    """A periodic Hann window of any length, whole or not, differentiable in that length.

    Args:
        win_length: in samples, positive, a tensor without dimensions; what reaches beyond the frame is cut off.
        n_fft: length of the frame, in samples.
        middle: where its middle stands in the frame, in samples.
    Returns:
        Shape (n_fft,), float32; computed in float64.
    Source: Leiber et al. 2022, arXiv:2208.10886, whose differentiable window it is.

    >>> stretched_hann(torch.tensor(4.0), 4, middle=2.0)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    sample = torch.arange(n_fft, dtype=torch.float64, device=win_length.device)
    turn = (sample - middle) / win_length.to(torch.float64)
    inside = turn.abs() < 0.5
    return torch.where(inside, 0.5 + 0.5 * torch.cos(2 * torch.pi * turn), 0.0).to(torch.float32)
