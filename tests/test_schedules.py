"""The schedule rises, falls like a cosine, and follows a run that is made longer."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from audiocls.callbacks import LastCheckpoint, StepSeed
from audiocls.classifier import Classifier
from audiocls.frontends import MelSpectrogram
from audiocls.heads import ConvNet
from audiocls.schedules import WarmupCosine
from datamodules import AudioFolder


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


@pytest.mark.parametrize("limit", [8, 12])  # in mid-epoch and at the end of one
def test_a_run_that_goes_on_missed_a_step_on_the_plateau(tones: Path, tmp_path: Path, limit: int) -> None:
    def train(last: Path, max_steps: int) -> dict[str, Any]:
        torch.manual_seed(0)
        model = Classifier(
            MelSpectrogram(8000, n_fft=128, n_mels=16), lambda *sizes: ConvNet(*sizes, channels=[4]), num_classes=3,
            lr_scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, patience=0, threshold=0.9, factor=0.5),
        )  # fmt: skip
        trainer = pl.Trainer(
            max_epochs=4, max_steps=max_steps, callbacks=[StepSeed(0), LastCheckpoint(last)], accelerator="cpu",
            logger=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        data = AudioFolder(tones, sample_rate=8000, clip_seconds=0.1, batch_size=3)
        trainer.fit(model, data, ckpt_path=last if last.exists() else None, weights_only=False)
        return torch.load(last, weights_only=False)["lr_schedulers"][0]

    whole = train(tmp_path / "whole.ckpt", -1)
    train(tmp_path / "parts.ckpt", limit)
    parts = train(tmp_path / "parts.ckpt", -1)
    assert whole["last_epoch"] == 4
    assert whole["_last_lr"] == [1e-3 / 8] * 3  # of three groups; after the first epoch each is a plateau
    assert parts == whole


@pytest.mark.parametrize(
    ("setting", "match"), [({"warmup": 1.0}, "warmup must be in"), ({"final": 2.0}, "final must be")]
)
def test_refuses_shares_out_of_range(setting: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WarmupCosine(optimizer(), **setting)
