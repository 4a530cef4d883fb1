"""What every augmentation is: a batch and its targets in, both out, on the device, only while training.

One list in the classifier holds them all; each says whether it acts on waveforms, before the front-end, or on
spectrograms, behind it. None learns anything or keeps a state. Draws come from torch's generators, which
`audiocls.callbacks.StepSeed` seeds before each batch by (seed, step, rank): nothing has to be saved for a run that is
resumed. Random crops are left out: the loader draws them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from audiocls.metrics import Task

Stage = Literal["waveform", "spectrogram"]


class Augmentation(nn.Module, ABC):
    """Changes some clips of a batch, each by its own draw.

    Autocast is off inside and draws are float32, whatever the precision of the training.

    Args:
        probability: with which a clip is changed, in [0, 1].
    Raises:
        ValueError: if it is not.
    """

    stage: Stage
    """Where it acts: on waveforms (batch, channels, time), or on spectrograms (batch, channels, freq, frames)."""
    mixes: ClassVar[bool] = False
    """Whether it also changes the targets, which must then be shares or numbers (batch, num_classes)."""

    def __init__(self, *, probability: float = 0.5) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be between 0 and 1, got {probability}")
        self.probability = probability
        self._sample_rate: int | None = None

    def prepare(self, *, sample_rate: int, task: Task) -> None:
        """Be told what the data is, before training; what is missing or does not fit is said here.

        Args:
            sample_rate: of the waveforms, in Hz.
            task: of the targets.
        Raises:
            ValueError: if `stage` is none of the two.
        """
        if (stage := getattr(self, "stage", None)) not in get_args(Stage):
            name, stages = type(self).__name__, " or ".join(map(repr, get_args(Stage)))
            raise ValueError(f"{name} must say where it acts: set stage = {stages} in the class, got {stage!r}")
        self._sample_rate = sample_rate

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz.

        Raises:
            ValueError: before `prepare`, which the classifier calls when training begins.
        """
        if self._sample_rate is None:
            raise ValueError(f"{type(self).__name__} must know the sample rate: call prepare(sample_rate=…, task=…)")
        return self._sample_rate

    def forward(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """A batch and its targets, changed; in evaluation as they are.

        Args:
            x: waveforms or spectrograms, by `stage`; float32.
            target: of the clips.
        """
        if not self.training:
            return x, target
        with torch.autocast(x.device.type, enabled=False), _float32_by_default():
            chosen = torch.rand(len(x), device=x.device) < self.probability
            return self.augment(x, target, chosen)

    @abstractmethod
    def augment(self, x: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Change the clips where `chosen`, bool (batch,), is true."""

    def extra_repr(self) -> str:
        """The settings, for `print(classifier)`."""
        return f"probability={self.probability}"


class ClipAugmentation(Augmentation):
    """Changes each clip by itself; targets stay. All are changed and some of them taken: no draw is waited for."""

    def augment(self, x: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Take the clips that were chosen from the changed ones."""
        return torch.where(each(chosen, x), self.change(x), x), target

    @abstractmethod
    def change(self, x: Tensor) -> Tensor:
        """Change every clip, each by its own draw; the shape stays."""


def uniform(low: float, high: float, like: Tensor) -> Tensor:
    """A number for each clip of a batch, shape (batch,), float32, uniform in [low, high)."""
    return torch.empty(len(like), device=like.device).uniform_(low, high)


def beta_shares(alpha: float, like: Tensor) -> Tensor:
    """A share for each clip of a batch, shape (batch,), float32, from the beta distribution with both numbers alpha."""
    both = torch.tensor(alpha, device=like.device)
    return torch.distributions.Beta(both, both, validate_args=False).sample((len(like),))


def each(values: Tensor, x: Tensor) -> Tensor:
    """One value a clip, shape (batch,), made to broadcast over a batch of any dimensions.

    >>> each(torch.arange(3), torch.zeros(3, 2, 5)).shape
    torch.Size([3, 1, 1])
    """
    return values.reshape(-1, *[1] * (x.ndim - 1))


def db_to_amplitude(decibel: Tensor) -> Tensor:
    """Factor of the amplitude.

    >>> db_to_amplitude(torch.tensor([0.0, -20.0]))
    tensor([1.0000, 0.1000])
    """
    return 10 ** (decibel / 20)


def check_range(name: str, low: float, high: float) -> None:
    """Refuse a range that ends before it begins.

    Raises:
        ValueError: naming min_`name` and max_`name`.
    """
    if not low <= high:
        raise ValueError(f"min_{name} must be at most max_{name}, got {low} and {high}")


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """What is made inside is float32. Lightning makes it of half or double precision in a step of such a training."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
