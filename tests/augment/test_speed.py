"""Speed, measured on tones, a burst and scipy's resampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from audiocls.augment import SpeedChange

RATE, NO_TARGET = 16000, torch.zeros(0)


def tone(frequency: float = 500.0) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE).reshape(1, 1, -1)


def changed(x: torch.Tensor, factor: float, **settings) -> torch.Tensor:
    part = SpeedChange(factors=(factor,), probability=1.0, **settings)
    part.prepare(sample_rate=RATE, task="multiclass")
    return part(x, NO_TARGET)[0]


@pytest.mark.parametrize("factor", [0.5, 2 ** (-4 / 12), 0.9, 1.0, 1.1, 2 ** (4 / 12), 2.0])
def test_a_tone_moves_by_the_factor_and_keeps_its_level(factor: float) -> None:
    middle = changed(tone(), factor)[0, 0, 500:7500].double()
    spectrum = torch.fft.rfft(middle * torch.hann_window(7000, dtype=torch.float64), 32 * 7000).abs()
    assert spectrum.argmax().item() * RATE / (32 * 7000) == pytest.approx(500 * factor, rel=1e-3)
    assert middle.abs().max().item() == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_burst_moves_and_stretches_as_on_a_tape(factor: float) -> None:
    burst = torch.zeros(1, 1, RATE)
    burst[..., 8000:8400] = tone()[..., :400]
    heard = changed(burst, factor)[0, 0].abs().gt(0.05).nonzero()
    assert heard.min().item() == pytest.approx(8000 / factor, abs=8)  # half a millisecond: the filter rings
    assert heard.max().item() == pytest.approx(8400 / factor, abs=24)  # and the sine ends near zero


@pytest.mark.parametrize(("up", "down"), [(4, 5), (5, 4)])
def test_agrees_with_scipy(up: int, down: int) -> None:
    """Below the filters' slopes, which differ: noise up to 3 kHz of 8."""
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=RATE))
    spectrum[3000:] = 0
    x = np.fft.irfft(spectrum)
    ours = changed(torch.tensor(x, dtype=torch.float32).reshape(1, 1, -1), down / up)[0, 0].numpy()
    theirs = resample_poly(x, up, down)[: len(ours)]
    middle = slice(1000, len(theirs) - 1000)  # the ends see silence through filters of other lengths
    assert np.abs(ours[: len(theirs)] - theirs)[middle].max() < 0.01 * np.abs(theirs).max()


def test_what_is_too_short_has_silence_or_its_beginning_behind_it() -> None:
    x = torch.randn(2, 2, RATE)
    silent, repeated = changed(x, 4.0), changed(x, 4.0, padding="repeat")
    assert silent.shape == repeated.shape == x.shape
    assert torch.equal(silent[..., :4000], repeated[..., :4000])
    assert (silent[..., 4000:] == 0).all()
    assert torch.equal(repeated, silent[..., :4000].repeat(1, 1, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": []}, r"factors must be numbers between 0\.1 and 10, got \[\]"),
        ({"factors": [1.0, 0.0]}, r"factors must be .*, got \[1\.0, 0\.0\]"),
        ({"factors": [1.0, 11.0]}, r"factors must be .*, got \[1\.0, 11\.0\]"),
        ({"padding": "reflect"}, "padding must be 'zero' or 'repeat', got 'reflect'"),
    ],
)
def test_errors(settings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpeedChange(**settings)
