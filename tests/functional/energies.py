"""What the kernel of `fused` is held against: the same energies by torch's own transform in float64."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from audiocls import functional
from tests.frontends.signals import signals

SAMPLE_RATE = 16000
SIZES = (256, 512, 1024, 2048, 4096)


@lru_cache
def _clips() -> Tensor:
    made = [torch.from_numpy(samples).float() for samples in signals(SAMPLE_RATE).values()]
    return torch.stack([*made, torch.zeros(len(made[0]))])


def clips(time: int = 8000) -> Tensor:
    """A tone, a sweep, noise, a voice and silence, shape (5, time), of at most 8000 samples."""
    return _clips()[:, :time].clone()


def pcm(waveform: Tensor) -> Tensor:
    """As int16."""
    return (waveform * 32767).round().clamp(-32768, 32767).to(torch.int16)


def settings(n_fft: int, hop_length: int, win_length: int | None = None, **others: Any) -> dict[str, Any]:
    window = functional.window("hann", win_length or n_fft)
    return {"n_fft": n_fft, "hop_length": hop_length, "window": window, **others}


def framings(n_fft: int) -> tuple[tuple[int, int, bool], ...]:
    """Hops, lengths of windows and whether frames are centred: even and odd hops, overlap and gaps, short windows."""
    return (
        (n_fft // 4, n_fft, True),
        (n_fft // 3, n_fft, True),
        (n_fft // 2 + 19, n_fft - 100, True),
        (n_fft + 6, 201, True),
        (n_fft // 4 + 2, n_fft, False),
        (n_fft // 3, n_fft // 2 + 1, False),
    )


def mel(n_fft: int, n_mels: int) -> Tensor:
    return functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=n_fft, n_mels=n_mels)


def exact(
    waveform: Tensor, filterbank: Tensor | None = None, *, window: Tensor, power: float = 2.0, **settings: Any
) -> Tensor:
    """Energies in float64."""
    waveform = functional.pcm_to_float(waveform).double()
    energy = functional.power_spectrum(functional.stft(waveform, window=window.double(), **settings))
    energy = functional.magnitude(energy) if power == 1.0 else energy
    return energy if filterbank is None else filterbank.double() @ energy


def assert_exact(
    ours: Tensor, waveform: Tensor, filterbank: Tensor | None = None, *, within: float = 5e-7, **settings: Any
) -> None:
    """Each bin is right within a part of the largest of its clip, 1 to 4e-7 as with any transform in float32."""
    bins, expected = (exact(waveform, weight, **settings) for weight in (None, filterbank))
    assert ours.shape == expected.shape
    assert ours.dtype == torch.float32
    unit = bins.amax(dim=(-2, -1), keepdim=True)
    if filterbank is not None:
        unit = unit * filterbank.double().abs().sum(dim=1).amax()
    off = (ours - expected).abs() - within * unit
    assert (off <= 0).all(), f"off by {((ours - expected).abs() / unit).nan_to_num().max():.1e} of the peak"
