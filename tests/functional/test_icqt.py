"""The inverse constant-Q transform: what it gives back of notes and tones, and that it is the best there is."""

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import WaveletBand

SAMPLE_RATE = 8000
SETTINGS = {"sample_rate": SAMPLE_RATE, "hop_length": 64, "n_bins": 48, "f_min": 130.8}


def notes() -> Tensor:
    """Ten decaying notes of four harmonics between 150 and 1800 Hz, two seconds: (time,), float32."""
    generator = np.random.default_rng(0)
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    waveform = np.zeros_like(time)
    for _ in range(10):
        age = time - generator.uniform(0, 1.5)
        envelope = np.where(age > 0, (1 - np.exp(-age.clip(0) / 0.02)) * np.exp(-age.clip(0) / 0.4), 0)
        pitch = generator.uniform(150, 440)
        waveform += sum(0.2 / h * envelope * np.sin(2 * np.pi * h * pitch * time) for h in range(1, 5))
    return torch.from_numpy(waveform).float()


def decibels(signal: Tensor, error: Tensor) -> float:
    return float(10 * torch.log10(signal.abs().square().sum() / error.abs().square().sum()))


@pytest.fixture(scope="module")
def bands() -> list[WaveletBand]:
    return functional.cqt_bands(**SETTINGS)


def test_notes_come_back_and_better_than_from_librosa(bands: list[WaveletBand]) -> None:
    waveform = notes()
    again = functional.icqt(functional.cqt(waveform, bands), bands, length=len(waveform))
    theirs = librosa.icqt(
        librosa.cqt(waveform.numpy(), sr=SAMPLE_RATE, hop_length=64, n_bins=48, fmin=130.8),
        sr=SAMPLE_RATE,
        hop_length=64,
        fmin=130.8,
        length=len(waveform),
    )
    ours_db = decibels(waveform, again - waveform)
    assert ours_db > 30  # the attacks have a little outside of the four octaves, which no transform of them keeps
    assert ours_db > decibels(waveform, torch.from_numpy(theirs) - waveform) + 10


def test_transform_of_the_inverse_is_the_transform(bands: list[WaveletBand]) -> None:
    spectrum = functional.cqt(notes(), bands)
    again = functional.cqt(functional.icqt(spectrum, bands, length=16000), bands)
    assert decibels(spectrum, again - spectrum) > 60  # what 16 steps reach; 32 reach some 10 dB more


def test_nothing_is_nearer(bands: list[WaveletBand]) -> None:
    target = torch.randn(48, 1 + 4000 // 64, dtype=torch.complex64)  # no waveform has this transform
    best = functional.icqt(target, bands, length=4000, n_iter=64)
    weight = torch.cat([band.peak for band in bands]).float().unsqueeze(-1)  # a wavelet of half the length counts twice

    def distance(waveform: Tensor) -> Tensor:
        return (weight * (functional.cqt(waveform, bands) - target)).abs().square().sum()

    around = [distance(best + 0.02 * best.std() * torch.randn(4000)) for _ in range(5)]
    assert all(distance(best) < other for other in around)


def test_batches_silence_and_leading_dimensions(bands: list[WaveletBand]) -> None:
    waveform = torch.stack([notes(), 1e-3 * notes().flip(0), torch.zeros(16000)]).reshape(3, 1, -1)
    spectrum = functional.cqt(waveform, bands)
    again = functional.icqt(spectrum, bands, length=16000, n_iter=8)
    assert again.shape == waveform.shape
    assert torch.equal(again[2], torch.zeros(1, 16000))
    for clip, alone in zip(again, spectrum, strict=True):
        expected = functional.icqt(alone, bands, length=16000, n_iter=8)
        # steps are each clip's own; the sums inside them are float32
        torch.testing.assert_close(clip, expected, rtol=0, atol=float(1e-4 * expected.abs().max()))


def test_inference_mode_changes_nothing(bands: list[WaveletBand]) -> None:
    spectrum = functional.cqt(notes(), bands)
    expected = functional.icqt(spectrum, bands, length=16000, n_iter=2)
    with torch.inference_mode():
        assert torch.equal(functional.icqt(spectrum, bands, length=16000, n_iter=2), expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"length": 0}, "length must be at least 1 sample, got 0"),
        ({"n_iter": 0}, "n_iter must be at least 1, got 0"),
        ({"length": 6000}, r"must be complex \(..., 48, 94\) for .* length=6000, got torch.complex64 \(48, 63\)"),
        ({"spectrum": torch.zeros(48, 63)}, r"must be complex \(..., 48, 63\) for .*, got torch.float32 \(48, 63\)"),
    ],
)
def test_arguments_are_checked(bands: list[WaveletBand], setting: dict, message: str) -> None:
    spectrum = torch.zeros(48, 63, dtype=torch.complex64)
    with pytest.raises(ValueError, match=message):
        functional.icqt(**{"spectrum": spectrum, "bands": bands, "length": 4000, **setting})
