"""The transform against librosa in float64: tones, sweeps, noise, real recordings; its gradients on silence.

Tolerance: a float32 transform of up to 2048 points differs by at most 1e-6 of the spectrum's peak (about eight units in
the last place); TensorFloat-32 or a window off by one sample is a thousand times that. nnAudio's tests (n_fft, window
and hop) and Kapre's (1000 points, 1 to 6 channels, no centring) are among the cases, with this tolerance.
"""

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audiocls import functional

SAMPLE_RATE = 16000
TIME = np.arange(8000) / SAMPLE_RATE
SIGNALS = {
    "tone": 0.8 * np.sin(2 * np.pi * 1000 * TIME),
    "sweep": 0.8 * np.sin(2 * np.pi * 20 / 11.5 * np.expm1(11.5 * TIME)),
    "noise": np.random.default_rng(0).normal(0, 0.1, TIME.shape),
}


def assert_equals_librosa(
    waveform: np.ndarray, *, n_fft: int, win_length: int, hop_length: int, window: str, center: bool, pad_mode: str
) -> None:
    ours = functional.stft(
        torch.from_numpy(waveform.astype(np.float32)),
        n_fft=n_fft,
        hop_length=hop_length,
        window=functional.window(window, win_length),
        center=center,
        pad_mode=pad_mode,
    ).numpy()
    reference = librosa.stft(
        waveform.astype(np.float32).astype(np.float64),
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
    )
    assert ours.shape == reference.shape
    assert ours.dtype == np.complex64
    assert np.abs(ours - reference).max() <= 1e-6 * np.abs(reference).max()


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    ("n_fft", "win_length", "hop_length", "window"),
    [
        (512, 512, 160, "hann"),
        (512, 400, 128, "hann"),
        (1024, 1024, 128, "boxcar"),
        (1024, 900, 128, "hann"),
        (2048, 512, 128, "hamming"),
        (2048, 2048, 512, "hann"),
        (256, 256, 64, "hann"),
        (400, 400, 160, "hann"),
        (1000, 1000, 250, "hann"),
        (511, 301, 77, "blackman"),
    ],
)
def test_stft_equals_librosa(
    n_fft: int, win_length: int, hop_length: int, window: str, center: bool, pad_mode: str, signal: str
) -> None:
    assert_equals_librosa(
        SIGNALS[signal],
        n_fft=n_fft,
        win_length=win_length,
        hop_length=hop_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
    )


@pytest.mark.data
@pytest.mark.parametrize("name", ["music/*.ogg", "fsdd/recordings/7_*_0.wav", "philharmonia/*/*.mp3"])
def test_stft_equals_librosa_on_recordings(recordings: Path, name: str) -> None:
    path = next(path for path in sorted(recordings.glob(name)) if path.stat().st_size)
    waveform = soundfile.read(path, frames=200_000, always_2d=True)[0][:, 0]
    for n_fft, pad_mode in ((512, "reflect"), (2048, "constant")):
        assert_equals_librosa(
            waveform,
            n_fft=n_fft,
            win_length=n_fft,
            hop_length=n_fft // 4,
            window="hann",
            center=True,
            pad_mode=pad_mode,
        )


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (2, 3, 4)])
def test_any_leading_dimensions(leading: tuple[int, ...]) -> None:
    waveform = torch.randn(*leading, 1500)
    window = functional.window("hann", 256)
    spectrum = functional.stft(waveform, n_fft=256, hop_length=100, window=window)
    assert spectrum.shape == (*leading, 129, 16)
    for index in np.ndindex(leading):
        alone = functional.stft(waveform[index], n_fft=256, hop_length=100, window=window)
        # the Fourier transform of a batch may run in another order than that of one clip
        torch.testing.assert_close(spectrum[index], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("time", [1, 2, 255, 256, 257])
def test_clip_shorter_than_half_a_frame(time: int, pad_mode: str) -> None:
    waveform = np.random.default_rng(1).normal(size=time)
    padded = np.pad(waveform, 256, mode=pad_mode)
    assert_equals_librosa(
        padded, n_fft=512, win_length=512, hop_length=160, window="hann", center=False, pad_mode="constant"
    )
    window = functional.window("hann", 512)
    centred = functional.stft(torch.from_numpy(waveform), n_fft=512, hop_length=160, window=window, pad_mode=pad_mode)
    by_hand = functional.stft(torch.from_numpy(padded), n_fft=512, hop_length=160, window=window, center=False)
    assert torch.equal(centred, by_hand)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hop_length": 0}, "hop_length must be at least 1 sample, got 0"),
        ({"window": torch.ones(513)}, "win_length must be between 1 and n_fft=512 samples, got 513"),
        ({"center": False}, "at least n_fft=512 samples, got 100: set center=True"),
    ],
)
def test_stft_refuses(setting: dict, message: str) -> None:
    arguments = {"n_fft": 512, "hop_length": 128, "window": torch.ones(512), **setting}
    with pytest.raises(ValueError, match=message):
        functional.stft(torch.zeros(1, 100), **arguments)


def test_power_and_magnitude_equal_abs() -> None:
    spectrum = torch.randn(3, 4, 5, dtype=torch.complex64)
    power = functional.power_spectrum(spectrum)
    # two float32 roundings each
    torch.testing.assert_close(power, spectrum.abs() ** 2, rtol=5e-7, atol=0)
    torch.testing.assert_close(functional.magnitude(power), spectrum.abs(), rtol=5e-7, atol=0)


def test_magnitude_of_nan_is_nan_and_not_silence() -> None:
    assert functional.magnitude(torch.tensor([torch.nan, 4.0]))[0].isnan()


@pytest.mark.parametrize("measure", [lambda power: power, functional.magnitude], ids=["power", "magnitude"])
def test_gradient_is_finite_on_silence(measure: Callable[[Tensor], Tensor]) -> None:
    waveform = torch.zeros(1, 2000, requires_grad=True)
    spectrum = functional.stft(waveform, n_fft=512, hop_length=128, window=functional.window("hann", 512))
    measure(functional.power_spectrum(spectrum)).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.isfinite().all()


def test_gradient_of_magnitude_is_finite_just_above_silence() -> None:
    spectrum = torch.tensor([1e-22 + 0j, 1e-18 + 1e-18j], requires_grad=True)
    functional.magnitude(functional.power_spectrum(spectrum)).sum().backward()
    assert spectrum.grad is not None
    assert spectrum.grad.abs().max() <= 1.1  # the slope of |z| is 1; powers this small keep few digits
