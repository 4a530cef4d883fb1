"""The schedule rises, falls like a cosine, and follows a run that is made longer."""

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from audiocls.classifier import Classifier
from audiocls.frontends import MelSpectrogram
from audiocls.heads import ConvNet
from audiocls.schedules import WarmupCosine


def rates(schedule: WarmupCosine, n: int) -> list[float]:
    seen = []
    for _ in range(n):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def test_warms_up_linearly_then_follows_the_cosine() -> None:
    schedule = WarmupCosine(optimizer(), warmup=0.1, final=0.1)
    schedule.set_total_steps(100)
    seen = rates(schedule, 100)
    assert seen[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    expected = [2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 90))) for i in range(90)]
    assert seen[10:] == pytest.approx(expected)


def test_a_resumed_run_with_more_steps_follows_the_longer_curve() -> None:
    short = WarmupCosine(optimizer(), total_steps=100)
    rates(short, 50)
    longer = WarmupCosine(optimizer(), total_steps=200)
    longer.load_state_dict(short.state_dict())
    assert longer.get_lr() == pytest.approx([2.0 * longer.factor(50)])
    assert longer.factor(50) > short.factor(50)


@pytest.mark.parametrize(
    ("max_epochs", "max_steps", "total"), [(3, -1, 12), (3, 1000, 12), (3, 5, 5), (-1, 1000, 1000), (None, 7, 7)]
)
def test_a_run_that_its_epochs_end_before_its_steps_never_cooled(
    max_epochs: int | None, max_steps: int, total: int
) -> None:
    """The cosine was stretched over max_steps, of which three epochs of four steps are a hundredth."""
    model = Classifier(MelSpectrogram(8000, n_fft=128, n_mels=16), ConvNet, num_classes=3)
    data = SimpleNamespace(batches_per_epoch=lambda world_size: 7)
    model.trainer = cast(Any, SimpleNamespace(
        datamodule=data, world_size=1, limit_train_batches=1.0, accumulate_grad_batches=2,
        max_epochs=max_epochs, max_steps=max_steps,
    ))  # fmt: skip
    assert model.configure_optimizers()["lr_scheduler"]["scheduler"].total_steps == total


@pytest.mark.parametrize(
    ("setting", "match"), [({"warmup": 1.0}, "warmup must be in"), ({"final": 2.0}, "final must be")]
)
def test_refuses_shares_out_of_range(setting: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WarmupCosine(optimizer(), **setting)
