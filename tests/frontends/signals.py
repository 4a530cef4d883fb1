"""Signals that front-ends are compared on: each shows an error that the others hide."""

import numpy as np


def signals(sample_rate: int) -> dict[str, np.ndarray]:
    """A tone, a sweep, noise and a voice-like sound of half a second, float32 numbers in float64."""
    time = np.arange(sample_rate // 2) / sample_rate
    rate = np.log(sample_rate / 2 / 20) / time[-1]
    turns = np.cumsum(120 + 60 * np.sin(2 * np.pi * 3 * time)) / sample_rate
    voice = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 20)) * np.sin(2 * np.pi * 2 * time) ** 2
    both = {
        "tone": 0.8 * np.sin(2 * np.pi * 1000 * time),
        "sweep": 0.8 * np.sin(2 * np.pi * 20 / rate * np.expm1(rate * time)),
        "noise": np.random.default_rng(0).normal(0, 0.1, time.shape),
        "voice": 0.2 * voice + 1e-4 * np.random.default_rng(1).normal(size=time.shape),
    }
    return {name: samples.astype(np.float32).astype(np.float64) for name, samples in both.items()}
