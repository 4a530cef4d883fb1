"""A head whose weights are worth nothing before they are trained; apart, since a configuration names it by its path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiocls.heads import Head


class Gate(nn.Module):
    """Bins as features, times numbers that begin at 0: untrained, nothing passes."""

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(n_bins, 1))

    def forward(self, spectrogram: Tensor) -> Tensor:
        return spectrogram[:, 0] * self.gain


class Mean(nn.Module):
    """Over frames."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.mean(-1)


class Gated(Head):
    """(batch, bins, frames) behind the gate, and its mean as the embedding."""

    def __init__(self, n_bins: int, num_classes: int) -> None:
        blocks = {"gate": Gate(n_bins), "embedding": Mean()}
        super().__init__(n_bins, num_classes, n_channels=1, blocks=blocks, embedding_dim=n_bins)
