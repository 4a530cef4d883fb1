"""The gammatonegram: energies of a gammatone filterbank, the model of the ear's frequency resolution."""

from collections.abc import Callable

import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.spectral import SpectralFrontend
from audiocls.frontends.spectrum import Path, Spectrum
from audiocls.frontends.window import LearnableWindow
from audiocls.functional import PadMode, WindowSpec


class Gammatonegram(SpectralFrontend):
    """Frames -> window -> Fourier transform -> power -> gammatone filters -> compression -> normalisation.

    Power is weighed by the square of a filter's response, so that an energy is that of the filter's output.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        win_length: length of the window, in samples; None is n_fft.
        hop_length: distance between frames, in samples; None is a quarter of n_fft.
        n_bins: number of filters, their centres evenly spaced in ERB rate.
        f_min: centre of the lowest filter, in Hz.
        f_max: centre of the highest filter, in Hz; None is sample_rate / 2.
        order: number of poles of a filter.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 sums power, 1.0 magnitude.
        learnable: whether the filterbank is learnt; it starts as the fixed one and stays non-negative.
        learnable_window: whether every sample of the window is learnt, or, with "length", how long a Hann window is.
        learnable_kernels: whether the cosines and sines of the transform are learnt.
        path: "fft" or "matmul" (products with cosines and sines); None is "matmul" where the kernels are learnt.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency or a name is out of range, or a filter comes near no Fourier bin.
    Source: Slaney 1993, Apple Technical Report 35; Ellis 2009, Gammatone-like spectrograms.

    >>> Gammatonegram(16000, n_fft=512, hop_length=160)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 64, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int | None = None,
        n_bins: int = 64,
        f_min: float = 50.0,
        f_max: float | None = None,
        order: int = 4,
        window: WindowSpec = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        learnable: bool = False,
        learnable_window: LearnableWindow = False,
        learnable_kernels: bool = False,
        path: Path | None = None,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        spectrum = Spectrum(
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            center=center,
            pad_mode=pad_mode,
            power=power,
            path=path,
            learnable_window=learnable_window,
            learnable_kernels=learnable_kernels,
        )
        f_max = sample_rate / 2 if f_max is None else f_max
        response = functional.gammatone_filterbank(
            sample_rate=sample_rate, n_fft=n_fft, n_bins=n_bins, f_min=f_min, f_max=f_max, order=order
        )
        super().__init__(
            sample_rate,
            n_bins,
            spectrum=spectrum,
            filterbank=Filterbank(response**power, learnable=learnable),
            compression=compression,
            normalization=normalization,
        )
        self.f_min = f_min
        self.f_max = f_max

    @property
    def frequencies(self) -> Tensor:
        """Centre of each filter at the start of training in Hz, shape (n_bins,), float32."""
        return functional.gammatone_frequencies(self.n_bins, f_min=self.f_min, f_max=self.f_max).to(torch.float32)
