"""The waveform itself, for heads that learn from samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import NoCompression
from audiocls.frontends.normalization import NoNormalization, Normalization


class Waveform(Frontend):
    """Samples in [-1, 1) as a map of one bin, whose frames are the samples.

    They are signed: there is no compression, which is for energies.

    Args:
        sample_rate: of the waveforms, in Hz.
        normalization: makes the normalisation stage, given one bin.
    Raises:
        ValueError: if `sample_rate` is not positive.

    >>> Waveform(16000)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 1, 16000])
    """

    def __init__(self, sample_rate: int, *, normalization: Callable[[int], Normalization] = NoNormalization) -> None:
        super().__init__(sample_rate, 1, compression=NoCompression, normalization=normalization)

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to samples (batch, channels, 1, time)."""
        self.n_frames(waveform.shape[-1])  # raises for a clip without a sample
        return waveform.unsqueeze(-2)

    def n_frames(self, n_samples: int) -> int:
        """Number of samples, of which there must be one."""
        return functional.n_frames(n_samples, n_fft=1, hop_length=1, center=False)

    @property
    def frequencies(self) -> Tensor:
        """nan: the one bin stands for all frequencies; shape (1,), float32."""
        return torch.full((1,), torch.nan, dtype=torch.float32)
