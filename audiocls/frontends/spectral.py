"""What front-ends on the Fourier transform share: a spectrum, a filterbank, and the stages of every front-end."""

from collections.abc import Callable

from torch import Tensor, nn

from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.normalization import Normalization
from audiocls.frontends.spectrum import Spectrum


class SpectralFrontend(Frontend):
    """Frames -> window -> Fourier transform -> power -> filterbank -> compression -> normalisation.

    A subclass brings the spectrum and the filterbank, and says which frequencies its bins stand for.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_bins: number of bins of the spectrogram.
        spectrum: waveform to power.
        filterbank: power (..., n_fft // 2 + 1, frames) to energies, a `Filterbank` or a choice of Fourier bins.
        compression: makes the compression stage, given `n_bins`.
        normalization: makes the normalisation stage, given `n_bins`.
    """

    def __init__(
        self,
        sample_rate: int,
        n_bins: int,
        *,
        spectrum: Spectrum,
        filterbank: nn.Module,
        compression: Callable[[int], Compression],
        normalization: Callable[[int], Normalization],
    ) -> None:
        super().__init__(sample_rate, n_bins, compression=compression, normalization=normalization)
        self.spectrum = spectrum
        self.filterbank = filterbank

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to energies (batch, channels, filters, frames)."""
        if isinstance(self.filterbank, Filterbank):
            return self.spectrum.through(waveform, self.filterbank)
        return self.filterbank(self.spectrum(waveform))

    def compressed(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to compressed energies (batch, channels, n_bins, frames)."""
        if isinstance(self.filterbank, Filterbank) and type(self).energy is SpectralFrontend.energy:
            return self.spectrum.through(waveform, self.filterbank, self.compression)
        return super().compressed(waveform)

    @property
    def takes_pcm(self) -> bool:
        """Whether the spectrum, which reads int16 as it is, is the first to see the waveform."""
        return type(self).energy is SpectralFrontend.energy

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return self.spectrum.n_frames(n_samples)

    def filterbanks(self) -> dict[str, Tensor]:
        """Filterbank at the start of training and now, each (filters, n_fft // 2 + 1); empty for Fourier bins."""
        if not isinstance(self.filterbank, Filterbank):
            return {}
        return {"start": self.filterbank.start.clone(), "now": self.filterbank.weight.detach().clone()}
