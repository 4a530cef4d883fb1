"""The fully convolutional nets for music tagging: five blocks that pool both axes away, and one linear layer.

One structure, published with several widths and pools: `FCN5`, the small `CompactCNN`, and K2C2, which stands with its
rivals in `audiocls.heads.choi2017`.
"""

import math

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import PadTo, conv_block
from audiocls.heads.freq_pools import check_blocks, check_rows, pools_for
from audiocls.heads.map_pools import AdaptiveFrames

FCN_FREQ_POOLS = (2, 2, 2, 3, 4)  # their product is 96, the published number of bins
COMPACT_FREQ_POOLS = {
    256: (2, 4, 4, 2, 4),
    128: (2, 4, 2, 2, 4),
    96: (2, 3, 2, 2, 4),
    72: (2, 3, 2, 2, 3),
    64: (2, 2, 2, 2, 4),
    48: (2, 2, 2, 2, 3),
    32: (2, 2, 2, 2, 2),
    24: (2, 2, 2, 3, 1),
    18: (2, 1, 3, 1, 3),
    16: (2, 2, 2, 2, 1),
    12: (2, 1, 2, 3, 1),
    8: (2, 1, 2, 2, 1),
    6: (2, 1, 3, 1, 1),
    4: (2, 1, 2, 1, 1),
    2: (2, 1, 1, 1, 1),
    1: (1, 1, 1, 1, 1),
}


class FCN5(Head):
    """Five convolution blocks, the last of which leaves one value a map.

    | block     | what                                 | map at 96 bins x 1366 frames |
    |-----------|--------------------------------------|------------------------------|
    | conv1     | conv 3 x 3, norm, ELU, pool 2 x 4    | 64 x 48 x 341                |
    | conv2     | conv 3 x 3, norm, ELU, pool 2 x 4    | 128 x 24 x 85                |
    | conv3     | conv 3 x 3, norm, ELU, pool 2 x 4    | 128 x 12 x 21                |
    | conv4     | conv 3 x 3, norm, ELU, pool 3 x 5    | 128 x 4 x 4                  |
    | conv5     | conv 3 x 3, norm, ELU, pool 4 x 4    | 64 x 1 x 1                   |
    | embedding | flatten                              | 64                           |
    | output    | dense                                | 50                           |

    447,730 parameters at 50 classes, whatever the size of the input. The published net begins with a norm of each
    bin, 192 more; here that is the front-end's normalisation. A torch port with ReLU, dropout 0.5 of the embedding
    and one norm for all bins has 447,732.

    That is the table of the public code as it stands. Its README counts 865,950 and gives the tagging AUC of 0.8654 on
    the Million Song Dataset for its released weights, which are of an earlier table: `channels` (32, 128, 128, 192,
    256), here 863,218 parameters, with `conv_dropout` 0.5, and an input norm with a gain and a shift for each of the
    1366 frames instead of the bins, which are the missing 2,732.

    Other sizes. Pools drop incomplete windows at the end of time, as published, and take a map shorter than one whole:
    a clip of less than the product of `time_pools`, 1280 frames, is pooled to one position early, and for short sounds
    smaller `time_pools` use the depth better. Of a longer clip, the mean over the positions that are left is taken.
    Frequency is padded with zeros on both sides to the product of `freq_pools`. Weights are drawn by
    `audiocls.heads.blocks.initialise`, which is the published draw.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of the five convolutions, the last the embedding's length.
        freq_pools: pooling of frequency in the five blocks, with a product of at least `n_bins`; None: by the rule of
            `audiocls.heads.freq_pools`.
        time_pools: pooling of time in the five blocks.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, a dropout outside [0, 1), a setting does not hold five numbers, or
            `freq_pools` leave more than one row.
    Source: Choi et al. 2016, arXiv:1606.00298, and keunwoochoi/music-auto_tagging-keras, `music_tagger_cnn.py`.

    >>> import torch
    >>> head = FCN5(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    447730
    >>> head(torch.randn(2, 1, 96, 1366)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 128, 128, 64),
        freq_pools: tuple[int, ...] | None = None,
        time_pools: tuple[int, ...] = (4, 4, 4, 5, 4),
        conv_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels)
        check_share(conv_dropout=conv_dropout, dropout=dropout)
        by_rule = self.freq_pools_for(n_bins)
        freq_pools = by_rule if freq_pools is None else freq_pools
        check_blocks(5, channels=channels, freq_pools=freq_pools, time_pools=time_pools)
        check_rows(freq_pools, n_bins, by_rule)
        sizes = zip((n_channels, *channels), channels, freq_pools, time_pools, strict=False)
        blocks: dict[str, nn.Module] = {
            f"conv{i}": conv_block(
                n_in, n_out, activation=nn.ELU(), pool=(rows, frames), ceil_mode=False, dropout=conv_dropout
            )
            for i, (n_in, n_out, rows, frames) in enumerate(sizes, start=1)
        }
        blocks["embedding"] = nn.Sequential(AdaptiveFrames(1), nn.Flatten(), nn.Dropout(dropout))
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks=blocks,
            embedding_dim=channels[-1],
            stem=PadTo(n_bins=math.prod(freq_pools)),
        )

    @staticmethod
    def freq_pools_for(n_bins: int) -> tuple[int, ...]:
        """Pooling of frequency where none is given."""
        return pools_for(n_bins, FCN_FREQ_POOLS)


class CompactCNN(FCN5):
    """The net whose maps, after every pooling, describe a clip in the transfer-learning paper: `FCN5` with 32 maps.

    | block     | what                                 | map at 96 bins x 1360 frames |
    |-----------|--------------------------------------|------------------------------|
    | conv1     | conv 3 x 3, norm, ELU, pool 2 x 4    | 32 x 48 x 340                |
    | conv2     | conv 3 x 3, norm, ELU, pool 3 x 4    | 32 x 16 x 85                 |
    | conv3     | conv 3 x 3, norm, ELU, pool 2 x 5    | 32 x 8 x 17                  |
    | conv4     | conv 3 x 3, norm, ELU, pool 2 x 4    | 32 x 4 x 4                   |
    | conv5     | conv 3 x 3, norm, ELU, pool 4 x 4    | 32 x 1 x 1                   |
    | embedding | flatten                              | 32                           |
    | output    | dense                                | 50                           |

    39,282 parameters at 50 classes, as published, whatever the size of the input. The published net normalises by
    the statistics of the batch in evaluation too, so that its features change with the batch (its author says so, and
    trained another for that); here the running statistics are used, and a clip's features are its own. It takes
    decibels as they are, without a norm of the input.

    Frequency is pooled by the published table for 1, 2, 4, 6, 8, 12, 16, 18, 24, 32, 48, 64, 72, 96, 128 and 256 bins.
    The public code takes the entry below for any number between, and drops the bins above it; here such a number has
    pools of its own, by the rule of `audiocls.heads.freq_pools`. All else is as in `FCN5`, but convolutions are drawn
    as published, from a normal distribution (He et al. 2015, arXiv:1502.01852, eq. 10).

    Five layers of 65 maps have 156,960 parameters: about the 157 thousand of the five-layer net on which Kapre's
    authors timed their layers (arXiv:1706.05781), of which no table was found.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of the five convolutions, the last the embedding's length.
        freq_pools: pooling of frequency in the five blocks, with a product of at least `n_bins`; None: as published.
        time_pools: pooling of time in the five blocks.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: as `FCN5` does.
    Source: Choi et al. 2017, arXiv:1703.09179; keunwoochoi/transfer_learning_music, `models_transfer.py`;
        keunwoochoi/music-auto_tagging-keras, `compact_cnn/models.py`.

    >>> import torch
    >>> head = CompactCNN(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    39282
    >>> head.forward_intermediates(torch.randn(2, 1, 96, 1360))["conv2"].shape
    torch.Size([2, 32, 16, 85])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (32, 32, 32, 32, 32),
        freq_pools: tuple[int, ...] | None = None,
        time_pools: tuple[int, ...] = (4, 4, 5, 4, 4),
        conv_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            channels=channels,
            freq_pools=freq_pools,
            time_pools=time_pools,
            conv_dropout=conv_dropout,
            dropout=dropout,
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def freq_pools_for(n_bins: int) -> tuple[int, ...]:
        """Pooling of frequency where none is given.

        >>> CompactCNN.freq_pools_for(128), CompactCNN.freq_pools_for(80)
        ((2, 4, 2, 2, 4), (2, 2, 2, 2, 5))
        """
        return COMPACT_FREQ_POOLS.get(n_bins) or pools_for(n_bins, COMPACT_FREQ_POOLS[96])
