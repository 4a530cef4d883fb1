"""Framing: how many frames there are, what stands before the first sample, and the window.

Padding and windows are numpy's and scipy's, so that frames equal librosa's sample by sample. Cutting frames itself is
left to the transform, which can do it without a copy.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PadMode = Literal["constant", "reflect"]


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
        ValueError: if the clip holds no sample, or is shorter than one frame and `center` is false.

    >>> n_frames(16000, n_fft=400, hop_length=160, center=True)
    101
    """
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
        flat = F.pad(waveform.reshape(-1, time), (left, right), mode="reflect")
        return flat.reshape(*waveform.shape[:-1], left + time + right)
    return waveform[..., _reflected(time, left, right, waveform.device)]


def _reflected(time: int, left: int, right: int, device: torch.device) -> Tensor:
    """Index of the sample that stands at each place of a clip mirrored at both ends, without end."""
    # Mirroring repeats after going there and back: 0 1 2 3 2 1 | 0 1 2 ... has period 2 (time - 1).
    period = max(2 * (time - 1), 1)
    place = torch.arange(-left, time + right, device=device).remainder(period)
    return torch.minimum(place, period - place).remainder(time)


def window(name: str, win_length: int) -> Tensor:
    """A periodic (DFT-even) window, as the short-time Fourier transform needs it.

    Args:
        name: any name scipy.signal.get_window takes without parameters: "hann", "hamming", "blackman", "boxcar", ...
        win_length: in samples.
    Returns:
        Shape (win_length,), float32; computed in float64.
    Raises:
        ValueError: if scipy does not know `name`, or it needs a parameter.
    Source: scipy.signal.get_window(name, win_length, fftbins=True).

    >>> window("hann", 4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    from scipy.signal import get_window  # noqa: PLC0415  takes half a second, and a list of options needs no window

    try:
        samples = get_window(name, win_length, fftbins=True)
    except ValueError as error:
        raise ValueError(
            f"window must be a name that scipy.signal.get_window takes without parameters, got {name!r}: {error}"
        ) from error
    return torch.as_tensor(samples, dtype=torch.float64).to(torch.float32)
