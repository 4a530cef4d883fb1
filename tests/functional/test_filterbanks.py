"""Triangular, gammatone and chroma filterbanks against torchaudio, librosa, scipy and the scales' own tables."""

import re
import warnings
from collections.abc import Callable

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from audiocls import functional

SCALES = ["linear", "log", "log2", "bark", "erb", "slaney", "htk"]
# Zwicker's critical bands: Hz at Bark 2 to 18
ZWICKER_HZ = [200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400]


def test_bark_equals_zwickers_table() -> None:
    bark = functional.hz_to_bark(torch.tensor(ZWICKER_HZ))
    # Traunmüller states 0.05 Bark in this range; the table's frequencies are rounded
    torch.testing.assert_close(bark, torch.arange(2.0, 19.0, dtype=torch.float64), rtol=0, atol=0.07)


def test_erb_equals_glasberg_and_moores_constants() -> None:
    # ERB at 1 kHz is 132.6 Hz; the rate is the integral of 1 / bandwidth, of which 21.4 is a rounding (21.33)
    assert float(functional.erb_bandwidth(torch.tensor([1000.0]))) == pytest.approx(132.64, abs=0.01)
    frequency = torch.linspace(0, 8000, 80001, dtype=torch.float64)
    integral = torch.trapezoid(1 / functional.erb_bandwidth(frequency), frequency)
    assert float(functional.hz_to_erb_rate(frequency)[-1]) == pytest.approx(float(integral), rel=5e-3)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (functional.hz_to_bark, functional.bark_to_hz),
        (functional.hz_to_erb_rate, functional.erb_rate_to_hz),
    ],
)
def test_scales_invert(there: Callable, back: Callable) -> None:
    frequency = torch.linspace(0, 24000, 101, dtype=torch.float64)
    torch.testing.assert_close(back(there(frequency)), frequency, rtol=1e-12, atol=1e-9)  # float64


@pytest.mark.parametrize(("n_fft", "n_bins", "f_min", "f_max"), [(400, 128, 0.0, 8000.0), (1024, 40, 300.0, 7000.0)])
def test_linear_equals_torchaudio(n_fft: int, n_bins: int, f_min: float, f_max: float) -> None:
    torchaudio = pytest.importorskip("torchaudio.functional", exc_type=(ImportError, OSError))
    reference = torchaudio.linear_fbanks(n_fft // 2 + 1, f_min, f_max, n_bins, 16000).T
    ours = functional.triangular_filterbank(sample_rate=16000, n_fft=n_fft, n_bins=n_bins, f_min=f_min, f_max=f_max)
    # torchaudio's edges are float32: 1e-3 Hz of triangles 60 Hz wide
    torch.testing.assert_close(ours, reference, rtol=0, atol=3e-5)


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
def test_triangles_on_mel_are_the_mel_filterbank(mel_scale: str) -> None:
    ours = functional.triangular_filterbank(
        sample_rate=16000, n_fft=1024, n_bins=40, f_min=20.0, freq_scale=mel_scale, norm="slaney"
    )
    mel = functional.mel_filterbank(sample_rate=16000, n_fft=1024, n_mels=40, f_min=20.0, mel_scale=mel_scale)
    torch.testing.assert_close(ours, mel, rtol=0, atol=1e-8)  # float64 edges by two ways


@pytest.mark.parametrize("freq_scale", SCALES)
def test_triangles_peak_at_their_edges_and_sum_to_one_between(freq_scale: str) -> None:
    settings = {"f_min": 100.0, "f_max": 7000.0, "freq_scale": freq_scale}
    edges = functional.band_edges(24, **settings)
    filterbank = functional.triangular_filterbank(sample_rate=16000, n_fft=8192, n_bins=24, **settings)
    assert (edges.diff() > 0).all()
    assert float(edges[-1]) == pytest.approx(7000.0)
    assert float(edges[1 if freq_scale == "log2" else 0]) == pytest.approx(100.0)
    peaks = filterbank.argmax(dim=1) * 16000 / 8192
    assert (peaks - edges[1:-1]).abs().max() <= 16000 / 8192  # one Fourier bin
    frequency = torch.arange(4097) * 16000 / 8192
    between = (frequency >= edges[1]) & (frequency <= edges[-2])
    torch.testing.assert_close(filterbank[:, between].sum(dim=0), torch.ones(int(between.sum())))


def test_log2_counts_octaves_as_a_constant_q_scale_does() -> None:
    edges = functional.band_edges(84, f_min=32.70319566, f_max=32.70319566 * 2**7, freq_scale="log2")
    expected = librosa.cqt_frequencies(84, fmin=32.70319566, bins_per_octave=12)
    np.testing.assert_allclose(edges[1:-1], expected, rtol=1e-12)  # float64


@pytest.mark.parametrize("norm", [1.0, 2.0, float("inf")])
def test_p_norm_of_each_filter_is_one(norm: float) -> None:
    filterbank = functional.triangular_filterbank(sample_rate=16000, n_fft=1024, n_bins=20, norm=norm)
    torch.testing.assert_close(torch.linalg.vector_norm(filterbank, ord=norm, dim=1), torch.ones(20))


def test_empty_filters_are_refused_and_both_ways_out_work() -> None:
    settings = {"sample_rate": 22050, "f_min": 32.7, "f_max": 8000.0, "freq_scale": "log"}
    message = r"12 of n_bins=84 filters hold no bin of n_fft=1024 at 22050 Hz .*: n_bins=(\d+) or n_fft=(\d+) would do"
    with pytest.raises(ValueError, match=message) as refused:
        functional.triangular_filterbank(n_fft=1024, n_bins=84, **settings)
    fewer, longer = (int(number) for number in re.search(message, str(refused.value)).groups())
    assert fewer >= 24  # not far below what there is room for
    for size in ({"n_fft": 1024, "n_bins": fewer}, {"n_fft": longer, "n_bins": 84}):
        assert (functional.triangular_filterbank(**size, **settings).amax(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"freq_scale": "mel"}, "freq_scale must be one of linear, log, log2, bark, erb, slaney, htk, got 'mel'"),
        ({"freq_scale": "log"}, "f_min must be above 0 Hz for freq_scale 'log', got 0.0"),
        ({"f_max": 8001.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 8001.0"),
        ({"f_min": 9000.0}, "f_min must be between 0 and f_max=8000.0 Hz, got 9000.0"),
        ({"n_bins": 0}, "n_bins must be at least 1, got 0"),
        ({"norm": 0.0}, "norm must be 'slaney', a positive number .* got 0.0"),
    ],
)
def test_triangular_filterbank_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.triangular_filterbank(**{"sample_rate": 16000, "n_fft": 512, "n_bins": 40, **setting})


def test_gammatone_is_the_response_of_scipys_filters() -> None:
    settings = {"n_bins": 16, "f_min": 50.0, "f_max": 4000.0}
    ours = functional.gammatone_filterbank(sample_rate=32000, n_fft=1024, **settings)
    bins = np.arange(513) * 32000 / 1024
    for row, centre in zip(ours, functional.gammatone_frequencies(**settings), strict=True):
        taps, _ = scipy.signal.gammatone(float(centre), "fir", numtaps=16000, fs=32000)
        _, response = scipy.signal.freqz(taps, worN=bins, fs=32000)
        # theirs is sampled: what lies above half the sample rate is folded back, 1e-4 of the peak at 4 kHz
        np.testing.assert_allclose(row, np.abs(response), rtol=0, atol=2e-4)


def test_gammatone_peaks_at_its_centre_and_halves_where_it_should() -> None:
    ours = functional.gammatone_filterbank(sample_rate=16000, n_fft=16000, n_bins=8, f_min=200.0, f_max=4000.0)
    centres = functional.gammatone_frequencies(8, f_min=200.0, f_max=4000.0)
    torch.testing.assert_close(ours.argmax(dim=1).double(), centres, rtol=0, atol=1.0)  # bins of 1 Hz
    bandwidth = (ours.double() ** 2).sum(dim=1)  # equivalent rectangular, of a peak of one
    # 1.019 ERB makes the equivalent rectangular bandwidth one ERB: π 6! / (2^6 3!^2) · 1.019 = 1.0003
    torch.testing.assert_close(bandwidth, functional.erb_bandwidth(centres), rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_fft": 64}, "of n_bins=64 filters hold no bin of n_fft=64 at 16000 Hz .* n_fft=256 would do"),
        ({"order": 0}, "order must be at least 1, got 0"),
        ({"f_max": 9000.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 9000.0"),
    ],
)
def test_gammatone_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.gammatone_filterbank(**{"sample_rate": 16000, "n_fft": 512, "n_bins": 64, **setting})


@pytest.mark.parametrize(("sample_rate", "n_fft"), [(22050, 2048), (16000, 480), (16000, 511)])
@pytest.mark.parametrize(("n_chroma", "tuning"), [(12, 0.0), (24, 0.3), (7, -0.2)])
@pytest.mark.parametrize("octave_width", [2.0, None])
@pytest.mark.parametrize("norm", [2.0, 1.0, float("inf"), None])
@pytest.mark.parametrize("base_c", [True, False])
def test_chroma_equals_librosa(
    sample_rate: int,
    n_fft: int,
    n_chroma: int,
    tuning: float,
    octave_width: float | None,
    norm: float | None,
    base_c: bool,
) -> None:
    ours = functional.chroma_filterbank(
        sample_rate=sample_rate,
        n_fft=n_fft,
        n_chroma=n_chroma,
        tuning=tuning,
        octave_width=octave_width,
        norm=norm,
        base_c=base_c,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = librosa.filters.chroma(
            sr=sample_rate,
            n_fft=n_fft,
            n_chroma=n_chroma,
            tuning=tuning,
            octwidth=octave_width,
            norm=norm,
            base_c=base_c,
        )
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-7)  # both float64, rounded to float32


def test_chroma_of_a_note_in_any_octave_is_its_class_and_limits_cut() -> None:
    chroma = functional.chroma_filterbank(sample_rate=22050, n_fft=4096, f_min=100.0, f_max=5000.0)
    for octave in range(3, 8):
        note = 2.0 ** (octave - 4) * 440.0 * 2 ** (-5 / 12)  # E
        assert int(chroma[:, round(note * 4096 / 22050)].argmax()) == 4
    frequency = torch.arange(2049) * 22050 / 4096
    assert (chroma[:, (frequency < 100) | (frequency > 5000)] == 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_chroma": 0}, "n_chroma must be at least 1, got 0"),
        ({"octave_width": 0.0}, "octave_width must be above 0 octaves or None, got 0.0"),
        ({"norm": -1.0}, "norm must be the positive p of a p-norm .* got -1.0"),
        ({"f_max": 12000.0}, "f_max must be at most sample_rate / 2 = 11025.0 Hz, got 12000.0"),
    ],
)
def test_chroma_refuses(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.chroma_filterbank(**{"sample_rate": 22050, "n_fft": 2048, **setting})
