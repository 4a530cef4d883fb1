"""Spectrograms on a linear, logarithmic or auditory scale of frequency, and the complex spectrum with its phase.

Every Fourier bin, a range of them, or triangles over them, evenly spaced on the scale; triangles keep all the energy
between the bins of the scale, where a transform at those very frequencies would skip what lies between.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, Log, NoCompression
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.spectral import SpectralFrontend
from audiocls.frontends.spectrum import Spectrum
from audiocls.frontends.window import LearnableWindow
from audiocls.functional import FrequencyScale, MelNorm, PadMode, WindowSpec


class Spectrogram(SpectralFrontend):
    """Power of Fourier bins, or of triangular filters on another scale of frequency.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        n_bins: number of triangular filters; None takes the Fourier bins from `f_min` to `f_max` as they are.
        freq_scale: on which the filters are evenly spaced: "linear", "log", "log2" (whole octaves, as musical scales
            count), "bark", "erb", "slaney" or "htk" (mel); see `functional.band_edges`.
        f_min: lower edge of the lowest filter (for "log2" its peak), in Hz; positive for "log" and "log2".
        f_max: upper edge of the highest filter, in Hz; None is sample_rate / 2.
        norm: of the filters: "slaney" (equal area over Hz), a positive p (equal p-norm) or None (height 1).
        learnable: whether the filterbank is learnt; it starts as the fixed one and stays non-negative.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
        spectrum: what else `Spectrum` takes: `hop_length`, `win_length`, `window`, what is learnt of it.
    Raises:
        ValueError: if a length, a frequency or a name is out of range, or a filter holds no Fourier bin.
    Source: librosa.stft for the bins, librosa.filters.mel for the shape of the triangles.

    >>> frontend = Spectrogram(16000, n_fft=512, n_bins=48, freq_scale="log2", f_min=440.0, f_max=7040.0)
    >>> frontend(torch.zeros(2, 1, 16000)).shape, frontend.frequencies[12].round()
    (torch.Size([2, 1, 48, 126]), tensor(880.))
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        n_bins: int | None = None,
        freq_scale: FrequencyScale = "linear",
        f_min: float = 0.0,
        f_max: float | None = None,
        norm: MelNorm | None = None,
        learnable: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
        **spectrum: Any,
    ) -> None:
        f_max = sample_rate / 2 if f_max is None else f_max
        if n_bins is None:
            if freq_scale != "linear" or norm is not None:
                raise ValueError(
                    f"n_bins must be given with freq_scale {freq_scale!r} and norm {norm!r}, got None: "
                    "Fourier bins have neither"
                )
            bins = FourierBins(sample_rate=sample_rate, n_fft=n_fft, f_min=f_min, f_max=f_max)
            filterbank = Filterbank(bins.matrix(), learnable=True) if learnable else bins
            frequencies = bins.frequencies
        else:
            weight = functional.triangular_filterbank(
                sample_rate=sample_rate,
                n_fft=n_fft,
                n_bins=n_bins,
                f_min=f_min,
                f_max=f_max,
                freq_scale=freq_scale,
                norm=norm,
            )
            filterbank = Filterbank(weight, learnable=learnable)
            frequencies = functional.band_edges(n_bins, f_min=f_min, f_max=f_max, freq_scale=freq_scale)[1:-1]
        super().__init__(
            sample_rate,
            len(frequencies),
            spectrum=Spectrum(n_fft=n_fft, **spectrum),
            filterbank=filterbank,
            compression=compression,
            normalization=normalization,
        )
        self._frequencies = tuple(frequencies.tolist())

    @property
    def frequencies(self) -> Tensor:
        """Centre of each bin at the start of training in Hz, shape (n_bins,), float32."""
        return torch.tensor(self._frequencies, dtype=torch.float32)


class ComplexSpectrogram(Frontend):
    """The complex spectrum as real numbers: real and imaginary part, or the phase alone.

    "complex" doubles the channels, the real and the imaginary part of each beside each other, so that a head for c
    channels of audio is built for 2 c. Both are signed: there is no compression, which is for energies.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of a frame and of the Fourier transform, in samples.
        win_length: length of the window, in samples; None is n_fft.
        hop_length: distance between frames, in samples; None is a quarter of n_fft.
        f_min: the lowest Fourier bin kept is the first from here on, in Hz.
        f_max: the highest Fourier bin kept is the last up to here, in Hz; None is sample_rate / 2.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        output: "complex" (real, imaginary) or "phase" (radians in (-π, π] from the first sample of the frame).
        learnable_window: whether every sample of the window is learnt, or, with "length", how long a Hann window is.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency or a name is out of range.
    Source: librosa.stft.

    >>> frontend = ComplexSpectrogram(16000, n_fft=512, hop_length=160)
    >>> frontend(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 2, 257, 101])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        window: WindowSpec = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
        output: Literal["complex", "phase"] = "complex",
        learnable_window: LearnableWindow = False,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        if output not in ("complex", "phase"):
            raise ValueError(f"output must be 'complex' or 'phase', got {output!r}")
        spectrum = Spectrum(
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            center=center,
            pad_mode=pad_mode,
            learnable_window=learnable_window,
        )
        f_max = sample_rate / 2 if f_max is None else f_max
        bins = FourierBins(sample_rate=sample_rate, n_fft=n_fft, f_min=f_min, f_max=f_max)
        super().__init__(sample_rate, len(bins.frequencies), compression=NoCompression, normalization=normalization)
        self.spectrum = spectrum
        self.bins = bins
        self.output = output

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to signed parts (batch, channels or 2 channels, n_bins, frames)."""
        # one dimension of clips until all is real, as `Spectrum` has it
        spectrum = functional.stft(
            waveform.flatten(end_dim=-2),
            n_fft=self.spectrum.n_fft,
            hop_length=self.spectrum.hop_length,
            window=self.spectrum.window(),
            center=self.spectrum.center,
            pad_mode=self.spectrum.pad_mode,
        )
        # real numbers from here on, which is all that ONNX can choose from
        parts = self.bins(torch.view_as_real(spectrum).movedim(-1, 1))
        if self.output == "phase":
            return functional.angle(*parts.unbind(1)).unflatten(0, waveform.shape[:-1])
        return parts.unflatten(0, waveform.shape[:-1]).flatten(1, 2)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return self.spectrum.n_frames(n_samples)

    @property
    def n_maps(self) -> int:
        """Channels of the spectrogram for each channel of the waveform: two where real and imaginary part are kept."""
        return 2 if self.output == "complex" else 1

    @property
    def frequencies(self) -> Tensor:
        """Frequency of each bin in Hz, shape (n_bins,), float32."""
        return self.bins.frequencies.to(torch.float32)


class FourierBins(nn.Module):
    """The bins of a Fourier transform from one frequency to another, as they are.

    Args:
        sample_rate: in Hz.
        n_fft: length of the transform, in samples.
        f_min: in Hz.
        f_max: in Hz.
    Raises:
        ValueError: if the frequencies are not 0 <= f_min < f_max <= sample_rate / 2, or no bin lies between them.

    >>> FourierBins(sample_rate=8000, n_fft=8, f_min=1000.0, f_max=3000.0)(torch.arange(5.0)[:, None]).T
    tensor([[1., 2., 3.]])
    """

    def __init__(self, *, sample_rate: int, n_fft: int, f_min: float, f_max: float) -> None:
        super().__init__()
        functional.check_filterbank(sample_rate, n_fft, 1, f_min, f_max)
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.first = math.ceil(f_min * n_fft / sample_rate)
        self.stop = math.floor(f_max * n_fft / sample_rate) + 1
        if self.stop <= self.first:
            raise ValueError(
                f"f_min={f_min} and f_max={f_max} Hz must have a bin of n_fft={n_fft} between them, which lie "
                f"{sample_rate / n_fft:g} Hz apart: move them apart or raise n_fft"
            )

    @property
    def frequencies(self) -> Tensor:
        """Frequency of each bin in Hz, shape (n_bins,), float64."""
        return torch.arange(self.first, self.stop, dtype=torch.float64) * (self.sample_rate / self.n_fft)

    def matrix(self) -> Tensor:
        """The same choice as a filterbank of ones, shape (n_bins, n_fft // 2 + 1)."""
        return torch.eye(self.n_fft // 2 + 1, dtype=torch.float32)[self.first : self.stop]

    def forward(self, spectrum: Tensor) -> Tensor:
        """Spectrum (..., n_fft // 2 + 1, frames) to its bins (..., n_bins, frames)."""
        # contiguous, or a batch norm behind it keeps torch.export from leaving the number of frames free
        return spectrum[..., self.first : self.stop, :].contiguous()

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"first={self.first}, stop={self.stop}, n_fft={self.n_fft}"
