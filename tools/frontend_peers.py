"""The implementations that `bench_frontends` compares: ours, torchaudio's, nnAudio's and librosa's, set up alike.

Each is built for a setting and a device and maps waveforms (batch, 1, time) to spectrograms (batch, 1, freq, frames).
Padding mirrors, since all of them can. Peers are imported where they are built: what is not installed is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from audiocls.frontends import CQT, MFCC, PCEN, Compression, Decibel, Frontend, MelSpectrogram, NoNormalization
from measuring import OURS

TOP_DB = 80.0
N_MFCC = 20
UNCOMPARED = f"{OURS}, decibel"  # beside gain control for its time alone


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
) -> Frontend:
    """Our mel front-end."""
    return MelSpectrogram(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        pad_mode="reflect",
        learnable=learnable,
        compression=compression,
        normalization=NoNormalization,
    ).to(device)


def our_learnt_mel(setting: Setting, device: str) -> Frontend:
    """Our mel front-end with a learnt filterbank."""
    return our_mel(setting, device, learnable=True)


def our_pcen(setting: Setting, device: str) -> Frontend:
    """Our mel front-end with gain control."""
    return our_mel(setting, device, compression=PCEN)


def our_mfcc(setting: Setting, device: str) -> Frontend:
    """Our cepstral coefficients."""
    return MFCC(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mfcc=N_MFCC,
        n_mels=setting.n_mels,
        pad_mode="reflect",
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
    return nn.Sequential(mel, transforms.AmplitudeToDB(top_db=TOP_DB)).to(device)


def torchaudio_learnt_mel(setting: Setting, device: str) -> nn.Module:
    """torchaudio's chain with its matrix made a parameter, which is all that it takes."""
    chain = torchaudio_mel(setting, device)
    scale = chain.get_submodule("0.mel_scale")
    matrix = nn.Parameter(scale.get_buffer("fb"))
    del scale.fb
    scale.register_parameter("fb", matrix)
    return chain


def torchaudio_mfcc(setting: Setting, device: str) -> nn.Module:
    """torchaudio's MFCC."""
    transforms = importlib.import_module("torchaudio.transforms")
    sizes = _torchaudio_sizes(setting)
    return transforms.MFCC(setting.sample_rate, n_mfcc=N_MFCC, melkwargs=sizes).to(device)


def _torchaudio_sizes(setting: Setting) -> dict[str, object]:
    sizes = {"n_fft": setting.n_fft, "hop_length": setting.hop_length, "n_mels": setting.n_mels}
    return {**sizes, "norm": "slaney", "mel_scale": "slaney"}


def nnaudio_mel(setting: Setting, device: str, *, learnable: bool = False) -> Implementation:
    """nnAudio's MelSpectrogram; its decibels are made the way ours are, since it has none of its own."""
    features = importlib.import_module("nnAudio.features.mel")
    sizes = {"n_fft": setting.n_fft, "hop_length": setting.hop_length, "n_mels": setting.n_mels}
    mel = features.MelSpectrogram(sr=setting.sample_rate, trainable_mel=learnable, verbose=False, **sizes)
    return _Batched(nn.Sequential(mel, Decibel(setting.n_mels, top_db=TOP_DB))).to(device)


def nnaudio_learnt_mel(setting: Setting, device: str) -> Implementation:
    """nnAudio's MelSpectrogram with its trainable matrix."""
    return nnaudio_mel(setting, device, learnable=True)


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
    return _Batched(nn.Sequential(cqt, _Square(), Decibel(_n_bins(setting), top_db=TOP_DB))).to(device)


class _Square(nn.Module):
    """Magnitude to power."""

    def forward(self, magnitude: Tensor) -> Tensor:
        return magnitude.square()


class _Batched(nn.Module):
    """A module of (batch, time) made one of (batch, channels, time)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, waveform: Tensor) -> Tensor:
        return self.module(waveform.flatten(0, 1)).unflatten(0, waveform.shape[:2])


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
        np.stack([one(clip) for clip in waveform.flatten(0, 1).cpu().numpy()])
    ).unflatten(0, waveform.shape[:2])


def _n_bins(setting: Setting) -> int:
    """Semitones of the constant-Q transform: seven octaves from 32.7 Hz, or what fits below a quarter of the rate."""
    return min(84, int(12 * np.log2(0.45 * setting.sample_rate / 32.7)))


PEERS: dict[str, dict[str, Build]] = {
    "mel": {
        OURS: our_mel,
        f"{OURS}, learnt filterbank": our_learnt_mel,
        "torchaudio": torchaudio_mel,
        "nnAudio": nnaudio_mel,
        "librosa": librosa_mel,
    },
    "mel, learnt, forward and backward": {
        OURS: our_learnt_mel,
        "torchaudio": torchaudio_learnt_mel,
        "nnAudio": nnaudio_learnt_mel,
    },
    "mfcc": {OURS: our_mfcc, "torchaudio": torchaudio_mfcc, "nnAudio": nnaudio_mfcc, "librosa": librosa_mfcc},
    "cqt": {
        OURS: our_cqt,
        "nnAudio CQT1992v2": lambda setting, device: nnaudio_cqt(setting, device, kind="CQT1992v2"),
        "nnAudio CQT2010v2": lambda setting, device: nnaudio_cqt(setting, device, kind="CQT2010v2"),
        "librosa": librosa_cqt,
    },
    "pcen": {OURS: our_pcen, UNCOMPARED: our_mel, "librosa": librosa_pcen},
}
