"""Where augmentation takes other sounds from: anything that draws pieces of recordings.

`datamodules.noise.NoiseStore` is one, over a PCM store; a configuration names it, so that nothing here knows of stores.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from audiocls.augment.base import ClipAugmentation
from audiocls.metrics import Task


class Recordings(Protocol):
    """Recordings to draw from; opened when it is first asked, so that a model is loaded where they are not at hand."""

    @property
    def sample_rate(self) -> int:
        """Of all of them, in Hz."""
        ...

    def draw(self, n: int, n_samples: int, *, from_start: bool = False) -> Tensor:
        """Pieces of recordings, drawn by torch's generator of the CPU.

        Args:
            n: how many.
            n_samples: length of each.
            from_start: whether each begins with its recording and has silence behind it, as impulse responses need;
                else it begins anywhere, and what is too short is repeated.
        Returns:
            Shape (n, channels, n_samples), float32 in [-1, 1), on the CPU.
        """
        ...


class RecordingsAugmentation(ClipAugmentation):
    """Changes waveforms by recordings, or by sounds that it makes itself where there are none.

    Args:
        recordings: to draw from; opened when the data's sample rate is known.
        probability: with which a clip is changed.
    """

    stage = "waveform"

    def __init__(self, recordings: Recordings | None, *, probability: float) -> None:
        super().__init__(probability=probability)
        self.recordings = recordings

    def prepare(self, *, sample_rate: int, task: Task) -> None:
        """Be told what the data is, and open the recordings.

        Raises:
            ValueError: if they are at another rate.
        """
        super().prepare(sample_rate=sample_rate, task=task)
        if self.recordings is not None and self.recordings.sample_rate != sample_rate:
            raise ValueError(
                f"the recordings of {type(self).__name__} are at {self.recordings.sample_rate} Hz but the data is at "
                f"{sample_rate} Hz: decode them with --sample-rate {sample_rate} into another folder"
            )


def matched_channels(drawn: Tensor, like: Tensor) -> Tensor:
    """Drawn pieces on the device of waveforms, with one channel or as many as they.

    Raises:
        ValueError: if neither side has one channel and they differ.
    """
    drawn = drawn.to(like.device, like.dtype, non_blocking=True)
    theirs, ours = drawn.shape[1], like.shape[1]
    if theirs in (1, ours):
        return drawn
    if ours == 1:
        return drawn.mean(dim=1, keepdim=True)
    raise ValueError(
        f"recordings of {theirs} channels cannot go with {ours} of the data: decode them with --channels 1"
    )
