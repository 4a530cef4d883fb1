"""There and back: the inverse transform against the waveform it came from and against librosa; Griffin-Lim.

Tolerance of a sample that full windows cover: float32 transforms there and back, 2e-6 for samples up to 4. nnAudio's
cases (rtol 1e-5, atol 1e-3) and Kapre's (hops of a half, a quarter and an eighth, atol 1e-5) are among these.
"""

import librosa
import numpy as np
import pytest
import torch

from audiocls import functional

NNAUDIO = [
    (n_fft, hop_length, win_length, name)
    for n_fft, hop_length, win_length in [(1024, 128, 1024), (2048, 128, 2048), (2048, 128, 512)]
    for name in ("boxcar", "hann", "hamming")
] + [(256, 64, 256, "hann")]


def there_and_back(waveform: torch.Tensor, *, window: torch.Tensor, length: int | None, **settings) -> torch.Tensor:
    spectrum = functional.stft(waveform, window=window, pad_mode="reflect", **settings)
    return functional.istft(spectrum, window=window, length=length, **settings)


@pytest.mark.parametrize(("n_fft", "hop_length", "win_length", "name"), NNAUDIO)
@pytest.mark.parametrize("time", [16000, 15993])
def test_waveform_comes_back(n_fft: int, hop_length: int, win_length: int, name: str, time: int) -> None:
    waveform = torch.randn(4, time)
    window = functional.window(name, win_length)
    back = there_and_back(waveform, window=window, length=time, n_fft=n_fft, hop_length=hop_length)
    torch.testing.assert_close(back, waveform, rtol=0, atol=2e-6)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_kapres_hops(ratio: int) -> None:
    waveform = torch.randn(2, 3, 8192)  # a multiple of every hop: the last frame is centred on the end
    window = functional.window("hann", 2048)
    settings = {"n_fft": 2048, "hop_length": 2048 // ratio}
    back = there_and_back(waveform, window=window, length=None, **settings)
    torch.testing.assert_close(back, waveform, rtol=0, atol=2e-6)
    spectrum = functional.stft(waveform, window=window, **settings)
    again = functional.stft(functional.istft(spectrum, window=window, **settings), window=window, **settings)
    # a spectrum whose peak is about 100
    torch.testing.assert_close(again, spectrum, rtol=0, atol=1e-4)


@pytest.mark.parametrize("time", [1, 2, 63, 64, 300, 1000])
@pytest.mark.parametrize("n_fft", [511, 512])
def test_clips_of_any_length_come_back(n_fft: int, time: int) -> None:
    waveform = torch.randn(2, time)
    window = functional.window("hann", 400)
    back = there_and_back(waveform, window=window, length=time, n_fft=n_fft, hop_length=64)
    torch.testing.assert_close(back, waveform, rtol=0, atol=2e-6)


def test_without_centring_all_comes_back_that_a_window_hears() -> None:
    waveform = torch.randn(2, 512 + 12 * 128)
    hamming, hann = functional.window("hamming", 512), functional.window("hann", 512)
    settings = {"n_fft": 512, "hop_length": 128, "center": False, "length": None}
    # at its edge the Hamming window is 0.08: a twelfth of the precision is lost
    torch.testing.assert_close(there_and_back(waveform, window=hamming, **settings), waveform, rtol=0, atol=2e-5)
    back = there_and_back(waveform, window=hann, **settings)
    torch.testing.assert_close(back[..., 128:-128], waveform[..., 128:-128], rtol=0, atol=5e-6)
    assert (back[..., 0] == 0).all()  # the Hann window is zero there


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("n_fft", "hop_length", "win_length"), [(512, 128, 512), (511, 100, 301), (1024, 512, 800)])
def test_istft_of_any_spectrum_equals_librosa(n_fft: int, hop_length: int, win_length: int, center: bool) -> None:
    spectrum = torch.randn(2, n_fft // 2 + 1, 20, dtype=torch.complex128)
    window = functional.window("hamming", win_length)
    ours = functional.istft(spectrum, n_fft=n_fft, hop_length=hop_length, window=window, center=center)
    reference = librosa.istft(
        spectrum.numpy(), n_fft=n_fft, hop_length=hop_length, win_length=win_length, window="hamming", center=center
    )
    # our window is rounded to float32
    heard = slice(win_length, -win_length)
    np.testing.assert_allclose(ours[..., heard], reference[..., heard], rtol=0, atol=1e-6)
    assert ours.shape == reference.shape


def test_gradient_flows_back() -> None:
    spectrum = torch.randn(129, 9, dtype=torch.complex128, requires_grad=True)
    window = torch.hann_window(256, dtype=torch.float64)

    def back(spectrum: torch.Tensor) -> torch.Tensor:
        return functional.istft(spectrum, n_fft=256, hop_length=64, window=window)[::50]

    assert torch.autograd.gradcheck(back, (spectrum,), fast_mode=True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hop_length": 512}, "hop_length must be so short that windows of 512 .* got 512: .* use 128"),
        ({"hop_length": 0}, "hop_length must be at least 1 sample, got 0"),
        (
            {"n_fft": 510},
            r"spectrum must be complex \(..., 256, frames\) for n_fft=510, got torch.complex64 \(257, 9\)",
        ),
        ({"length": 1537}, "length must be between 0 and 1280 samples, which 9 frames span, got 1537"),
        ({"window": torch.ones(513)}, "win_length must be between 1 and n_fft=512 samples, got 513"),
        ({"spectrum": torch.zeros(257, 0, dtype=torch.complex64)}, "spectrum must hold at least 1 frame, got 0"),
    ],
)
def test_istft_refuses(setting: dict, message: str) -> None:
    arguments = {
        "spectrum": torch.zeros(257, 9, dtype=torch.complex64),
        "n_fft": 512,
        "hop_length": 128,
        "window": functional.window("hann", 512),
        **setting,
    }
    with pytest.raises(ValueError, match=message):
        functional.istft(**arguments)


def voice(time: int = 8000) -> torch.Tensor:
    """Harmonics of a gliding pitch, 16 kHz."""
    turns = torch.cumsum(120.0 + 40.0 * torch.linspace(0, 1, time, dtype=torch.float64), 0) / 16000
    return sum(torch.sin(2 * torch.pi * k * turns) / k for k in range(1, 20)).float() * 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_equals_librosa(momentum: float) -> None:
    window = functional.window("hann", 512)
    magnitude = functional.stft(voice(), n_fft=512, hop_length=128, window=window).abs().double()
    ours = functional.griffin_lim(magnitude, n_fft=512, hop_length=128, window=window, momentum=momentum, n_iter=16)
    reference = librosa.griffinlim(
        magnitude.numpy(), n_fft=512, hop_length=128, init=None, momentum=momentum, n_iter=16
    )
    # our window is rounded to float32, and each round divides by magnitudes that may be small
    np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-3 * np.abs(reference).max())


def spectral_convergence(waveform: torch.Tensor, magnitude: torch.Tensor, window: torch.Tensor) -> float:
    found = functional.stft(waveform, n_fft=512, hop_length=128, window=window).abs()
    return float((found - magnitude).norm() / magnitude.norm())


def test_griffin_lim_finds_the_magnitude_and_momentum_helps() -> None:
    window = functional.window("hann", 512)
    magnitude = functional.stft(voice(), n_fft=512, hop_length=128, window=window).abs().expand(2, -1, -1)
    settings = {"n_fft": 512, "hop_length": 128, "window": window, "length": 8000}
    error = {
        momentum: spectral_convergence(
            functional.griffin_lim(
                magnitude, momentum=momentum, generator=torch.Generator().manual_seed(1), **settings
            ),
            magnitude,
            window,
        )
        for momentum in (0.0, 0.99)
    }
    assert error[0.99] < error[0.0] < 0.3


def test_griffin_lim_draws_from_the_generator_alone() -> None:
    window = functional.window("hann", 512)
    magnitude = functional.stft(voice(), n_fft=512, hop_length=128, window=window).abs()

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return functional.griffin_lim(
            magnitude, n_fft=512, hop_length=128, window=window, n_iter=2, generator=generator
        )

    first = draw(1)
    torch.rand(1)
    assert torch.equal(draw(1), first)
    assert not torch.equal(draw(2), first)
    assert (functional.griffin_lim(0 * magnitude, n_fft=512, hop_length=128, window=window) == 0).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"n_iter": -1}, "n_iter must be at least 0, got -1"),
        ({"length": 2000}, "length must make as many frames as magnitude has, 9, got 16"),
        ({"magnitude": torch.zeros(257, 9, dtype=torch.complex64)}, "magnitude must be real, got a complex spectrum"),
    ],
)
def test_griffin_lim_refuses(setting: dict, message: str) -> None:
    arguments = {"n_fft": 512, "hop_length": 128, "window": torch.ones(512), **setting}
    with pytest.raises(ValueError, match=message):
        functional.griffin_lim(**{"magnitude": torch.ones(257, 9), **arguments})


def test_phase_equals_numpy_and_has_a_gradient_at_zero() -> None:
    spectrum = torch.randn(5, 7, dtype=torch.complex64)
    # two libraries' arctangents
    np.testing.assert_allclose(functional.phase(spectrum), np.angle(spectrum.numpy()), rtol=0, atol=1e-6)
    silence = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    functional.phase(silence).sum().backward()
    assert silence.grad is not None
    assert (silence.grad == 0).all()
