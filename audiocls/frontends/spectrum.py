"""The first two stages of a front-end that stands on the Fourier transform: frames and window, then power."""

from torch import Tensor, nn

from audiocls import functional
from audiocls.functional import PadMode


class Spectrum(nn.Module):
    """Power (or magnitude) of the short-time Fourier transform.

    Args:
        n_fft: length of a frame and of the transform, in samples.
        win_length: length of the window, in samples; a shorter one stands in the middle of the frame; None is n_fft.
        hop_length: distance between frames, in samples; None is a quarter of n_fft.
        window: any name scipy.signal.get_window takes without parameters.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
    Raises:
        ValueError: if a length is out of range, or `window`, `pad_mode` or `power` is not one of those above.

    >>> import torch
    >>> Spectrum(n_fft=512, hop_length=160)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 257, 101])
    """

    window: Tensor

    def __init__(
        self,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: str = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
    ) -> None:
        super().__init__()
        if n_fft < 1:
            raise ValueError(f"n_fft must be at least 1 sample, got {n_fft}")
        self.n_fft = n_fft
        self.win_length = _within_n_fft("win_length", n_fft if win_length is None else win_length, n_fft)
        self.hop_length = _within_n_fft("hop_length", max(n_fft // 4, 1) if hop_length is None else hop_length, n_fft)
        if pad_mode not in ("constant", "reflect"):
            raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {pad_mode!r}")
        if power not in (1.0, 2.0):
            raise ValueError(f"power must be 2.0 (power) or 1.0 (magnitude), got {power}")
        self.center = center
        self.pad_mode: PadMode = pad_mode
        self.power = power
        self.register_buffer("window", functional.window(window, self.win_length), persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return functional.n_frames(n_samples, n_fft=self.n_fft, hop_length=self.hop_length, center=self.center)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time), float32, to power or magnitude (batch, channels, freq, frames)."""
        # One dimension of clips until power is real: torch.export then leaves batch and time free of odd conditions.
        spectrum = functional.stft(
            waveform.flatten(end_dim=-2),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            window=self.window,
            center=self.center,
            pad_mode=self.pad_mode,
        )
        power = functional.power_spectrum(spectrum)
        if self.power == 1.0:
            power = functional.magnitude(power)
        return power.unflatten(0, waveform.shape[:-1])

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return (
            f"n_fft={self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, center={self.center}, "
            f"pad_mode={self.pad_mode!r}, power={self.power}"
        )


def _within_n_fft(name: str, length: int, n_fft: int) -> int:
    if not 1 <= length <= n_fft:
        raise ValueError(f"{name} must be between 1 and n_fft={n_fft} samples, got {length}")
    return length
