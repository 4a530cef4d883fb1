"""Scores of clips: from the predictions of windows to one row a clip, and from the rows to metrics.

Everything that is reported about an evaluation is computed from one torchmetrics state, `ClipScores`, which holds a
row for each clip however the windows were cut into batches or spread over processes. A class without a positive (or
without a negative) clip has no AUROC and no average precision: it is left out of the means and counted, where
torchmetrics alone would score it 0 and average that in.

Sources: macro AUROC and average precision over tags as in Choi et al. 2017, arXiv:1609.04243, and Won et al. 2020,
arXiv:2006.00751; the binary curves themselves are torchmetrics'.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multilabel_auroc,
    multilabel_average_precision,
)
from torchmetrics.utilities import dim_zero_cat

Task = Literal["multiclass", "multilabel", "regression"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a split says.

    Attributes:
        clip: index of each scored clip in the split's table, shape (n_clips,), ascending.
        prediction: mean over the clip's windows, shape (n_clips, num_classes): probabilities, for regression numbers.
        target: class index, shape (n_clips,), labels in {0, 1} or numbers, shape (n_clips, num_classes).
        class_names: one name a class, for regression one a number.
        task: what the target is.
        scalars: name -> value over all classes, such as "accuracy" or "auroc_macro".
        per_class: column -> one value a class; nan where it is undefined. "support" is the number of positive clips,
            for regression of all; "threshold", for multilabel, what a tag is decided at.
    """

    clip: Tensor
    prediction: Tensor
    target: Tensor
    class_names: list[str]
    task: Task
    scalars: dict[str, float]
    per_class: dict[str, list[float]]

    @property
    def labels(self) -> Tensor:
        """Which classes each clip is of, in {0, 1}, shape (n_clips, num_classes); not for regression."""
        return F.one_hot(self.target, len(self.class_names)) if self.task == "multiclass" else self.target.long()

    @property
    def decided(self) -> Tensor:
        """Which classes each clip is said to be of, shape (n_clips, num_classes), bool; not for regression."""
        if self.task == "multiclass":
            return F.one_hot(self.prediction.argmax(1), len(self.class_names)).bool()
        return self.prediction.double() >= torch.tensor(self.per_class["threshold"], dtype=torch.float64)


class ClipScores(Metric):
    """Sums the predictions of windows by clip; exact over any batching and any number of processes.

    The windows of one clip may arrive in several batches but only on one process. Within a batch they are summed at
    once, so the state has about one row a clip, not one a window.

    Args:
        num_classes: columns of the predictions.
    """

    full_state_update = False
    clip: list[Tensor]
    windows: list[Tensor]
    prediction: list[Tensor]
    target: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("clip", "windows", "prediction", "target"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, clip: Tensor, prediction: Tensor, target: Tensor) -> None:
        """Add a batch of windows.

        Args:
            clip: index of each window's clip, shape (batch,).
            prediction: shape (batch, num_classes).
            target: of the window's clip, shape (batch,) or (batch, num_classes).
        """
        clip, summed, windows, target = _sum_by_clip(clip, prediction, torch.ones_like(clip), target)
        self.clip.append(clip)
        self.windows.append(windows)
        self.prediction.append(summed)
        self.target.append(target)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """Clips in ascending order: (clip (n,), mean prediction (n, num_classes), target (n, …))."""
        clip, summed, windows, target = _sum_by_clip(
            dim_zero_cat(self.clip),
            dim_zero_cat(self.prediction),
            dim_zero_cat(self.windows),
            dim_zero_cat(self.target),
        )
        return clip, (summed / windows[:, None]).float(), target


class Mean(Metric):
    """Weighted mean of numbers, such as the losses of batches, over any number of processes; a nan stays one.

    torchmetrics' own leaves a nan out, for which it waits for the device, or it leaves the weights out (1.9.0,
    `nan_strategy="disable"`).
    """

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "weight"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor | float) -> None:
        """Add a number, which counts `weight` times."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean, nan before the first number."""
        return self.total / self.weight

    def sums(self) -> tuple[float, float]:
        """Sum and weight so far, of all processes, for a checkpoint."""
        with self.sync_context():
            return float(self.total), float(self.weight)

    def go_on_from(self, total: float, weight: float) -> None:
        """Take the place of one whose `sums` these were."""
        self.reset()
        self.update(torch.full_like(self.total, total), 1.0)
        self.weight.fill_(weight)


def _sum_by_clip(clip: Tensor, value: Tensor, windows: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of one clip become one row: (clip, summed value, summed windows, the clip's target), ascending by clip."""
    unique, position = torch.unique(clip, return_inverse=True)
    # float64 keeps the sum the same to float32's last digit in whatever order windows come; MPS has no float64
    precise = torch.float32 if value.device.type == "mps" else torch.float64
    summed = torch.zeros(len(unique), value.shape[1], dtype=precise, device=value.device)
    summed.index_add_(0, position, value.to(precise))
    count = torch.zeros(len(unique), dtype=windows.dtype, device=windows.device).index_add_(0, position, windows)
    chosen = torch.empty((len(unique), *target.shape[1:]), dtype=target.dtype, device=target.device)
    chosen[position] = target  # every window of a clip carries the same target
    return unique, summed, count, chosen


def evaluate(
    clip: Tensor,
    prediction: Tensor,
    target: Tensor,
    *,
    class_names: list[str],
    task: Task,
    thresholds: Tensor | None = None,
) -> Evaluation:
    """Score clips.

    Args:
        clip: indices, shape (n_clips,).
        prediction: probabilities in [0, 1], for regression numbers, shape (n_clips, num_classes).
        target: class indices, shape (n_clips,), for multiclass; {0, 1} for multilabel and numbers for regression,
            shape (n_clips, num_classes).
        class_names: one name a class.
        task: decides how `target` is read and which scores exist.
        thresholds: for multilabel, from which probability on each tag is said to be there, shape (num_classes,); 0.5
            where none are given.
    Returns:
        scalars "accuracy" (share of clips whose likeliest class is right), "accuracy_macro" (mean of the classes'
        recalls) and "f1_macro" for multiclass; "auroc_macro", "auroc_micro", "average_precision_macro",
        "average_precision_micro" and "classes_scored" for multiclass and multilabel, one class against the rest;
        "f1_macro" and "f1_micro" at the thresholds for multilabel; "r2_mean", "pearson_mean", "rmse_mean" and
        "targets_scored" for regression. Where a clip's prediction is nan, every score is: what such a clip counts for
        would be made up.

    >>> prediction = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    >>> target = torch.tensor([0, 1, 1])
    >>> done = evaluate(torch.arange(3), prediction, target, class_names=["a", "b"], task="multiclass")
    >>> round(done.scalars["accuracy"], 3), done.scalars["auroc_macro"]
    (0.667, 1.0)
    """
    clip, prediction, target = clip.cpu(), prediction.float().cpu(), target.cpu()
    done = _evaluated(clip, prediction, target, list(class_names), task, thresholds)
    if lost := int(prediction.isnan().any(1).sum()):
        log.warning("the predictions of %d of %d clips are nan, and so are all scores", lost, len(clip))
        return _unscored(done)
    return done


def _evaluated(
    clip: Tensor, prediction: Tensor, target: Tensor, names: list[str], task: Task, thresholds: Tensor | None
) -> Evaluation:
    if task == "regression":
        target = target.float()  # in float64 equal numbers add up exactly, so that a constant target is known as one
        each_once = torch.ones(len(clip), 1, dtype=torch.float64)
        scalars, per_class = _of_one(distance_scores(prediction.double(), target.double(), each_once))
        per_class = {"support": [float(len(target))] * len(names)} | per_class
        return Evaluation(clip, prediction, target, names, task, scalars, per_class)
    at = torch.full((len(names),), 0.5) if thresholds is None else thresholds.cpu()
    known = {"threshold": at.double().tolist()} if task == "multilabel" else {}
    seen = Evaluation(clip, prediction, target, names, task, {}, known)
    ranking_scalars, ranking_classes = _ranking_scores(prediction, seen.labels)
    hits, support, claimed = (of.sum(0)[:, None] for of in (seen.labels * seen.decided, seen.labels, seen.decided))
    scalars, per_class = _of_one(decision_scores(hits, support, claimed, torch.tensor([len(clip)]), task=task))
    if task == "multiclass":
        return replace(seen, scalars=scalars | ranking_scalars, per_class=ranking_classes | per_class)
    return replace(seen, scalars=ranking_scalars | scalars, per_class=ranking_classes | known | per_class)


def _unscored(evaluation: Evaluation) -> Evaluation:
    """The same with nan for every score; what is counted or was chosen before stays."""
    kept = ("support", "threshold")
    return replace(
        evaluation,
        scalars={k: v if k.endswith("_scored") else math.nan for k, v in evaluation.scalars.items()},
        per_class={k: v if k in kept else [math.nan] * len(v) for k, v in evaluation.per_class.items()},
    )


def score_names(task: Task) -> list[str]:
    """Names of the scalars that `evaluate` gives.

    >>> score_names("regression")
    ['r2_mean', 'pearson_mean', 'rmse_mean', 'targets_scored']
    """
    target = torch.zeros(2, dtype=torch.long) if task == "multiclass" else torch.zeros(2, 2)
    return [*evaluate(torch.arange(2), torch.zeros(2, 2), target, class_names=["", ""], task=task).scalars]


def _of_one(scores: tuple[dict[str, Tensor], dict[str, Tensor]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Scores of one draw of the clips, themselves, as numbers."""
    scalars, per_class = scores
    return {k: v.item() for k, v in scalars.items()}, {k: v[:, 0].tolist() for k, v in per_class.items()}


def _ranking_scores(probability: Tensor, labels: Tensor) -> tuple[dict[str, float], dict[str, list[float]]]:
    """AUROC and average precision, one class against the rest, over the classes that have both sides."""
    support = labels.sum(0)
    scored = (support > 0) & (support < len(labels))
    n_scored = int(scored.sum())
    nan = torch.full((labels.shape[1],), torch.nan)
    auroc, precision = nan.clone(), nan.clone()
    scalars = dict.fromkeys(
        ("auroc_macro", "auroc_micro", "average_precision_macro", "average_precision_micro"), float("nan")
    )
    if n_scored:
        chosen, truth = probability[:, scored], labels[:, scored]
        if n_scored == 1:  # torchmetrics' multilabel functions begin at two labels
            auroc[scored] = binary_auroc(chosen[:, 0], truth[:, 0])
            precision[scored] = binary_average_precision(chosen[:, 0], truth[:, 0])
        else:
            auroc[scored] = multilabel_auroc(chosen, truth, num_labels=n_scored, average="none")
            precision[scored] = multilabel_average_precision(chosen, truth, num_labels=n_scored, average="none")
        scalars = {
            "auroc_macro": auroc[scored].mean().item(),
            "auroc_micro": binary_auroc(chosen.flatten(), truth.flatten()).item(),
            "average_precision_macro": precision[scored].mean().item(),
            "average_precision_micro": binary_average_precision(chosen.flatten(), truth.flatten()).item(),
        }
    per_class = {"support": support.double().tolist(), "auroc": auroc.tolist(), "average_precision": precision.tolist()}
    return scalars | {"classes_scored": float(n_scored)}, per_class


def decision_scores(
    hits: Tensor, support: Tensor, claimed: Tensor, n_clips: Tensor, *, task: Task
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Accuracy, recall, precision and F1 of what was decided, of any number of draws of the clips at once.

    Args:
        hits: clips rightly said to be of each class, shape (num_classes, draws).
        support: clips of each class, same shape.
        claimed: clips said to be of each class, same shape.
        n_clips: of each draw, shape (draws,).
        task: one class a clip ("multiclass") or several.
    Returns:
        name -> (draws,) and column -> (num_classes, draws), float64.
    """
    hits, support, claimed = hits.double(), support.double(), claimed.double()
    recall = torch.where(support > 0, hits / support, torch.nan)
    precision = torch.where(claimed > 0, hits / claimed, torch.nan)
    f1 = torch.where(support > 0, 2 * hits / (support + claimed), torch.nan)
    scalars = {"f1_macro": f1.nanmean(0)}
    if task == "multiclass":
        accuracy = hits.sum(0) / n_clips.clamp(min=1)
        scalars = {"accuracy": accuracy, "accuracy_macro": recall.nanmean(0)} | scalars
    else:
        scalars |= {"f1_micro": 2 * hits.sum(0) / (support + claimed).sum(0)}
    return scalars, {"recall": recall, "precision": precision, "f1": f1}


def distance_scores(prediction: Tensor, target: Tensor, weights: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """R² (share of the variance explained, below 0 where the mean would do better), Pearson's r and RMSE.

    A target that is the same for all clips has neither R² nor r: it is left out of their means and counted. A constant
    prediction has no r either.

    Args:
        prediction: shape (n_clips, numbers), float64.
        target: same shape.
        weights: how often each clip counts in each draw, shape (n_clips, draws).
    Returns:
        name -> (draws,) and column -> (numbers, draws), float64.
    """
    total = weights.sum(0)[:, None]

    def summed(values: Tensor) -> Tensor:  # (n_clips, draws, numbers) to (draws, numbers)
        return torch.einsum("nd,ndk->dk", weights, values)

    spread = target[:, None] - (weights.T @ target / total)
    deviation = prediction[:, None] - (weights.T @ prediction / total)
    error = weights.T @ (prediction - target) ** 2
    variance, width = summed(spread**2), summed(deviation**2)
    r2 = torch.where(variance > 0, 1 - error / variance, torch.nan)
    norm = (variance * width).sqrt()
    pearson = torch.where(norm > 0, summed(spread * deviation) / norm, torch.nan)
    rmse = (error / total).sqrt()
    scalars = {
        "r2_mean": r2.nanmean(1),
        "pearson_mean": pearson.nanmean(1),
        "rmse_mean": rmse.mean(1),
        "targets_scored": (variance > 0).sum(1).double(),
    }
    return scalars, {"r2": r2.T, "pearson": pearson.T, "rmse": rmse.T}
