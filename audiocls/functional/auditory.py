"""Auditory scales other than mel: Bark (critical bands) and the ERB rate.

Both count how many auditory filters lie below a frequency. Bark is Traunmüller's closed formula, without his
corrections of it below 2 and above 20.1 Bark; ERB is Glasberg and Moore's.
"""

import torch
from torch import Tensor

_ERB_AT_ZERO_HZ = 24.7
_ERB_GROWTH = 4.37e-3  # per Hz
_ERB_RATE = 21.4  # ERBs a decade of 1 + 0.00437 f


def hz_to_bark(frequency: Tensor) -> Tensor:
    """Frequency to critical-band rate, 26.81 f / (1960 + f) - 0.53.

    Args:
        frequency: in Hz, any shape, non-negative.
    Returns:
        Bark, same shape, float64; -0.53 at 0 Hz.
    Source: Traunmüller 1990, Analytical expressions for the tonotopic sensory scale, eq. 6; within 0.05 Bark of
        Zwicker's table from 200 Hz to 6.4 kHz.

    >>> hz_to_bark(torch.tensor([1000.0])).round(decimals=2)
    tensor([8.5300], dtype=torch.float64)
    """
    frequency = frequency.to(torch.float64)
    return 26.81 * frequency / (1960.0 + frequency) - 0.53


def bark_to_hz(bark: Tensor) -> Tensor:
    """Critical-band rate to frequency, the inverse of `hz_to_bark`.

    Args:
        bark: below 26.28, any shape.
    Returns:
        Hz, same shape, float64.

    >>> bark_to_hz(torch.tensor([-0.53], dtype=torch.float64))
    tensor([0.], dtype=torch.float64)
    """
    bark = bark.to(torch.float64)
    return 1960.0 * (bark + 0.53) / (26.28 - bark)


def hz_to_erb_rate(frequency: Tensor) -> Tensor:
    """Frequency to ERB rate, 21.4 log10(1 + 0.00437 f).

    Args:
        frequency: in Hz, any shape, non-negative.
    Returns:
        ERB rate, same shape, float64.
    Source: Glasberg and Moore 1990, Derivation of auditory filter shapes from notched-noise data, eq. 4.

    >>> hz_to_erb_rate(torch.tensor([1000.0])).round(decimals=2)
    tensor([15.6200], dtype=torch.float64)
    """
    return _ERB_RATE * torch.log10(1.0 + _ERB_GROWTH * frequency.to(torch.float64))


def erb_rate_to_hz(erb_rate: Tensor) -> Tensor:
    """ERB rate to frequency, the inverse of `hz_to_erb_rate`.

    Args:
        erb_rate: any shape.
    Returns:
        Hz, same shape, float64.

    >>> erb_rate_to_hz(torch.tensor([0.0]))
    tensor([0.], dtype=torch.float64)
    """
    return (10.0 ** (erb_rate.to(torch.float64) / _ERB_RATE) - 1.0) / _ERB_GROWTH


def erb_bandwidth(frequency: Tensor) -> Tensor:
    """Equivalent rectangular bandwidth of the auditory filter at a frequency, 24.7 (1 + 0.00437 f).

    Args:
        frequency: in Hz, any shape, non-negative.
    Returns:
        Hz, same shape, float64.
    Source: Glasberg and Moore 1990, eq. 3.

    >>> erb_bandwidth(torch.tensor([1000.0])).round()
    tensor([133.], dtype=torch.float64)
    """
    return _ERB_AT_ZERO_HZ * (1.0 + _ERB_GROWTH * frequency.to(torch.float64))
