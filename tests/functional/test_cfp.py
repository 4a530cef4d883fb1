"""Combined frequency and periodicity: against the definition written out, on tones, on silence."""

import numpy as np
import pytest
import scipy.signal.windows
import torch
from torch import Tensor

from audiocls import functional

SAMPLE_RATE = 16000
SETTINGS = {"sample_rate": SAMPLE_RATE, "n_fft": 8000, "hop_length": 320, "f_min": 80.0, "f_max": 1000.0}


def chord(*pitches: float, n_harmonics: int = 8) -> Tensor:
    time = torch.arange(8000, dtype=torch.float64) / SAMPLE_RATE
    tones = [torch.sin(2 * torch.pi * h * pitch * time) / h for pitch in pitches for h in range(1, n_harmonics + 1)]
    return (0.2 * torch.stack(tones).sum(dim=0)).float()


def written_out(waveform: np.ndarray, window: np.ndarray, exponents: list[float]) -> list[np.ndarray]:
    """Su and Yang's code for one frame in the middle of a clip, on linear axes: spectrum, cepstrum, spectrum."""
    n_fft, middle = SETTINGS["n_fft"], len(waveform) // 2
    frame = np.zeros(n_fft)
    start = n_fft // 2 - len(window) // 2
    frame[start : start + len(window)] = waveform[middle - len(window) // 2 :][: len(window)] * window
    parts = [(np.abs(np.fft.fft(frame)) / np.linalg.norm(window)) ** exponents[0]]
    for layer, exponent in enumerate(exponents[1:], start=1):
        cutoff = round(SAMPLE_RATE / SETTINGS["f_max"]) if layer % 2 else round(SETTINGS["f_min"] * n_fft / SAMPLE_RATE)
        turned = np.fft.fft(parts[-1]).real.clip(0) / np.sqrt(n_fft)
        turned[:cutoff] = 0
        turned[n_fft - cutoff + 1 :] = 0
        parts.append(turned**exponent)
    return [part[: n_fft // 2 + 1] for part in parts]


@pytest.mark.parametrize("exponents", [[0.24, 0.6, 1.0], [0.2, 0.8], [0.3, 0.5, 0.9, 0.7]])
def test_maps_equal_the_definition(exponents: list[float]) -> None:
    waveform, window = chord(220.0, 1000.0).double(), functional.window("blackmanharris", 2048).double()
    settings = {name: value for name, value in SETTINGS.items() if name != "hop_length"}
    maps = functional.cfp_maps(waveform, window=window, hop_length=4000, exponents=exponents, **settings)
    parts = written_out(waveform.numpy(), window.numpy(), exponents)
    last = {layer % 2: part for layer, part in enumerate(parts)}
    # float64 of two libraries: the powers of what is nearly zero differ most
    np.testing.assert_allclose(maps.frequency[:, 1], last[0], rtol=0, atol=1e-6 * last[0].max())
    np.testing.assert_allclose(maps.periodicity[:, 1], last[1], rtol=0, atol=1e-6 * last[1].max())


@pytest.mark.parametrize("pitch", [110.0, 196.0, 440.0])
def test_pitch_peaks_in_the_combined_map_alone(pitch: float) -> None:
    maps = functional.cfp(chord(pitch), window=functional.window("blackmanharris", 2048), **SETTINGS)
    frequencies = functional.cfp_frequencies(f_min=80.0, f_max=1000.0)
    peak = frequencies[maps.combined[:, 5:-5].mean(dim=1).argmax()]
    assert abs(float(torch.log2(peak / pitch))) < 1.5 / 48  # half a bin, and the width of a lag at the highest
    twice = (frequencies - 2 * pitch).abs().argmin()
    assert maps.combined[twice, 5:-5].mean() < 0.3 * maps.combined[:, 5:-5].mean(dim=1).max()


def test_filterbanks_are_triangles_or_the_nearest_point() -> None:
    over_frequency, over_lag = functional.cfp_filterbanks(
        sample_rate=SAMPLE_RATE, n_fft=8000, f_min=80.0, f_max=1000.0, bins_per_octave=48
    )
    centres = functional.cfp_frequencies(f_min=80.0, f_max=1000.0)
    assert (over_frequency.sum(dim=1) > 0).all()
    assert (over_lag.sum(dim=1) > 0).all()
    points = 2.0 * torch.arange(over_frequency.shape[1])
    wide = slice(-60, None)  # where triangles are wider than three points, their middle is their centre
    middle = (over_frequency * points).sum(dim=1) / over_frequency.sum(dim=1)
    torch.testing.assert_close(middle[wide].double(), centres[wide], rtol=2e-3, atol=0)  # points 2 Hz apart
    lag = SAMPLE_RATE / over_lag.argmax(dim=1)
    assert (torch.log2(lag / centres).abs() <= 0.5 * torch.log2(torch.tensor(17 / 16)) + 1 / 48).all()


def test_symmetric_window_of_the_original_is_ours_of_one_sample_less() -> None:
    symmetric = scipy.signal.windows.blackmanharris(2049)
    np.testing.assert_allclose(functional.window("blackmanharris", 2048), symmetric[:-1], rtol=0, atol=1e-7)  # float32


def test_silence_has_finite_gradients() -> None:
    waveform = torch.zeros(2, 3000, requires_grad=True)
    maps = functional.cfp(waveform, window=torch.ones(2048), **SETTINGS)
    assert torch.equal(maps.combined, torch.zeros(2, 173, 10))
    (maps.combined + maps.spectrum).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"exponents": [0.24]}, r"exponents must be at least two positive numbers, .*, got \[0.24\]"),
        ({"exponents": [0.24, 0.0]}, r"exponents must be at least two positive numbers, .*, got \[0.24, 0.0\]"),
        ({"f_max": 8001.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 8001.0"),
        (
            {"f_max": 81.0},
            "f_max must be more than 1.029 times f_min=80.0 Hz to hold a bin of bins_per_octave=48, got 81",
        ),
        ({"f_min": 0.0}, "f_min must be positive, got 0.0 Hz"),
        ({"n_fft": 300}, r"n_fft must be at least 2 \* sample_rate / f_min = 400 samples, two periods of it, got 300"),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.cfp(torch.zeros(1, 1000), window=torch.ones(200), **{**SETTINGS, **setting})
