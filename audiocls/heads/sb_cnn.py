"""SB-CNN, the small net for sounds of the city by Salamon and Bello, its parameter count exact.

Published for ten classes on log-mel spectra of 128 bins x 128 frames (3 s at 44.1 kHz, hop 1024). The copies that it
was trained on beside them, transposed, stretched, compressed and with noise, are the augmentation's business.
"""

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import PadTo, conv_block, least_size, size_after
from audiocls.heads.freq_pools import check_blocks
from audiocls.heads.map_pools import AdaptiveFrames


class SBCNN(Head):
    """Three valid convolutions with ReLU, the first two pooled, and a dense layer; no normalisation inside.

    | block     | what                                              | map at 128 bins x 128 frames |
    |-----------|---------------------------------------------------|------------------------------|
    | conv1     | conv 5 x 5, ReLU, pool 2 x 4                      | 24 x 62 x 31                 |
    | conv2     | the same                                          | 48 x 29 x 6                  |
    | conv3     | conv 5 x 5, ReLU                                  | 48 x 25 x 2                  |
    | embedding | flatten, dropout 0.5, dense, ReLU, dropout 0.5    | 64                           |
    | output    | dense                                             | 10                           |

    241,434 parameters at that size. The paper gives its pools, (4, 2), as of time and frequency. Public code mostly
    puts the four on frequency, which has the same count: freq_pools (4, 4, 1), time_pools (2, 2, 1). The paper also
    has a penalty of 0.001 on the squares of the weights of both dense layers, and none elsewhere; that is the
    optimiser's.

    For another length, means over time bring the last map to the frames it has at `n_frames`; a map smaller than the
    convolutions need (32 bins or 100 frames at the default settings) is first padded with zeros on both sides. The
    dense layer grows with `n_bins` and `n_frames`. Weights are drawn by `audiocls.heads.blocks.initialise`.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        n_frames: frames of the clips to be trained on; they pass without a mean over time.
        channels: channels of each convolution, as many blocks as numbers.
        kernel_size: side of every kernel.
        freq_pools: pooling of frequency in each block.
        time_pools: pooling of time in each block.
        hidden_size: width of the dense layer, the embedding's length.
        dropout: share set to zero before and after the dense layer while training.
    Raises:
        ValueError: if a count is below one, `dropout` is outside [0, 1), or the pools have not one number a block.
    Source: Salamon and Bello 2017, arXiv:1608.04363, section II-A.

    >>> import torch
    >>> head = SBCNN(128, 10)
    >>> sum(p.numel() for p in head.parameters())
    241434
    >>> head(torch.randn(2, 1, 128, 173)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        n_frames: int = 128,
        channels: tuple[int, ...] = (24, 48, 48),
        kernel_size: int = 5,
        freq_pools: tuple[int, ...] = (2, 2, 1),
        time_pools: tuple[int, ...] = (4, 4, 1),
        hidden_size: int = 64,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, n_frames=n_frames, hidden_size=hidden_size)
        check_counts(channels=min(channels, default=0), kernel_size=kernel_size)
        check_blocks(len(channels), freq_pools=freq_pools, time_pools=time_pools)
        check_share(dropout=dropout)
        axes = ((n_bins, freq_pools), (n_frames, time_pools))
        least = [least_size(kernel_size=kernel_size, pools=pools) for _, pools in axes]
        rows, columns = (
            size_after(max(size, enough), kernel_size=kernel_size, pools=pools)
            for (size, pools), enough in zip(axes, least, strict=True)
        )
        sizes = zip((n_channels, *channels), channels, zip(freq_pools, time_pools, strict=True), strict=False)
        blocks: dict[str, nn.Module] = {
            f"conv{i}": conv_block(
                n_in,
                n_out,
                activation=nn.ReLU(),
                kernel_size=kernel_size,
                padding="valid",
                norm=False,
                pool=pool,
                ceil_mode=False,
            )
            for i, (n_in, n_out, pool) in enumerate(sizes, start=1)
        }
        blocks["embedding"] = nn.Sequential(
            AdaptiveFrames(columns),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels[-1] * rows * columns, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks=blocks,
            embedding_dim=hidden_size,
            stem=PadTo(n_bins=least[0], n_frames=least[1]),
        )
