"""A net whose kernels are in question: square or not, as large as you like, with strides and pools to match.

From a public question about sounds of a spectrogram of 64 bins x 64 frames: is a square kernel right where the axes
have different units, and what of strides and pools? Every one of them is a setting here, for each block.
"""

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import same_padding
from audiocls.heads.map_pools import GlobalPool, MaxPoolMaps

Size = int | tuple[int, int]


class BeatboxCNN(Head):
    """Blocks of two convolutions with ReLU and a max pooling, then mean plus maximum over all positions.

    | block     | what                                       | map at 64 bins x 64 frames |
    |-----------|--------------------------------------------|----------------------------|
    | conv1     | twice conv 5 x 5 and ReLU, pool 2 x 2      | 64 x 32 x 32               |
    | conv2     | twice conv 5 x 5 and ReLU, pool 2 x 2      | 128 x 16 x 16              |
    | conv3     | twice conv 3 x 3 and ReLU, pool 2 x 2      | 256 x 8 x 8                |
    | embedding | mean plus maximum over all positions       | 256                        |
    | output    | dense                                      | classes                    |

    1,604,032 parameters but for the last layer. The published table ends with the third pooling; the embedding is ours,
    and makes any length and number of bins possible, since pooling keeps incomplete windows and convolutions pad.
    Weights are drawn by `audiocls.heads.blocks.initialise`, which is the published draw.

    Sizes are (freq, frames), or one number for a square. (9, 3) and (3, 9) have the same number of weights and reach
    over bins or over frames.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        kernel_sizes: of both convolutions of each block.
        strides: of the first convolution of each block.
        pools: of each block, its stride as well; 1 for none.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), or the settings have not one entry a block.
    Source: "Conv2D kernel size for audio related tasks", stats.stackexchange.com/questions/441847.

    >>> import torch
    >>> head = BeatboxCNN(64, 5)
    >>> sum(p.numel() for p in head.blocks.parameters())
    1604032
    >>> BeatboxCNN(64, 5, kernel_sizes=((9, 3), (9, 3), 3))(torch.randn(2, 1, 64, 64)).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 256),
        kernel_sizes: tuple[Size, ...] = (5, 5, 3),
        strides: tuple[Size, ...] = (1, 1, 1),
        pools: tuple[Size, ...] = (2, 2, 2),
        dropout: float = 0.0,
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(dropout=dropout)
        sizes = {
            name: _pairs(name, entries, len(channels))
            for name, entries in (("kernel_sizes", kernel_sizes), ("strides", strides), ("pools", pools))
        }
        blocks: dict[str, nn.Module] = {
            f"conv{i}": _double_block(n_in, n_out, kernel_size=kernel, stride=stride, pool=pool)
            for i, (n_in, n_out, kernel, stride, pool) in enumerate(
                zip((n_channels, *channels), channels, *sizes.values(), strict=False), start=1
            )
        }
        blocks["embedding"] = nn.Sequential(GlobalPool(), nn.Dropout(dropout))
        super().__init__(n_bins, num_classes, n_channels=n_channels, blocks=blocks, embedding_dim=channels[-1])


def _pairs(name: str, entries: tuple[Size, ...], n_blocks: int) -> list[tuple[int, int]]:
    """Sizes as (freq, frames), checked.

    >>> _pairs("pools", (2, (1, 4)), 2)
    [(2, 2), (1, 4)]
    """
    if len(entries) != n_blocks:
        raise ValueError(f"{name} must have {n_blocks} entries, one for each of channels, got {tuple(entries)}")
    pairs = [(size, size) if isinstance(size, int) else (size[0], size[1]) for size in entries]
    check_counts(**{name: min(map(min, pairs))})
    return pairs


def _double_block(
    in_channels: int, out_channels: int, *, kernel_size: tuple[int, int], stride: tuple[int, int], pool: tuple[int, int]
) -> nn.Sequential:
    """Two convolutions with ReLU, the first with the stride, and a max pooling."""
    return nn.Sequential(
        same_padding(kernel_size),
        nn.Conv2d(in_channels, out_channels, kernel_size, stride),
        nn.ReLU(),
        same_padding(kernel_size),
        nn.Conv2d(out_channels, out_channels, kernel_size),
        nn.ReLU(),
        MaxPoolMaps(pool),
    )
