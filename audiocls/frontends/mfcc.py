"""MFCC and LFCC: the cosine transform of compressed mel or linear bands, with their slopes if wanted.

Their compression stage is two steps: the compression that is asked for, on the bands, and the cosine transform of what
it gives. Normalisation sees coefficients. MFCC equals librosa.feature.mfcc, LFCC torchaudio.transforms.LFCC.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls import functional
from audiocls.frontends.compression import Compression, Decibel, is_all
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.spectral import SpectralFrontend
from audiocls.frontends.spectrum import Spectrum
from audiocls.functional import MelNorm, MelScale


class Cepstrum(Compression):
    """Compression of bands, then the cosine transform over them, then the slopes of the coefficients over frames.

    Args:
        bands: the compression of the bands, built for their number.
        n_coefficients: coefficients that are kept, at most the number of bands.
        lifter: period of the liftering in coefficients; 0 is none.
        n_deltas: how many derivatives over frames stand after the coefficients, as further bins.
        delta_width: frames that a derivative is fitted to, odd.
    Raises:
        ValueError: if a number is out of range.

    >>> Cepstrum(Decibel(40), n_coefficients=13, n_deltas=2)(torch.ones(1, 1, 40, 7)).shape
    torch.Size([1, 1, 39, 7])
    """

    matrix: Tensor
    kernels: Tensor

    def __init__(
        self,
        bands: Compression,
        *,
        n_coefficients: int,
        lifter: float = 0.0,
        n_deltas: int = 0,
        delta_width: int = 9,
    ) -> None:
        if n_deltas < 0:
            raise ValueError(f"n_deltas must be at least 0, got {n_deltas}")
        super().__init__(n_coefficients * (1 + n_deltas))
        self.bands = bands
        weights = functional.lifter_weights(n_coefficients, lifter)
        matrix = weights[:, None] * functional.dct_matrix(n_coefficients, bands.n_bins)
        self.register_buffer("matrix", matrix, persistent=False)
        kernels = torch.zeros(n_deltas, delta_width, dtype=torch.float32)
        for order in range(1, n_deltas + 1):
            kernels[order - 1] = functional.delta_kernel(delta_width, order)
        self.register_buffer("kernels", kernels, persistent=False)

    @property
    def logarithm(self) -> functional.Logarithm | None:
        """That of the bands."""
        return self.bands.logarithm if is_all(self, Cepstrum) else None

    def after_logarithm(self, taken: Tensor) -> Tensor:
        """The coefficients of bands whose logarithm is taken."""
        return self._coefficients(self.bands.after_logarithm(taken))

    def forward(self, energy: Tensor) -> Tensor:
        """Energies (batch, channels, n_bands, frames) to coefficients (batch, channels, n_bins, frames)."""
        return self._coefficients(self.bands(energy))

    def over(self, energy: Tensor) -> Tensor:
        """The same, the bands compressed in place."""
        return self._coefficients(self.bands.over(energy)) if is_all(self, Cepstrum) else self(energy)

    def _coefficients(self, bands: Tensor) -> Tensor:
        """The cosine transform of compressed bands, and its slopes."""
        coefficients = F.linear(bands.transpose(-1, -2), self.matrix).transpose(-1, -2)
        derivatives = [functional.local_slope(coefficients, kernel) for kernel in self.kernels]
        return torch.cat((coefficients, *derivatives), dim=-2) if derivatives else coefficients

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        n_deltas, delta_width = self.kernels.shape
        return f"n_coefficients={len(self.matrix)}, n_deltas={n_deltas}, delta_width={delta_width}"


class _CepstralFrontend(SpectralFrontend):
    """A filterbank whose compressed bands go through the cosine transform: what MFCC and LFCC have in common."""

    def __init__(
        self,
        sample_rate: int,
        *,
        spectrum: Spectrum,
        filterbank: Filterbank,
        cepstrum: Cepstrum,
        normalization: Callable[[int], Normalization],
    ) -> None:
        super().__init__(
            sample_rate,
            cepstrum.n_bins,
            spectrum=spectrum,
            filterbank=filterbank,
            compression=lambda _: cepstrum,
            normalization=normalization,
        )

    @property
    def frequencies(self) -> Tensor:
        """nan: a coefficient stands for no frequency; shape (n_bins,), float32."""
        return torch.full((self.n_bins,), torch.nan, dtype=torch.float32)


class MFCC(_CepstralFrontend):
    """Mel-frequency cepstral coefficients: mel bands -> compression -> cosine transform -> normalisation.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        n_mfcc: coefficients that are kept, at most n_mels; with their derivatives the bins of the spectrogram.
        n_mels: number of mel filters.
        f_min: lower edge of the lowest filter, in Hz.
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        mel_scale: "slaney" (linear below 1 kHz) or "htk".
        norm: of the filters: "slaney" (equal area over Hz), a positive p (equal p-norm) or None (height 1).
        lifter: period of the liftering in coefficients, which raises the middle ones; 0 is none.
        n_deltas: derivatives over frames that stand after the coefficients: 1 is their slope, 2 their curvature too.
        delta_width: frames that a derivative is fitted to, odd; the first and last frame stand for those outside.
        learnable: whether the filterbank is learnt; it starts as the fixed one and stays non-negative.
        compression: makes the compression of the mel bands, given their number.
        normalization: makes the normalisation stage, given the number of bins.
        spectrum: what else `Spectrum` takes: `hop_length`, `win_length`, `window`, what is learnt of it.
    Raises:
        ValueError: if a number or a name is out of range, or a filter holds no Fourier bin, whose logarithm of silence
            would stand in every coefficient.
    Source: Davis and Mermelstein 1980; librosa.feature.mfcc and librosa.feature.delta(mode="nearest").

    >>> MFCC(16000, n_fft=512, hop_length=160, n_mfcc=13, n_mels=40, n_deltas=2)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 39, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        n_mfcc: int = 20,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        mel_scale: MelScale = "slaney",
        norm: MelNorm | None = "slaney",
        lifter: float = 0.0,
        n_deltas: int = 0,
        delta_width: int = 9,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Decibel,
        normalization: Callable[[int], Normalization] = BatchNormBins,
        **spectrum: Any,
    ) -> None:
        filterbank = functional.mel_filterbank(
            sample_rate=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            norm=norm,
            allow_empty=False,
        )
        if not 1 <= n_mfcc <= n_mels:
            raise ValueError(f"n_mfcc must be between 1 and n_mels={n_mels}, got {n_mfcc}")
        cepstrum = Cepstrum(
            compression(n_mels), n_coefficients=n_mfcc, lifter=lifter, n_deltas=n_deltas, delta_width=delta_width
        )
        super().__init__(
            sample_rate,
            spectrum=Spectrum(n_fft=n_fft, **spectrum),
            filterbank=Filterbank(filterbank, learnable=learnable),
            cepstrum=cepstrum,
            normalization=normalization,
        )


class LFCC(_CepstralFrontend):
    """Linear-frequency cepstral coefficients: evenly spaced bands -> compression -> cosine transform -> normalisation.

    They keep the resolution of high frequencies that mel bands give up, as the detection of synthetic speech needs.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        n_lfcc: coefficients that are kept, at most n_bands; with their derivatives the bins of the spectrogram.
        n_bands: number of triangular filters, each of height 1.
        f_min: lower edge of the lowest filter, in Hz.
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        lifter: period of the liftering in coefficients, which raises the middle ones; 0 is none.
        n_deltas: derivatives over frames that stand after the coefficients: 1 is their slope, 2 their curvature too.
        delta_width: frames that a derivative is fitted to, odd; the first and last frame stand for those outside.
        learnable: whether the filterbank is learnt; it starts as the fixed one and stays non-negative.
        compression: makes the compression of the bands, given their number.
        normalization: makes the normalisation stage, given the number of bins.
        spectrum: what else `Spectrum` takes: `hop_length`, `win_length`, `window`, what is learnt of it.
    Raises:
        ValueError: if a number or a name is out of range, or a filter holds no Fourier bin.
    Source: Sahidullah, Kinnunen and Hanilçi 2015; torchaudio.transforms.LFCC.

    >>> LFCC(16000, n_fft=512, hop_length=160, n_lfcc=20, n_bands=40)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 20, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        n_lfcc: int = 20,
        n_bands: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        lifter: float = 0.0,
        n_deltas: int = 0,
        delta_width: int = 9,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Decibel,
        normalization: Callable[[int], Normalization] = BatchNormBins,
        **spectrum: Any,
    ) -> None:
        filterbank = functional.triangular_filterbank(
            sample_rate=sample_rate, n_fft=n_fft, n_bins=n_bands, f_min=f_min, f_max=f_max, count="n_bands"
        )
        if not 1 <= n_lfcc <= n_bands:
            raise ValueError(f"n_lfcc must be between 1 and n_bands={n_bands}, got {n_lfcc}")
        cepstrum = Cepstrum(
            compression(n_bands), n_coefficients=n_lfcc, lifter=lifter, n_deltas=n_deltas, delta_width=delta_width
        )
        super().__init__(
            sample_rate,
            spectrum=Spectrum(n_fft=n_fft, **spectrum),
            filterbank=Filterbank(filterbank, learnable=learnable),
            cepstrum=cepstrum,
            normalization=normalization,
        )
