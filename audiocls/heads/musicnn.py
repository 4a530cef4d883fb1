"""Musicnn: kernels shaped by musical knowledge, tall ones for timbre and long ones for tempo, then a few plain layers.

Published for 50 tags on log-mel spectra of 96 bins x 188 frames (3 s at 16 kHz, hop 256). The published net begins with
a norm of the whole map, which here is the front-end's (`BatchNormMap`, 2 parameters).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import BatchNormMaps, dense_block, same_padding


class Musicnn(Head):
    """Tall and long kernels side by side, three convolutions over time with residual sums, all of it pooled at the end.

    | block     | what                                                               | map at 96 bins x 188 frames |
    |-----------|--------------------------------------------------------------------|-----------------------------|
    | front     | conv 67 x 7 and 38 x 7 (204 each), norm, ReLU, maximum over freq;  |                             |
    |           | of the mean over freq, conv 129, 65 and 33 (51 each), norm, ReLU   | 561 x 188                   |
    | mid1      | the map, and conv 7, norm, ReLU of it                              | 625 x 188                   |
    | mid2      | the map, and conv 7, norm, ReLU of its last 64, plus those 64      | 689 x 188                   |
    | mid3      | the same                                                           | 753 x 188                   |
    | embedding | maximum and mean over time, dense, norm, ReLU, dropout 0.5         | 200                         |
    | output    | dense                                                              | 50                          |

    784,298 parameters, 784,300 with the front-end's norm, as the public implementation in torch has; with mid_channels
    512 and hidden_size 500, the net for the Million Song Dataset, 7,971,998 and 7,972,000. The authors' own, in
    TensorFlow, is older: there a long kernel of 128, 64 or 32 frames passes over each bin and the maximum over bins is
    taken behind it, a norm follows its ReLU, and the pooled vector has a norm and dropout before the dense layer.

    Other sizes. Tall kernels are `timbral_shares` of the bins, rounded down, and at least one. Time keeps its length,
    with zeros on both sides of a kernel, so any clip will do. Weights are drawn by
    `audiocls.heads.blocks.initialise`, Glorot's draw; the public implementation has torch's.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        timbral_channels: channels of each tall kernel.
        timbral_shares: heights of the tall kernels as shares of the bins, as many kernels as numbers.
        temporal_channels: channels of each long kernel.
        temporal_lengths: lengths of the long kernels in frames, as many kernels as numbers.
        mid_channels: channels of the convolutions behind them.
        hidden_size: width of the dense layer, the embedding's length.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            maximum and mean over time.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1) or a share of the bins outside (0, 1].
    Source: Pons et al. 2018, arXiv:1711.02520; Pons and Serra 2019, arXiv:1909.06654, and jordipons/musicnn; layers
        and counts as in minzwon/sota-music-tagging-models, `training/model.py`.

    >>> head = Musicnn(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    784298
    >>> head(torch.randn(2, 1, 96, 188)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        timbral_channels: int = 204,
        timbral_shares: tuple[float, ...] = (0.7, 0.4),
        temporal_channels: int = 51,
        temporal_lengths: tuple[int, ...] = (129, 65, 33),
        mid_channels: int = 64,
        hidden_size: int = 200,
        class_attention: bool = False,
        dropout: float = 0.5,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, timbral_channels=timbral_channels)
        check_counts(temporal_channels=temporal_channels, temporal_lengths=min(temporal_lengths, default=0))
        check_counts(mid_channels=mid_channels, hidden_size=hidden_size)
        check_share(dropout=dropout)
        if not timbral_shares or not all(0 < share <= 1 for share in timbral_shares):
            raise ValueError(
                f"timbral_shares must be above 0 and at most 1 of the bins, at least one, got {tuple(timbral_shares)}"
            )
        heights = [max(int(share * n_bins), 1) for share in timbral_shares]
        front = len(heights) * timbral_channels + len(temporal_lengths) * temporal_channels
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                "front": _Front(
                    [_Timbral(n_channels, timbral_channels, height) for height in heights]
                    + [_Temporal(n_channels, temporal_channels, length) for length in temporal_lengths]
                ),
                "mid1": _Mid(front, mid_channels, residual=False),
                "mid2": _Mid(mid_channels, mid_channels, residual=True),
                "mid3": _Mid(mid_channels, mid_channels, residual=True),
                "embedding": nn.Sequential(
                    _MaxAndMean(),
                    dense_block(2 * (front + 3 * mid_channels), hidden_size, activation=nn.ReLU()),
                    nn.Dropout(dropout),
                ),
            },
            embedding_dim=hidden_size,
            frame_step=1,
            class_attention=class_attention,
        )


class _Front(nn.Module):
    """Branches over one spectrogram, their features one behind the other: to (batch, features, frames)."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channels, freq, frames) to (batch, features, frames)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class _Timbral(nn.Module):
    """A tall kernel of seven frames, where in frequency it fits best: a timbre at another pitch is the same feature."""

    def __init__(self, in_channels: int, out_channels: int, height: int) -> None:
        super().__init__()
        self.conv = _conv(in_channels, out_channels, (height, 7))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, in_channels, freq, frames) to (batch, out_channels, frames)."""
        return self.conv(x).amax(dim=-2)


class _Temporal(nn.Module):
    """A long kernel over the mean of all bins: the course of loudness."""

    def __init__(self, in_channels: int, out_channels: int, length: int) -> None:
        super().__init__()
        self.conv = _conv(in_channels, out_channels, (1, length))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, in_channels, freq, frames) to (batch, out_channels, frames)."""
        return self.conv(x.mean(dim=-2, keepdim=True)).squeeze(-2)


class _Mid(nn.Module):
    """A convolution over time of the last features of a map, appended to the map, so that all of it is pooled."""

    def __init__(self, in_features: int, out_features: int, *, residual: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.residual = residual
        self.conv = _conv(in_features, out_features, (1, 7))

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, features, frames) to (batch, features + out_features, frames)."""
        last = x[:, -self.in_features :]
        new = self.conv(last.unsqueeze(-2)).squeeze(-2)
        return torch.cat([x, new + last if self.residual else new], dim=1)


class _MaxAndMean(nn.Module):
    """Maximum and mean over time, one behind the other: (batch, features, frames) to (batch, 2 * features)."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool the last axis."""
        return torch.cat([x.amax(dim=-1), x.mean(dim=-1)], dim=1)


def _conv(in_channels: int, out_channels: int, kernel_size: tuple[int, int]) -> nn.Sequential:
    """A convolution that keeps the frames and fits whole into the bins, normalised and rectified."""
    return nn.Sequential(
        same_padding((1, kernel_size[1])),
        nn.Conv2d(in_channels, out_channels, kernel_size),
        BatchNormMaps(out_channels),
        nn.ReLU(),
    )
