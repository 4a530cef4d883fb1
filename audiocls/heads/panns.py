"""The plain convolutional nets of "PANNs", for sounds of all kinds: CNN6, CNN10 and CNN14, their counts exact.

Published for 527 classes of AudioSet on log-mel spectra of 64 bins x 1001 frames (10 s at 32 kHz, hop 320). They begin
with a norm of each bin, which here is the front-end's normalisation (`BatchNormBins`, 128 parameters at 64 bins), and
mask and mix spectra in training, which is the augmentation's business. Published weights are for maps of
(frames, freq): their kernels have to be transposed. Left out are the nets on the waveform (Wavegram), the residual and
the mobile ones.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import BatchNormMaps, PadTo
from audiocls.heads.map_pools import AvgPoolMaps
from audiocls.heads.pooling import FreqMean, MeanMaxPool, TimePool


class _PANN(Head):
    """What the three share: blocks that halve both axes, the mean over frequency, a pool over time, a dense layer.

    Pooling drops an incomplete window, as published, so a map with fewer bins or frames than all the halving needs is
    first padded with zeros on both sides.
    """

    kernel_sizes = (3, 3)  # of the convolutions of a block
    halves_last = True

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 256, 512),
        pool: Callable[[int], TimePool] = MeanMaxPool,
        class_attention: bool = False,
        conv_dropout: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(conv_dropout=conv_dropout, dropout=dropout)
        n_halvings = len(channels) - (not self.halves_last)
        blocks: dict[str, nn.Module] = {
            f"conv{i}": _conv_block(n_in, n_out, self.kernel_sizes, halve=i <= n_halvings, dropout=conv_dropout)
            for i, (n_in, n_out) in enumerate(pairwise((n_channels, *channels)), start=1)
        }
        width = channels[-1]
        blocks["embedding"] = nn.Sequential(
            FreqMean(), pool(width), nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)
        )
        step = 2**n_halvings
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks=blocks,
            embedding_dim=width,
            stem=PadTo(n_bins=step, n_frames=step),
            frame_step=step,
            class_attention=class_attention,
        )


class CNN6(_PANN):
    """Four 5 x 5 convolutions, each normalised and halved.

    | block     | what                                                             | map at 64 bins x 1001 frames |
    |-----------|------------------------------------------------------------------|------------------------------|
    | conv1     | conv 5 x 5, norm, ReLU, mean pool 2 x 2, dropout 0.2             | 64 x 32 x 500                |
    | conv2     | the same                                                         | 128 x 16 x 250               |
    | conv3     | the same                                                         | 256 x 8 x 125                |
    | conv4     | the same                                                         | 512 x 4 x 62                 |
    | embedding | mean over freq, mean + max over time, dropout 0.5, dense, ReLU, dropout 0.5 | 512               |
    | output    | dense                                                            | 527                          |

    4,837,455 parameters with the front-end's norm of 64 bins, as published; 4,837,327 without. Convolutions have no
    bias. Weights are drawn by `audiocls.heads.blocks.initialise`, which is the published draw.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        pool: makes the pool over time of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share set to zero before and after the dense layer while training.
    Raises:
        ValueError: if a count is below one or a dropout outside [0, 1).
    Source: Kong et al. 2020, arXiv:1912.10211, table I, and qiuqiangkong/audioset_tagging_cnn, `pytorch/models.py`.

    >>> import torch
    >>> head = CNN6(64, 527)
    >>> sum(p.numel() for p in head.parameters())
    4837327
    >>> head.frame_logits(torch.randn(1, 1, 64, 101)).shape
    torch.Size([1, 527, 6])
    """

    kernel_sizes = (5,)


class CNN10(_PANN):
    """Four pairs of 3 x 3 convolutions, each pair halved.

    | block     | what                                                             | map at 64 bins x 1001 frames |
    |-----------|------------------------------------------------------------------|------------------------------|
    | conv1     | twice (conv 3 x 3, norm, ReLU), mean pool 2 x 2, dropout 0.2     | 64 x 32 x 500                |
    | conv2     | the same                                                         | 128 x 16 x 250               |
    | conv3     | the same                                                         | 256 x 8 x 125                |
    | conv4     | the same                                                         | 512 x 4 x 62                 |
    | embedding | mean over freq, mean + max over time, dropout 0.5, dense, ReLU, dropout 0.5 | 512               |
    | output    | dense                                                            | 527                          |

    5,219,279 parameters with the front-end's norm of 64 bins, as published; 5,219,151 without. Convolutions have no
    bias. Weights are drawn by `audiocls.heads.blocks.initialise`, which is the published draw.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        pool: makes the pool over time of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share set to zero before and after the dense layer while training.
    Raises:
        ValueError: if a count is below one or a dropout outside [0, 1).
    Source: Kong et al. 2020, arXiv:1912.10211, table I, and qiuqiangkong/audioset_tagging_cnn, `pytorch/models.py`.

    >>> import torch
    >>> head = CNN10(64, 527)
    >>> sum(p.numel() for p in head.parameters())
    5219151
    >>> head(torch.randn(1, 1, 64, 101)).shape
    torch.Size([1, 527])
    """


class CNN14(_PANN):
    """Six pairs of 3 x 3 convolutions, each but the last halved.

    | block     | what                                                             | map at 64 bins x 1001 frames |
    |-----------|------------------------------------------------------------------|------------------------------|
    | conv1     | twice (conv 3 x 3, norm, ReLU), mean pool 2 x 2, dropout 0.2     | 64 x 32 x 500                |
    | conv2     | the same                                                         | 128 x 16 x 250               |
    | conv3     | the same                                                         | 256 x 8 x 125                |
    | conv4     | the same                                                         | 512 x 4 x 62                 |
    | conv5     | the same                                                         | 1024 x 2 x 31                |
    | conv6     | the same without the pool                                        | 2048 x 2 x 31                |
    | embedding | mean over freq, mean + max over time, dropout 0.5, dense, ReLU, dropout 0.5 | 2048              |
    | output    | dense                                                            | 527                          |

    80,753,615 parameters with the front-end's norm of 64 bins, as published; 80,753,487 without. Convolutions have no
    bias. Weights are drawn by `audiocls.heads.blocks.initialise`, which is the published draw.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        channels: channels of each block, as many blocks as numbers; the last is the embedding's length.
        pool: makes the pool over time of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool.
        conv_dropout: share of activations set to zero after each block while training.
        dropout: share set to zero before and after the dense layer while training.
    Raises:
        ValueError: if a count is below one or a dropout outside [0, 1).
    Source: Kong et al. 2020, arXiv:1912.10211, table I, and qiuqiangkong/audioset_tagging_cnn, `pytorch/models.py`.

    >>> import torch
    >>> with torch.device("meta"):  # counted without drawing 80 million numbers
    ...     head = CNN14(64, 527)
    >>> sum(p.numel() for p in head.parameters())
    80753487
    """

    halves_last = False

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048),
        pool: Callable[[int], TimePool] = MeanMaxPool,
        class_attention: bool = False,
        conv_dropout: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            channels=channels,
            pool=pool,
            class_attention=class_attention,
            conv_dropout=conv_dropout,
            dropout=dropout,
        )


def _conv_block(
    in_channels: int, out_channels: int, kernel_sizes: tuple[int, ...], *, halve: bool, dropout: float
) -> nn.Sequential:
    """Convolutions without bias, each normalised and rectified, then the mean of 2 x 2 positions and dropout."""
    parts: list[nn.Module] = []
    for kernel_size in kernel_sizes:
        parts += [
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            BatchNormMaps(out_channels),
            nn.ReLU(),
        ]
        in_channels = out_channels
    if halve:
        parts.append(AvgPoolMaps((2, 2)))
    return nn.Sequential(*parts, nn.Dropout(dropout))
