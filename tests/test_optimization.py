"""Levels of the front-end: their learning rates, their decay, how long they stand still; and runs that are resumed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from audiocls.__main__ import main
from audiocls.classifier import Classifier
from audiocls.frontends import PCEN, Frontend, Leaf, MelSpectrogram, ParametricMel
from audiocls.heads import ConvNet
from audiocls.optimization import build_optimizer, held_parameters, per_level
from audiocls.schedules import WarmupCosine

CONF = Path(__file__).parents[1] / "conf"


def learnt_pcen(n_bins: int) -> PCEN:
    return PCEN(n_bins, learnable=True)


def mel(*, learnable: bool = True) -> MelSpectrogram:
    return MelSpectrogram(
        8000, n_fft=128, hop_length=64, n_mels=16, learnable=learnable, compression=learnt_pcen if learnable else PCEN
    )


def classifier(frontend: Frontend | None = None, **settings) -> Classifier:
    return Classifier(mel() if frontend is None else frontend, ConvNet, num_classes=3, **settings)


def adamw(groups) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1)


# --- levels and groups ---


@pytest.mark.parametrize(
    ("frontend", "levels"),
    [
        (mel(), {"compression", "normalization", "filterbank"}),
        (mel(learnable=False), {"normalization"}),
        (ParametricMel(8000, n_fft=128), {"normalization", "filterbank"}),
        (Leaf(8000, n_bins=4), {"compression", "filterbank", "pooling"}),
        (
            MelSpectrogram(8000, n_fft=128, n_mels=16, learnable_window=True, learnable_kernels=True),
            {"window", "kernels", "normalization"},
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_levels_hold_every_parameter_once(frontend: Frontend, levels: set[str]) -> None:
    found = frontend.levels()
    assert set(found) == levels
    assert sorted(id(p) for params in found.values() for p in params) == sorted(id(p) for p in frontend.parameters())


def test_weights_of_float16_became_nan_in_the_first_step() -> None:
    model = classifier()
    for dtype, eps in ((torch.bfloat16, 1e-8), (torch.float16, 1e-4)):
        model.to(dtype)
        build_optimizer(
            lambda groups, eps=eps: torch.optim.AdamW(groups, eps=eps), model, model.frontend, frontend_lr={}
        )
    with pytest.raises(
        ValueError, match=r"AdamW's eps=1e-08 is 0 in torch\.float16, and a step could make weights nan: s"
    ):
        build_optimizer(adamw, model, model.frontend, frontend_lr={})


@pytest.mark.parametrize("make", [adamw, lambda g: torch.optim.SGD(g, lr=0.01, weight_decay=0.1), torch.optim.Rprop])
def test_groups_have_their_rates_and_decay(make) -> None:
    model = classifier()
    optimizer = build_optimizer(make, model, model.frontend, frontend_lr={"compression": 10.0, "filterbank": 0.1})
    groups = {group["name"]: group for group in optimizer.param_groups}
    assert list(groups)[:2] == ["head", "head, not decayed"]
    assert {name: group["lr"] for name, group in groups.items()} == pytest.approx(
        {"head": 0.01, "head, not decayed": 0.01, "compression": 0.1, "normalization": 0.01, "filterbank": 0.001}
    )
    decay = {name: group["weight_decay"] for name, group in groups.items() if "weight_decay" in optimizer.defaults}
    assert all(value == (0.1 if name == "head" else 0.0) for name, value in decay.items())
    assert all(p.ndim >= 2 for p in groups["head"]["params"])
    assert all(p.ndim < 2 for p in groups["head, not decayed"]["params"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_the_schedule_scales_every_group() -> None:
    model = classifier()
    optimizer = build_optimizer(adamw, model, model.frontend, frontend_lr={"compression": 10.0})
    schedule = WarmupCosine(optimizer, warmup=0.0, total_steps=10)
    ratio = []
    for _ in range(9):
        rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
        ratio.append(rates["compression"] / rates["head"])
        optimizer.step()
        schedule.step()
    assert ratio == pytest.approx([10.0] * 9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"frontend_lr": {"filterbnak": 0.1}},
            "frontend_lr names 'filterbnak', but MelSpectrogram as it is set learns filterbank, ",
        ),
        ({"frontend_freeze_steps": {"window": 3}}, "frontend_freeze_steps names 'window', but MelSpectrogram"),
        ({"frontend_lr": {"compression": -1.0}}, r"frontend_lr must be at least 0, got {'compression': -1.0}"),
        ({"frontend_freeze_steps": -1}, "frontend_freeze_steps must be at least 0, got"),
    ],
)
def test_settings_are_checked_when_the_model_is_built(settings: dict, message: str) -> None:
    frontend = MelSpectrogram(8000, n_fft=128, n_mels=16, learnable=True, compression=learnt_pcen)
    frontend.levels = lambda: {"filterbank": [], "compression": []}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=message):
        classifier(frontend, **settings)


def test_one_number_is_for_every_level() -> None:
    frontend = mel()
    assert per_level("frontend_lr", 0.5, frontend, default=1.0) == dict.fromkeys(frontend.levels(), 0.5)
    assert per_level("frontend_lr", {"compression": 2.0}, frontend, default=1.0)["filterbank"] == 1.0


def test_levels_are_held_until_their_step() -> None:
    frontend = mel()
    steps = {"compression": 2, "filterbank": 5, "normalization": 0}
    held = [len(held_parameters(frontend, steps, step)) for step in (0, 1, 2, 4, 5)]
    assert held == [5, 5, 1, 1, 0]  # PCEN's four and the matrix, then the matrix


# --- weights across levels ---


def test_weights_of_a_front_end_that_learns_something_else_are_refused_by_level() -> None:
    fixed, learnt = classifier(mel(learnable=False)), classifier(mel())
    with pytest.raises(ValueError, match="do not fit MelSpectrogram as it is set: they lack compression, filterbank: "):
        learnt.load_state_dict(fixed.state_dict())
    with pytest.raises(ValueError, match="do not fit MelSpectrogram as it is set: they hold compression, filterbank: "):
        fixed.load_state_dict(learnt.state_dict())


def test_weights_of_a_fixed_front_end_start_a_learnt_one_where_that_is_asked_for() -> None:
    fixed, learnt = classifier(mel(learnable=False)).eval(), classifier(mel()).eval()
    learnt.load_state_dict(fixed.state_dict(), strict=False)
    waveform = 0.1 * torch.randn(2, 1, 4000)
    torch.testing.assert_close(learnt(waveform), fixed(waveform), rtol=1e-4, atol=1e-5)  # float32, two paths


# --- in training ---


class Watch(pl.Callback):
    """Keeps a copy of each level before each step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        levels = pl_module.frontend.levels().items()
        self.seen.append({name: nn.utils.parameters_to_vector(params).detach().clone() for name, params in levels})


def test_a_level_stands_still_exactly_as_long_as_it_is_told(tones: Path) -> None:
    from datamodules import AudioFolder

    data = AudioFolder(tones, sample_rate=8000, clip_seconds=0.1, batch_size=3)
    model = classifier(
        frontend_freeze_steps={"filterbank": 2},
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=1.0),
        lr_scheduler=lambda optimizer: WarmupCosine(optimizer, warmup=0.0),
    )
    watch = Watch()
    trainer = pl.Trainer(
        max_steps=5, accelerator="cpu", callbacks=[watch], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        limit_val_batches=0, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    still = {
        name: [torch.equal(before[name], after[name]) for before, after in pairwise(watch.seen)]
        for name in model.freeze_steps
    }
    assert still["filterbank"] == [True, True, False, False]  # no step, no decay, no moment
    assert still["compression"] == [False] * 4


def arguments(tones: Path, run_dir: Path, *more: str) -> list[str]:
    return [
        "fit", "--config", str(CONF / "digits.yaml"), "--config", str(CONF / "frontends" / "pcen.yaml"),
        "--data", "AudioFolder", "--data.store", str(tones), "--data.batch_size", "3", "--data.clip_seconds", "0.1",
        "--model.frontend.learnable", "true", "--model.frontend_freeze_steps", "{filterbank: 8}",
        "--model.frontend_lr", "{compression: 10.0, filterbank: 0.1}", "--checkpoint_every_n_steps", "3",
        "--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false",
        "--run_dir", str(run_dir), *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_resumed_run_with_levels_ends_with_the_same_weights(tones: Path, tmp_path: Path) -> None:
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    schedule = ["--model.lr_scheduler", "WarmupCosine", "--model.lr_scheduler.total_steps", "18"]
    assert main(arguments(tones, whole, *schedule, "--trainer.max_epochs", "3")) == 0
    assert main(arguments(tones, halved, *schedule, "--trainer.max_epochs", "1")) == 0  # inside the frozen steps
    assert main(arguments(tones, halved, *schedule, "--trainer.max_epochs", "3", "--ckpt_path", "last")) == 0
    one, two = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (whole, halved)
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows = pd.read_csv(whole / "metrics.csv")
    assert rows["lr/filterbank"].tolist()[0] == 0.0
    assert rows["lr/compression"].tolist() == pytest.approx((10 * rows["lr"]).tolist())
    assert main(["test", "--run_dir", str(whole)]) == 0
