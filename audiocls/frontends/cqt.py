"""The constant-Q and the variable-Q transform: bins evenly spaced in pitch, fixed or with learnt wavelets.

Equal to librosa.cqt and librosa.vqt at the full sample rate, whatever the hop: see `audiocls.functional.cqt`.
"""

from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.functional import PadMode, WaveletBand, WindowSpec
from audiocls.functional.cqt import C1


class VQT(Frontend):
    """Wavelets -> power -> compression -> normalisation, with wavelets shorter than constant Q at low frequencies.

    Args:
        sample_rate: of the waveforms, in Hz.
        hop_length: distance between frames, in samples; any.
        n_bins: number of bins.
        f_min: centre of the lowest bin, in Hz; C1 unless given.
        bins_per_octave: bins to a doubling of frequency.
        gamma: bandwidth that is added to each wavelet's, in Hz; 0 is constant Q, None follows the ear (ERB).
        filter_scale: length of the wavelets as a factor; below 1 is finer in time, above 1 in frequency.
        norm: order of the norm that each wavelet is divided by (1, 2, .inf); None divides by nothing.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        tuning: raises all bins by this fraction of a bin.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        learnable: whether the wavelets are learnt, sample by sample; they start as the fixed ones.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a setting is out of range, or the highest wavelet reaches beyond sample_rate / 2.
    Source: librosa.vqt.

    >>> VQT(22050, n_bins=60)(torch.zeros(2, 1, 22050)).shape
    torch.Size([2, 1, 60, 44])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        hop_length: int = 512,
        n_bins: int = 84,
        f_min: float = C1,
        bins_per_octave: int = 12,
        gamma: float | None = None,
        filter_scale: float = 1.0,
        norm: float | None = 1.0,
        window: WindowSpec = "hann",
        tuning: float = 0.0,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        super().__init__(sample_rate, n_bins, compression=compression, normalization=normalization)
        bands = functional.cqt_bands(
            sample_rate=sample_rate,
            hop_length=hop_length,
            n_bins=n_bins,
            f_min=f_min,
            bins_per_octave=bins_per_octave,
            filter_scale=filter_scale,
            norm=norm,
            window=window,
            tuning=tuning,
            gamma=gamma,
        )
        self.wavelets = Wavelets(bands, pad_mode=pad_mode, power=power, learnable=learnable)
        frequencies = functional.cqt_frequencies(n_bins, f_min=f_min, bins_per_octave=bins_per_octave, tuning=tuning)
        self._frequencies = tuple(frequencies.tolist())

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to power or magnitude (batch, channels, n_bins, frames)."""
        return self.wavelets(waveform)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return self.wavelets.n_frames(n_samples)

    @property
    def frequencies(self) -> Tensor:
        """Centre of each bin at the start of training in Hz, shape (n_bins,), float32."""
        return torch.tensor(self._frequencies, dtype=torch.float32)

    def filterbanks(self) -> dict[str, Tensor]:
        """What the wavelets hear of each frequency, at the start of training and now, each (n_bins, 1025)."""
        return self.wavelets.filterbanks()


class CQT(VQT):
    """The constant-Q transform: a `VQT` whose wavelets all hold the same number of cycles.

    Args:
        sample_rate: of the waveforms, in Hz; the other settings are those of `VQT`, without `gamma`.
    Source: librosa.cqt.

    >>> CQT(22050)(torch.zeros(2, 1, 22050)).shape
    torch.Size([2, 1, 84, 44])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        hop_length: int = 512,
        n_bins: int = 84,
        f_min: float = C1,
        bins_per_octave: int = 12,
        filter_scale: float = 1.0,
        norm: float | None = 1.0,
        window: WindowSpec = "hann",
        tuning: float = 0.0,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        super().__init__(
            sample_rate,
            hop_length=hop_length,
            n_bins=n_bins,
            f_min=f_min,
            bins_per_octave=bins_per_octave,
            gamma=0.0,
            filter_scale=filter_scale,
            norm=norm,
            window=window,
            tuning=tuning,
            pad_mode=pad_mode,
            power=power,
            learnable=learnable,
            compression=compression,
            normalization=normalization,
        )


class Wavelets(nn.Module):
    """Power (or magnitude) of what wavelets hear, the wavelets fixed or learnt.

    Args:
        bands: from `functional.cqt_bands`.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        learnable: whether the wavelets are learnt.
    Raises:
        ValueError: if `pad_mode` or `power` is not one of those above.

    >>> bands = functional.cqt_bands(sample_rate=16000, hop_length=160, n_bins=24, f_min=440.0)
    >>> Wavelets(bands)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 24, 101])
    """

    def __init__(
        self, bands: list[WaveletBand], *, pad_mode: PadMode = "constant", power: float = 2.0, learnable: bool = False
    ) -> None:
        super().__init__()
        if pad_mode not in ("constant", "reflect"):
            raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {pad_mode!r}")
        if power not in (1.0, 2.0):
            raise ValueError(f"power must be 2.0 (power) or 1.0 (magnitude), got {power}")
        self.hop_length = bands[0].hop_length
        self.longest = 2 * max(band.reach for band in bands)
        self.pad_mode: PadMode = pad_mode
        self.power = power
        self.bands = nn.ModuleList(WaveletBank(band, learnable=learnable) for band in bands)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return functional.n_frames(n_samples, n_fft=self.longest, hop_length=self.hop_length, center=True)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time), float32, to power or magnitude (batch, channels, n_bins, frames)."""
        clips = waveform.flatten(end_dim=-2)
        if torch.compiler.is_exporting():  # blocks would make a condition of the length, and need complex numbers
            wavelets = [bank.wavelets() for bank in cast("Iterable[WaveletBank]", self.bands)]
            parts = functional.cqt_by_convolution(clips, wavelets, hop_length=self.hop_length, pad_mode=self.pad_mode)
            power = parts.square().sum(dim=-1)
        else:
            spectrum = functional.cqt(clips, [band() for band in self.bands], pad_mode=self.pad_mode)
            power = functional.power_spectrum(spectrum)
        if self.power == 1.0:
            power = functional.magnitude(power)
        return power.unflatten(0, waveform.shape[:-1])

    def filterbanks(self) -> dict[str, Tensor]:
        """Magnitude response at the start and now, each (n_bins, 1025): from 0 Hz to half the sample rate, detached.

        A bin between two of the 1025 points is drawn at its full height on the nearer.
        """
        now = [band() for band in self.bands]
        start = [band.start for band in self.bands]
        both = {"start": [b._replace(response=r) for b, r in zip(now, start, strict=True)], "now": now}
        return {name: torch.cat([_heard(band) for band in bands]).detach() for name, bands in both.items()}

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"hop_length={self.hop_length}, pad_mode={self.pad_mode!r}, power={self.power}"


class WaveletBank(nn.Module):
    """One band of wavelets, fixed or learnt.

    What is learnt is the difference from the start over time, real and imaginary part, relative to each wavelet's peak:
    a step of an optimiser then changes long and short wavelets alike, and the start is exactly the fixed one. A wavelet
    can grow as long as the longest of its band, and hears the frequencies that its band keeps.

    Args:
        band: at the start.
        learnable: whether the wavelets are learnt.

    >>> (band,) = functional.cqt_bands(sample_rate=16000, hop_length=160, n_bins=24, f_min=440.0)
    >>> WaveletBank(band, learnable=True).change.shape
    torch.Size([24, 1024, 2])
    """

    start: Tensor
    peak: Tensor

    def __init__(self, band: WaveletBand, *, learnable: bool = False) -> None:
        super().__init__()
        self.hop_length = band.hop_length
        self.reach = band.reach
        self.first_fold = band.first_fold
        self.register_buffer("start", band.response.to(torch.float32), persistent=False)
        self.register_buffer("peak", band.peak.to(torch.float32), persistent=False)
        shape = (len(band.peak), 2 * band.reach, 2)
        self.change = nn.Parameter(torch.zeros(shape, dtype=torch.float32)) if learnable else None

    def forward(self) -> WaveletBand:
        """The band now."""
        if self.change is None:
            return self._start
        change = torch.view_as_complex(self.peak[:, None, None] * self.change)
        return self._start._replace(response=self.start + functional.band_response(change, self._start))

    def wavelets(self) -> Tensor:
        """The wavelets now, over time, shape (n_bins, 2 * reach, 2), for `functional.cqt_by_convolution`."""
        wavelets = functional.band_wavelets(self._start)
        return wavelets if self.change is None else wavelets + self.peak[:, None, None] * self.change

    @property
    def _start(self) -> WaveletBand:
        return WaveletBand(self.start, self.hop_length, self.reach, self.first_fold, self.peak)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"n_bins={len(self.peak)}, longest={2 * self.reach}, learnable={self.change is not None}"


def _heard(band: WaveletBand) -> Tensor:
    """Magnitude response of a band's wavelets at 1025 points from 0 Hz to half the sample rate."""
    n_rates, n_folds, n_bins = band.response.shape[:3]
    size = functional.magnitude(band.response.square().sum(-1)).permute(2, 1, 0).reshape(n_bins, -1)
    circle = F.pad(size, (0, band.n_fft - n_folds * n_rates)).roll(band.first_fold * n_rates, dims=-1)
    return band.n_fft * F.adaptive_max_pool1d(circle[:, : band.n_fft // 2 + 1], 1025)
