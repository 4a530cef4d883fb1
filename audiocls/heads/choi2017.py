"""Four structures for music tagging at equal numbers of parameters: K1C2, K2C1, K2C2 and CRNN.

k says over how many axes a kernel reaches, c over how many its convolutions slide. Each is published at 0.1, 0.25, 0.5,
1 and 3 million parameters for 96 bins x 1366 frames and 50 tags; here `budget` scales the widths, in the proportions
of the largest, to any number for any input (`audiocls.heads.budget`). The authors published no code; widths, kernels
and pools are the paper's as far as they could be confirmed by counting its five sizes: K2C2, K2C1 and CRNN come within
4 % of all. K1C2 comes out 4 to 9 % too small at its published widths, so that something of it may differ (a kernel of
8 frames would come within 3 %).

Source: Choi et al. 2017, arXiv:1609.04243.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import conv_block, dense_block, same_padding
from audiocls.heads.budget import Widths, widths_for
from audiocls.heads.fcn import FCN5
from audiocls.heads.freq_pools import check_blocks
from audiocls.heads.map_pools import AdaptiveFrames
from audiocls.heads.music_crnn import PUBLISHED_POOLS, MusicCRNN

KERNEL_FRAMES = 4


class K1C2(Head):
    """Kernels along time only, in every bin alike; two dense layers bring the bins together.

    | block     | what                                 | map at 96 bins x 1366 frames |
    |-----------|--------------------------------------|------------------------------|
    | conv1     | conv 1 x 4, norm, ELU, pool 1 x 4    | 15 x 96 x 341                |
    | conv2     | conv 1 x 4, norm, ELU, pool 1 x 5    | 15 x 96 x 68                 |
    | conv3     | conv 1 x 4, norm, ELU, pool 1 x 8    | 31 x 96 x 8                  |
    | conv4     | conv 1 x 4, norm, ELU, pool 1 x 8    | 31 x 96 x 1                  |
    | dense     | flatten, dense, norm, ELU            | 31                           |
    | embedding | dense, norm, ELU                     | 31                           |
    | output    | dense                                | 50                           |

    101,943 parameters at that size and the default budget; published widths are (a, a, b, b) with dense layers of b:
    (15, 30), (23, 47), (33, 66), (47, 95), (81, 163). The dense layer grows with `n_bins`, and narrows the others for
    it. Any length is taken as in `audiocls.heads.FCN5`: pools drop incomplete windows, and of what more than 1280
    frames leave the mean is taken.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        budget: parameters to be had to 2 %, `channels` and `hidden_size` then being proportions; None: as given there.
        channels: channels of the four convolutions.
        hidden_size: width of both dense layers, the embedding's length.
        time_pools: pooling of time in the four blocks.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), a setting does not hold four numbers, or no
            widths meet the budget.
    Source: Choi et al. 2017, arXiv:1609.04243.

    >>> head = K1C2(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    101943
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        budget: int | None = 100_000,
        channels: tuple[int, ...] = (81, 81, 163, 163),
        hidden_size: int = 163,
        time_pools: tuple[int, ...] = (4, 5, 8, 8),
        dropout: float = 0.0,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, hidden_size=hidden_size)
        check_share(dropout=dropout)
        check_blocks(4, channels=channels, time_pools=time_pools)
        build = partial(K1C2, n_bins, num_classes, n_channels=n_channels, budget=None)
        channels, hidden_size = _widths(budget, channels, hidden_size, build)
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                **_time_blocks((n_channels, *channels), time_pools),
                **_dense_blocks(channels[-1] * n_bins, hidden_size, dropout=dropout),
            },
            embedding_dim=hidden_size,
        )


class K2C1(Head):
    """Kernels over all bins at once, sliding along time only; two dense layers.

    | block     | what                                 | map at 96 bins x 1366 frames |
    |-----------|--------------------------------------|------------------------------|
    | conv1     | conv 96 x 4, norm, ELU, pool 1 x 4   | 44 x 1 x 341                 |
    | conv2     | conv 1 x 4, norm, ELU, pool 1 x 4    | 44 x 1 x 85                  |
    | conv3     | conv 1 x 4, norm, ELU, pool 1 x 4    | 44 x 1 x 21                  |
    | conv4     | conv 1 x 4, norm, ELU, pool 1 x 5    | 88 x 1 x 4                   |
    | conv5     | conv 1 x 4, norm, ELU, pool 1 x 4    | 88 x 1 x 1                   |
    | dense     | flatten, dense, norm, ELU            | 88                           |
    | embedding | dense, norm, ELU                     | 88                           |
    | output    | dense                                | 50                           |

    100,238 parameters at that size and the default budget; published widths are (a, a, a, b, b) with dense layers of b:
    (43, 87), (72, 145), (106, 213), (152, 304), (265, 535). The pools are those of 4 and 5 that leave one of 1366
    frames. Any length is taken as in `audiocls.heads.FCN5`.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        budget: parameters to be had to 2 %, `channels` and `hidden_size` then being proportions; None: as given there.
        channels: channels of the five convolutions.
        hidden_size: width of both dense layers, the embedding's length.
        time_pools: pooling of time in the five blocks.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), a setting does not hold five numbers, or no
            widths meet the budget.
    Source: Choi et al. 2017, arXiv:1609.04243.

    >>> head = K2C1(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    100238
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        budget: int | None = 100_000,
        channels: tuple[int, ...] = (265, 265, 265, 535, 535),
        hidden_size: int = 535,
        time_pools: tuple[int, ...] = (4, 4, 4, 5, 4),
        dropout: float = 0.0,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, hidden_size=hidden_size)
        check_share(dropout=dropout)
        check_blocks(5, channels=channels, time_pools=time_pools)
        build = partial(K2C1, n_bins, num_classes, n_channels=n_channels, budget=None)
        channels, hidden_size = _widths(budget, channels, hidden_size, build)
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                **_time_blocks((n_channels, *channels), time_pools, first_bins=n_bins),
                **_dense_blocks(channels[-1], hidden_size, dropout=dropout),
            },
            embedding_dim=hidden_size,
        )


class K2C2(FCN5):
    """Square kernels that slide over both axes: `audiocls.heads.FCN5` at a number of parameters.

    100,061 parameters at 96 bins, 50 classes and the default budget; published widths are 20-41-41-62-83,
    33-66-66-100-133, 47-95-95-142-190, 67-135-135-203-271 and 118-236-236-355-473.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        budget: parameters to be had to 2 %, `channels` then being proportions; None: as given there.
        channels: channels of the five convolutions, the last the embedding's length.
        freq_pools: pooling of frequency in the five blocks, with a product of at least `n_bins`; None: by the rule of
            `audiocls.heads.freq_pools`.
        time_pools: pooling of time in the five blocks.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: as `FCN5` does, or if no widths meet the budget.
    Source: Choi et al. 2017, arXiv:1609.04243.

    >>> head = K2C2(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    100061
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        budget: int | None = 100_000,
        channels: tuple[int, ...] = (118, 236, 236, 355, 473),
        freq_pools: tuple[int, ...] | None = None,
        time_pools: tuple[int, ...] = (4, 4, 4, 5, 4),
        dropout: float = 0.0,
    ) -> None:
        check_blocks(5, channels=channels)

        def build(widths: Widths) -> Head:
            return FCN5(n_bins, num_classes, n_channels=n_channels, channels=widths)

        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            channels=channels if budget is None else widths_for(budget, channels, build),
            freq_pools=freq_pools,
            time_pools=time_pools,
            dropout=dropout,
        )


class CRNN(MusicCRNN):
    """Four convolutions that pool frequency away, then two recurrent layers: `MusicCRNN` at a number of parameters.

    99,857 parameters at 96 bins, 50 classes and the default budget; published widths are (a, b, b, b) with recurrent
    layers of a: (30, 60), (48, 96), (68, 137), (96, 195), (169, 339). The only one of the four structures with dropout,
    between its convolutions.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        budget: parameters to be had to 2 %, `channels` and `hidden_size` then being proportions; None: as given there.
        channels: channels of the four convolutions.
        hidden_size: units of either recurrent layer, the embedding's length.
        freq_pools: pooling of frequency in the four blocks, with a product of at least `n_bins`; None: by rule.
        time_pools: pooling of time in the four blocks.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: as `MusicCRNN` does, or if no widths meet the budget.
    Source: Choi et al. 2017, arXiv:1609.04243.

    >>> head = CRNN(96, 50)
    >>> sum(p.numel() for p in head.parameters())
    99857
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        budget: int | None = 100_000,
        channels: tuple[int, ...] = (169, 339, 339, 339),
        hidden_size: int = 169,
        freq_pools: tuple[int, ...] | None = None,
        time_pools: tuple[int, ...] = PUBLISHED_POOLS,
        conv_dropout: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        check_blocks(4, channels=channels)
        check_counts(hidden_size=hidden_size)
        build = partial(MusicCRNN, n_bins, num_classes, n_channels=n_channels)
        channels, hidden_size = _widths(budget, channels, hidden_size, build)
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            channels=channels,
            hidden_size=hidden_size,
            freq_pools=freq_pools,
            time_pools=time_pools,
            conv_dropout=conv_dropout,
            dropout=dropout,
        )


def _widths(
    budget: int | None, channels: tuple[int, ...], hidden_size: int, build: Callable[..., Head]
) -> tuple[Widths, int]:
    """Channels and hidden size as given, or in those proportions at a number of parameters."""
    if budget is None:
        return channels, hidden_size
    widths = widths_for(
        budget, (*channels, hidden_size), lambda widths: build(channels=widths[:-1], hidden_size=widths[-1])
    )
    return widths[:-1], widths[-1]


def _time_blocks(channels: Sequence[int], pools: Sequence[int], *, first_bins: int = 1) -> dict[str, nn.Module]:
    """Convolution blocks along time by name, the first over `first_bins` bins, of which it makes one."""
    return {
        f"conv{i}": nn.Sequential(
            same_padding((1, KERNEL_FRAMES)),
            conv_block(
                n_in,
                n_out,
                activation=nn.ELU(),
                kernel_size=(first_bins if i == 1 else 1, KERNEL_FRAMES),
                padding="valid",
                pool=(1, pool),
                ceil_mode=False,
            ),
        )
        for i, (n_in, n_out, pool) in enumerate(zip(channels, channels[1:], pools, strict=False), start=1)
    }


def _dense_blocks(in_features: int, hidden_size: int, *, dropout: float) -> dict[str, nn.Module]:
    """Two dense layers by name, the first on the map at the one frame that is left, the second the embedding."""
    return {
        "dense": nn.Sequential(
            AdaptiveFrames(1), nn.Flatten(), dense_block(in_features, hidden_size, activation=nn.ELU())
        ),
        "embedding": nn.Sequential(dense_block(hidden_size, hidden_size, activation=nn.ELU()), nn.Dropout(dropout)),
    }
