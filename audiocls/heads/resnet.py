"""The compact residual nets for spoken words of Tang and Lin, their counts exact.

Published for twelve words of Speech Commands on 40 MFCC x 101 frames (1 s at a 10 ms hop), as res8, res15 and res26,
each also narrow; here they are settings of one head (see `ResNet`).
"""

from collections.abc import Callable

from torch import Tensor, nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import BatchNormMaps, PadTo
from audiocls.heads.map_pools import AvgPoolMaps
from audiocls.heads.pooling import FreqMean, MeanPool, TimePool


class ResNet(Head):
    """3 x 3 convolutions of one width in residual pairs, dilated ever wider, and a mean over all positions.

    | block       | what                                                      | map of res15, 40 bins x 101 frames |
    |-------------|-----------------------------------------------------------|------------------------------------|
    | conv0       | conv, ReLU, mean pool by `pool_size`                      | 45 x 40 x 101                      |
    | res1        | x + (conv, ReLU, norm, conv, ReLU), dilations 1, 1        | 45 x 40 x 101                      |
    | res2 ...    | x + (norm, conv, ReLU, norm, conv, ReLU), dilations 1, 2; | 45 x 40 x 101                      |
    | res6        | 2, 2; 4, 4; 4, 8; 8, 8                                    |                                    |
    | last        | norm; of an odd number also conv (dilation 16), ReLU, norm | 45 x 40 x 101                     |
    | embedding   | mean over freq and time                                   | 45                                 |
    | output      | dense                                                     | 12                                 |

    Convolution i of `n_layers`, counted from 0, has dilation 2^(i // 3) where `dilated`. No convolution has a bias, no
    norm a gain or shift, so the norms hold no parameter.

    | published    | settings                                                            | parameters |
    |--------------|---------------------------------------------------------------------|------------|
    | res15        | the defaults                                                        | 237,882    |
    | res8         | n_layers 6, dilated false, pool_size [3, 4]                         | 110,307    |
    | res26        | n_layers 24, dilated false, pool_size [2, 2]                        | 438,357    |
    | narrow       | each with channels 19: res15 42,648, res8 19,905, res26 78,387      |            |

    A map smaller than `pool_size` is first padded with zeros on both sides. Weights are drawn by
    `audiocls.heads.blocks.initialise`, Glorot's draw; the public implementation has torch's.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of every convolution, the embedding's length.
        n_layers: convolutions behind the first, at least two; two make a residual pair.
        dilated: whether they widen by two every third.
        pool_size: (freq, frames) of the mean pooling behind the first convolution.
        pool: makes the pool over time of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool.
        dropout: share of the embedding set to zero while training; the published nets have none.
    Raises:
        ValueError: if a count is too low or `dropout` outside [0, 1).
    Source: Tang and Lin 2018, arXiv:1710.10361, and castorini/honk, `utils/model.py`.

    >>> import torch
    >>> head = ResNet(40, 12)
    >>> sum(p.numel() for p in head.parameters())
    237882
    >>> head(torch.randn(2, 1, 40, 101)).shape
    torch.Size([2, 12])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: int = 45,
        n_layers: int = 13,
        dilated: bool = True,
        pool_size: tuple[int, int] = (1, 1),
        pool: Callable[[int], TimePool] = MeanPool,
        class_attention: bool = False,
        dropout: float = 0.0,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=channels, pool_size=min(pool_size))
        if n_layers < 2:
            raise ValueError(f"n_layers must be at least 2, one residual pair, got {n_layers}")
        check_share(dropout=dropout)
        dilations = [2 ** (i // 3) if dilated else 1 for i in range(n_layers)]
        pairs = list(zip(dilations[::2], dilations[1::2], strict=False))
        last: list[nn.Module] = [BatchNormMaps(channels, affine=False)]
        if n_layers % 2:
            last += [*_conv(channels, channels, dilations[-1]), BatchNormMaps(channels, affine=False)]
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                "conv0": nn.Sequential(*_conv(n_channels, channels), AvgPoolMaps((pool_size[0], pool_size[1]))),
                **{f"res{i}": _Pair(channels, pair, norm=i > 1) for i, pair in enumerate(pairs, start=1)},
                "last": nn.Sequential(*last),
                "embedding": nn.Sequential(FreqMean(), pool(channels), nn.Dropout(dropout)),
            },
            embedding_dim=channels,
            stem=PadTo(n_bins=pool_size[0], n_frames=pool_size[1]),
            frame_step=pool_size[1],
            class_attention=class_attention,
        )


class _Pair(nn.Module):
    """Two convolutions, each rectified and with a norm before it, and what came in added to what comes out."""

    def __init__(self, channels: int, dilations: tuple[int, int], *, norm: bool) -> None:
        super().__init__()
        first, second = (_conv(channels, channels, dilation) for dilation in dilations)
        norms = [BatchNormMaps(channels, affine=False) for _ in range(2 if norm else 1)]
        self.body = nn.Sequential(*norms[1:], *first, norms[0], *second)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, channels, freq, frames), kept."""
        return x + self.body(x)


def _conv(in_channels: int, out_channels: int, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
    return [conv, nn.ReLU()]
