"""From which probability on a tag is said to be there: chosen by tag on the validation split, never on the test.

Tags are as rare as they are different, and 0.5 would leave most of them unsaid; the threshold that maximises a tag's F1
on the validation split does not ask how rare it is. It says as much as the tag has clips there: with a handful of them
it is a guess, and F1 on the validation split itself is the highest there can be, so that only the test's is to be
reported.

Source: Lipton, Elkan & Narayanaswamy 2014, arXiv:1402.1892 (where probabilities are right, the best threshold is one
half of the F1 that it gives).
"""

from __future__ import annotations

import torch
from torch import Tensor

UNKNOWN = 0.5  # for a tag that validation has no clip of


def best_thresholds(prediction: Tensor, target: Tensor) -> Tensor:
    """The threshold of each tag that maximises its F1: at least it, and the tag is there.

    It lies half-way between two predictions (or the lowest and 0), so that the last digit of a prediction decides
    nothing. Of several that are as good the highest is taken, which says the tag least often.

    Args:
        prediction: probabilities, shape (n_clips, num_classes), at least one clip.
        target: labels in {0, 1}, same shape.
    Returns:
        Shape (num_classes,), float64; 0.5 for a tag without a positive clip.

    >>> prediction = torch.tensor([[0.9, 0.2], [0.4, 0.1], [0.2, 0.3]])
    >>> best_thresholds(prediction, torch.tensor([[1, 0], [1, 0], [0, 0]]))
    tensor([0.3000, 0.5000], dtype=torch.float64)
    """
    falling, order = prediction.double().sort(dim=0, descending=True)
    hits = target.double().gather(0, order).cumsum(0)
    said = torch.arange(1, len(falling) + 1, dtype=torch.float64, device=falling.device)[:, None]
    below = torch.cat([falling[1:], torch.zeros_like(falling[:1])])
    apart = falling > below  # equal predictions are said together
    apart[-1] = True
    f1 = torch.where(apart, 2 * hits / (said + hits[-1]), -1.0)
    best = f1.argmax(0, keepdim=True)
    chosen = (falling.gather(0, best) + below.gather(0, best))[0] / 2
    return torch.where(hits[-1] > 0, chosen, UNKNOWN)
