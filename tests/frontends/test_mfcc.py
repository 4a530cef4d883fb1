"""MFCC against librosa.feature.mfcc, LFCC against torchaudio.transforms.LFCC, their differences and their errors.

Decibels of mel bands differ from librosa's by at most 0.01 within top_db=80; 40 to 128 of them, weighed by rows whose
squares sum to one, by a tenth of a decibel at the worst and by 1e-3 in fact. nnAudio's case (22050 Hz, 2048 and 512,
128 bands, 20 coefficients; atol 1e-2) and Kapre's numbers of coefficients are among these.
"""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch

from audiocls.frontends import LFCC, MFCC, Decibel, Log, NoNormalization
from tests.frontends.signals import signals

TOLERANCE_DB = 2e-3
SETTINGS = [
    (22050, {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "n_mfcc": 20}),
    (16000, {"n_fft": 512, "hop_length": 160, "n_mels": 40, "n_mfcc": 13, "lifter": 22.0}),
    (16000, {"n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 40, "n_mfcc": 40, "mel_scale": "htk"}),
    (44100, {"n_fft": 2048, "hop_length": 441, "n_mels": 80, "n_mfcc": 1, "norm": None, "f_min": 50.0}),
    (8000, {"n_fft": 256, "hop_length": 80, "n_mels": 23, "n_mfcc": 13, "f_max": 3700.0, "window": "hamming"}),
]


def reference_mfcc(waveform: np.ndarray, sample_rate: int, settings: dict) -> np.ndarray:
    names = {"f_min": "fmin", "f_max": "fmax", "norm": "mel_norm"}
    renamed = {names.get(name, name): value for name, value in settings.items() if name != "mel_scale"}
    return librosa.feature.mfcc(y=waveform, sr=sample_rate, htk=settings.get("mel_scale") == "htk", **renamed)


@pytest.mark.parametrize("signal", ["tone", "sweep", "noise", "voice"])
@pytest.mark.parametrize(("center", "pad_mode"), [(True, "constant"), (True, "reflect"), (False, "constant")])
@pytest.mark.parametrize(("sample_rate", "settings"), SETTINGS, ids=str)
def test_mfcc_equals_librosa(sample_rate: int, settings: dict, center: bool, pad_mode: str, signal: str) -> None:
    settings = {**settings, "center": center, "pad_mode": pad_mode}
    waveform = signals(sample_rate)[signal]
    ours = MFCC(sample_rate, normalization=NoNormalization, **settings)(torch.from_numpy(waveform).reshape(1, 1, -1))
    reference = reference_mfcc(waveform, sample_rate, settings)
    lift = 1 + settings.get("lifter", 0.0) / 2
    np.testing.assert_allclose(ours[0, 0], reference, rtol=0, atol=TOLERANCE_DB * lift)


@pytest.mark.data
@pytest.mark.parametrize("name", ["music/*.ogg", "fsdd/recordings/7_*_0.wav"])
def test_mfcc_equals_librosa_on_recordings(recordings: Path, name: str) -> None:
    samples, sample_rate = soundfile.read(next(iter(sorted(recordings.glob(name)))), frames=200_000, always_2d=True)
    waveform = samples[:, 0].astype(np.float32).astype(np.float64)
    settings = {"n_fft": 1024, "hop_length": 256, "n_mels": 40, "n_mfcc": 20}
    ours = MFCC(sample_rate, normalization=NoNormalization, **settings)(torch.from_numpy(waveform).reshape(1, 1, -1))
    np.testing.assert_allclose(ours[0, 0], reference_mfcc(waveform, sample_rate, settings), rtol=0, atol=TOLERANCE_DB)


def test_deltas_stand_after_the_coefficients_and_equal_librosas() -> None:
    settings = {"n_fft": 512, "hop_length": 160, "n_mels": 40, "n_mfcc": 13}
    frontend = MFCC(16000, n_deltas=2, delta_width=7, normalization=NoNormalization, **settings)
    waveform = signals(16000)["voice"]
    ours = frontend(torch.from_numpy(waveform).reshape(1, 1, -1))[0, 0].numpy()
    assert frontend.n_bins == 39
    reference = reference_mfcc(waveform, 16000, settings)
    for order in (1, 2):
        expected = librosa.feature.delta(reference, width=7, order=order, mode="nearest")
        np.testing.assert_allclose(ours[13 * order : 13 * (order + 1)], expected, rtol=0, atol=TOLERANCE_DB)


@pytest.mark.parametrize("signal", ["tone", "noise", "voice"])
def test_lfcc_equals_torchaudio(signal: str) -> None:
    torchaudio = pytest.importorskip("torchaudio.transforms", exc_type=(ImportError, OSError))
    reference = torchaudio.LFCC(
        16000, n_filter=64, n_lfcc=30, speckwargs={"n_fft": 512, "hop_length": 160, "pad_mode": "constant"}
    )
    ours = LFCC(16000, n_fft=512, hop_length=160, n_bands=64, n_lfcc=30, normalization=NoNormalization)
    waveform = torch.from_numpy(signals(16000)[signal]).float().reshape(1, 1, -1)
    # both float32, and theirs with float32 edges: between a tone's skirts 0.02 dB
    torch.testing.assert_close(ours(waveform), reference(waveform), rtol=0, atol=2e-2)


def test_compression_is_of_the_bands_and_its_parameters_are_one_a_band() -> None:
    frontend = MFCC(16000, n_mels=40, n_mfcc=13, compression=lambda n_bins: Log(n_bins, learnable=True))
    assert [parameter.shape for parameter in frontend.compression.parameters()] == [(40,)]
    assert frontend.filterbanks()["now"].shape == (40, 513)
    assert frontend.frequencies.isnan().all()


def test_learnt_filterbank_starts_as_the_fixed_one() -> None:
    fixed, learnt = MFCC(16000), MFCC(16000, learnable=True)
    waveform = torch.randn(1, 1, 4000)
    torch.testing.assert_close(learnt.eval()(waveform), fixed.eval()(waveform), rtol=0, atol=1e-4)  # order of sums


def test_louder_moves_the_first_coefficient_alone() -> None:
    frontend = MFCC(16000, compression=lambda n_bins: Decibel(n_bins, top_db=None), normalization=NoNormalization)
    waveform = torch.randn(1, 1, 8000)
    change = (frontend(waveform) - frontend(waveform / 10))[0, 0]
    # 20 dB in each of 64 bands, through a row of 1/8: float32 sums of decibels
    torch.testing.assert_close(change[0], torch.full_like(change[0], 160.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(change[1:], torch.zeros_like(change[1:]), rtol=0, atol=1e-3)


def test_bands_compressed_in_one_pass_or_after_it_give_the_same() -> None:
    frontend, waveform, seen = MFCC(16000, n_deltas=1, normalization=NoNormalization), torch.randn(2, 1, 8000), []
    expected = frontend(waveform)
    assert torch.equal(expected, frontend.compression(frontend.energy(waveform)))
    frontend.compression.bands.register_forward_hook(lambda *_: seen.append("bands"))
    assert torch.equal(frontend(waveform), expected)
    assert seen == ["bands"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MFCC(16000, n_mels=40, n_mfcc=41), "n_mfcc must be between 1 and n_mels=40, got 41"),
        (lambda: MFCC(16000, n_mfcc=0), "n_mfcc must be between 1 and n_mels=64, got 0"),
        (lambda: LFCC(16000, n_bands=40, n_lfcc=41), "n_lfcc must be between 1 and n_bands=40, got 41"),
        (lambda: MFCC(16000, n_fft=256, n_mels=120), "of n_mels=120 filters hold no bin of n_fft=256 .* n_mels="),
        (lambda: LFCC(16000, n_fft=64, n_bands=64), "of n_bands=64 filters .*: n_bands=62 or n_fft=128 would do"),
        (lambda: MFCC(16000, n_mels=0), "n_mels must be at least 1, got 0"),
        (lambda: MFCC(16000, f_max=9000.0), "f_max must be at most sample_rate / 2 = 8000.0 Hz, got 9000.0"),
        (lambda: MFCC(16000, mel_scale="bark"), "mel_scale must be 'slaney' or 'htk', got 'bark'"),
        (lambda: MFCC(16000, n_deltas=-1), "n_deltas must be at least 0, got -1"),
        (lambda: MFCC(16000, n_deltas=1, delta_width=4), "width must be an odd number of frames"),
        (lambda: MFCC(16000, lifter=-1.0), "lifter must be at least 0 coefficients, got -1.0"),
        (lambda: LFCC(16000, n_fft=512, hop_length=513), "hop_length must be between 1 and n_fft=512 samples, got 513"),
    ],
)
def test_settings_are_checked(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
