"""Augmentation of spectrograms: masks, a warp of the frequency axis, statistics of another clip."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audiocls.augment.base import ClipAugmentation, beta_shares, each, uniform


class SpecAugment(ClipAugmentation):
    """Bands of frequency and stretches of time masked, the same in all channels. Time is not warped.

    Each mask has a width of its own, uniform from nothing to its largest, at a place uniform over those where it fits.

    Args:
        n_freq_masks: bands of frequency, at least 0.
        freq_share: largest width of each, as a share of the bins, in [0, 1].
        n_time_masks: stretches of time, at least 0.
        time_share: largest width of each, as a share of the frames, in [0, 1].
        fill: "mean" puts the clip's mean into the masks; "zero" puts 0, the mean of a front-end that normalises.
        probability: with which a clip is masked.
    Raises:
        ValueError: for settings out of range.
    Source: Park et al. 2019, arXiv:1904.08779, without its warp; numbers and widths of masks as in PANNs, Kong et al.
        2020, arXiv:1912.10211 (twice 8 of 64 bins and 64 of 1001 frames).
    """

    stage = "spectrogram"

    def __init__(
        self,
        *,
        n_freq_masks: int = 2,
        freq_share: float = 0.125,
        n_time_masks: int = 2,
        time_share: float = 0.064,
        fill: Literal["mean", "zero"] = "mean",
        probability: float = 1.0,
    ) -> None:
        super().__init__(probability=probability)
        if n_freq_masks < 0 or n_time_masks < 0:
            raise ValueError(f"n_freq_masks and n_time_masks must be at least 0, got {n_freq_masks} and {n_time_masks}")
        if not (0 <= freq_share <= 1 and 0 <= time_share <= 1):
            raise ValueError(f"freq_share and time_share must be between 0 and 1, got {freq_share} and {time_share}")
        self.n_freq_masks, self.freq_share = n_freq_masks, freq_share
        self.n_time_masks, self.time_share = n_time_masks, time_share
        self.fill = fill

    def change(self, x: Tensor) -> Tensor:
        """Mask spectrograms (batch, channels, freq, frames)."""
        freq = _masks(x, x.shape[-2], self.n_freq_masks, self.freq_share)
        time = _masks(x, x.shape[-1], self.n_time_masks, self.time_share)
        masked = freq[:, None, :, None] | time[:, None, None, :]
        fill = x.mean(dim=(1, 2, 3), keepdim=True) if self.fill == "mean" else x.new_zeros(())
        return torch.where(masked, fill, x)

    def extra_repr(self) -> str:
        """The settings."""
        masks = f"{self.n_freq_masks} x {self.freq_share} of the bins, {self.n_time_masks} x {self.time_share} of time"
        return f"{super().extra_repr()}, {masks}, fill={self.fill!r}"


class FrequencyWarp(ClipAugmentation):
    """The frequency axis stretched about its lower end and moved, read between the bins by linear interpolation.

    Bin i becomes what stood at i * stretch + shift; past the ends stands the last bin. It does to a spectrogram about
    what other limits `f_min` and `f_max` do to a mel filterbank, at a fraction of the cost, and blurs a little where
    they do not.

    Args:
        max_stretch: largest deviation of the stretch from 1, in [0, 1).
        max_shift: largest shift, up or down, in bins, at least 0.
        probability: with which a clip is changed.
    Raises:
        ValueError: for settings out of range.
    Source: takes the place of the filterbank's jitter in PaSST, Koutini et al. 2022, arXiv:2110.05069, whose public
        implementation moves an `f_max` of 15 kHz by up to 1 kHz: 2 % of the mel axis.
    """

    stage = "spectrogram"

    def __init__(self, *, max_stretch: float = 0.02, max_shift: float = 0.0, probability: float = 1.0) -> None:
        super().__init__(probability=probability)
        if not 0 <= max_stretch < 1 or max_shift < 0:
            raise ValueError(
                f"max_stretch must be in [0, 1) and max_shift at least 0 bins, got {max_stretch} and {max_shift}"
            )
        self.max_stretch, self.max_shift = max_stretch, max_shift

    def change(self, x: Tensor) -> Tensor:
        """Warp spectrograms (batch, channels, freq, frames)."""
        n_bins = x.shape[-2]
        bins = torch.arange(n_bins, device=x.device)
        stretch = 1 + uniform(-self.max_stretch, self.max_stretch, x)
        shift = uniform(-self.max_shift, self.max_shift, x)
        place = (bins * stretch[:, None] + shift[:, None]).clamp(0, n_bins - 1)
        # linear interpolation as a matrix for each clip, (batch, 1, to, from)
        weight = (1 - (place[:, None, :, None] - bins).abs()).clamp(min=0)
        return weight.to(x.dtype) @ x

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, max_stretch={self.max_stretch}, max_shift={self.max_shift}"


class FreqMixStyle(ClipAugmentation):
    """Each bin's mean and deviation mixed with those of another clip: its microphone or room, not its content.

    Targets stay. Statistics are over channels and frames, and no gradient runs through them.

    Args:
        alpha: of the symmetric beta distribution that shares are drawn from, above 0.
        eps: added to the variance, in squared units of the spectrogram.
        probability: with which a clip is changed (in the paper's implementation, a batch).
    Raises:
        ValueError: if `alpha` or `eps` is not above 0.
    Source: Zhou et al. 2021, arXiv:2104.02008; over frequency as in Kim et al. 2022, arXiv:2206.12513, and in CP-JKU's
        systems for DCASE task 1, whose settings of 2023 (Schmid et al.) these are.
    """

    stage = "spectrogram"

    def __init__(self, *, alpha: float = 0.3, eps: float = 1e-6, probability: float = 0.4) -> None:
        super().__init__(probability=probability)
        if alpha <= 0 or eps <= 0:
            raise ValueError(f"alpha and eps must be above 0, got {alpha} and {eps}")
        self.alpha, self.eps = alpha, eps

    def change(self, x: Tensor) -> Tensor:
        """Give spectrograms (batch, channels, freq, frames) a mixed style."""
        variance, mean = torch.var_mean(x.detach(), dim=(1, 3), correction=0, keepdim=True)
        deviation = (variance + self.eps).sqrt()
        share = each(beta_shares(self.alpha, x), x).to(x.dtype)
        partner = torch.randperm(len(x), device=x.device)
        mixed_mean = torch.lerp(mean[partner], mean, share)
        mixed_deviation = torch.lerp(deviation[partner], deviation, share)
        return (x - mean) / deviation * mixed_deviation + mixed_mean

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, alpha={self.alpha}, eps={self.eps}"


def _masks(x: Tensor, size: int, n: int, share: float) -> Tensor:
    """Places along an axis that masks cover, bool (batch, size)."""
    width = (torch.rand(len(x), n, 1, device=x.device) * (int(share * size) + 1)).floor()
    start = (torch.rand(len(x), n, 1, device=x.device) * (size - width + 1)).floor()
    place = torch.arange(size, device=x.device)
    return ((place >= start) & (place < start + width)).any(dim=1)
