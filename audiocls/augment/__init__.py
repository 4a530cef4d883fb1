"""Augmentation of training batches on the device; `model.augment` of a configuration lists what is wanted, in order."""

from audiocls.augment.base import Augmentation, ClipAugmentation
from audiocls.augment.bridge import Audiomentations
from audiocls.augment.filters import HighPass, LowPass
from audiocls.augment.mixing import CutMixTime, Mixing, Mixup
from audiocls.augment.noise import BackgroundNoise
from audiocls.augment.pitch import PitchShift, TempoChange
from audiocls.augment.recordings import Recordings
from audiocls.augment.reverb import Reverb
from audiocls.augment.spectrogram import FreqMixStyle, FrequencyWarp, SpecAugment
from audiocls.augment.speed import SpeedChange
from audiocls.augment.waveform import Gain, PolarityInversion, RandomRoll, TimeShift

__all__ = [
    "Audiomentations",
    "Augmentation",
    "BackgroundNoise",
    "ClipAugmentation",
    "CutMixTime",
    "FreqMixStyle",
    "FrequencyWarp",
    "Gain",
    "HighPass",
    "LowPass",
    "Mixing",
    "Mixup",
    "PitchShift",
    "PolarityInversion",
    "RandomRoll",
    "Recordings",
    "Reverb",
    "SpecAugment",
    "SpeedChange",
    "TempoChange",
    "TimeShift",
]
