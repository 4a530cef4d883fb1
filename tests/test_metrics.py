"""Clip scores over any batching and number of processes, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from audiocls.metrics import ClipScores, Mean, Task, evaluate


def windows(n_clips: int = 20, n_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    clip = torch.arange(n_clips).repeat_interleave(torch.randint(1, 6, (n_clips,), generator=generator))
    probability = torch.rand(len(clip), n_classes, generator=generator).softmax(-1)
    target = torch.arange(n_clips) % n_classes
    return clip, probability, target[clip]


def score(clip: torch.Tensor, probability: torch.Tensor, target: torch.Tensor, batch_size: int):
    scores = ClipScores(probability.shape[1])
    for part in torch.arange(len(clip)).split(batch_size):
        scores.update(clip[part], probability[part], target[part])
    return scores.compute()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_clip_score_is_the_mean_of_its_windows_for_any_batch_size(batch_size: int) -> None:
    clip, probability, target = windows()
    index, mean, chosen = score(clip, probability, target, batch_size)
    assert index.tolist() == list(range(20))
    for i in range(20):
        # float64 sums, so only the rounding to float32 at the end differs
        torch.testing.assert_close(mean[i], probability[clip == i].double().mean(0).float(), rtol=1e-6, atol=1e-7)
    assert torch.equal(chosen, torch.arange(20) % 4)


def test_clip_scores_from_two_ranks_equal_those_of_one() -> None:
    clip, probability, target = windows()
    whole = score(clip, probability, target, 8)
    ranks = [ClipScores(4), ClipScores(4)]
    for rank, scores in enumerate(ranks):
        own = clip % 2 == rank
        scores.update(clip[own], probability[own], target[own])
    merged = ClipScores(4)
    for name in ("clip", "windows", "prediction", "target"):
        setattr(merged, name, getattr(ranks[1], name) + getattr(ranks[0], name))  # in the wrong order, too
    merged._update_count = 1
    for one, two in zip(whole, merged.compute(), strict=True):
        assert torch.equal(one, two)


def test_multiclass_scores_equal_scikit_learn() -> None:
    index, probability, target = score(*windows(), batch_size=8)
    done = evaluate(index, probability, target, class_names=list("abcd"), task="multiclass")
    decided, labels = probability.argmax(1), np.eye(4)[target]
    expected = {
        "accuracy": (decided == target).float().mean().item(),
        "accuracy_macro": balanced_accuracy_score(target, decided),
        "f1_macro": f1_score(target, decided, average="macro"),
        "auroc_macro": roc_auc_score(labels, probability, average="macro"),
        "auroc_micro": roc_auc_score(labels, probability, average="micro"),
        "average_precision_macro": average_precision_score(labels, probability, average="macro"),
        "average_precision_micro": average_precision_score(labels, probability, average="micro"),
        "classes_scored": 4,
    }
    assert done.scalars == pytest.approx(expected, abs=1e-6)  # torchmetrics computes curves in float32
    assert done.per_class["support"] == [5, 5, 5, 5]


def test_tags_are_decided_at_their_thresholds_as_by_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(50, 3, generator=generator)
    target = (torch.rand(50, 3, generator=generator) < probability).long()
    thresholds = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    settings = {"class_names": list("abc"), "task": "multilabel"}
    done = evaluate(torch.arange(50), probability, target, thresholds=thresholds, **settings)
    decided = (probability >= thresholds).int()
    assert torch.equal(done.decided.int(), decided)
    assert done.scalars["f1_macro"] == pytest.approx(f1_score(target, decided, average="macro"))
    assert done.scalars["f1_micro"] == pytest.approx(f1_score(target, decided, average="micro"))
    assert done.per_class["precision"] == pytest.approx(precision_score(target, decided, average=None))
    assert done.per_class["recall"] == pytest.approx(recall_score(target, decided, average=None))
    assert done.per_class["threshold"] == thresholds.tolist()
    at_half = evaluate(torch.arange(50), probability, target, **settings)
    assert at_half.per_class["threshold"] == [0.5, 0.5, 0.5]
    assert at_half.scalars["f1_micro"] == pytest.approx(f1_score(target, probability >= 0.5, average="micro"))


def test_a_class_without_a_positive_is_left_out_and_counted_not_scored_zero() -> None:
    probability = torch.rand(30, 3, generator=torch.Generator().manual_seed(1))
    target = torch.zeros(30, 3)
    target[::2, 0] = 1
    target[::3, 1] = 1
    done = evaluate(torch.arange(30), probability, target, class_names=["a", "b", "absent"], task="multilabel")
    assert done.scalars["classes_scored"] == 2
    assert done.scalars["auroc_macro"] == pytest.approx(roc_auc_score(target[:, :2], probability[:, :2]), abs=1e-6)
    assert np.isnan(done.per_class["auroc"][2])
    assert np.isnan(done.per_class["average_precision"][2])
    assert done.per_class["support"] == [15, 10, 0]


def test_a_single_scored_class_and_none_at_all() -> None:
    probability, target = torch.tensor([[0.9, 0.1], [0.2, 0.3]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    done = evaluate(torch.arange(2), probability, target, class_names=["a", "b"], task="multilabel")
    assert done.scalars["auroc_macro"] == 1.0
    none = evaluate(torch.arange(2), probability, torch.zeros(2, 2), class_names=["a", "b"], task="multilabel")
    assert np.isnan(none.scalars["auroc_macro"])
    assert none.scalars["classes_scored"] == 0


def test_numbers_are_scored_as_by_scikit_learn_and_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(40, 2, generator=generator)
    prediction = 0.7 * target + 0.5 * torch.randn(40, 2, generator=generator)
    done = evaluate(torch.arange(40), prediction, target, class_names=["arousal", "valence"], task="regression")
    for i in range(2):
        one, two = target[:, i].numpy(), prediction[:, i].numpy()
        assert done.per_class["r2"][i] == pytest.approx(r2_score(one, two), abs=1e-6)
        assert done.per_class["pearson"][i] == pytest.approx(pearsonr(one, two).statistic, abs=1e-6)
        assert done.per_class["rmse"][i] == pytest.approx(root_mean_squared_error(one, two), abs=1e-6)
    assert done.scalars["r2_mean"] == pytest.approx(np.mean(done.per_class["r2"]))
    assert done.scalars["targets_scored"] == 2


def test_a_target_that_never_changes_is_left_out_of_the_means() -> None:
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]])
    done = evaluate(torch.arange(3), target + 0.1, target, class_names=["still", "moving"], task="regression")
    assert np.isnan(done.per_class["r2"][0])
    assert done.scalars["targets_scored"] == 1
    assert done.scalars["r2_mean"] == pytest.approx(done.per_class["r2"][1])
    assert done.scalars["rmse_mean"] == pytest.approx(0.1, abs=1e-6)


def test_constant_numbers_in_float64_had_an_endless_r2() -> None:
    """The mean of seven times 0.1 is not 0.1 to the last digit: R² was -4e33, and it was counted."""
    target = torch.full((7, 1), 0.1, dtype=torch.float64)
    done = evaluate(torch.arange(7), torch.rand(7, 1), target, class_names=["still"], task="regression")
    assert np.isnan([done.scalars["r2_mean"], done.scalars["pearson_mean"]]).all()
    assert done.scalars["targets_scored"] == 0


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_a_clip_whose_prediction_is_nan_counted_as_one_of_the_first_class(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    """A diverged model had the accuracy of always saying the first class, and an AUROC by the order of the clips."""
    prediction = torch.rand(6, 3)
    prediction[2] = torch.nan
    target = torch.arange(6) % 3 if task == "multiclass" else torch.eye(3).repeat(2, 1)
    done = evaluate(torch.arange(6), prediction, target, class_names=["a", "b", "c"], task=task)
    (counted,) = (name for name in done.scalars if name.endswith("_scored"))
    assert done.scalars.pop(counted) == 3
    assert all(map(math.isnan, done.scalars.values()))
    assert done.per_class.pop("support") == [6 if task == "regression" else 2] * 3
    done.per_class.pop("threshold", None)
    assert np.isnan(list(done.per_class.values())).all()
    assert caplog.messages == ["the predictions of 1 of 6 clips are nan, and so are all scores"]


def test_the_mean_of_losses_counts_clips_and_keeps_a_nan() -> None:
    """torchmetrics' leaves out a nan, or else the weights."""
    mean = Mean()
    mean.update(torch.tensor(1.0), 3)
    mean.update(torch.tensor(5.0), torch.tensor(1.0))
    assert mean.compute() == 2
    again = Mean()
    again.go_on_from(*mean.sums())
    for part in (mean, again):
        part.update(torch.tensor(0.1), 0.7)
    assert again.compute() == mean.compute()
    mean.update(torch.tensor(torch.nan), 3)
    assert mean.compute().isnan()
