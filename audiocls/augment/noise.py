"""Noise under the clips, recorded or made."""

from __future__ import annotations

import torch
from torch import Tensor

from audiocls.augment.base import check_range, db_to_amplitude, each, uniform
from audiocls.augment.recordings import Recordings, RecordingsAugmentation, matched_channels
from audiocls.functional import magnitude


class BackgroundNoise(RecordingsAugmentation):
    """Noise added at a drawn ratio of signal to noise.

    The ratio is that of the mean squares over the whole crop, padding and all channels included. Silence stays silence:
    no level of noise has a ratio to it. Recordings are read on the CPU, a piece for each clip whether it is changed or
    not.

    Args:
        recordings: to draw noise from, such as `datamodules.noise.NoiseStore`; None makes coloured noise, whose power
            falls with frequency by an exponent from 0 (white) to 2 (brown), another for each clip.
        min_snr_db: least ratio, in dB.
        max_snr_db: largest ratio, in dB.
        probability: with which a clip is changed.
    Raises:
        ValueError: if the range ends before it begins.
    Source: the range of torch-audiomentations' AddBackgroundNoise; coloured noise by shaping a white spectrum, Timmer
        and König 1995.
    """

    def __init__(
        self,
        recordings: Recordings | None = None,
        *,
        min_snr_db: float = 3.0,
        max_snr_db: float = 30.0,
        probability: float = 0.5,
    ) -> None:
        super().__init__(recordings, probability=probability)
        check_range("snr_db", min_snr_db, max_snr_db)
        self.min_snr_db, self.max_snr_db = min_snr_db, max_snr_db

    def change(self, x: Tensor) -> Tensor:
        """Add noise to waveforms (batch, channels, time)."""
        if self.recordings is None:
            noise = coloured_noise(uniform(0.0, 2.0, x), n_samples=x.shape[-1])
        else:
            noise = matched_channels(self.recordings.draw(len(x), x.shape[-1]), x)
        snr = each(uniform(self.min_snr_db, self.max_snr_db, x), x)
        level, noise_level = root_mean_square(x), root_mean_square(noise)
        factor = level / torch.where(noise_level > 0, noise_level, 1.0) / db_to_amplitude(snr)
        return x + factor * noise

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, min_snr_db={self.min_snr_db}, max_snr_db={self.max_snr_db}"


def root_mean_square(waveform: Tensor) -> Tensor:
    """Level of each clip over channels and time, shape (batch, 1, 1)."""
    return magnitude(waveform.square().mean(dim=(1, 2), keepdim=True))


def coloured_noise(exponent: Tensor, *, n_samples: int) -> Tensor:
    """Gaussian noise whose power falls with frequency: frequency to the power of -exponent, and no constant part.

    Args:
        exponent: of each clip, shape (batch,).
        n_samples: length, at least 1.
    Returns:
        Shape (batch, 1, n_samples), with no particular level.

    >>> coloured_noise(torch.tensor([0.0, 2.0]), n_samples=100).shape
    torch.Size([2, 1, 100])
    """
    spectrum = torch.fft.rfft(torch.randn(len(exponent), n_samples, device=exponent.device))
    step = torch.arange(spectrum.shape[-1], device=exponent.device).clamp(min=1)
    weight = step ** (-0.5 * exponent[:, None])
    weight[:, 0] = 0
    return torch.fft.irfft(spectrum * weight, n_samples).unsqueeze(1)
