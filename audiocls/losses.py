"""What a task is minimised by, and how logits become what is reported: probabilities, or the numbers themselves.

Heads give logits; sigmoid and softmax stand here and nowhere else, so that autocast and the numerically safe forms of
the losses apply. Every loss is a mean over the batch in float32, and takes targets that are shares of classes as well
as classes, so that mixed clips have mixed targets.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls.metrics import Task

TINY = torch.finfo(torch.float32).tiny  # a power below 1 has an infinite slope at 0, and times 0 that is nan


class Loss(nn.Module):
    """Logits (batch, num_classes) and targets to a scalar."""

    tasks: ClassVar[tuple[Task, ...]] = ()
    """What it is a loss of; each class says it."""
    weights: Tensor | None
    """One number a class, where it was given any."""

    def __init__(self, weights: list[float] | None = None, *, name: str = "weights") -> None:
        super().__init__()
        if weights is not None and not all(weight > 0 for weight in weights):
            raise ValueError(f"{name} must be above 0, got {weights}")
        self.register_buffer("weights", None if weights is None else torch.tensor(weights), persistent=False)

    def check(self, num_classes: int, *, task: Task) -> None:
        """Refuse a task or a number of classes that it was not made for.

        Raises:
            ValueError: for either, or if the class has no `tasks`.
        """
        name = type(self).__name__
        if not self.tasks:
            raise ValueError(f'{name} must say what it is a loss of: set tasks = ("{task}",) in the class')
        if task not in self.tasks:
            fitting = [kind.__name__ for kind in _LOSSES if task in kind.tasks]
            raise ValueError(
                f"{name} is a loss for {' or '.join(self.tasks)}, and the data's task is {task}: set model.loss to "
                f"{' or '.join(fitting)}, or leave it out"
            )
        counts = (1, num_classes) if task == "multilabel" else (num_classes,)
        if self.weights is not None and len(self.weights) not in counts:
            raise ValueError(
                f"{name} was given {len(self.weights)} weights for {num_classes} classes: give one for each, in the "
                f"order of the class names"
            )

    def batch_weight(self, target: Tensor) -> Tensor | float:
        """What the loss of a batch counts for in a mean over batches, so that it does not matter how they are cut."""
        return len(target)


class CrossEntropy(Loss):
    """Cross entropy of one class a clip, in nats.

    Args:
        label_smoothing: share of the target that is spread over all classes, in [0, 1); Szegedy et al. 2016,
            arXiv:1512.00567.
        class_weights: one a class, in the order of the class names. For class indices the mean is weighted by them; for
            shares of classes (mixed clips) it is the plain mean of weighted losses, as torch has it.
    Raises:
        ValueError: for settings out of range.

    >>> round(CrossEntropy()(torch.zeros(2, 4), torch.tensor([0, 3])).item(), 4)  # log 4
    1.3863
    """

    tasks = ("multiclass",)

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: list[float] | None = None) -> None:
        super().__init__(class_weights, name="class_weights")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Target: class indices (batch,), or shares of classes (batch, num_classes)."""
        weights = None if self.weights is None else self.weights.float()  # a module's precision is that of training
        return F.cross_entropy(logits.float(), target, weights, label_smoothing=self.label_smoothing)

    def batch_weight(self, target: Tensor) -> Tensor | float:
        """The weights of the clips' classes where the mean over the batch is by them, else the clips."""
        return len(target) if self.weights is None or target.ndim > 1 else self.weights[target].float().sum()


class BinaryCrossEntropy(Loss):
    """Binary cross entropy over all classes, each a question of its own, in nats.

    Args:
        label_smoothing: targets are drawn towards 1/2 by this share, in [0, 1).
        pos_weight: weight of the positive clips of each class, or one for all: negative by positive clips balances.
    Raises:
        ValueError: for settings out of range.
    """

    tasks = ("multilabel",)

    def __init__(self, *, label_smoothing: float = 0.0, pos_weight: list[float] | None = None) -> None:
        super().__init__(pos_weight, name="pos_weight")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Target: (batch, num_classes) in [0, 1]."""
        target = target.float() * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=self.weights)


class Focal(Loss):
    """Binary cross entropy in which clips that are heard rightly already count less.

    Args:
        gamma: exponent of the probability missed; 0 is binary cross entropy.
        alpha: weight of positives, in (0, 1), negatives have 1 - alpha; None weighs neither.
    Raises:
        ValueError: for settings out of range.
    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5; agrees with torchvision.ops.sigmoid_focal_loss.
    """

    tasks = ("multilabel",)

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = 0.25) -> None:
        super().__init__()
        if gamma < 0 or not (alpha is None or 0 < alpha < 1):
            raise ValueError(f"gamma must be at least 0 and alpha in (0, 1) or null, got {gamma} and {alpha}")
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Target: (batch, num_classes) in [0, 1]."""
        logits, target = logits.float(), target.float()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        probability = logits.sigmoid()
        missed = probability * (1 - target) + (1 - probability) * target
        focal = entropy * missed.clamp(min=TINY) ** self.gamma
        if self.alpha is not None:
            focal = focal * (self.alpha * target + (1 - self.alpha) * (1 - target))
        return focal.mean()


class Asymmetric(Loss):
    """Binary cross entropy with a focus of its own for negatives, of which the easiest count nothing.

    Args:
        gamma_positive: exponent of the probability missed, for positives.
        gamma_negative: the same for negatives.
        margin: probability below which a negative counts nothing, in [0, 1).
    Raises:
        ValueError: for settings out of range.
    Source: Ridnik et al. 2021, arXiv:2009.14119, eq. 4-7, with its defaults.
    """

    tasks = ("multilabel",)

    def __init__(self, *, gamma_positive: float = 1.0, gamma_negative: float = 4.0, margin: float = 0.05) -> None:
        super().__init__()
        if gamma_positive < 0 or gamma_negative < 0 or not 0 <= margin < 1:
            raise ValueError(
                f"gamma_positive and gamma_negative must be at least 0 and margin in [0, 1), got {gamma_positive}, "
                f"{gamma_negative} and {margin}"
            )
        self.gamma_positive, self.gamma_negative, self.margin = gamma_positive, gamma_negative, margin

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Target: (batch, num_classes) in [0, 1]."""
        logits, target = logits.float(), target.float()
        missed = (-logits).sigmoid()  # 1 - p would be 0 from p = 1 - 6e-8 on, and a negative heard so surely no loss
        heard = (logits.sigmoid() - self.margin).clamp(min=TINY)
        positive = missed.clamp(min=TINY) ** self.gamma_positive * F.logsigmoid(logits)
        negative = heard**self.gamma_negative * (missed + self.margin).clamp(min=TINY, max=1).log()
        return -(target * positive + (1 - target) * negative).mean()


class Huber(Loss):
    """Squared error near the target, absolute error beyond.

    In training all is in standard deviations of the training targets, so that no unit weighs more than another.

    Args:
        delta: where one becomes the other, above 0.
    Raises:
        ValueError: if it is not.
    """

    tasks = ("regression",)

    def __init__(self, *, delta: float = 1.0) -> None:
        super().__init__()
        if delta <= 0:
            raise ValueError(f"delta must be above 0, got {delta}")
        self.delta = delta

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Target: numbers (batch, num_classes)."""
        return F.huber_loss(logits.float(), target.float(), delta=self.delta)


_LOSSES = (CrossEntropy, BinaryCrossEntropy, Focal, Asymmetric, Huber)


def default_loss(task: Task) -> Loss:
    """The plain loss of a task.

    >>> [type(default_loss(task)).__name__ for task in ("multiclass", "multilabel", "regression")]
    ['CrossEntropy', 'BinaryCrossEntropy', 'Huber']
    """
    return next(kind for kind in _LOSSES if task in kind.tasks)()


def predictions(logits: Tensor, *, task: Task) -> Tensor:
    """Probabilities by softmax for "multiclass" and sigmoid for "multilabel", for "regression" the numbers; float32."""
    if task == "regression":
        return logits.float()
    return logits.float().softmax(-1) if task == "multiclass" else logits.float().sigmoid()
