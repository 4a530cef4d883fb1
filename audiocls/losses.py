"""What a task is minimised by, and how its logits become probabilities.

Heads give logits; sigmoid and softmax stand here and nowhere else, so that autocast and the numerically safe forms of
both losses apply.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from audiocls.metrics import Task


def loss(logits: Tensor, target: Tensor, *, task: Task) -> Tensor:
    """Mean loss of a batch in float32: cross entropy, or binary cross entropy over all classes.

    Args:
        logits: shape (batch, num_classes).
        target: (batch,) class indices for "multiclass"; (batch, num_classes) in [0, 1] for "multilabel".
        task: which of the two.
    Returns:
        A scalar, in nats.

    >>> import torch
    >>> round(loss(torch.zeros(2, 4), torch.tensor([0, 3]), task="multiclass").item(), 4)  # log 4
    1.3863
    """
    if task == "multiclass":
        return F.cross_entropy(logits.float(), target)
    return F.binary_cross_entropy_with_logits(logits.float(), target.float())


def probabilities(logits: Tensor, *, task: Task) -> Tensor:
    """Softmax for "multiclass", sigmoid for "multilabel"; float32, same shape as `logits`."""
    return logits.float().softmax(-1) if task == "multiclass" else logits.float().sigmoid()
