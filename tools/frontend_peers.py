"""The implementations that `bench_frontends` compares: ours, torchaudio's, nnAudio's and librosa's, set up alike.

Each is built for a setting and a device and maps waveforms (batch, 1, time) to spectrograms (batch, 1, freq, frames).
All are given int16, as a store holds it. Ours takes that as it is; peers take floats, and converting to them, by what
ours does it by (`functional.pcm_to_float`), counts as theirs. Only `GIVEN_FLOAT` is spared: it is given floats.
Padding mirrors, since all of them can. Peers are imported where they are built: what is not installed is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends import CQT, MFCC, PCEN, Compression, Decibel, Frontend, MelSpectrogram, NoNormalization
from measuring import OURS

TOP_DB = 80.0
N_MFCC = 20
UNCOMPARED = f"{OURS}, decibel"  # beside gain control for its time alone
FFT_PATH = f"{OURS}, fft path"  # for CUDA alone: elsewhere it is the path that ours takes
LEARNT_PCEN = f"{OURS}, learnt filterbank and PCEN"  # no peer has gain control to learn
GIVEN_FLOAT = "torchaudio, given float"


@dataclass(frozen=True)
class Setting:
    """One size of spectrogram; samples, Hz and number of filters."""

    sample_rate: int
    n_fft: int
    hop_length: int
    n_mels: int

    def __str__(self) -> str:
        return f"{self.sample_rate} Hz {self.n_fft}/{self.hop_length}/{self.n_mels}"


Implementation = Callable[[Tensor], Tensor]
Build = Callable[[Setting, str], Implementation]


def our_mel(
    setting: Setting,
    device: str,
    *,
    learnable: bool = False,
    compression: Callable[[int], Compression] = Decibel,
    path: Literal["fft"] | None = None,
) -> Frontend:
    """Our mel front-end, on the path that it chooses or the one that is given."""
    return MelSpectrogram(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        pad_mode="reflect",
        path=path,
        learnable=learnable,
        compression=compression,
        normalization=NoNormalization,
    ).to(device)


def our_learnt_pcen(setting: Setting, device: str) -> Frontend:
    """Our mel front-end with filterbank and gain control learnt."""
    return our_mel(setting, device, learnable=True, compression=partial(PCEN, learnable=True))


def our_mfcc(setting: Setting, device: str, *, path: Literal["fft"] | None = None) -> Frontend:
    """Our cepstral coefficients, on the path that they choose or the one that is given."""
    return MFCC(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mfcc=N_MFCC,
        n_mels=setting.n_mels,
        pad_mode="reflect",
        path=path,
        normalization=NoNormalization,
    ).to(device)


def our_cqt(setting: Setting, device: str) -> Frontend:
    """Our constant-Q transform, in decibels."""
    return CQT(
        setting.sample_rate,
        hop_length=setting.hop_length,
        n_bins=_n_bins(setting),
        pad_mode="reflect",
        compression=Decibel,
        normalization=NoNormalization,
    ).to(device)


def torchaudio_mel(setting: Setting, device: str) -> nn.Module:
    """torchaudio's MelSpectrogram and AmplitudeToDB."""
    transforms = importlib.import_module("torchaudio.transforms")
    mel = transforms.MelSpectrogram(setting.sample_rate, **_torchaudio_sizes(setting))
    return nn.Sequential(_FromPCM(), mel, transforms.AmplitudeToDB(top_db=TOP_DB)).to(device)


def torchaudio_learnt_mel(setting: Setting, device: str) -> nn.Module:
    """torchaudio's chain with its matrix made a parameter, which is all that it takes."""
    chain = torchaudio_mel(setting, device)
    scale = chain.get_submodule("1.mel_scale")
    matrix = nn.Parameter(scale.get_buffer("fb"))
    del scale.fb
    scale.register_parameter("fb", matrix)
    return chain


def torchaudio_mfcc(setting: Setting, device: str) -> nn.Module:
    """torchaudio's MFCC."""
    transforms = importlib.import_module("torchaudio.transforms")
    sizes = _torchaudio_sizes(setting)
    mfcc = transforms.MFCC(setting.sample_rate, n_mfcc=N_MFCC, melkwargs=sizes)
    return nn.Sequential(_FromPCM(), mfcc).to(device)


def _torchaudio_sizes(setting: Setting) -> dict[str, object]:
    sizes = {"n_fft": setting.n_fft, "hop_length": setting.hop_length, "n_mels": setting.n_mels}
    return {**sizes, "norm": "slaney", "mel_scale": "slaney"}


def nnaudio_mel(setting: Setting, device: str, *, learnable: bool = False) -> Implementation:
    """nnAudio's MelSpectrogram; its decibels are made the way ours are, since it has none of its own."""
    features = importlib.import_module("nnAudio.features.mel")
    sizes = {"n_fft": setting.n_fft, "hop_length": setting.hop_length, "n_mels": setting.n_mels}
    mel = features.MelSpectrogram(sr=setting.sample_rate, trainable_mel=learnable, verbose=False, **sizes)
    return nn.Sequential(_Batched(mel), Decibel(setting.n_mels, top_db=TOP_DB)).to(device)


def nnaudio_mfcc(setting: Setting, device: str) -> Implementation:
    """nnAudio's MFCC."""
    features = importlib.import_module("nnAudio.features.mel")
    sizes = {"n_fft": setting.n_fft, "hop_length": setting.hop_length, "n_mels": setting.n_mels}
    return _Batched(features.MFCC(sr=setting.sample_rate, n_mfcc=N_MFCC, verbose=False, **sizes)).to(device)


def nnaudio_cqt(setting: Setting, device: str, *, kind: str) -> Implementation:
    """One of nnAudio's constant-Q transforms, its magnitudes in decibels the way ours are."""
    features = importlib.import_module("nnAudio.features.cqt")
    cqt = getattr(features, kind)(
        sr=setting.sample_rate, hop_length=setting.hop_length, n_bins=_n_bins(setting), verbose=False
    )
    return nn.Sequential(_Batched(cqt), _Square(), Decibel(_n_bins(setting), top_db=TOP_DB)).to(device)


class _FromPCM(nn.Module):
    """PCM to float; what is float already stays as it is."""

    def forward(self, waveform: Tensor) -> Tensor:
        return functional.pcm_to_float(waveform)


class _Square(nn.Module):
    """Magnitude to power."""

    def forward(self, magnitude: Tensor) -> Tensor:
        return magnitude.square()


class _Batched(nn.Module):
    """A module of floats (batch, time) made one of PCM (batch, channels, time)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, waveform: Tensor) -> Tensor:
        clips = functional.pcm_to_float(waveform).flatten(0, 1)
        return self.module(clips).unflatten(0, waveform.shape[:2])


def librosa_mel(setting: Setting, device: str) -> Implementation:
    """librosa's log mel spectrogram."""
    return _clip_by_clip(lambda clip: librosa.power_to_db(_librosa_energy(clip, setting), top_db=TOP_DB))


def librosa_pcen(setting: Setting, device: str) -> Implementation:
    """librosa's mel spectrogram and gain control, with the numbers of ours, and begun at the level of the clip too."""
    smooth = 0.025

    def pcen(clip: np.ndarray) -> np.ndarray:
        energy = _librosa_energy(clip, setting)
        return librosa.pcen(energy, b=smooth, bias=2.0, zi=(1 - smooth) * energy[:, :1])

    return _clip_by_clip(pcen)


def librosa_mfcc(setting: Setting, device: str) -> Implementation:
    """librosa's MFCC."""

    def mfcc(clip: np.ndarray) -> np.ndarray:
        decibel = librosa.power_to_db(_librosa_energy(clip, setting), top_db=TOP_DB)
        return librosa.feature.mfcc(S=decibel, n_mfcc=N_MFCC)

    return _clip_by_clip(mfcc)


def librosa_cqt(setting: Setting, device: str) -> Implementation:
    """librosa's constant-Q transform."""

    def cqt(clip: np.ndarray) -> np.ndarray:
        spectrum = librosa.cqt(
            clip,
            sr=setting.sample_rate,
            hop_length=setting.hop_length,
            n_bins=_n_bins(setting),
            pad_mode="reflect",
        )
        return librosa.power_to_db(np.abs(spectrum) ** 2, top_db=TOP_DB)

    return _clip_by_clip(cqt)


def _librosa_energy(clip: np.ndarray, setting: Setting) -> np.ndarray:
    return librosa.feature.melspectrogram(
        y=clip,
        sr=setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        pad_mode="reflect",
    )


def _clip_by_clip(one: Callable[[np.ndarray], np.ndarray]) -> Implementation:
    """Every clip by itself, on the processor, whatever the device of the others."""
    return lambda waveform: torch.from_numpy(
        np.stack([one(clip) for clip in functional.pcm_to_float(waveform.flatten(0, 1).cpu()).numpy()])
    ).unflatten(0, waveform.shape[:2])


def _n_bins(setting: Setting) -> int:
    """Semitones of the constant-Q transform: seven octaves from 32.7 Hz, or what fits below a quarter of the rate."""
    return min(84, int(12 * np.log2(0.45 * setting.sample_rate / 32.7)))


PEERS: dict[str, dict[str, Build]] = {
    "mel": {
        OURS: our_mel,
        FFT_PATH: partial(our_mel, path="fft"),
        f"{OURS}, learnt filterbank": partial(our_mel, learnable=True),
        "torchaudio": torchaudio_mel,
        GIVEN_FLOAT: torchaudio_mel,
        "nnAudio": nnaudio_mel,
        "librosa": librosa_mel,
    },
    "mel, learnt, forward and backward": {
        OURS: partial(our_mel, learnable=True),
        FFT_PATH: partial(our_mel, learnable=True, path="fft"),
        LEARNT_PCEN: our_learnt_pcen,
        "torchaudio": torchaudio_learnt_mel,
        "nnAudio": partial(nnaudio_mel, learnable=True),
    },
    "mfcc": {
        OURS: our_mfcc,
        FFT_PATH: partial(our_mfcc, path="fft"),
        "torchaudio": torchaudio_mfcc,
        "nnAudio": nnaudio_mfcc,
        "librosa": librosa_mfcc,
    },
    "cqt": {
        OURS: our_cqt,
        "nnAudio CQT1992v2": partial(nnaudio_cqt, kind="CQT1992v2"),
        "nnAudio CQT2010v2": partial(nnaudio_cqt, kind="CQT2010v2"),
        "librosa": librosa_cqt,
    },
    "pcen": {
        OURS: partial(our_mel, compression=PCEN),
        FFT_PATH: partial(our_mel, compression=PCEN, path="fft"),
        UNCOMPARED: our_mel,
        "librosa": librosa_pcen,
    },
}
