"""The convolutional net of a well-known tutorial on spoken words, its parameter count exact.

Published for thirty words on log power spectra of 98 frames x 257 bins. Here any other size works by two rules that
change nothing at the published one: see `KeywordCNN`.
"""

from collections.abc import Sequence

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import PadTo, conv_block, least_size, size_after
from audiocls.heads.map_pools import AdaptiveFrames


class KeywordCNN(Head):
    """Valid convolutions with ReLU and max pooling by two, flattened into a dense layer; no normalisation inside.

    | block     | what                                   | map at 257 bins x 98 frames |
    |-----------|----------------------------------------|-----------------------------|
    | conv1     | conv 3 x 3, ReLU, pool 2 x 2           | 32 x 127 x 48               |
    | conv2     | the same                               | 64 x 62 x 23                |
    | conv3     | the same                               | 128 x 30 x 10               |
    | conv4     | the same, dropout 0.25                 | 256 x 14 x 4                |
    | embedding | flatten, dense, ReLU, dropout 0.5      | 128                         |
    | output    | dense                                  | 30                          |

    2,226,846 parameters at that size, as published. For another length, means over time bring the last map to the
    frames it has at `n_frames`; a map smaller than the convolutions need (46 bins or frames at the default
    settings) is first padded with zeros on both sides. The dense layer grows with `n_bins` and `n_frames`.
    Weights are drawn by `audiocls.heads.blocks.initialise`, which is the published draw.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        n_frames: frames of the clips to be trained on; they pass without a mean over time.
        channels: channels of each convolution, as many blocks as numbers.
        kernel_size: (freq, frames) of every kernel; one number for a square.
        hidden_size: width of the dense layer, the embedding's length.
        conv_dropout: share of the last map set to zero while training.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one or a dropout outside [0, 1).
    Source: Falbel 2018, "Simple Audio Classification with Keras", RStudio AI blog.

    >>> import torch
    >>> head = KeywordCNN(257, 30)
    >>> sum(p.numel() for p in head.parameters())
    2226846
    >>> head(torch.randn(2, 1, 257, 61)).shape
    torch.Size([2, 30])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        n_frames: int = 98,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        kernel_size: int | tuple[int, int] = 3,
        hidden_size: int = 128,
        conv_dropout: float = 0.25,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        check_counts(n_bins=n_bins, n_channels=n_channels, n_frames=n_frames, hidden_size=hidden_size)
        check_counts(channels=min(channels, default=0), kernel_size=min(kernel))
        check_share(conv_dropout=conv_dropout, dropout=dropout)
        pools = (2,) * len(channels)
        least = [least_size(kernel_size=size, pools=pools) for size in kernel]
        rows, columns = (
            size_after(max(size, least[axis]), kernel_size=kernel[axis], pools=pools)
            for axis, size in enumerate((n_bins, n_frames))
        )
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={
                **_conv_blocks((n_channels, *channels), kernel=kernel, dropout=conv_dropout),
                "embedding": nn.Sequential(
                    AdaptiveFrames(columns),
                    nn.Flatten(),
                    nn.Linear(channels[-1] * rows * columns, hidden_size),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                ),
            },
            embedding_dim=hidden_size,
            stem=PadTo(n_bins=least[0], n_frames=least[1]),
        )


def _conv_blocks(channels: Sequence[int], *, kernel: tuple[int, ...], dropout: float) -> dict[str, nn.Module]:
    """The convolution blocks by name, with dropout after the last."""
    last = len(channels) - 1
    return {
        f"conv{i}": conv_block(
            channels[i - 1],
            channels[i],
            activation=nn.ReLU(),
            kernel_size=(kernel[0], kernel[1]),
            padding="valid",
            norm=False,
            ceil_mode=False,
            dropout=dropout if i == last else 0.0,
        )
        for i in range(1, last + 1)
    }
