"""Padding against numpy, windows against scipy, frame counts against librosa."""

import re

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from audiocls import functional


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("time", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (4, 4), (7, 20), (256, 256)])
def test_pad_equals_numpy(time: int, left: int, right: int, mode: str) -> None:
    waveform = torch.randn(2, 3, time)
    expected = np.pad(waveform.numpy(), ((0, 0), (0, 0), (left, right)), mode=mode)
    assert torch.equal(functional.pad(waveform, left, right, mode), torch.from_numpy(expected))


@pytest.mark.parametrize("shape", [(20,), (2, 20), (2, 3, 20), (2, 3, 4, 20)])
def test_reflect_equals_torch_where_torch_can(shape: tuple[int, ...]) -> None:
    waveform = torch.randn(shape)
    expected = torch.nn.functional.pad(waveform.reshape(-1, 20), (19, 7), mode="reflect").reshape(*shape[:-1], 46)
    assert torch.equal(functional.pad(waveform, 19, 7, "reflect"), expected)


def test_pad_refuses() -> None:
    with pytest.raises(ValueError, match="pad_mode must be 'constant' or 'reflect', got 'circular'"):
        functional.pad(torch.zeros(4), 1, 1, "circular")
    with pytest.raises(ValueError, match="needs at least 1 sample, got 0"):
        functional.pad(torch.zeros(0), 1, 1, "reflect")


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "boxcar", "blackmanharris", "bartlett", "nuttall"])
@pytest.mark.parametrize("win_length", [1, 2, 255, 400])
def test_window_is_scipys_periodic_one(name: str, win_length: int) -> None:
    expected = scipy.signal.get_window(name, win_length, fftbins=True).astype(np.float32)
    assert torch.equal(functional.window(name, win_length), torch.from_numpy(expected))


@pytest.mark.parametrize(
    "spec",
    [("kaiser", 14.0), ("gaussian", 30.0), ("tukey", 0.25), ("general_gaussian", 1.5, 60.0), ("chebwin", 80.0)],
)
@pytest.mark.parametrize("win_length", [255, 400])
def test_window_with_parameters_is_scipys_too(spec: tuple[str | float, ...], win_length: int) -> None:
    expected = scipy.signal.get_window(spec, win_length, fftbins=True).astype(np.float32)
    assert torch.equal(functional.window(spec, win_length), torch.from_numpy(expected))


@pytest.mark.parametrize("spec", ["hannn", "kaiser", ("hann", 3.0), ("hannn", 3.0), ("kaiser",)])
def test_window_refuses_unknown_names_and_wrong_parameters(spec: str | tuple[str | float, ...]) -> None:
    with pytest.raises(ValueError, match=f"window must be a name that .* got {re.escape(repr(spec))}"):
        functional.window(spec, 16)


def test_window_refuses_no_sample() -> None:
    with pytest.raises(ValueError, match="win_length must be at least 1 sample, got 0"):
        functional.window("hann", 0)


@pytest.mark.parametrize("n_samples", [1, 2, 159, 160, 511, 512, 513, 16000, 16001])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(512, 160), (511, 511), (400, 1), (1, 1)])
@pytest.mark.parametrize("center", [True, False])
def test_n_frames_equals_librosa(n_samples: int, n_fft: int, hop_length: int, center: bool) -> None:
    if not center and n_samples < n_fft:
        with pytest.raises(ValueError, match=f"at least n_fft={n_fft} samples, got {n_samples}: set center=True"):
            functional.n_frames(n_samples, n_fft=n_fft, hop_length=hop_length, center=center)
        return
    padded = np.zeros(n_samples + (2 * (n_fft // 2) if center else 0), dtype=np.float32)
    expected = librosa.util.frame(padded, frame_length=n_fft, hop_length=hop_length).shape[-1]
    assert functional.n_frames(n_samples, n_fft=n_fft, hop_length=hop_length, center=center) == expected


def test_n_frames_refuses_no_sample() -> None:
    with pytest.raises(ValueError, match="waveform must hold at least 1 sample, got 0"):
        functional.n_frames(0, n_fft=4, hop_length=1, center=True)
