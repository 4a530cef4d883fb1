"""LEAF and EfficientLEAF: Gabor filters, Gaussian pooling and PCEN, all learnt.

Zeghidour et al. 2021, arXiv:2101.08596; the groups, filter lengths and strides that make it quick are of Schlüter and
Gutenbrunner 2022, arXiv:2207.05508. Other than theirs, centres stay sorted, and lengths and strides stay those of the
start. LEAF's compression is the default, with the floor of our `PCEN`.
"""

import math
from collections.abc import Callable

from torch import Tensor

from audiocls import functional
from audiocls.frontends.bands import Bands
from audiocls.frontends.compression import PCEN, Compression
from audiocls.frontends.normalization import NoNormalization, Normalization
from audiocls.frontends.time_domain import FilteredWaveform, Group, samples
from audiocls.functional import MelScale

# The power of a Gabor filter is a quarter of its peak where its triangle is: the root of the triangle, which stands for
# an amplitude, and the amplitude of the filter are both 1/2 there (LEAF's rule).
_QUARTER = 0.75


class Leaf(FilteredWaveform):
    """Gabor filters -> squared modulus -> Gaussian pooling -> PCEN.

    The start approximates a mel filterbank. As it stands it is LEAF; with `n_groups` above 1, `conv_win_factor` and
    `stride_factor` it is EfficientLEAF, as in conf/frontends/efficient_leaf.yaml, and many times quicker.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_bins: number of filters.
        win_length: length of the pooling window and, without `conv_win_factor`, of the filters, in samples; None is
            25 ms.
        hop_length: distance between frames, in samples; None is 10 ms.
        f_min: lower edge of the lowest filter at the start, in Hz.
        f_max: upper edge of the highest filter at the start, in Hz; None is sample_rate / 2.
        mel_scale: on which centres are even at the start: "slaney" or "htk".
        pooling_width: standard deviation of the pooling window at the start, as a share of half its length.
        n_groups: parts of the filters, from low to high, each with its own filter length and stride; num_groups in the
            paper.
        conv_win_factor: length of a group's filters, in standard deviations of its longest; None is `win_length`.
        stride_factor: stride of a group's filters in half periods of its highest centre; None is a stride of 1.
        learnable: whether centres, widths and pooling are learnt.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency, a factor or a name is out of range.

    >>> import torch
    >>> Leaf(16000, n_bins=8)(torch.zeros(2, 1, 1600)).shape
    torch.Size([2, 1, 8, 11])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_bins: int = 40,
        win_length: int | None = None,
        hop_length: int | None = None,
        f_min: float = 60.0,
        f_max: float | None = None,
        mel_scale: MelScale = "htk",
        pooling_width: float = 0.4,
        n_groups: int = 1,
        conv_win_factor: float | None = None,
        stride_factor: float | None = None,
        learnable: bool = True,
        compression: Callable[[int], Compression] = lambda n_bins: PCEN(
            n_bins, smooth=0.04, alpha=0.96, learnable=True
        ),
        normalization: Callable[[int], Normalization] = NoNormalization,
    ) -> None:
        win_length = samples("win_length", win_length, 0.025, sample_rate)
        hop_length = samples("hop_length", hop_length, 0.01, sample_rate)
        _check(n_bins, n_groups, conv_win_factor, stride_factor)
        bands = Bands(
            sample_rate,
            n_bins,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            narrowest=sample_rate / win_length,
            learnable_centers=learnable,
            learnable_widths=learnable,
        )
        edges = bands.start() * (2 * math.pi / sample_rate)
        groups = []
        for i in range(n_groups):
            first, last = i * n_bins // n_groups, (i + 1) * n_bins // n_groups
            longest = float(_width(edges[:, first:last]).max())
            length = win_length if conv_win_factor is None else int(longest * conv_win_factor)
            stride = 1 if stride_factor is None else _stride(hop_length, stride_factor, float(edges[1, last - 1]))
            groups.append(Group(first, last, length | 1, stride))
        super().__init__(
            sample_rate,
            filterbank=bands,
            groups=groups,
            win_length=win_length,
            hop_length=hop_length,
            pooling_width=pooling_width,
            learnable_pooling=learnable,
            compression=compression,
            normalization=normalization,
        )

    def filters(self, edges: Tensor, length: int) -> Tensor:
        """Gabor filters, cosine and sine parts, shape (n_bands, 2, length)."""
        return functional.gabor(edges[1], _width(edges), length=length)


def _width(edges: Tensor) -> Tensor:
    """Standard deviation in samples of the Gabor filters of bands (3, n_bands) in radians a sample."""
    half = 0.5 * (edges[2] - edges[0])
    return math.sqrt(math.log(4.0)) / (_QUARTER * half)


def _stride(hop_length: int, stride_factor: float, highest: float) -> int:
    """The largest divisor of the hop that is not above `stride_factor` half periods of the highest centre."""
    most = max(math.pi / highest * stride_factor, 1.0)
    return max(stride for stride in range(1, hop_length + 1) if hop_length % stride == 0 and stride <= most)


def _check(n_bins: int, n_groups: int, conv_win_factor: float | None, stride_factor: float | None) -> None:
    if not 1 <= n_groups <= n_bins:
        raise ValueError(f"n_groups must be between 1 and n_bins={n_bins}, got {n_groups}")
    for name, factor in (("conv_win_factor", conv_win_factor), ("stride_factor", stride_factor)):
        if factor is not None and factor <= 0:
            raise ValueError(f"{name} must be positive or None, got {factor}")
