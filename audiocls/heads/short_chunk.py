"""Deep nets of small kernels for short chunks of music: the short-chunk CNN, and the one behind harmonic filters.

Both pool by two until little of a chunk of some seconds is left, take the maximum of what remains, and end in a dense
layer; the scores of a clip are the means of its chunks', which is the data module's business. The published nets begin
with a norm of the whole map (`BatchNormMap`), which here is the front-end's.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import Residual, conv_block, dense_block
from audiocls.heads.freq_pools import check_blocks
from audiocls.heads.pooling import MaxPool, TimePool


class ShortChunkCNN(Head):
    """Seven 3 x 3 convolutions, each halving both axes, by a pooling or, as residual pairs, by a stride.

    | block     | what                                          | map at 128 bins x 231 frames | with `residual` |
    |-----------|-----------------------------------------------|------------------------------|-----------------|
    | conv1     | conv 3 x 3, norm, ReLU, pool 2 x 2            | 128 x 64 x 115               | 128 x 64 x 116  |
    | conv2     | the same                                      | 128 x 32 x 57                | 128 x 32 x 58   |
    | conv3     | the same                                      | 256 x 16 x 28                | 256 x 16 x 29   |
    | conv4     | the same                                      | 256 x 8 x 14                 | 256 x 8 x 15    |
    | conv5     | the same                                      | 256 x 4 x 7                  | 256 x 4 x 8     |
    | conv6     | the same                                      | 256 x 2 x 3                  | 256 x 2 x 4     |
    | conv7     | the same                                      | 512 x 1 x 1                  | 512 x 1 x 2     |
    | embedding | maximum over positions, dense, norm, ReLU, dropout 0.5 | 512                 | 512             |
    | output    | dense                                         | 50                           | 50              |

    Published for decibel mel spectra of 3.69 s (59,049 samples at 16 kHz, hop 256). 3,687,346 parameters, 3,687,348
    with the front-end's norm, as the public implementation has; 12,104,242 and 12,104,244 with `residual`, of which
    each block is two convolutions and a third beside them, the first and the third with stride 2.

    Other sizes. Pooling drops incomplete windows, as published, but of an axis shorter than a window one position is
    left; strides drop nothing. So any number of bins and frames will do. Weights are drawn by
    `audiocls.heads.blocks.initialise`, Glorot's draw; the public implementation has torch's.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        residual: whether the blocks are residual pairs.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        pool: makes the pool over all positions of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool over time.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one or `dropout` is outside [0, 1).
    Source: Won et al. 2020, arXiv:2006.00751, and minzwon/sota-music-tagging-models, `training/model.py`.

    >>> import torch
    >>> head = ShortChunkCNN(128, 50)
    >>> sum(p.numel() for p in head.parameters())
    3687346
    >>> head(torch.randn(2, 1, 128, 231)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        residual: bool = False,
        channels: tuple[int, ...] = (128, 128, 256, 256, 256, 256, 512),
        pool: Callable[[int], TimePool] = MaxPool,
        class_attention: bool = False,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(dropout=dropout)

        def block(n_in: int, n_out: int) -> nn.Module:
            if residual:
                return Residual(n_in, n_out, stride=(2, 2))
            return conv_block(n_in, n_out, activation=nn.ReLU(), ceil_mode=False)

        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                **{f"conv{i}": block(*sizes) for i, sizes in enumerate(pairwise((n_channels, *channels)), start=1)},
                "embedding": _embedding(channels[-1], pool=pool, dropout=dropout),
            },
            embedding_dim=channels[-1],
            frame_step=2 ** len(channels),
            class_attention=class_attention,
        )


class HarmonicCNN(Head):
    """The short-chunk net for maps with a channel a harmonic: seven blocks, residual where the width stays.

    | block     | what                                            | map at 6 x 128 bins x 313 frames |
    |-----------|-------------------------------------------------|----------------------------------|
    | conv1     | conv 3 x 3, norm, ReLU, pool 2 x 2              | 128 x 64 x 156                   |
    | conv2     | residual pair of conv 3 x 3, pool 2 x 2         | 128 x 32 x 78                    |
    | conv3     | the same                                        | 128 x 16 x 39                    |
    | conv4     | the same                                        | 128 x 8 x 19                     |
    | conv5     | conv 3 x 3, norm, ReLU, pool 2 x 2              | 256 x 4 x 9                      |
    | conv6     | residual pair of conv 3 x 3, pool 2 x 3         | 256 x 2 x 3                      |
    | conv7     | the same                                        | 256 x 1 x 1                      |
    | embedding | maximum over positions, dense, norm, ReLU, dropout 0.5 | 256                       |
    | output    | dense                                           | 50                               |

    Published for 5 s at 16 kHz, hop 256, six harmonics of 128 bands two a semitone from C1. 3,631,538 parameters there
    (`n_channels` 6); 3,631,551 with a norm of each harmonic (12) and the one learnt bandwidth of the published
    front-end, triangular filters on a spectrogram. The nearest here is `audiocls.frontends.Harmonic`, constant-Q
    transforms, with harmonics 1 to 6, n_bins 128, bins_per_octave 24 and hop_length 256: set `n_channels` to 6 with it.

    Other sizes. Pooling drops incomplete windows, as published, but of an axis shorter than a window one position is
    left, so any number of bins and frames will do. Weights are drawn by `audiocls.heads.blocks.initialise`, Glorot's
    draw; the public implementation has torch's.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram, one a harmonic.
        channels: channels of each block, as many blocks as numbers; one that has as many as the block before is a
            residual pair, any other, and the first, a convolution.
        freq_pools: pooling of frequency in each block.
        time_pools: pooling of time in each block.
        pool: makes the pool over all positions of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool over time.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), or the pools have not one number a block.
    Source: Won et al. 2020, Data-driven harmonic filters for audio representation learning, ICASSP, and
        minzwon/sota-music-tagging-models, `training/model.py`.

    >>> import torch
    >>> head = HarmonicCNN(128, 50, n_channels=6)
    >>> sum(p.numel() for p in head.parameters())
    3631538
    >>> head(torch.randn(2, 6, 128, 313)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (128, 128, 128, 128, 256, 256, 256),
        freq_pools: tuple[int, ...] = (2, 2, 2, 2, 2, 2, 2),
        time_pools: tuple[int, ...] = (2, 2, 2, 2, 2, 3, 3),
        pool: Callable[[int], TimePool] = MaxPool,
        class_attention: bool = False,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(dropout=dropout)
        check_blocks(len(channels), freq_pools=freq_pools, time_pools=time_pools)

        def block(n_in: int, n_out: int, pools: tuple[int, int], *, first: bool) -> nn.Module:
            if n_in == n_out and not first:
                return Residual(n_in, n_out, pool=pools)
            return conv_block(n_in, n_out, activation=nn.ReLU(), pool=pools, ceil_mode=False)

        sizes = zip((n_channels, *channels), channels, zip(freq_pools, time_pools, strict=True), strict=False)
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                **{f"conv{i}": block(*size, first=i == 1) for i, size in enumerate(sizes, start=1)},
                "embedding": _embedding(channels[-1], pool=pool, dropout=dropout),
            },
            embedding_dim=channels[-1],
            frame_step=math.prod(time_pools),
            class_attention=class_attention,
        )


def _embedding(n_features: int, *, pool: Callable[[int], TimePool], dropout: float) -> nn.Sequential:
    """All positions pooled to one vector, then a dense layer of the same width."""
    dense = dense_block(n_features, n_features, activation=nn.ReLU())
    return nn.Sequential(nn.Flatten(start_dim=2), pool(n_features), dense, nn.Dropout(dropout))
