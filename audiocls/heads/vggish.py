"""VGGish, the net of AudioSet's published features: configuration A of VGG without its last group of convolutions.

Published for log-mel spectra of 64 bins x 96 frames (0.96 s at 16 kHz, hop 10 ms). Here it is trained from the start;
the released weights, and the whitening and rounding of their features, are left out.
"""

import math
from itertools import pairwise

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import conv_block
from audiocls.heads.freq_pools import check_blocks
from audiocls.heads.map_pools import AdaptiveFrames


class VGGish(Head):
    """Six 3 x 3 convolutions with ReLU in four blocks pooled by two, and three dense layers; no normalisation inside.

    | block     | what                                      | map at 64 bins x 96 frames |
    |-----------|-------------------------------------------|----------------------------|
    | conv1     | conv 3 x 3, ReLU, pool 2 x 2              | 64 x 32 x 48               |
    | conv2     | the same                                  | 128 x 16 x 24              |
    | conv3     | twice (conv 3 x 3, ReLU), pool 2 x 2      | 256 x 8 x 12               |
    | conv4     | the same                                  | 512 x 4 x 6                |
    | flatten   | frames brought to those of `n_frames`     | 12288                      |
    | dense1    | dense, ReLU, dropout                      | 4096                       |
    | dense2    | the same                                  | 4096                       |
    | features  | dense                                     | 128                        |
    | embedding | ReLU                                      | 128                        |
    | output    | dense                                     | classes                    |

    72,141,184 parameters up to "features", as published; nine in ten are the dense layers', so for a small data set
    give a smaller `hidden_sizes`. The published features are those before the ReLU, the map "features" here.

    Pooling keeps incomplete windows, so any number of bins and frames will do. For another length than `n_frames`,
    means over time bring the last map to the frames it has there. The first dense layer grows with `n_bins` and
    `n_frames`. Weights are drawn by `audiocls.heads.blocks.initialise`, Glorot's draw; the published net had normal
    ones of deviation 0.01.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        n_frames: frames of the clips to be trained on; they pass without a mean over time.
        channels: channels of each block, as many blocks as numbers.
        n_convs: convolutions of each block.
        hidden_sizes: widths of the dense layers before the features, as many layers as numbers.
        embedding_dim: width of the features.
        dropout: share set to zero after each of those dense layers while training; the published net has none.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), or `n_convs` has not one number a block.
    Source: Hershey et al. 2017, arXiv:1609.09430, and tensorflow/models, `research/audioset/vggish/vggish_slim.py`.

    >>> import torch
    >>> with torch.device("meta"):  # counted without drawing 72 million numbers
    ...     head = VGGish(64, 527)
    >>> sum(p.numel() for p in head.blocks.parameters())
    72141184
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        n_frames: int = 96,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        n_convs: tuple[int, ...] = (1, 1, 2, 2),
        hidden_sizes: tuple[int, ...] = (4096, 4096),
        embedding_dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, n_frames=n_frames, channels=min(channels, default=0))
        check_counts(hidden_sizes=min(hidden_sizes, default=0), embedding_dim=embedding_dim)
        check_blocks(len(channels), n_convs=n_convs)
        check_share(dropout=dropout)
        rows, columns = (math.ceil(size / 2 ** len(channels)) for size in (n_bins, n_frames))
        widths = (channels[-1] * rows * columns, *hidden_sizes)
        blocks: dict[str, nn.Module] = {
            f"conv{i}": _conv_block(n_in, n_out, n_convs[i - 1])
            for i, (n_in, n_out) in enumerate(pairwise((n_channels, *channels)), start=1)
        }
        blocks["flatten"] = nn.Sequential(AdaptiveFrames(columns), nn.Flatten())
        for i, (n_in, n_out) in enumerate(pairwise(widths), start=1):
            blocks[f"dense{i}"] = nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(dropout))
        blocks["features"] = nn.Linear(widths[-1], embedding_dim)
        blocks["embedding"] = nn.ReLU()
        super().__init__(n_bins, num_classes, n_channels=n_channels, blocks=blocks, embedding_dim=embedding_dim)


def _conv_block(in_channels: int, out_channels: int, n_convs: int) -> nn.Sequential:
    """Convolutions with ReLU, then the pooling."""
    widths = (in_channels, *[out_channels] * n_convs)
    return nn.Sequential(
        *(
            conv_block(n_in, n_out, activation=nn.ReLU(), norm=False, pool=(2, 2) if i == n_convs else (1, 1))
            for i, (n_in, n_out) in enumerate(pairwise(widths), start=1)
        )
    )
