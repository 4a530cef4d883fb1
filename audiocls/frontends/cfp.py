"""Combined frequency and periodicity: what spectrum and cepstrum agree on, the pitches of a sound."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.spectrum import Spectrum
from audiocls.functional import PadMode, WindowSpec


class CFP(Frontend):
    """Spectrum -> root -> cepstrum -> root -> spectrum -> root; product of the last two on a logarithmic axis.

    `functional.cfp` gives the parts by themselves.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of the transforms, in samples; None is half a second, so that points are 2 Hz apart.
        win_length: length of the window, in samples.
        hop_length: distance between frames, in samples.
        f_min: lower edge of the lowest bin, in Hz.
        f_max: no edge reaches it, in Hz.
        bins_per_octave: bins to a doubling of frequency.
        exponents: of the spectrum, of the cepstrum, of its spectrum, and so on; at least two, positive.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
        learnable: whether the triangles over frequency and those over time lag are learnt; they stay non-negative.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency, an exponent or a name is out of range.
    Source: Su and Yang 2015, doi:10.1109/TASLP.2015.2442411.

    >>> CFP(16000)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 173, 51])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int | None = None,
        win_length: int = 2048,
        hop_length: int = 320,
        f_min: float = 80.0,
        f_max: float = 1000.0,
        bins_per_octave: int = 48,
        exponents: Sequence[float] = (0.24, 0.6, 1.0),
        window: WindowSpec = "blackmanharris",
        pad_mode: PadMode = "constant",
        learnable: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        frequencies = functional.cfp_frequencies(f_min=f_min, f_max=f_max, bins_per_octave=bins_per_octave)
        super().__init__(sample_rate, len(frequencies), compression=compression, normalization=normalization)
        functional.check_exponents(exponents)
        self.f_min = f_min
        self.f_max = f_max
        self.exponents = tuple(exponents)
        self.spectrum = Spectrum(
            n_fft=sample_rate // 2 if n_fft is None else n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            pad_mode=pad_mode,
        )
        over_frequency, over_lag = functional.cfp_filterbanks(
            sample_rate=sample_rate,
            n_fft=self.spectrum.n_fft,
            f_min=f_min,
            f_max=f_max,
            bins_per_octave=bins_per_octave,
        )
        self.over_frequency = Filterbank(over_frequency, learnable=learnable)
        self.over_lag = Filterbank(over_lag, learnable=learnable)
        self._frequencies = tuple(frequencies.tolist())

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to the product of the two maps (batch, channels, n_bins, frames)."""
        # one dimension of clips until all is real, as `Spectrum` has it
        maps = functional.cfp_maps(
            waveform.flatten(end_dim=-2),
            sample_rate=self.sample_rate,
            n_fft=self.spectrum.n_fft,
            hop_length=self.spectrum.hop_length,
            window=self.spectrum.window(),
            f_min=self.f_min,
            f_max=self.f_max,
            exponents=self.exponents,
            pad_mode=self.spectrum.pad_mode,
        )
        n_freqs, n_lags = self.over_frequency.start.shape[1], self.over_lag.start.shape[1]
        # contiguous where frames come first, as the product takes them: else torch.export ties the length down
        frequency = maps.frequency[..., :n_freqs, :].mT.contiguous().mT.unflatten(0, waveform.shape[:-1])
        periodicity = maps.periodicity[..., :n_lags, :].mT.contiguous().mT.unflatten(0, waveform.shape[:-1])
        return self.over_frequency(frequency) * self.over_lag(periodicity)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return self.spectrum.n_frames(n_samples)

    @property
    def frequencies(self) -> Tensor:
        """Centre of each bin at the start of training in Hz, shape (n_bins,), float32."""
        return torch.tensor(self._frequencies, dtype=torch.float32)
