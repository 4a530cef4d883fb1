"""Cosine transform, liftering and differences against scipy, librosa and torchaudio."""

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from audiocls import functional


@pytest.mark.parametrize(("n_coefficients", "n_bins"), [(1, 1), (1, 40), (13, 40), (128, 128)])
def test_dct_equals_scipy(n_coefficients: int, n_bins: int) -> None:
    expected = scipy.fft.dct(np.eye(n_bins), axis=0, norm="ortho")[:n_coefficients]
    np.testing.assert_allclose(functional.dct_matrix(n_coefficients, n_bins), expected, rtol=0, atol=1e-7)  # float32


# Kapre's numbers of coefficients
@pytest.mark.parametrize("n_mfcc", [1, 20, 40])
@pytest.mark.parametrize("lifter", [0.0, 22.0, 60.0])
def test_cepstrum_equals_librosa(n_mfcc: int, lifter: float) -> None:
    decibel = (40 * torch.randn(2, 3, 40, 11)).clamp(min=-80.0)
    ours = functional.cepstrum(decibel, n_coefficients=n_mfcc, lifter=lifter)
    reference = librosa.feature.mfcc(S=decibel.double().numpy(), n_mfcc=n_mfcc, lifter=lifter)
    # float32 sums of 40 decibels, times up to 31 where liftered
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * (1 + lifter / 2))


@pytest.mark.parametrize(
    ("n_coefficients", "lifter", "message"),
    [
        (41, 0.0, "n_coefficients must be between 1 and n_bins=40, got 41"),
        (0, 0.0, "n_coefficients must be between 1 and n_bins=40, got 0"),
        (13, -1.0, "lifter must be at least 0 coefficients, got -1.0"),
    ],
)
def test_cepstrum_refuses(n_coefficients: int, lifter: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.cepstrum(torch.zeros(1, 40, 2), n_coefficients=n_coefficients, lifter=lifter)


@pytest.mark.parametrize("mode", ["nearest", "interp"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("width", [5, 9, 13])
def test_deltas_equal_librosa(width: int, order: int, mode: str) -> None:
    features = torch.randn(2, 3, 13, 20)
    ours = functional.deltas(features, width=width, order=order, mode=mode)
    reference = librosa.feature.delta(features.double().numpy(), width=width, order=order, mode=mode)
    np.testing.assert_allclose(ours, reference, rtol=0, atol=5e-6)  # float32 sums


def test_deltas_equal_torchaudio_on_clips_shorter_than_the_kernel_too() -> None:
    torchaudio = pytest.importorskip("torchaudio.functional", exc_type=(ImportError, OSError))
    for n_frames in (1, 2, 5, 50):
        features = torch.randn(2, 4, n_frames)
        ours = functional.deltas(features, width=5)
        torch.testing.assert_close(ours, torchaudio.compute_deltas(features, win_length=5), rtol=0, atol=1e-6)


def test_kapres_delta() -> None:
    ours = functional.deltas(torch.tensor([1.0, 2.0, 3.0, 4.0]), width=3)
    torch.testing.assert_close(ours, torch.tensor([0.5, 1.0, 1.0, 0.5]))


@pytest.mark.parametrize("order", [1, 2])
def test_deltas_of_a_parabola_are_its_derivatives(order: int) -> None:
    frame = torch.arange(20, dtype=torch.float64)
    features = 3 * frame**2 + 2 * frame + 1
    ours = functional.deltas(features, width=7, order=order)[5:-5]
    expected = (6 * frame + 2)[5:-5] if order == 1 else torch.full((10,), 6.0, dtype=torch.float64)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"width": 4}, "width must be an odd number of frames, at least 3 and above order=1, got 4"),
        ({"width": 1}, "width must be an odd number of frames, at least 3 and above order=1, got 1"),
        ({"width": 3, "order": 3}, "width must be .* above order=3, got 3"),
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"mode": "wrap"}, "mode must be 'nearest' or 'interp', got 'wrap'"),
        ({"mode": "interp"}, "features must hold at least width=9 frames with mode 'interp', got 8"),
    ],
)
def test_deltas_refuse(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.deltas(torch.zeros(2, 8), **setting)
