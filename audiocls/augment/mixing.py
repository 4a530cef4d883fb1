"""Clips mixed with each other, and their targets with them, on either side of the front-end.

Each clip meets another of a batch in random order (neighbours in a batch often come from one file). Targets are shares
of classes, tags or numbers, float (batch, num_classes), and mixed in the proportion of the clips.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audiocls.augment.base import Augmentation, Stage, beta_shares, each
from audiocls.metrics import Task

Labels = Literal["shares", "union"]


class Mixing(Augmentation):
    """Mixes clips in shares that are drawn from a symmetric beta distribution.

    Args:
        alpha: of the distribution, above 0: below 1 most mixtures are nearly one clip, at 1 all shares are as likely.
        labels: "shares" mixes the targets as the clips; "union" gives a mixture all tags of both, and is for
            "multilabel" alone.
        stage: whether waveforms or spectrograms are mixed.
        probability: with which a clip is mixed.
    Raises:
        ValueError: if `alpha` is not above 0.
    """

    mixes = True

    def __init__(self, *, alpha: float, labels: Labels, stage: Stage, probability: float) -> None:
        super().__init__(probability=probability)
        if alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {alpha}: probability=0 leaves clips as they are")
        self.alpha, self.labels, self.stage = alpha, labels, stage

    def prepare(self, *, sample_rate: int, task: Task) -> None:
        """Be told what the data is.

        Raises:
            ValueError: if labels that have no union are to be united.
        """
        super().prepare(sample_rate=sample_rate, task=task)
        if self.labels == "union" and task != "multilabel":
            raise ValueError(f"labels='union' is for multilabel data, and the task is {task}: use labels='shares'")

    def draw(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Each clip's own share in its mixture, and the clip that has the rest; both (batch,)."""
        share = torch.where(chosen, beta_shares(self.alpha, chosen), 1.0)
        return share, torch.randperm(len(chosen), device=chosen.device)

    def mixed_target(self, target: Tensor, share: Tensor, partner: Tensor) -> Tensor:
        """Targets of the mixtures.

        Raises:
            ValueError: if targets are classes by number.
        """
        if target.ndim != 2 or not target.is_floating_point():
            raise ValueError(
                f"target must be float shares (batch, num_classes) to be mixed, got {target.dtype} "
                f"{tuple(target.shape)}: turn class numbers into shares by one_hot first"
            )
        share, other = each(share, target), target[partner]
        if self.labels == "union":
            return torch.where(share < 1, torch.maximum(target, other), target)
        return share * target + (1 - share) * other

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, alpha={self.alpha}, labels={self.labels!r}, stage={self.stage!r}"


class Mixup(Mixing):
    """Two clips at once, as a weighted sum; each clip keeps the larger share of its own mixture.

    Args:
        alpha: of the beta distribution that shares are drawn from.
        labels: how targets are mixed, "shares" or "union".
        stage: whether waveforms or spectrograms are mixed.
        probability: with which a clip is mixed.
    Source: Zhang et al. 2018, arXiv:1710.09412; alpha and the larger share as in Koutini et al. 2022,
        arXiv:2110.05069 (PaSST's public implementation).
    """

    def __init__(
        self, *, alpha: float = 0.3, labels: Labels = "shares", stage: Stage = "waveform", probability: float = 1.0
    ) -> None:
        super().__init__(alpha=alpha, labels=labels, stage=stage, probability=probability)

    def augment(self, x: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the clips that were chosen."""
        share, partner = self.draw(chosen)
        share = torch.maximum(share, 1 - share)
        mixture = torch.lerp(x[partner], x, each(share, x).to(x.dtype))
        return torch.where(each(chosen, x), mixture, x), self.mixed_target(target, share, partner)


class CutMixTime(Mixing):
    """A stretch of time from another clip in place of the clip's own; its length is the other clip's share.

    Shares are counted in time, be there silence or not.

    Args:
        alpha: of the beta distribution that shares are drawn from.
        labels: how targets are mixed, "shares" or "union".
        stage: whether waveforms or spectrograms are cut.
        probability: with which a clip is cut into.
    Source: Yun et al. 2019, arXiv:1905.04899, along time alone, over all frequencies.
    """

    def __init__(
        self, *, alpha: float = 1.0, labels: Labels = "shares", stage: Stage = "spectrogram", probability: float = 0.5
    ) -> None:
        super().__init__(alpha=alpha, labels=labels, stage=stage, probability=probability)

    def augment(self, x: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Cut into the clips that were chosen."""
        n = x.shape[-1]
        share, partner = self.draw(chosen)
        length = ((1 - share) * n).round()
        start = (torch.rand_like(share) * (n - length + 1)).floor()
        place = torch.arange(n, device=x.device)
        start, end = each(start, x), each(start + length, x)
        cut = torch.where((place >= start) & (place < end), x[partner], x)
        return cut, self.mixed_target(target, 1 - length / n, partner)
