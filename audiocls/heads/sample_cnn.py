"""The sample-level nets: from the waveform to tags by small kernels alone, no spectrogram.

For the front-end `audiocls.frontends.Waveform`, whose map has one bin and a frame a sample. Published for 59,049 = 3^10
samples (3.69 s at 16 kHz, 2.68 s at 22.05 kHz) and 50 tags.
"""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from audiocls.heads.base import Head, check_counts, check_share
from audiocls.heads.blocks import BatchNormMaps, Residual, conv_block, dense_block
from audiocls.heads.pooling import MeanPool, TimePool


class SampleCNN(Head):
    """Kernels of three samples throughout: a convolution with stride 3, nine with a pooling by 3, one of single frames.

    | block     | what                                  | map at 59,049 samples |
    |-----------|---------------------------------------|-----------------------|
    | conv1     | conv 3, stride 3, norm, ReLU          | 128 x 1 x 19683       |
    | conv2     | conv 3, norm, ReLU, pool 3            | 128 x 1 x 6561        |
    | conv3     | the same                              | 128 x 1 x 2187        |
    | conv4     | the same                              | 256 x 1 x 729         |
    | ...       | the same, to conv9                    | 256 x 1 x 3           |
    | conv10    | the same                              | 512 x 1 x 1           |
    | conv11    | conv 1, norm, ReLU                    | 512 x 1 x 1           |
    | embedding | mean over time, dropout 0.5           | 512                   |
    | output    | dense                                 | 50                    |

    1,869,874 parameters, as the public implementation has. With `squeeze_excitation` every block is a residual pair of
    convolutions, scaled before the sum, feature by feature, by two dense layers on its mean over time, and the
    embedding has a dense layer with norm and ReLU before the dropout: 6,951,858.

    Other sizes. Pools keep incomplete windows, so a clip of any length leaves a frame or more; of those the mean is
    taken, where the published nets know one length. More bins than one become features of a sample, so that a
    spectrogram may come in as well, its frames for samples. Weights are drawn by `audiocls.heads.blocks.initialise`,
    Glorot's draw; the public implementation has torch's.

    Args:
        n_bins: bins of the map; 1 for a waveform.
        num_classes: logits a clip.
        n_channels: channels of the map.
        squeeze_excitation: whether the blocks are residual, squeezed and excited.
        channels: channels of each block but the last, which has as many as the one before; the last number is the
            embedding's length.
        pool: makes the pool over time of so many features, one of `audiocls.heads.pooling`.
        class_attention: whether each frame is judged, and each class weighs the verdicts (`Head`), in place of the
            pool.
        dropout: share of the embedding set to zero while training.
    Raises:
        ValueError: if a count is below one or `dropout` is outside [0, 1).
    Source: Lee et al. 2017, arXiv:1703.01789; Kim et al. 2018, arXiv:1710.10451 (squeeze_excitation); layers and
        counts as in minzwon/sota-music-tagging-models, `training/model.py`.

    >>> import torch
    >>> head = SampleCNN(1, 50)
    >>> sum(p.numel() for p in head.parameters())
    1869874
    >>> head(torch.randn(2, 1, 1, 8000)).shape
    torch.Size([2, 50])
    """

    def __init__(
        self,
        n_bins: int,
        num_classes: int,
        *,
        n_channels: int = 1,
        squeeze_excitation: bool = False,
        channels: tuple[int, ...] = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512),
        pool: Callable[[int], TimePool] = MeanPool,
        class_attention: bool = False,
        dropout: float = 0.5,
    ) -> None:
        channels = tuple(channels)
        check_counts(n_bins=n_bins, n_channels=n_channels, channels=min(channels, default=0))
        check_share(dropout=dropout)
        make = _residual if squeeze_excitation else _plain
        width = channels[-1]
        blocks: dict[str, nn.Module] = {"conv1": make(n_channels * n_bins, channels[0], stride=3)}
        for i, (n_in, n_out) in enumerate(pairwise(channels), start=2):
            blocks[f"conv{i}"] = make(n_in, n_out, pool=3)
        blocks[f"conv{len(channels) + 1}"] = make(width, width, kernel_size=1)
        dense = [dense_block(width, width, activation=nn.ReLU())] if squeeze_excitation else []
        blocks["embedding"] = nn.Sequential(nn.Flatten(start_dim=2), pool(width), *dense, nn.Dropout(dropout))
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks=blocks,
            embedding_dim=width,
            stem=_BinsAsFeatures(),
            frame_step=3 ** len(channels),
            class_attention=class_attention,
        )


class _BinsAsFeatures(nn.Module):
    """Bins moved to the channels: (batch, channels, freq, frames) to (batch, channels * freq, 1, frames)."""

    def forward(self, x: Tensor) -> Tensor:
        """Merge the second and third axis."""
        return x.flatten(1, 2).unsqueeze(2)


def _plain(n_in: int, n_out: int, *, kernel_size: int = 3, stride: int = 1, pool: int = 1) -> nn.Sequential:
    """A convolution over time, normalised and rectified, with a stride or a pooling."""
    if stride == 1:
        return conv_block(n_in, n_out, activation=nn.ReLU(), kernel_size=(1, kernel_size), pool=(1, pool))
    conv = nn.Conv2d(n_in, n_out, (1, kernel_size), stride=(1, stride), padding=(0, kernel_size // 2))
    return nn.Sequential(conv, BatchNormMaps(n_out), nn.ReLU())


def _residual(n_in: int, n_out: int, *, kernel_size: int = 3, stride: int = 1, pool: int = 1) -> Residual:
    """The same as a residual pair with squeeze and excitation."""
    return Residual(
        n_in,
        n_out,
        kernel_size=(1, kernel_size),
        stride=(1, stride),
        pool=(1, pool),
        ceil_mode=True,
        gate=_SqueezeExcitation(n_out),
    )


class _SqueezeExcitation(nn.Module):
    """Every feature scaled by a number in (0, 1), which two dense layers make of the means of all features."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(
            nn.Linear(n_features, n_features), nn.ReLU(), nn.Linear(n_features, n_features), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shape (batch, n_features, freq, frames), kept."""
        return x * self.scale(x.mean(dim=(-2, -1)))[..., None, None]
