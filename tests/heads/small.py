"""Every head made narrow, so that the tests of all of them are quick, with the input that it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class Small:
    """How a head is built for the tests.

    Attributes:
        settings: that make it narrow; "dropout" among its arguments is assumed.
        n_bins: of the spectrogram it is tested on.
        any_bins: numbers of bins that it must take beside that.
        wrong: (settings, message) that it must refuse, beside those that every head must.
        needs: optional library without which it cannot be built.
    """

    settings: dict[str, Any]
    n_bins: int = 40
    any_bins: tuple[int, ...] = (1, 7, 40, 64, 97, 257)
    wrong: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    needs: str | None = None


_CHANNELS = ({"channels": (8, 0, 8, 8)}, "channels must be at least 1, got 0")

_FIVE_CHANNELS = ({"channels": (8, 0, 8, 8, 8)}, "channels must be at least 1, got 0")
_DENSE = {"budget": None, "hidden_size": 8, "dropout": 0.2}

SMALL = {
    "BeatboxCNN": Small(
        {"channels": (6, 8, 12), "dropout": 0.2},
        wrong=[({"channels": (8, 0, 8)}, "channels must be at least 1, got 0")],
    ),
    "CRNN": Small({"budget": None, "channels": (6, 8, 8, 12), "hidden_size": 8}, wrong=[_CHANNELS]),
    "CompactCNN": Small({"channels": (6, 8, 8, 8, 12), "dropout": 0.2}, wrong=[_FIVE_CHANNELS]),
    "FCN5": Small({"channels": (6, 8, 8, 8, 12), "dropout": 0.2}, wrong=[_FIVE_CHANNELS]),
    "K1C2": Small({"channels": (6, 8, 8, 12), **_DENSE}, wrong=[_CHANNELS]),
    "K2C1": Small({"channels": (6, 8, 8, 8, 12), **_DENSE}, wrong=[_FIVE_CHANNELS]),
    "K2C2": Small({"budget": None, "channels": (6, 8, 8, 8, 12), "dropout": 0.2}, wrong=[_FIVE_CHANNELS]),
    "ConvNet": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "KeywordCNN": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "Moments": Small(
        {"n_coefficients": 8, "dropout": 0.2},
        wrong=[({"n_coefficients": 0}, "n_coefficients must be at least 1, got 0")],
    ),
    "MusicCRNN": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "CNN6": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "CNN10": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "CNN14": Small({"channels": (6, 8, 8, 8, 8, 12)}, wrong=[_CHANNELS]),
    "MusicTaggingTransformer": Small(
        {"channels": 6, "embedding_dim": 16, "n_heads": 4, "n_layers": 2},
        wrong=[
            ({"embedding_dim": 100}, "embedding_dim must be a multiple of n_heads=8, got 100: take 104"),
            ({"n_positions": 0}, "n_positions must be at least 1, got 0"),
        ],
    ),
    "ResNet": Small(
        {"channels": 8, "n_layers": 7, "dropout": 0.2},
        wrong=[
            ({"channels": 0}, "channels must be at least 1, got 0"),
            ({"n_layers": 1}, "n_layers must be at least 2, one residual pair, got 1"),
            ({"pool_size": (0, 1)}, "pool_size must be at least 1, got 0"),
        ],
    ),
    "HarmonicCNN": Small(
        {"channels": (6, 6, 8, 8), "freq_pools": (2, 2, 2, 2), "time_pools": (2, 2, 3, 3)},
        wrong=[
            ({"channels": (8, 0)}, "channels must be at least 1, got 0"),
            ({"time_pools": (2, 2)}, "time_pools must hold 7 numbers, one a convolution block, got (2, 2)"),
        ],
    ),
    "Musicnn": Small(
        {"timbral_channels": 6, "temporal_channels": 4, "mid_channels": 8, "hidden_size": 12},
        wrong=[
            ({"timbral_shares": (0.5, 1.5)}, "timbral_shares must be above 0 and at most 1 of the bins, at least one"),
            ({"temporal_lengths": (0,)}, "temporal_lengths must be at least 1, got 0"),
        ],
    ),
    "SBCNN": Small(
        {"channels": (6, 8, 8)},
        wrong=[
            ({"channels": (8, 0, 8)}, "channels must be at least 1, got 0"),
            ({"freq_pools": (2, 2)}, "freq_pools must hold 3 numbers, one a convolution block, got (2, 2)"),
        ],
    ),
    "SampleCNN": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "ShortChunkCNN": Small({"channels": (6, 8, 8, 12)}, wrong=[_CHANNELS]),
    "TimmHead": Small(
        {"model": "test_efficientnet", "dropout": 0.2},
        wrong=[
            ({"model": "resnet1"}, "model must be one of timm's, got 'resnet1': perhaps "),
            ({"least_size": 0}, "least_size must be at least 1, got 0"),
        ],
        needs="timm",
    ),
    "VGGish": Small(
        {"channels": (6, 8, 8, 12), "hidden_sizes": (16, 16), "embedding_dim": 12, "dropout": 0.2},
        wrong=[
            _CHANNELS,
            ({"hidden_sizes": ()}, "hidden_sizes must be at least 1, got 0"),
            ({"n_convs": (1, 1)}, "n_convs must hold 4 numbers, one a convolution block, got (1, 1)"),
        ],
    ),
}


def skip_without_library(name: str) -> None:
    """Skip the test of a head whose optional library is not installed here."""
    needs = SMALL[name].needs
    if needs:
        pytest.importorskip(needs, reason=f"{name} needs {needs}: pip install 'audiocls[{needs}]'")
