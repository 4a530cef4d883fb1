"""The mel spectrogram with bands of a given shape, whose centres, widths and gains are learnt.

A free matrix (`MelSpectrogram(learnable=True)`) has n_freqs numbers a band; these have three, so that what is learnt is
still a band, can be read off in Hz, and needs little data.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.bands import Bands
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.held import ratio
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.spectral import SpectralFrontend
from audiocls.frontends.spectrum import Spectrum
from audiocls.functional import BandNorm, BandShape, MelScale


class ParametricMel(SpectralFrontend):
    """Frames -> window -> Fourier transform -> power -> parametric bands -> compression -> normalisation.

    With triangles it starts as `MelSpectrogram` with the same settings; a Gaussian and a gammatone have the triangle's
    peak and its width at half height.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        n_mels: number of bands, the bins of the spectrogram.
        f_min: lower edge of the lowest band at the start, in Hz; no centre goes below it.
        f_max: upper edge of the highest band at the start, in Hz; no centre goes above it; None is sample_rate / 2.
        shape: of a band over Hz: "triangle", "gauss", or "gammatone" (the power of one of fourth order).
        mel_scale: on which centres are even at the start: "slaney" (linear below 1 kHz) or "htk".
        norm: "slaney" divides each band by half the distance between its edges; None gives each peak the height 1.
        learnable_centers: whether centres are learnt; they stay sorted.
        learnable_widths: whether widths are learnt; a band stays about as wide as one bin of the transform or wider.
        learnable_gains: whether each band learns a gain.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
        spectrum: what else `Spectrum` takes: `hop_length`, `win_length`, `window`, what is learnt of it.
    Raises:
        ValueError: if a length, a frequency or a name is out of range.

    >>> ParametricMel(16000, n_fft=512, hop_length=160, n_mels=40)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 40, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        shape: BandShape = "triangle",
        mel_scale: MelScale = "slaney",
        norm: BandNorm | None = "slaney",
        learnable_centers: bool = True,
        learnable_widths: bool = True,
        learnable_gains: bool = True,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
        **spectrum: Any,
    ) -> None:
        f_max = sample_rate / 2 if f_max is None else f_max
        functional.check_filterbank(sample_rate, n_fft, n_mels, f_min, f_max, count="n_mels")
        bands = Bands(
            sample_rate,
            n_mels,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            narrowest=sample_rate / n_fft,
            learnable_centers=learnable_centers,
            learnable_widths=learnable_widths,
        )
        super().__init__(
            sample_rate,
            n_mels,
            spectrum=Spectrum(n_fft=n_fft, **spectrum),
            filterbank=ParametricFilterbank(
                bands, sample_rate=sample_rate, n_fft=n_fft, shape=shape, norm=norm, learnable_gains=learnable_gains
            ),
            compression=compression,
            normalization=normalization,
        )

    @property
    def frequencies(self) -> Tensor:
        """Centre of each band at the start of training in Hz, shape (n_mels,), float32."""
        return self._filterbank.edges.start()[1].to(torch.float32)

    @property
    def edges(self) -> Tensor:
        """Lower edges, centres and upper edges of the bands now in Hz, shape (3, n_mels), float32."""
        return self._filterbank.edges().detach().to(torch.float32)

    @property
    def _filterbank(self) -> "ParametricFilterbank":
        assert isinstance(self.filterbank, ParametricFilterbank)
        return self.filterbank


class ParametricFilterbank(Filterbank):
    """A filterbank whose rows are bands of one shape.

    Args:
        bands: where they stand.
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        shape: "triangle", "gauss" or "gammatone".
        norm: "slaney" or None.
        learnable_gains: whether each band learns a gain.
    Raises:
        ValueError: if `shape` or `norm` is not one of those above.
    """

    def __init__(
        self,
        bands: Bands,
        *,
        sample_rate: int,
        n_fft: int,
        shape: BandShape = "triangle",
        norm: BandNorm | None = "slaney",
        learnable_gains: bool = False,
    ) -> None:
        super().__init__(
            functional.band_responses(bands.start(), sample_rate=sample_rate, n_fft=n_fft, shape=shape, norm=norm)
        )
        self.arrangements = None  # bands move
        self.edges = bands
        self.sample_rate, self.n_fft = sample_rate, n_fft
        self.shape: BandShape = shape
        self.norm: BandNorm | None = norm
        gains = torch.zeros(len(self.start), dtype=torch.float32)
        self.log_gain = nn.Parameter(gains) if learnable_gains else None

    @property
    def groups(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None: bands move."""

    @property
    def weight(self) -> Tensor:
        """The filterbank now, shape (n_bins, n_freqs), non-negative."""
        responses = functional.band_responses(
            self.edges(), sample_rate=self.sample_rate, n_fft=self.n_fft, shape=self.shape, norm=self.norm
        )
        return responses if self.log_gain is None else responses * ratio(self.log_gain).unsqueeze(-1)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"shape={self.shape!r}, norm={self.norm!r}, learnable_gains={self.log_gain is not None}"
