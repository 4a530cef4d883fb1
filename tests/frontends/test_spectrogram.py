"""Spectrogram, its complex twin, gammatonegram and waveform against librosa; scales, settings and their errors.

Tolerances: a spectrum to 1e-6 of its peak, as the transform itself; energies of filters within 80 dB of a clip's peak
to 1e-3, as those of the mel front-end. librosa is asked in float64. Kapre's cases (1000 points, hops 250 and 256; 512
and 256 with two channels; phase as sine and cosine to 1e-3) and nnAudio's (2048 and 512; 512 and 1024 with shorter
windows) are among them.
"""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from audiocls import functional
from audiocls.frontends import (
    ComplexSpectrogram,
    Frontend,
    Gammatonegram,
    Log,
    NoCompression,
    NoNormalization,
    Spectrogram,
    Waveform,
)
from tests.frontends.signals import signals

SIGNALS = signals(16000)
SETTINGS = [
    {"n_fft": 512, "hop_length": 160},
    {"n_fft": 512, "win_length": 400, "hop_length": 128},
    {"n_fft": 1024, "win_length": 900, "hop_length": 256, "window": "hamming"},
    {"n_fft": 2048, "hop_length": 512, "window": ("kaiser", 14.0)},
    {"n_fft": 1000, "hop_length": 250, "window": ("gaussian", 120.0)},
    {"n_fft": 511, "win_length": 301, "hop_length": 77, "window": "blackman"},
]
PADDING = [(True, "constant"), (True, "reflect"), (False, "constant")]


def reference_stft(waveform: np.ndarray, settings: dict) -> np.ndarray:
    names = ("n_fft", "win_length", "hop_length", "window", "center", "pad_mode")
    return librosa.stft(waveform, **{name: settings[name] for name in names if name in settings})


def energy(frontend: Frontend, waveform: np.ndarray) -> np.ndarray:
    return frontend(torch.from_numpy(waveform).reshape(1, 1, -1))[0].detach().numpy()


def plain(sample_rate: int = 16000, **settings) -> Spectrogram:
    return Spectrogram(sample_rate, compression=NoCompression, normalization=NoNormalization, **settings)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("center", "pad_mode"), PADDING)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_spectrogram_equals_librosa(settings: dict, center: bool, pad_mode: str, signal: str) -> None:
    settings = {**settings, "center": center, "pad_mode": pad_mode}
    reference = np.abs(reference_stft(SIGNALS[signal], settings))
    for power in (1.0, 2.0):
        ours = energy(plain(power=power, **settings), SIGNALS[signal])[0]
        np.testing.assert_allclose(ours ** (1 / power), reference, rtol=0, atol=1e-6 * reference.max())


@pytest.mark.data
@pytest.mark.parametrize("name", ["music/*.ogg", "fsdd/recordings/7_*_0.wav", "esc10/*Rooster/*.ogg"])
def test_spectrogram_equals_librosa_on_recordings(recordings: Path, name: str) -> None:
    samples, sample_rate = soundfile.read(next(iter(sorted(recordings.glob(name)))), frames=200_000, always_2d=True)
    waveform = samples[:, 0].astype(np.float32).astype(np.float64)
    settings = {"n_fft": 2048, "hop_length": 512, "pad_mode": "reflect"}
    reference = np.abs(reference_stft(waveform, settings))
    ours = energy(plain(sample_rate, power=1.0, **settings), waveform)[0]
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-6 * reference.max())


@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100])
@pytest.mark.parametrize("freq_scale", ["linear", "log", "log2", "bark", "erb", "htk"])
def test_filters_are_a_matrix_over_librosas_bins(freq_scale: str, sample_rate: int) -> None:
    bands = {"n_fft": 2048, "n_bins": 24, "f_min": 200.0, "f_max": 7000.0, "freq_scale": freq_scale, "norm": 2.0}
    waveform = signals(sample_rate)["voice"]
    matrix = functional.triangular_filterbank(sample_rate=sample_rate, **bands).double().numpy()
    reference = matrix @ np.abs(librosa.stft(waveform, n_fft=2048)) ** 2
    ours = energy(plain(sample_rate, **bands), waveform)[0]
    inside = reference > 1e-8 * reference.max()
    np.testing.assert_allclose(ours[inside], reference[inside], rtol=1e-3)


@pytest.mark.parametrize("freq_scale", ["linear", "log", "log2", "bark"])
@pytest.mark.parametrize("frequency", [440.0, 1000.0, 5000.0])
def test_pure_tone_peaks_in_its_bin(frequency: float, freq_scale: str) -> None:
    frontend = plain(n_fft=2048, n_bins=40, f_min=100.0, f_max=7900.0, freq_scale=freq_scale)
    spectrogram = energy(frontend, np.sin(2 * np.pi * frequency * np.arange(8000) / 16000))[0]
    nearest = int((frontend.frequencies - frequency).abs().argmin())
    assert (np.abs(spectrogram[:, 5:-5].argmax(axis=0) - nearest) <= 1).all()  # triangles differ in width
    assert (frontend.frequencies.diff() > 0).all()


def test_limits_keep_the_bins_between_them() -> None:
    frontend = plain(n_fft=512, f_min=1000.0, f_max=2000.0)
    assert frontend.frequencies.tolist() == [1000.0 + 31.25 * k for k in range(33)]
    waveform = SIGNALS["noise"]
    np.testing.assert_array_equal(energy(frontend, waveform), energy(plain(n_fft=512), waveform)[:, 32:65])
    assert frontend.filterbanks() == {}


@pytest.mark.parametrize(
    "settings", [{"f_max": 4000.0}, {"n_bins": 30}, {"n_bins": 20, "freq_scale": "log", "f_min": 200.0}], ids=str
)
@pytest.mark.parametrize("learnt", [{"learnable": True}, {"learnable_window": True}, {"learnable_kernels": True}])
def test_learnt_spectrogram_starts_as_the_fixed_one(settings: dict, learnt: dict) -> None:
    fixed, free = plain(n_fft=512, **settings), plain(n_fft=512, **settings, **learnt)
    assert list(free.parameters()) != []
    reference = energy(fixed, SIGNALS["noise"])
    # another order of float32 sums
    np.testing.assert_allclose(energy(free, SIGNALS["noise"]), reference, rtol=0, atol=1e-5 * reference.max())


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("center", "pad_mode"), PADDING)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_complex_equals_librosa_and_phase_is_its_angle(
    settings: dict, center: bool, pad_mode: str, signal: str
) -> None:
    settings = {**settings, "center": center, "pad_mode": pad_mode}
    reference = reference_stft(SIGNALS[signal], settings)
    peak = np.abs(reference).max()
    real, imag = energy(ComplexSpectrogram(16000, normalization=NoNormalization, **settings), SIGNALS[signal])
    assert np.abs(real + 1j * imag - reference).max() <= 1e-6 * peak
    frontend = ComplexSpectrogram(16000, output="phase", normalization=NoNormalization, **settings)
    (phase,) = energy(frontend, SIGNALS[signal])
    inside = np.abs(reference) > 2e-3 * peak  # where an error of 1e-6 of the peak turns the phase by 1e-3 at most
    assert np.abs(np.exp(1j * phase) - reference / np.abs(reference))[inside].max() <= 1e-3


def test_real_and_imaginary_part_stand_beside_each_other() -> None:
    stereo = torch.randn(2, 2, 4000)
    frontend = ComplexSpectrogram(16000, n_fft=512, f_min=500.0, normalization=NoNormalization)
    spectrogram = frontend(stereo)
    window = functional.window("hann", 512)
    expected = functional.stft(stereo, n_fft=512, hop_length=128, window=window)[:, :, 16:]
    torch.testing.assert_close(torch.complex(spectrogram[:, 0::2], spectrogram[:, 1::2]), expected)


def test_gammatonegram_is_the_energy_of_gammatone_filters() -> None:
    # Noise through scipy's filters, the mean square of what comes out; ours by Parseval from windowed frames.
    from scipy.signal import gammatone, lfilter

    waveform = np.random.default_rng(0).normal(0, 0.1, 4 * 16000)
    frontend = Gammatonegram(
        16000, n_fft=2048, n_bins=8, f_min=200.0, f_max=4000.0, compression=NoCompression, normalization=NoNormalization
    )
    ours = energy(frontend, waveform)[0].mean(axis=1)
    power = np.sum(functional.window("hann", 2048).double().numpy() ** 2) * 2048 / 2
    for centre, found in zip(frontend.frequencies, ours, strict=True):
        taps, _ = gammatone(float(centre), "fir", numtaps=4000, fs=16000)
        expected = np.mean(lfilter(taps, 1.0, waveform) ** 2)
        assert found / power == pytest.approx(expected, rel=0.05)  # frames weigh the ends of the clip less


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gammatonegram_is_its_filterbank_over_librosas_bins(power: float) -> None:
    frontend = Gammatonegram(
        16000, n_fft=512, power=power, learnable=True, compression=NoCompression, normalization=NoNormalization
    )
    response = functional.gammatone_filterbank(sample_rate=16000, n_fft=512, n_bins=64).double().numpy()
    reference = response**power @ np.abs(librosa.stft(SIGNALS["voice"], n_fft=512)) ** power
    np.testing.assert_allclose(energy(frontend, SIGNALS["voice"])[0], reference, rtol=1e-3, atol=1e-8 * reference.max())
    assert torch.equal(frontend.filterbanks()["now"], frontend.filterbanks()["start"])


def test_waveform_is_the_samples() -> None:
    pcm = torch.tensor([[[-32768, 0, 16384], [1, 2, 3]]], dtype=torch.int16)
    assert torch.equal(Waveform(16000)(pcm), (pcm.float() / 32768).unsqueeze(2))
    with pytest.raises(ValueError, match="waveform must hold at least 1 sample, got 0"):
        Waveform(16000)(torch.zeros(1, 1, 0))


def test_any_compression_is_taken() -> None:
    spectrogram = Spectrogram(16000, compression=lambda n_bins: Log(n_bins, offset=1.0), normalization=NoNormalization)
    assert (spectrogram(torch.zeros(1, 1, 100)) == 0).all()


@pytest.mark.parametrize("kind", [Spectrogram, ComplexSpectrogram, Gammatonegram])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_fft": 512, "hop_length": 0}, "hop_length must be between 1 and n_fft=512 samples, got 0"),
        ({"n_fft": 512, "win_length": 513}, "win_length must be between 1 and n_fft=512 samples, got 513"),
        ({"n_fft": 0}, "n_fft must be at least 1 sample, got 0"),
        ({"f_max": 9000.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 9000.0"),
        ({"f_min": 8000.0}, "f_min must be between 0 and f_max=8000.0 Hz, got 8000.0"),
        ({"pad_mode": "circular"}, "pad_mode must be 'constant' or 'reflect', got 'circular'"),
        ({"window": "hannn"}, "window must be a name that scipy.signal.get_window takes"),
    ],
)
def test_settings_are_checked(kind: type[Frontend], settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(16000, **settings)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Spectrogram(16000, power=3.0), r"power must be 2.0 \(power\) or 1.0 \(magnitude\), got 3.0"),
        (lambda: Spectrogram(16000, freq_scale="log"), "n_bins must be given with freq_scale 'log' and norm None"),
        (lambda: Spectrogram(16000, norm=1.0), "n_bins must be given with freq_scale 'linear' and norm 1.0, got None"),
        (lambda: Spectrogram(16000, n_bins=20, freq_scale="log"), "f_min must be above 0 Hz for freq_scale 'log'"),
        (lambda: Spectrogram(16000, n_bins=2000), "filters hold no bin of n_fft=1024 .* n_bins=.* or n_fft="),
        (lambda: Spectrogram(16000, f_min=10.0, f_max=12.0), "f_min=10.0 and f_max=12.0 Hz must have a bin of n_fft"),
        (lambda: ComplexSpectrogram(16000, output="polar"), "output must be 'complex' or 'phase', got 'polar'"),
        (lambda: Gammatonegram(44100, n_fft=64), "filters hold no bin of n_fft=64 .* n_fft=512 would do"),
        (lambda: Waveform(0), "sample_rate must be at least 1 Hz, got 0"),
    ],
)
def test_settings_of_their_own_are_checked(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
