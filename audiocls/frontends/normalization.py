"""Normalisation of compressed energies, the last stage of a front-end.

Each is built as `normalization(n_bins)` with its settings as keywords, and maps (batch, channels, n_bins, frames) to
the same shape.
"""

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """A normalisation of compressed energies, (batch, channels, n_bins, frames) to the same shape.

    Args:
        n_bins: number of frequency bins.
    """

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins


class NoNormalization(Normalization):
    """Compressed energies as they are.

    >>> NoNormalization(4)(torch.ones(1, 1, 4, 2)).sum()
    tensor(8.)
    """

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return spectrogram


class BatchNormBins(Normalization):
    """Batch normalisation over frequency: one mean and one variance a bin, over batch, channels and frames.

    It learns the level of each bin over the training set, so that no statistics need to be gathered beforehand; in
    evaluation it is a fixed gain and shift a bin, and a clip does not depend on its batch.

    Args:
        n_bins: number of frequency bins.
        momentum: weight of the newest batch in the running mean and variance, in (0, 1].
        eps: added to the variance, in squared units of the input.
        learnable: whether each bin also learns a gain and a shift after it is normalised.

    >>> BatchNormBins(4)(torch.randn(2, 1, 4, 50)).mean().abs() < 1e-5
    tensor(True)
    """

    def __init__(self, n_bins: int, *, momentum: float = 0.1, eps: float = 1e-5, learnable: bool = True) -> None:
        super().__init__(n_bins)
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be in (0, 1], got {momentum}")
        self.norm = nn.BatchNorm2d(n_bins, eps=eps, momentum=momentum, affine=learnable, dtype=torch.float32)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return self.norm(spectrogram.transpose(1, 2)).transpose(1, 2)
