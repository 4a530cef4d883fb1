"""Mel scales and filterbanks against librosa and torchaudio, and what a filter must look like."""

import logging
import warnings

import librosa
import numpy as np
import pytest
import torch

from audiocls import functional
from audiocls.functional import filterbanks


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
def test_scales_equal_librosa_and_invert_each_other(mel_scale: str) -> None:
    frequency = torch.linspace(0, 22050, 501)
    mels = functional.hz_to_mel(frequency, mel_scale=mel_scale)
    # float64 on both sides; logarithms of two libraries
    np.testing.assert_allclose(mels, librosa.hz_to_mel(frequency.double().numpy(), htk=mel_scale == "htk"), rtol=1e-12)
    back = functional.mel_to_hz(mels, mel_scale=mel_scale)
    np.testing.assert_allclose(back, librosa.mel_to_hz(mels.numpy(), htk=mel_scale == "htk"), rtol=1e-12)
    np.testing.assert_allclose(back, frequency.double(), rtol=1e-12, atol=1e-9)


# Kapre's grid and two norms more, rtol 1e-7 (float32, equal to the last bit or one beside it)
@pytest.mark.parametrize("sample_rate", [44100, 22050])
@pytest.mark.parametrize("n_fft", [2048, 512])
@pytest.mark.parametrize("n_mels", [32, 128])
@pytest.mark.parametrize("f_min", [0.0, 200.0])
@pytest.mark.parametrize("f_max_ratio", [1.0, 0.5])
@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", [None, "slaney", 1.0, 2.0, float("inf")])
def test_filterbank_equals_librosa(
    sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max_ratio: float, mel_scale: str, norm: str | None
) -> None:
    f_max = f_max_ratio * sample_rate / 2
    ours = functional.mel_filterbank(
        sample_rate=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        f_min=f_min,
        f_max=f_max,
        mel_scale=mel_scale,
        norm=norm,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty filters, which librosa warns of on each call
        reference = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min, fmax=f_max, htk=mel_scale == "htk", norm=norm
        )
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, reference, rtol=1e-7)


@pytest.mark.parametrize(("n_fft", "sample_rate", "n_mels"), [(400, 16000, 80), (511, 8000, 40), (1000, 16000, 64)])
def test_filterbank_of_lengths_that_are_no_power_of_two(n_fft: int, sample_rate: int, n_mels: int) -> None:
    ours = functional.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    np.testing.assert_allclose(ours, librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels), rtol=1e-7)


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", [None, "slaney"])
def test_filterbank_equals_torchaudio(mel_scale: str, norm: str | None) -> None:
    torchaudio = pytest.importorskip("torchaudio.functional", exc_type=(ImportError, OSError))
    reference = torchaudio.melscale_fbanks(513, 0.0, 8000.0, 40, 16000, norm=norm, mel_scale=mel_scale).T
    ours = functional.mel_filterbank(sample_rate=16000, n_fft=1024, n_mels=40, mel_scale=mel_scale, norm=norm)
    # torchaudio computes its edges in float32: 1e-5 of a filter's peak
    torch.testing.assert_close(ours, reference, rtol=0, atol=2e-5 * float(reference.max()))


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
def test_each_filter_peaks_at_its_frequency(mel_scale: str) -> None:
    ours = functional.mel_filterbank(sample_rate=22050, n_fft=2048, n_mels=40, mel_scale=mel_scale)
    centres = functional.mel_frequencies(42, f_min=0.0, f_max=11025.0, mel_scale=mel_scale)[1:-1]
    peaks = ours.argmax(dim=1) * 22050 / 2048
    assert (ours >= 0).all()
    assert (peaks - centres).abs().max() <= 22050 / 2048  # one Fourier bin


def test_slaney_norm_gives_equal_area() -> None:
    ours = functional.mel_filterbank(sample_rate=16000, n_fft=8192, n_mels=20)
    area = ours.sum(dim=1) * 16000 / 8192
    torch.testing.assert_close(area, torch.ones(20), rtol=2e-3, atol=0)  # a triangle sampled every 2 Hz


def test_empty_filters_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    filterbanks._warn_empty.cache_clear()
    with caplog.at_level(logging.WARNING, logger="audiocls"):
        for _ in range(2):
            filterbank = functional.mel_filterbank(sample_rate=44100, n_fft=256, n_mels=128)
    n_empty = int((filterbank.sum(dim=1) == 0).sum())
    assert [record.getMessage() for record in caplog.records] == [
        f"{n_empty} of n_mels=128 mel filters hold no bin of n_fft=256 at 44100 Hz and stay silent: "
        "lower n_mels or raise n_fft"
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"f_min": 9000.0}, "f_min must be between 0 and f_max=8000.0 Hz, got 9000.0"),
        ({"f_min": -1.0}, "f_min must be between 0 and f_max=8000.0 Hz, got -1.0"),
        ({"f_max": 8001.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 8001.0: lower it or leave it out"),
        ({"n_mels": 0}, "n_mels must be at least 1, got 0"),
        ({"n_fft": 0}, "n_fft must be at least 1 sample, got 0"),
        ({"norm": "area"}, r"norm must be 'slaney', a positive number \(1.0, 2.0, inf\) or None, got 'area'"),
        ({"norm": -1.0}, "norm must be 'slaney', a positive number .* got -1.0"),
        ({"mel_scale": "bark"}, "mel_scale must be 'slaney' or 'htk', got 'bark'"),
    ],
)
def test_filterbank_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.mel_filterbank(**{"sample_rate": 16000, "n_fft": 512, "n_mels": 40, **setting})
