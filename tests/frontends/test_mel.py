"""The mel front-end against librosa, over signals, sizes, padding and scales; its settings and their errors.

Tolerances, the same for all: energies within 80 dB of a clip's peak to 1e-3, decibels within top_db=80 to 0.01 dB. A
float32 transform is off by up to 0.0033 dB at the feet of a strong sweep; bfloat16 or TensorFloat-32 by whole decibels.
The cases of nnAudio (512/400 and 1024/1000, hop 512) and Kapre (512, 22050 Hz, 40 mels to 8 kHz, power 1, range 80 and
120 dB) are among them. librosa is asked in float64.
"""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from audiocls.frontends import Decibel, MelSpectrogram, NoCompression, NoNormalization

SAMPLE_RATE = 16000
TIME = np.arange(16000) / SAMPLE_RATE
SIGNALS = {
    "tone": 0.8 * np.sin(2 * np.pi * 1000 * TIME),
    "sweep": 0.8 * np.sin(2 * np.pi * 20 / 5.9 * np.expm1(5.9 * TIME)),
    "noise": np.random.default_rng(0).normal(0, 0.1, TIME.shape),
}
SETTINGS = [
    {"n_fft": 512, "hop_length": 160, "n_mels": 80},
    {"n_fft": 512, "win_length": 400, "hop_length": 512, "n_mels": 40},
    {"n_fft": 1024, "win_length": 1000, "hop_length": 512, "n_mels": 128, "norm": None},
    {"n_fft": 1024, "hop_length": 256, "n_mels": 128, "mel_scale": "htk"},
    {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "f_min": 20.0, "f_max": 7600.0},
    {"n_fft": 1000, "hop_length": 250, "n_mels": 64, "window": "hamming", "mel_scale": "htk", "norm": None},
    {"n_fft": 512, "hop_length": 256, "n_mels": 40, "f_max": 8000.0, "power": 1.0},
]


def reference_energy(waveform: np.ndarray, sample_rate: int, settings: dict) -> np.ndarray:
    settings = {"win_length": None, "f_min": 0.0, "f_max": None, "window": "hann", "power": 2.0, **settings}
    return librosa.feature.melspectrogram(
        y=waveform.astype(np.float32).astype(np.float64),
        sr=sample_rate,
        n_fft=settings["n_fft"],
        win_length=settings["win_length"],
        hop_length=settings["hop_length"],
        window=settings["window"],
        center=settings["center"],
        pad_mode=settings["pad_mode"],
        power=settings["power"],
        n_mels=settings["n_mels"],
        fmin=settings["f_min"],
        fmax=settings["f_max"],
        htk=settings.get("mel_scale") == "htk",
        norm=settings.get("norm", "slaney"),
    )


def assert_equals_librosa(waveform: np.ndarray, settings: dict, sample_rate: int = SAMPLE_RATE) -> None:
    batch = torch.from_numpy(waveform.astype(np.float32))[None, None]
    frontend = MelSpectrogram(sample_rate, compression=NoCompression, normalization=NoNormalization, **settings)
    energy = frontend(batch)[0, 0].numpy()
    reference = reference_energy(waveform, sample_rate, settings)
    assert energy.shape == reference.shape
    decades = 8 if settings.get("power", 2.0) == 2.0 else 4
    inside = reference > reference.max() * 10.0**-decades
    np.testing.assert_allclose(energy[inside], reference[inside], rtol=1e-3)
    decibel = Decibel(frontend.n_bins, top_db=80.0)(torch.from_numpy(energy)[None, None])[0, 0].numpy()
    expected = librosa.power_to_db(reference, top_db=80.0)
    tolerance_db = 0.01
    if decades == 4:  # 80 dB of a magnitude called power are 160 dB, below what float32 holds: compare the upper half
        decibel, expected = decibel[inside], expected[inside]
    np.testing.assert_allclose(decibel, expected, rtol=0, atol=tolerance_db)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(("center", "pad_mode"), [(True, "constant"), (True, "reflect"), (False, "constant")])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_mel_equals_librosa(settings: dict, center: bool, pad_mode: str, signal: str) -> None:
    assert_equals_librosa(SIGNALS[signal], {**settings, "center": center, "pad_mode": pad_mode})


@pytest.mark.data
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("name", ["music/*.ogg", "fsdd/recordings/7_*_0.wav", "esc10/*Rooster/*.ogg"])
def test_mel_equals_librosa_on_recordings(recordings: Path, name: str, pad_mode: str) -> None:
    samples, sample_rate = soundfile.read(next(iter(sorted(recordings.glob(name)))), frames=200_000, always_2d=True)
    settings = {"n_fft": 2048, "hop_length": 512, "n_mels": 64, "center": True, "pad_mode": pad_mode}
    assert_equals_librosa(samples[:, 0], settings, sample_rate)


@pytest.mark.parametrize("top_db", [80.0, 120.0])
@pytest.mark.parametrize("amin", [1e-5, 1e-3])
def test_decibels_of_kapres_case(amin: float, top_db: float) -> None:
    settings = {"n_fft": 512, "hop_length": 256, "n_mels": 40, "f_max": 8000.0, "center": True, "pad_mode": "constant"}
    frontend = MelSpectrogram(
        22050,
        compression=lambda n_bins: Decibel(n_bins, amin=amin, top_db=top_db),
        normalization=NoNormalization,
        **settings,
    )
    waveform = np.stack([SIGNALS["noise"], 0.01 * SIGNALS["noise"]])  # two clips, each with its own floor
    ours = frontend(torch.from_numpy(waveform).unsqueeze(1))
    for clip, samples in zip(ours, waveform, strict=True):
        expected = librosa.power_to_db(reference_energy(samples, 22050, settings), amin=amin, top_db=top_db)
        np.testing.assert_allclose(clip[0], expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 5000.0])
def test_pure_tone_peaks_in_its_bin(frequency: float) -> None:
    frontend = MelSpectrogram(SAMPLE_RATE, n_fft=2048, n_mels=40, normalization=NoNormalization, norm=None)
    spectrogram = frontend(torch.sin(2 * torch.pi * frequency * torch.from_numpy(TIME)).reshape(1, 1, -1))
    nearest = (frontend.frequencies - frequency).abs().argmin()
    assert (spectrogram[0, 0, :, 5:-5].argmax(dim=0) == nearest).all()


@pytest.mark.parametrize("mel_scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_learnt_filterbank_starts_as_the_fixed_one(norm: str | None, mel_scale: str) -> None:
    settings = {"n_fft": 512, "n_mels": 40, "norm": norm, "mel_scale": mel_scale}
    fixed = MelSpectrogram(SAMPLE_RATE, **settings).eval()
    learnt = MelSpectrogram(SAMPLE_RATE, learnable=True, **settings).eval()
    assert torch.equal(learnt.filterbanks()["now"], fixed.filterbanks()["start"])
    waveform = torch.from_numpy(SIGNALS["sweep"]).reshape(1, 1, -1)
    # float32 sums of 257 positive products in another order: 1e-5 of an energy, and of a natural logarithm
    torch.testing.assert_close(learnt(waveform), fixed(waveform), rtol=0, atol=1e-5)


def test_filterbanks_are_copies_and_the_start_stays() -> None:
    frontend = MelSpectrogram(SAMPLE_RATE, n_fft=512, n_mels=40, learnable=True)
    frontend.filterbanks()["start"].zero_()
    frontend.filterbanks()["now"].zero_()
    with torch.no_grad():
        frontend.filterbank.relative_weight += 1.0
    both = frontend.filterbanks()
    assert both["start"].max() > 0
    assert (both["now"] > both["start"]).all()
    assert not both["now"].requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_fft": 512, "hop_length": 1024}, "hop_length must be between 1 and n_fft=512 samples, got 1024"),
        ({"n_fft": 512, "hop_length": 0}, "hop_length must be between 1 and n_fft=512 samples, got 0"),
        ({"n_fft": 512, "win_length": 513}, "win_length must be between 1 and n_fft=512 samples, got 513"),
        ({"n_fft": 0}, "n_fft must be at least 1 sample, got 0"),
        ({"n_mels": 0}, "n_mels must be at least 1, got 0"),
        ({"f_max": 9000.0}, "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 9000.0"),
        ({"f_min": 8000.0}, "f_min must be between 0 and f_max=8000.0 Hz, got 8000.0"),
        ({"power": 3.0}, r"power must be 2.0 \(power\) or 1.0 \(magnitude\), got 3.0"),
        ({"pad_mode": "circular"}, "pad_mode must be 'constant' or 'reflect', got 'circular'"),
        ({"window": "hannn"}, "window must be a name that scipy.signal.get_window takes"),
        ({"mel_scale": "bark"}, "mel_scale must be 'slaney' or 'htk', got 'bark'"),
        ({"path": "dft"}, "path must be 'fft', 'matmul', 'fused' or None, got 'dft'"),
        ({"path": "fft", "learnable_kernels": True}, "path must be 'matmul' or None where learnable_kernels is true"),
        (
            {"window": "hamming", "learnable_window": "length"},
            "window must be 'hann' where learnable_window is 'length', got 'hamming'",
        ),
        ({"learnable_window": "width"}, "learnable_window must be true, false or 'length', got 'width'"),
        ({"win_length": 1, "learnable_window": "length"}, "win_length must be at least 2 samples where it is learnt"),
        ({"norm": "area"}, "norm must be 'slaney', a positive number .* or None, got 'area'"),
    ],
)
def test_settings_are_checked(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MelSpectrogram(SAMPLE_RATE, **settings)


def test_sample_rate_is_checked() -> None:
    with pytest.raises(ValueError, match="sample_rate must be at least 1 Hz, got 0"):
        MelSpectrogram(0)
