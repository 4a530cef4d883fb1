"""Front-ends: waveform -> spectrogram, inside the model, so that every number of it can be tuned or learnt."""

from audiocls.frontends.base import Frontend
from audiocls.frontends.cfp import CFP
from audiocls.frontends.compression import PCEN, Compression, Decibel, Log, Log1p, NoCompression
from audiocls.frontends.cqt import CQT, VQT
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.gammatonegram import Gammatonegram
from audiocls.frontends.harmonic import Harmonic
from audiocls.frontends.leaf import Leaf
from audiocls.frontends.mel import MelSpectrogram
from audiocls.frontends.mfcc import LFCC, MFCC
from audiocls.frontends.normalization import (
    BatchNormBins,
    BatchNormMap,
    ClipNorm,
    FixedNorm,
    NoNormalization,
    Normalization,
)
from audiocls.frontends.parametric import ParametricMel
from audiocls.frontends.sinc_net import SincNet
from audiocls.frontends.spectrogram import ComplexSpectrogram, Spectrogram
from audiocls.frontends.spectrum import Spectrum
from audiocls.frontends.waveform import Waveform

__all__ = [
    "CFP",
    "CQT",
    "LFCC",
    "MFCC",
    "PCEN",
    "VQT",
    "BatchNormBins",
    "BatchNormMap",
    "ClipNorm",
    "ComplexSpectrogram",
    "Compression",
    "Decibel",
    "Filterbank",
    "FixedNorm",
    "Frontend",
    "Gammatonegram",
    "Harmonic",
    "Leaf",
    "Log",
    "Log1p",
    "MelSpectrogram",
    "NoCompression",
    "NoNormalization",
    "Normalization",
    "ParametricMel",
    "SincNet",
    "Spectrogram",
    "Spectrum",
    "Waveform",
]
