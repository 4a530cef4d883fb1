"""Learning-rate schedules that know the length of the run by themselves."""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupCosine(LRScheduler):
    """Linear warm-up, then half a cosine down to `final` of the learning rate; one step an optimizer step.

    Args:
        optimizer: whose learning rates are scaled.
        warmup: share of the run in [0, 1) over which the rate rises from zero.
        final: share of the rate at the end, in [0, 1].
        total_steps: optimizer steps of the whole run; left out, the Classifier fills it in from the trainer.
    Raises:
        ValueError: if `warmup` or `final` is out of range.
    Source: Loshchilov and Hutter 2017, arXiv:1608.03983, one cycle without restart.
    """

    def __init__(
        self, optimizer: Optimizer, *, warmup: float = 0.05, final: float = 0.0, total_steps: int | None = None
    ) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be in [0, 1), a share of the run, got {warmup}")
        if not 0 <= final <= 1:
            raise ValueError(f"final must be in [0, 1], a share of the learning rate, got {final}")
        self.warmup, self.final, self.total_steps = warmup, final, total_steps
        super().__init__(optimizer)

    def set_total_steps(self, total_steps: int) -> None:
        """Tell the schedule how long the run is; the rates of the present step follow at once."""
        self.total_steps = total_steps
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, object]:
        """All but the length of the run: a run that is resumed with more epochs follows the longer curve."""
        return {key: value for key, value in super().state_dict().items() if key != "total_steps"}

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each parameter group at the current step."""
        factor = self.factor(max(self.last_epoch, 0))
        return [float(base) * factor for base in self.base_lrs]

    def factor(self, step: int) -> float:
        """Share of the base rate at `step`, counted from zero."""
        if self.total_steps is None:
            return 1.0
        rising = round(self.warmup * self.total_steps)
        if step < rising:
            return (step + 1) / rising
        progress = min((step - rising) / max(self.total_steps - rising, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
