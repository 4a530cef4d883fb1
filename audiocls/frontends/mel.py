"""The mel spectrogram, fixed or with a learnt filterbank.

Equal to librosa.feature.melspectrogram with the same settings; padding is zeros by default, as in librosa today
(torchaudio and older librosa mirror).
"""

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
from audiocls.functional import MelNorm, MelScale, PadMode, WindowSpec


class MelSpectrogram(SpectralFrontend):
    """Frames -> window -> Fourier transform -> power -> mel filterbank -> compression -> normalisation.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        win_length: length of the window, in samples; a shorter one stands in the middle of the frame; None is n_fft.
        hop_length: distance between frames, in samples; None is a quarter of n_fft.
        n_mels: number of mel filters, the bins of the spectrogram.
        f_min: lower edge of the lowest filter, in Hz.
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 sums power, 1.0 magnitude.
        mel_scale: "slaney" (linear below 1 kHz) or "htk".
        norm: "slaney" gives each filter the same area over Hz; None gives each peak the height 1.
        learnable: whether the filterbank is learnt; it starts as the fixed one and stays non-negative.
        learnable_window: whether every sample of the window is learnt, or, with "length", how long a Hann window is.
        learnable_kernels: whether the cosines and sines of the transform are learnt.
        path: "fft" or "matmul" (products with cosines and sines, slower; the same numbers); None is "matmul" where
            the kernels are learnt, else "fft".
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency or a name is out of range.
    Source: librosa.feature.melspectrogram; energies within 80 dB of a clip's peak agree to 1e-3.

    >>> frontend = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=40)
    >>> frontend(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 40, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int | None = None,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        window: WindowSpec = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        mel_scale: MelScale = "slaney",
        norm: MelNorm | None = "slaney",
        learnable: bool = False,
        learnable_window: LearnableWindow = False,
        learnable_kernels: bool = False,
        path: Path | None = None,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        f_max = sample_rate / 2 if f_max is None else f_max
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
        filterbank = functional.mel_filterbank(
            sample_rate=sample_rate,
            n_fft=n_fft,
            n_mels=n_mels,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            norm=norm,
        )
        super().__init__(
            sample_rate,
            n_mels,
            spectrum=spectrum,
            filterbank=Filterbank(filterbank, learnable=learnable),
            compression=compression,
            normalization=normalization,
        )
        self.f_min = f_min
        self.f_max = f_max
        self.mel_scale: MelScale = mel_scale

    @property
    def frequencies(self) -> Tensor:
        """Centre of each filter at the start of training in Hz, shape (n_mels,), float32."""
        edges = functional.mel_frequencies(
            self.n_bins + 2, f_min=self.f_min, f_max=self.f_max, mel_scale=self.mel_scale
        )
        return edges[1:-1].to(torch.float32)
