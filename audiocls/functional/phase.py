"""Phase: that of a spectrum, and one for a magnitude that has lost its own (Griffin-Lim)."""

import torch
from torch import Tensor

from audiocls.functional.framing import PadMode, n_frames
from audiocls.functional.istft import istft
from audiocls.functional.stft import stft


def phase(spectrum: Tensor) -> Tensor:
    """Angle of a complex spectrum, with gradient zero (not undefined) where the spectrum is zero.

    Args:
        spectrum: complex, any shape.
    Returns:
        Radians in (-π, π], same shape; 0 where the spectrum is zero.

    >>> phase(torch.tensor([1 + 1j, 0j]))
    tensor([0.7854, 0.0000])
    """
    return angle(*torch.view_as_real(spectrum).unbind(-1))


def angle(real: Tensor, imag: Tensor) -> Tensor:
    """Angle of complex numbers, with gradient zero (not undefined) where they are zero.

    Made of operators that every runtime has. Of negative real numbers it is π, whatever the sign of their zero.

    Args:
        real: any shape.
        imag: of the same shape and dtype.
    Returns:
        Radians in (-π, π], same shape and dtype; 0 where both are zero.
    Source: torch.atan2; equal to it within float32 rounding.

    >>> angle(torch.tensor([-1.0, 0.0, 0.0]), torch.tensor([-0.0, -1.0, 0.0]))
    tensor([ 3.1416, -1.5708,  0.0000])
    """
    steep = imag.abs() > real.abs()
    silent = (real == 0) & (imag == 0)
    # The smaller part over the larger, so that neither the ratio nor its derivative is ever infinite.
    ratio = torch.where(steep, real, imag) / torch.where(steep, imag, torch.where(silent, 1.0, real))
    turn = torch.atan(ratio)
    half_turn = torch.pi * torch.where(imag < 0, -1.0, torch.ones_like(imag))
    turn = torch.where(steep, 0.5 * half_turn - turn, turn + torch.where(real < 0, half_turn, 0.0))
    return torch.where(silent, 0.0, turn)


def griffin_lim(
    magnitude: Tensor,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    pad_mode: PadMode = "constant",
    n_iter: int = 32,
    momentum: float = 0.99,
    length: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A waveform whose spectrum has (nearly) a given magnitude.

    Args:
        magnitude: non-negative, not power, shape (..., n_fft // 2 + 1, frames).
        n_fft: length of a frame and of the transform, in samples.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stood outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        n_iter: rounds of transforming there and back.
        momentum: of the fast algorithm, in [0, 1); 0 is the one of 1984.
        length: number of samples to return, of a clip with as many frames; None is the shortest such.
        generator: draws the phases of the start; None starts with phase zero.
    Returns:
        Shape (..., length), real.
    Raises:
        ValueError: if a number is out of range, `magnitude` is not real, or `length` makes another number of frames.
    Source: Griffin and Lim 1984; Perraudin, Balazs and Søndergaard 2013 for the momentum; librosa.griffinlim.

    >>> griffin_lim(torch.ones(257, 9), n_fft=512, hop_length=128, window=torch.hann_window(512), n_iter=2).shape
    torch.Size([1024])
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if n_iter < 0:
        raise ValueError(f"n_iter must be at least 0, got {n_iter}")
    if magnitude.is_complex():
        raise ValueError("magnitude must be real, got a complex spectrum: pass its absolute value, or use istft")
    if length is not None:
        frames = n_frames(length, n_fft=n_fft, hop_length=hop_length, center=center)
        if frames != magnitude.shape[-1]:
            raise ValueError(f"length must make as many frames as magnitude has, {magnitude.shape[-1]}, got {frames}")

    def invert(spectrum: Tensor) -> Tensor:
        return istft(spectrum, n_fft=n_fft, hop_length=hop_length, window=window, center=center, length=length)

    def transform(waveform: Tensor) -> Tensor:
        return stft(waveform, n_fft=n_fft, hop_length=hop_length, window=window, center=center, pad_mode=pad_mode)

    spectrum = torch.polar(magnitude, _start_phase(magnitude, generator))
    before = None
    for _ in range(n_iter):
        rebuilt = transform(invert(spectrum))
        ahead = rebuilt if before is None else rebuilt - momentum / (1 + momentum) * before
        before = rebuilt
        spectrum = torch.polar(magnitude, phase(ahead))
    return invert(spectrum)


def _start_phase(magnitude: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        return torch.zeros_like(magnitude)
    turns = torch.rand(magnitude.shape, generator=generator, device=generator.device, dtype=magnitude.dtype)
    return 2 * torch.pi * turns.to(magnitude.device)
