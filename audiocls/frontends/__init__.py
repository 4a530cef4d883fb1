"""Front-ends: waveform -> spectrogram, inside the model, so that every number of it can be tuned or learnt."""

from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, Decibel, Log, Log1p, NoCompression
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.mel import MelSpectrogram
from audiocls.frontends.normalization import BatchNormBins, NoNormalization, Normalization
from audiocls.frontends.spectrum import Spectrum

__all__ = [
    "BatchNormBins",
    "Compression",
    "Decibel",
    "Filterbank",
    "Frontend",
    "Log",
    "Log1p",
    "MelSpectrogram",
    "NoCompression",
    "NoNormalization",
    "Normalization",
    "Spectrum",
]
