"""A compact convolutional net for short sounds: quick on two CPU cores, of any length and any number of bins.

Plain 3 x 3 blocks with pooling and a global pool at the end, the plan that most audio classifiers vary. It follows no
single publication; the head to start from and to measure others against.
"""

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import conv_block
from audiocls.heads.map_pools import GlobalPool


class ConvNet(Head):
    """Blocks of convolution, normalisation, ReLU and max pooling by two, then mean plus maximum over all positions.

    Pooling keeps incomplete windows, so an axis never shrinks below one and any `n_bins` and any length will do.
    Weights are drawn by `audiocls.heads.blocks.initialise`.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        kernel_size: (freq, frames) of every kernel; one number for a square.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool over time.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one or `dropout` is outside [0, 1).
    Source: pooling from Kong et al. 2020, arXiv:1912.10211.

    >>> import torch
    >>> head = ConvNet(64, 7)
    >>> head(torch.randn(2, 1, 64, 60)).shape
    torch.Size([2, 7])
    >>> head.layer_names
    ('conv1', 'conv2', 'conv3', 'conv4', 'embedding')
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        kernel_size: int | tuple[int, int] = 3,
        class_attention: bool = False,
        dropout: float = 0.3,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(dropout=dropout)
        blocks: dict[str, nn.Module] = {
            f"conv{i}": conv_block(n_in, n_out, activation=nn.ReLU(), kernel_size=kernel_size)
            for i, (n_in, n_out) in enumerate(zip((n_channels, *channels), channels, strict=False), start=1)
        }
        blocks["embedding"] = nn.Sequential(GlobalPool(), nn.Dropout(dropout))
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks=blocks,
            embedding_dim=channels[-1],
            frame_step=2 ** len(channels),
            class_attention=class_attention,
        )
