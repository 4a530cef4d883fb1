"""The harmonic constant-Q transform: one transform for each harmonic, stacked as channels, so that a convolution sees
the fundamental and its harmonics in one place."""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.cqt import Wavelets
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.functional import PadMode, WindowSpec
from audiocls.functional.cqt import C1


class Harmonic(Frontend):
    """Constant-Q transforms from h * f_min on, for every harmonic h, each a channel of the spectrogram.

    Channels multiply: `channels` of the waveform become channels * len(harmonics), those of the first channel first.
    Give that number to the head as `n_channels`. A bin is compressed and normalised alike in all of them.

    Args:
        sample_rate: of the waveforms, in Hz.
        harmonics: multiples of f_min, positive; below 1 for subharmonics.
        hop_length: distance between frames, in samples; any.
        n_bins: number of bins.
        f_min: centre of the lowest bin at harmonic 1, in Hz; C1 unless given.
        bins_per_octave: bins to a doubling of frequency.
        filter_scale: length of the wavelets as a factor; below 1 is finer in time, above 1 in frequency.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        learnable: whether the wavelets are learnt, each harmonic's by itself; they start as the fixed ones.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a setting is out of range, or a wavelet of the highest harmonic reaches beyond sample_rate / 2.
    Source: Bittner et al. 2017, Deep salience representations for f0 estimation in polyphonic music.

    >>> Harmonic(22050, harmonics=(1, 2, 3), n_bins=60)(torch.zeros(2, 1, 22050)).shape
    torch.Size([2, 3, 60, 44])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        harmonics: Sequence[float] = (0.5, 1, 2, 3, 4, 5),
        hop_length: int = 512,
        n_bins: int = 60,
        f_min: float = C1,
        bins_per_octave: int = 12,
        filter_scale: float = 1.0,
        window: WindowSpec = "hann",
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        super().__init__(sample_rate, n_bins, compression=compression, normalization=normalization)
        if not harmonics or min(harmonics) <= 0:
            raise ValueError(f"harmonics must be positive numbers, at least one, got {list(harmonics)}")
        self.harmonics = tuple(harmonics)
        # The base of the stack, so that its settings are checked by their own names and not as a harmonic's.
        frequencies = functional.cqt_frequencies(n_bins, f_min=f_min, bins_per_octave=bins_per_octave)
        self._frequencies = tuple(frequencies.tolist())
        # Each is a tuning, so that errors speak of the f_min that was given; the highest first, which f_min must suit.
        bands = {
            harmonic: functional.cqt_bands(
                sample_rate=sample_rate,
                hop_length=hop_length,
                n_bins=n_bins,
                f_min=f_min,
                bins_per_octave=bins_per_octave,
                filter_scale=filter_scale,
                window=window,
                tuning=bins_per_octave * math.log2(harmonic),
            )
            for harmonic in sorted(self.harmonics, reverse=True)
        }
        stacked = list(chain.from_iterable(bands[harmonic] for harmonic in self.harmonics))
        self.wavelets = Wavelets(stacked, pad_mode=pad_mode, power=power, learnable=learnable)

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to energies (batch, channels * harmonics, n_bins, frames)."""
        return self.wavelets(waveform).unflatten(2, (-1, self.n_bins)).flatten(1, 2)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return self.wavelets.n_frames(n_samples)

    @property
    def n_maps(self) -> int:
        """Channels of the spectrogram for each channel of the waveform: one a harmonic."""
        return len(self.harmonics)

    @property
    def frequencies(self) -> Tensor:
        """Centre of each bin at harmonic 1 in Hz, shape (n_bins,), float32."""
        return torch.tensor(self._frequencies, dtype=torch.float32)

    def filterbanks(self) -> dict[str, Tensor]:
        """What the wavelets hear at the start of training and now, harmonics one below the other, (bins, 1025)."""
        return self.wavelets.filterbanks()

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"{super().extra_repr()}, harmonics={self.harmonics}"
