"""Losses: their formulas written out, their limits, and what they refuse."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss

from audiocls.losses import Asymmetric, BinaryCrossEntropy, CrossEntropy, Focal, Huber, Loss, default_loss, predictions
from audiocls.metrics import Mean

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])
CLASSES = torch.tensor([0, 2])
LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
P = 1 / (1 + (-LOGITS).exp())


def test_cross_entropy_is_its_formula() -> None:
    logs = LOGITS - LOGITS.logsumexp(1, keepdim=True)
    torch.testing.assert_close(CrossEntropy()(LOGITS, CLASSES), -logs[torch.arange(2), CLASSES].mean())
    smooth = -(0.9 * logs[torch.arange(2), CLASSES] + 0.1 * logs.mean(1)).mean()
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.1)(LOGITS, CLASSES), smooth)
    weights = torch.tensor([1.0, 2.0, 3.0])
    weighted = -(weights[CLASSES] * logs[torch.arange(2), CLASSES]).sum() / weights[CLASSES].sum()
    torch.testing.assert_close(CrossEntropy(class_weights=weights.tolist())(LOGITS, CLASSES), weighted)


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_class_weights_are_float32_in_any_precision_of_training(precision: torch.dtype) -> None:
    loss = CrossEntropy(class_weights=[1.0, 2.0, 3.0])
    expected, weight = loss(LOGITS, CLASSES), loss.batch_weight(CLASSES)
    assert torch.equal(loss.to(precision)(LOGITS, CLASSES), expected)
    torch.testing.assert_close(loss.batch_weight(CLASSES), weight)


def test_binary_cross_entropy_is_its_formula() -> None:
    expected = -(LABELS * P.log() + (1 - LABELS) * (1 - P).log())
    torch.testing.assert_close(BinaryCrossEntropy()(LOGITS, LABELS), expected.mean())
    weighted = torch.where(LABELS > 0, 3 * expected, expected).mean()
    torch.testing.assert_close(BinaryCrossEntropy(pos_weight=[3.0])(LOGITS, LABELS), weighted)
    shares = 0.8 * LABELS + 0.1
    smooth = -(shares * P.log() + (1 - shares) * (1 - P).log()).mean()
    torch.testing.assert_close(BinaryCrossEntropy(label_smoothing=0.2)(LOGITS, LABELS), smooth)


def test_focal_and_asymmetric_losses_are_their_formulas() -> None:
    right = torch.where(LABELS > 0, P, 1 - P)
    alpha = torch.where(LABELS > 0, 0.25, 0.75)
    torch.testing.assert_close(Focal()(LOGITS, LABELS), (-alpha * (1 - right) ** 2 * right.log()).mean())
    heard = (P - 0.05).clamp(min=0)
    expected = torch.where(LABELS > 0, (1 - P) * P.log(), heard**4 * (1 - heard).log())
    torch.testing.assert_close(Asymmetric()(LOGITS, LABELS), -expected.mean())


def test_without_a_focus_both_are_binary_cross_entropy() -> None:
    plain = BinaryCrossEntropy()(LOGITS, LABELS)
    torch.testing.assert_close(Focal(gamma=0, alpha=None)(LOGITS, LABELS), plain)
    torch.testing.assert_close(Asymmetric(gamma_positive=0, gamma_negative=0, margin=0)(LOGITS, LABELS), plain)


def test_a_negative_heard_for_sure_was_never_unlearnt_without_a_margin() -> None:
    """From a logit of 17 on, 1 - p was 0 in float32, and the loss stood still at 16."""
    logits = torch.tensor([[20.0, 80.0]], requires_grad=True)
    value = Asymmetric(gamma_positive=0, gamma_negative=0, margin=0)(logits, torch.zeros(1, 2))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == pytest.approx(50)
    assert gradient.tolist() == [[0.5, 0.5]]


def test_a_weighted_loss_of_all_clips_depended_on_how_batches_were_cut() -> None:
    """Each batch is a mean by the weights in it, and those means were taken by the number of clips."""
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(40, 3, generator=generator), torch.randint(3, (40,), generator=generator)
    loss = CrossEntropy(class_weights=[1.0, 5.0, 20.0])
    weights = torch.tensor([1.0, 5.0, 20.0])[target]
    expected = log_loss(target, logits.double().softmax(1), sample_weight=weights)
    for size in (3, 7, 40):
        mean = Mean()
        for part in torch.arange(40).split(size):
            mean.update(loss(logits[part], target[part]), loss.batch_weight(target[part]))
        assert mean.compute().item() == pytest.approx(expected, rel=1e-5)  # float32
    assert loss.batch_weight(F.one_hot(target, 3).float()) == CrossEntropy().batch_weight(target) == 40


def test_huber_is_squared_near_and_absolute_far() -> None:
    near = Huber()(torch.tensor([[0.5]]), torch.tensor([[0.0]]))
    far = Huber()(torch.tensor([[5.0]]), torch.tensor([[0.0]]))
    assert (near.item(), far.item()) == (0.125, 4.5)


@pytest.mark.parametrize(
    "loss",
    [
        *(CrossEntropy(label_smoothing=0.1), BinaryCrossEntropy(), Focal(), Asymmetric()),
        # a power below 1 has an infinite slope at 0: the gradient was nan from a logit of 17 on
        *(Focal(gamma=0.5), Asymmetric(gamma_positive=0.5), Asymmetric(gamma_negative=0.5, margin=0.0)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_and_gradients_are_finite_at_the_ends_of_half_precision(loss: Loss, dtype: torch.dtype) -> None:
    logits = torch.tensor([[60000.0, -60000.0], [0.0, 0.0]], dtype=dtype, requires_grad=True)
    for target in (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])):
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_shares_of_classes_are_targets_too() -> None:
    mixed = 0.3 * F.one_hot(torch.tensor([1, 1]), 3) + 0.7 * F.one_hot(CLASSES, 3)
    expected = 0.3 * CrossEntropy()(LOGITS, torch.tensor([1, 1])) + 0.7 * CrossEntropy()(LOGITS, CLASSES)
    torch.testing.assert_close(CrossEntropy()(LOGITS, mixed), expected)


def test_predictions_are_probabilities_or_the_numbers() -> None:
    torch.testing.assert_close(predictions(LOGITS, task="multiclass").sum(1), torch.ones(2))
    torch.testing.assert_close(predictions(LOGITS, task="multilabel"), P)
    assert torch.equal(predictions(LOGITS, task="regression"), LOGITS)


@pytest.mark.parametrize(
    ("loss", "settings", "match"),
    [
        (CrossEntropy, {"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        (CrossEntropy, {"class_weights": [1.0, 0.0]}, r"class_weights must be above 0, got \[1.0, 0.0\]"),
        (BinaryCrossEntropy, {"pos_weight": [-1.0]}, "pos_weight must be above 0"),
        (Focal, {"alpha": 1.5}, r"alpha in \(0, 1\) or null, got 2.0 and 1.5"),
        (Asymmetric, {"margin": 1.0}, r"margin in \[0, 1\)"),
        (Huber, {"delta": 0.0}, "delta must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range(loss: type[Loss], settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        loss(**settings)


def test_a_loss_of_another_task_or_number_of_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="Focal is a loss for multilabel, and the data's task is multiclass: set "):
        Focal().check(3, task="multiclass")
    with pytest.raises(ValueError, match="was given 2 weights for 3 classes: give one for each"):
        CrossEntropy(class_weights=[1.0, 2.0]).check(3, task="multiclass")
    with pytest.raises(ValueError, match="was given 1 weights for 3 classes"):  # torch's refusal was a traceback
        CrossEntropy(class_weights=[2.0]).check(3, task="multiclass")
    BinaryCrossEntropy(pos_weight=[2.0]).check(3, task="multilabel")
    default_loss("regression").check(2, task="regression")
