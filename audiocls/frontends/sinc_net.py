"""SincNet's filters as a front-end: learnt band-pass filters, energy, pooling.

Ravanelli and Bengio 2018, arXiv:1808.00158, whose network goes on with the filtered waveform; here its energy is pooled
to frames, so that any head can stand behind it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends.bands import Bands
from audiocls.frontends.compression import Compression, Log
from audiocls.frontends.held import held
from audiocls.frontends.normalization import BatchNormBins, Normalization
from audiocls.frontends.time_domain import FilteredWaveform, Group, samples
from audiocls.functional import MelScale


class SincNet(FilteredWaveform):
    """Windowed-sinc band-pass filters -> square -> Gaussian pooling -> compression -> normalisation.

    Two numbers a filter are learnt, as the centre and the width of a band. A filter passes what lies between the half
    heights of the triangle that has this centre and width, so that the filters at the start lie side by side.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_bins: number of filters.
        kernel_length: of the filters in samples, odd; None is 251 at 16 kHz and as long in time at other rates. Bands
            narrower than about 4 * sample_rate / kernel_length are widened by it.
        win_length: length of the pooling window, in samples; None is 25 ms.
        hop_length: distance between frames, in samples; None is 10 ms.
        f_min: lower edge of the lowest triangle, in Hz.
        f_max: upper edge of the highest triangle, in Hz; None is sample_rate / 2.
        mel_scale: on which centres are even at the start: "slaney" or "htk".
        pooling_width: standard deviation of the pooling window at the start, as a share of half its length.
        learnable: whether centres and widths are learnt.
        learnable_pooling: whether each band learns its own width of the pooling window.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if a length, a frequency or a name is out of range.

    >>> SincNet(16000, n_bins=8)(torch.zeros(2, 1, 1600)).shape
    torch.Size([2, 1, 8, 11])
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        n_bins: int = 40,
        kernel_length: int | None = None,
        win_length: int | None = None,
        hop_length: int | None = None,
        f_min: float = 30.0,
        f_max: float | None = None,
        mel_scale: MelScale = "htk",
        pooling_width: float = 0.4,
        learnable: bool = True,
        learnable_pooling: bool = False,
        compression: Callable[[int], Compression] = Log,
        normalization: Callable[[int], Normalization] = BatchNormBins,
    ) -> None:
        if kernel_length is None:
            kernel_length = samples("kernel_length", None, 250 / 16000, sample_rate) | 1
        if kernel_length < 1 or kernel_length % 2 == 0:
            raise ValueError(f"kernel_length must be odd and at least 1 sample, got {kernel_length}")
        bands = Bands(
            sample_rate,
            n_bins,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            narrowest=sample_rate / kernel_length,
            learnable_centers=learnable,
            learnable_widths=learnable,
        )
        super().__init__(
            sample_rate,
            filterbank=bands,
            groups=[Group(0, n_bins, kernel_length, 1)],
            win_length=samples("win_length", win_length, 0.025, sample_rate),
            hop_length=samples("hop_length", hop_length, 0.01, sample_rate),
            pooling_width=pooling_width,
            learnable_pooling=learnable_pooling,
            compression=compression,
            normalization=normalization,
        )

    def filters(self, edges: Tensor, length: int) -> Tensor:
        """Band-pass filters, shape (n_bands, 1, length)."""
        lower, center, upper = edges
        # A frequency below zero would be heard twice: it is the positive one.
        low, high = held(0.5 * (lower + center), low=0.0), held(0.5 * (center + upper), high=torch.pi)
        return functional.windowed_sinc(low, high, length=length)
