"""Short-time Fourier transform, and power and magnitude with gradients that stay finite on silence.

Equal to librosa.stft within float32 rounding. No complex number needs to leave a caller: `power_spectrum` turns the
spectrum into real numbers without a magnitude, whose derivative at zero does not exist.
"""

import torch
from torch import Tensor

from audiocls.functional.framing import PadMode, pad_to_frames, window_in_frame


def stft(
    waveform: Tensor,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    pad_mode: PadMode = "constant",
) -> Tensor:
    """Short-time Fourier transform of real waveforms.

    Args:
        waveform: shape (..., time), float32 or float64.
        n_fft: length of a frame and of the transform, in samples.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft; a shorter one stands in the middle of the frame.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
    Returns:
        Complex, shape (..., n_fft // 2 + 1, frames).
    Raises:
        ValueError: if the window is longer than n_fft, hop_length is not positive, or the clip is shorter than a frame
            and `center` is false.
    Source: librosa.stft; max |difference| <= 1e-6 max |librosa|.

    >>> stft(torch.zeros(2, 1, 1000), n_fft=512, hop_length=100, window=torch.ones(400)).shape
    torch.Size([2, 1, 257, 11])
    """
    dtype = waveform.dtype
    waveform = for_onnx(waveform)
    window = window_in_frame(window.to(waveform.dtype), n_fft)
    waveform = pad_to_frames(waveform, n_fft=n_fft, hop_length=hop_length, center=center, pad_mode=pad_mode)
    leading = waveform.shape[:-1]
    spectrum = torch.stft(
        waveform.flatten(end_dim=-2) if len(leading) > 1 else waveform,
        n_fft,
        hop_length,
        window=window,
        center=False,  # torch mirrors no clip shorter than the padding, and pads 3 dimensions at most
        return_complex=True,
    )
    if waveform.dtype != dtype:  # as real numbers: ONNX cannot turn complex ones into others
        spectrum = torch.view_as_complex(torch.view_as_real(spectrum).to(dtype))
    return spectrum.unflatten(0, leading) if len(leading) > 1 else spectrum


def for_onnx(signal: Tensor) -> Tensor:
    """What goes into a Fourier transform: float64 in a graph for ONNX, else as it is.

    onnxruntime's transform rounds to 7e-7 of the spectrum's peak in float32, ten times what torch's does, and where the
    length is no power of two to 1e-3; in float64 to 2e-12.

    >>> for_onnx(torch.zeros(1)).dtype
    torch.float32
    """
    in_graph = torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()  # the latter alone loads the exporter
    return signal.to(torch.float64) if in_graph else signal


def power_spectrum(spectrum: Tensor) -> Tensor:
    """Squared magnitude as re² + im².

    Never abs() then square: that takes a root for nothing, costs 2 to 3 times as much, and needs a derivative that does
    not exist where the spectrum is zero.

    Args:
        spectrum: complex, any shape.
    Returns:
        Real, same shape, non-negative.

    >>> power_spectrum(torch.tensor([3 + 4j]))
    tensor([25.])
    """
    real, imag = torch.view_as_real(spectrum).unbind(-1)
    return torch.addcmul(real * real, imag, imag)


def magnitude(power: Tensor) -> Tensor:
    """Root of a power, with gradient zero (not infinite) where power is zero.

    Args:
        power: non-negative, any shape.
    Returns:
        Same shape and dtype.

    >>> power = torch.tensor([0.0, 4.0], requires_grad=True)
    >>> magnitude(power).sum().backward(); power.grad
    tensor([0.0000, 0.2500])
    """
    silent = power == 0  # which nan is not: it stays nan
    # The inner choice keeps the root away from zero: the outer one alone would multiply an infinite gradient by zero.
    return torch.where(silent, 0.0, torch.where(silent, 1.0, power).sqrt())
