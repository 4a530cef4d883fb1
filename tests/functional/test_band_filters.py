"""Bands over Fourier bins, impulse responses and convolution, against librosa, scipy and numpy."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from audiocls import functional


def mel_edges(n_bins: int, sample_rate: int, *, htk: bool) -> torch.Tensor:
    points = torch.from_numpy(librosa.mel_frequencies(n_bins + 2, fmin=0.0, fmax=sample_rate / 2, htk=htk))
    return torch.stack([points[:-2], points[1:-1], points[2:]])


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize(("sample_rate", "n_fft", "n_bins", "htk"), [(16000, 512, 40, False), (44100, 2048, 128, True)])
def test_triangles_equal_librosas(sample_rate: int, n_fft: int, n_bins: int, htk: bool, norm: str | None) -> None:
    edges = mel_edges(n_bins, sample_rate, htk=htk)
    ours = functional.band_responses(edges, sample_rate=sample_rate, n_fft=n_fft, norm=norm).numpy()
    expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_bins, htk=htk, norm=norm)
    # librosa rounds to float32 before it scales: one rounding each
    np.testing.assert_allclose(ours, expected, rtol=3e-7, atol=1e-7 * expected.max())


@pytest.mark.parametrize("shape", ["triangle", "gauss", "gammatone"])
def test_shapes_share_peak_and_half_height(shape: str) -> None:
    edges = torch.tensor([[100.0], [200.0], [400.0]], dtype=torch.float64)
    band = functional.band_responses(edges, sample_rate=1000, n_fft=20, shape=shape, norm=None)[0]
    at = {50 * i: float(value) for i, value in enumerate(band)}
    assert at[200] == 1.0
    assert at[150] == pytest.approx(0.5, rel=1e-6)
    assert at[300] == pytest.approx(0.5, rel=1e-6)


def test_gammatone_is_scipys_near_its_centre() -> None:
    numerator, denominator = scipy.signal.gammatone(1000.0, "iir", fs=16000)
    frequencies = np.arange(257) * 16000 / 512
    _, response = scipy.signal.freqz(numerator, denominator, worN=frequencies, fs=16000)
    power = np.abs(response) ** 2 / np.max(np.abs(response) ** 2)
    half = np.interp(0.5, power[:32], frequencies[:32])  # below 1 kHz the power rises
    edges = torch.tensor([[2 * half - 1000.0], [1000.0], [3000.0 - 2 * half]], dtype=torch.float64)
    ours = functional.band_responses(edges, sample_rate=16000, n_fft=512, shape="gammatone", norm=None)[0].numpy()
    near = power > 0.1
    np.testing.assert_allclose(ours[near], power[near], atol=0.03)  # the digital filter is not quite symmetric


def test_gabor_response_is_a_gaussian() -> None:
    width = 20.0
    real, imaginary = functional.gabor(torch.tensor([1.0]).double(), torch.tensor([width]).double(), length=401)[0]
    response = np.abs(np.fft.fft((real + 1j * imaginary).numpy(), 4096))
    omega = 2 * np.pi * np.arange(4096) / 4096
    # the Gaussian is cut at ten standard deviations
    np.testing.assert_allclose(response, np.exp(-0.5 * (width * (omega - 1.0)) ** 2), atol=1e-12)


def test_windowed_sinc_equals_scipys_design() -> None:
    low, high = torch.tensor([[0.2], [1.1]], dtype=torch.float64)
    ours = functional.windowed_sinc(low, high, length=101)[0, 0]
    expected = scipy.signal.firwin(101, [0.2 / np.pi, 1.1 / np.pi], pass_zero=False, window="hamming", scale=False)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


def test_windowed_sinc_has_a_second_derivative_in_its_middle_too() -> None:
    edges = torch.tensor([[0.2], [1.1]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda edges: functional.windowed_sinc(*edges, length=5), edges)


def test_gaussian_window_equals_scipys() -> None:
    expected = scipy.signal.windows.gaussian(41, 7.0)
    np.testing.assert_allclose(functional.gaussian_window(torch.tensor([7.0]).double(), length=41)[0], expected, 1e-12)


@pytest.mark.parametrize("length", [0, 4])
def test_even_filters_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"length must be odd and at least 1 sample, got {length}"):
        functional.gaussian_window(torch.ones(1), length=length)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 7, 130, 401])
def test_convolution_equals_numpy(length: int, stride: int) -> None:
    waveform, filters = torch.randn(2, 1000), torch.randn(9, length)
    ours = functional.convolve(waveform, filters, stride=stride)
    expected = [
        [np.correlate(w, f, "valid")[::stride] for f in filters.double().numpy()] for w in waveform.double().numpy()
    ]
    # float32 sums and transforms, relative to the largest output
    torch.testing.assert_close(ours.double(), torch.tensor(np.array(expected)), rtol=0, atol=1e-5 * length**0.5)


def test_transform_equals_direct_convolution_with_gradients() -> None:
    waveform, filters = torch.randn(2, 700), torch.randn(3, 21, requires_grad=True)
    weighting = torch.randn(2, 3, 680)
    gradients = []
    for path in (functional.fft_convolve, functional.convolve):
        (path(waveform, filters) * weighting).sum().backward()
        gradients.append(filters.grad.clone())
        filters.grad = None
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-3)  # float32 sums of 2 x 680 products of size 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "box"}, "shape must be one of triangle, gauss, gammatone, got 'box'"),
        ({"norm": "area"}, "norm must be 'slaney' or None, got 'area'"),
    ],
)
def test_bands_refuse(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.band_responses(mel_edges(4, 8000, htk=False), sample_rate=8000, n_fft=64, **settings)
