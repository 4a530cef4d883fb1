"""Front-ends that filter the waveform itself: band-pass filters, energy, low-pass pooling.

Lengths of filters, strides and groups follow from the settings alone and never from what is learnt, so nothing is read
back from the device and a graph stays whole. A band that is learnt much narrower than it started is therefore cut off
by the length of its filter; `Bands` keeps it from getting there.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls import functional
from audiocls.frontends.bands import Bands
from audiocls.frontends.base import Frontend
from audiocls.frontends.compression import Compression, PositivePerBin
from audiocls.frontends.normalization import Normalization


@dataclass(frozen=True)
class Group:
    """Bands `first` to `last` - 1, filtered by filters of one length (odd) at one stride (dividing the hop)."""

    first: int
    last: int
    length: int
    stride: int


class FilteredWaveform(Frontend):
    """Waveform -> band-pass filters -> squared modulus -> Gaussian pooling -> compression -> normalisation.

    Frame i is centred on sample i * hop_length; outside the clip there is silence. The energy of a band is a sum over
    the pooling window, so that it is of the size of a mel energy.

    Args:
        sample_rate: of the waveforms, in Hz.
        filterbank: where the bands stand.
        groups: how they are filtered, in order and without a gap.
        win_length: length of the pooling window, in samples, at least 1.
        hop_length: distance between frames, in samples, at least 1.
        pooling_width: standard deviation of the pooling window at the start, as a share of half its length.
        learnable_pooling: whether each band learns its own.
        compression: makes the compression stage, given the number of bins.
        normalization: makes the normalisation stage, given the number of bins.
    Raises:
        ValueError: if `pooling_width` is not positive.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        filterbank: Bands,
        groups: list[Group],
        win_length: int,
        hop_length: int,
        pooling_width: float,
        learnable_pooling: bool,
        compression: Callable[[int], Compression],
        normalization: Callable[[int], Normalization],
    ) -> None:
        n_bins = groups[-1].last
        super().__init__(sample_rate, n_bins, compression=compression, normalization=normalization)
        if pooling_width <= 0:
            raise ValueError(f"pooling_width must be positive, got {pooling_width}: 0.4 is LEAF's")
        self.win_length = win_length
        self.hop_length = hop_length
        self.groups = groups
        self.filterbank = filterbank
        self.pooling = PositivePerBin(n_bins, pooling_width, learnable=learnable_pooling)

    @abstractmethod
    def filters(self, edges: Tensor, length: int) -> Tensor:
        """Impulse responses of bands.

        Args:
            edges: lower edges, centres and upper edges in radians a sample, shape (3, n_bands), float64.
            length: in samples, odd.
        Returns:
            Shape (n_bands, parts, length); the squares of the parts' outputs are summed.
        """

    def energy(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to energies (batch, channels, n_bins, frames)."""
        clips = waveform.flatten(end_dim=-2)
        edges = self._radians(self.filterbank())
        width = torch.as_tensor(self.pooling(), device=edges.device).expand(self.n_bins)
        pooled = [self._group_energy(clips, group, edges, width) for group in self.groups]
        return torch.cat(pooled, dim=1).unflatten(0, waveform.shape[:2])

    def _group_energy(self, clips: Tensor, group: Group, edges: Tensor, width: Tensor) -> Tensor:
        """Energies (batch, bands of the group, frames) of clips (batch, time)."""
        filters = self.filters(edges[:, group.first : group.last], group.length).to(torch.float32)
        half = max(round(self.win_length / 2 / group.stride), 1)  # of the pooling window, in outputs of the filters
        before = half * group.stride + group.length // 2
        last_frame = (self.n_frames(clips.shape[-1]) - 1) * self.hop_length
        clips = F.pad(clips, (before, last_frame + before + 1 - clips.shape[-1]))
        filtered = functional.convolve(clips, filters.flatten(end_dim=1), stride=group.stride)
        power = filtered.unflatten(1, filters.shape[:2]).square().sum(dim=2)
        window_width = width[group.first : group.last] * (self.win_length / 2 / group.stride)
        # times the stride: a sum over samples of the waveform, whatever the stride
        window = group.stride * functional.gaussian_window(window_width, length=2 * half + 1)
        return F.conv1d(power, window.unsqueeze(1), stride=self.hop_length // group.stride, groups=len(window))

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return functional.n_frames(n_samples, n_fft=2, hop_length=self.hop_length, center=True)

    @property
    def frequencies(self) -> Tensor:
        """Centre of each band at the start of training in Hz, shape (n_bins,), float32."""
        return self.filterbank.start()[1].to(torch.float32)

    def filterbanks(self) -> dict[str, Tensor]:
        """Power responses of the filters at the start of training and now, each (n_bins, 1 + n_fft // 2)."""
        return {"start": self._responses(self.filterbank.start()), "now": self._responses(self.filterbank().detach())}

    def _responses(self, edges: Tensor) -> Tensor:
        n_fft = 1 << max(10, max(group.length for group in self.groups).bit_length())
        edges = self._radians(edges)
        filters = [self.filters(edges[:, group.first : group.last], group.length) for group in self.groups]
        parts = [torch.fft.rfft(group, n_fft).abs().square().sum(dim=1) for group in filters]
        return torch.cat(parts).to(torch.float32)

    def _radians(self, hz: Tensor) -> Tensor:
        return hz * (2 * torch.pi / self.sample_rate)


def samples(name: str, given: int | None, seconds: float, sample_rate: int) -> int:
    """A length in samples: the one given, or that of `seconds`.

    Raises:
        ValueError: if it is below 1.
    """
    length = max(round(seconds * sample_rate), 1) if given is None else given
    if length < 1:
        raise ValueError(f"{name} must be at least 1 sample, got {length}")
    return length
