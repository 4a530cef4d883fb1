"""Rooms around the clips: convolution with impulse responses, recorded or made."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from audiocls.augment.base import check_range, db_to_amplitude, each, uniform
from audiocls.augment.fourier import convolved
from audiocls.augment.noise import root_mean_square
from audiocls.augment.recordings import Recordings, RecordingsAugmentation, matched_channels


class Reverb(RecordingsAugmentation):
    """A room of its own around each clip, at the level the clip had; what rings on behind the crop is cut off.

    Recorded responses are moved so that their largest sample, the direct sound, comes first. Made ones are a direct
    sound and noise that decays exponentially behind it, alike in all channels.

    Args:
        recordings: impulse responses, such as `datamodules.noise.NoiseStore` over a store of them; None makes some.
        max_seconds: what is taken of a response, above 0, recorded or made.
        min_decay_seconds: shortest time in which a made response falls by 60 dB, above 0.
        max_decay_seconds: longest.
        min_direct_db: least energy of the direct sound over that of the rest of a made response, in dB.
        max_direct_db: largest.
        probability: with which a clip is changed.
    Raises:
        ValueError: for settings out of range.
    Source: noise under an exponential for a response, Moorer 1979, doi:10.2307/3680280; the ranges are ours, from a
        furnished room to a hall.
    """

    def __init__(
        self,
        recordings: Recordings | None = None,
        *,
        max_seconds: float = 1.0,
        min_decay_seconds: float = 0.2,
        max_decay_seconds: float = 1.0,
        min_direct_db: float = 0.0,
        max_direct_db: float = 15.0,
        probability: float = 0.3,
    ) -> None:
        super().__init__(recordings, probability=probability)
        check_range("decay_seconds", min_decay_seconds, max_decay_seconds)
        check_range("direct_db", min_direct_db, max_direct_db)
        if min_decay_seconds <= 0 or max_seconds <= 0:
            raise ValueError(
                f"min_decay_seconds and max_seconds must be above 0 s, got {min_decay_seconds} and {max_seconds}"
            )
        self.max_seconds = max_seconds
        self.min_decay_seconds, self.max_decay_seconds = min_decay_seconds, max_decay_seconds
        self.min_direct_db, self.max_direct_db = min_direct_db, max_direct_db

    def change(self, x: Tensor) -> Tensor:
        """Put waveforms (batch, channels, time) into rooms."""
        n_samples = min(max(round(self.max_seconds * self.sample_rate), 1), x.shape[-1])
        wet = convolved(x, self.responses(x, n_samples))
        level = root_mean_square(wet)
        # A response may be silent: the clip is then left as it is, not made infinitely loud.
        audible = level > 0
        return torch.where(audible, wet * (root_mean_square(x) / torch.where(audible, level, 1.0)), x)

    def responses(self, x: Tensor, n_samples: int) -> Tensor:
        """An impulse response for each clip, (batch, channels or 1, n_samples)."""
        if self.recordings is not None:
            return direct_first(matched_channels(self.recordings.draw(len(x), n_samples, from_start=True), x))
        decay = uniform(self.min_decay_seconds, self.max_decay_seconds, x)
        time = torch.arange(n_samples, device=x.device) / self.sample_rate
        noise = torch.randn(len(x), n_samples, device=x.device) * torch.exp(-math.log(1000) * time / decay[:, None])
        noise[:, 0] = 0
        energy = noise.square().sum(dim=1, keepdim=True).clamp(min=1e-12)
        direct = db_to_amplitude(uniform(self.min_direct_db, self.max_direct_db, x))
        response = noise * (energy.rsqrt() / direct[:, None])
        response[:, 0] = 1
        return response.unsqueeze(1)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, max_seconds={self.max_seconds}"


def direct_first(response: Tensor) -> Tensor:
    """Impulse responses moved so that the largest sample over all channels comes first; silence comes behind.

    >>> direct_first(torch.tensor([[[0.0, 0.1, -1.0, 0.5]]]))
    tensor([[[-1.0000,  0.5000,  0.0000,  0.0000]]])
    """
    n_samples = response.shape[-1]
    first = response.abs().amax(dim=1).argmax(dim=-1)
    place = torch.arange(n_samples, device=response.device) + each(first, response)
    return response.gather(-1, place.clamp(max=n_samples - 1).expand_as(response)) * (place < n_samples)
