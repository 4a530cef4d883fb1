"""Augmentation and averaged weights in the classifier and in whole runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
import yaml
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, StochasticWeightAveraging
from torch import Tensor

from audiocls.__main__ import main
from audiocls.augment import Augmentation, Mixup
from audiocls.classifier import Classifier
from audiocls.frontends import MelSpectrogram
from audiocls.heads import ConvNet
from datamodules import AudioFolder
from tests.test_exact import CONF, STOP, arguments, begin, end, weights

pytestmark = pytest.mark.usefixtures("undrawn_throughout")

ALL = """
model:
  augment:
    - audiocls.augment.SpecAugment
    - audiocls.augment.Gain
    - audiocls.augment.RandomRoll
    - audiocls.augment.LowPass
    - audiocls.augment.Reverb
    - class_path: audiocls.augment.BackgroundNoise
      init_args:
        recordings: {{class_path: datamodules.noise.NoiseStore, init_args: {{store: {store}, prefix: low/}}}}
    - audiocls.augment.Mixup
    - audiocls.augment.CutMixTime
    - audiocls.augment.FreqMixStyle
"""


STEPS = 6  # an epoch: 18 clips, 3 a batch


class Spy(Augmentation):
    """Keeps what it is given, and adds a constant."""

    mixes = True

    def __init__(self, stage: Any) -> None:
        super().__init__(probability=1.0)
        self.stage = stage
        self.seen: list[tuple[Tensor, Tensor]] = []

    def augment(self, x: Tensor, target: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append((x, target))
        return x + 0.25, target


def classifier(*augment: Augmentation, num_classes: int = 3, **settings: Any) -> Classifier:
    torch.manual_seed(0)
    head = lambda n_bins, n: ConvNet(n_bins, n, channels=(4, 8), dropout=0.0)  # noqa: E731
    frontend = MelSpectrogram(sample_rate=8000, n_fft=256, hop_length=80, n_mels=20)
    model = Classifier(frontend, head, num_classes=num_classes, augment=list(augment), **settings)
    model.setup("fit")
    model.trainer = SimpleNamespace(global_step=0, log_every_n_steps=50)  # pyright: ignore[reportAttributeAccessIssue]
    return model


def pcm(n: int = 6) -> SimpleNamespace:
    waveform = (3000 * torch.randn(n, 1, 800)).to(torch.int16)
    return SimpleNamespace(waveform=waveform, target=torch.arange(n) % 3, clip=torch.arange(n))


# --- in the classifier ---


def test_waveforms_come_as_float_before_the_front_end_and_spectrograms_behind_it() -> None:
    behind, before, again = Spy("spectrogram"), Spy("waveform"), Spy("waveform")
    batch, model = pcm(), classifier(behind, before, again)
    model.training_step(batch, 0)
    waveform, target = before.seen[0]
    assert torch.equal(waveform, batch.waveform.float() / 32768)
    assert torch.equal(target, F.one_hot(batch.target, 3).float())
    assert torch.equal(again.seen[0][0], waveform + 0.25)
    torch.testing.assert_close(behind.seen[0][0], model.frontend(waveform + 0.5))


def test_it_is_off_in_evaluation_and_prediction() -> None:
    spy, batch = Spy("waveform"), pcm()
    model, plain = classifier(spy), classifier()
    assert torch.equal(model.predict_windows(batch.waveform), plain.predict_windows(batch.waveform))
    model.eval()
    model.validation_step(batch, 0)
    assert spy.seen == []


def test_shares_of_unmixed_clips_have_the_loss_of_their_classes() -> None:
    batch = pcm()
    plain, mixing = (classifier(*augment).training_step(batch, 0) for augment in ((), (Mixup(probability=0.0),)))
    torch.testing.assert_close(mixing, plain)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_every_task_trains_on_mixtures(task: Any) -> None:
    batch, model = pcm(), classifier(Mixup(), task=task)
    if task != "multiclass":
        batch.target = torch.rand(6, 3).round()
    loss = model.training_step(batch, 0)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


# --- in whole runs ---


@pytest.fixture(scope="module")
def overlay(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything at once, with a store of its own for the noise."""
    folder = tmp_path_factory.mktemp("augmented")
    shutil.copytree(tones, folder / "noise")
    (folder / "all.yaml").write_text(ALL.format(store=folder / "noise"))
    return folder / "all.yaml"


@pytest.fixture(scope="module")
def whole(overlay: Path, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all of it, and averaged weights, that was never stopped."""
    run_dir = tmp_path_factory.mktemp("exact") / "whole"
    assert main(arguments(tones, run_dir, *overlays(overlay))) == 0
    return run_dir


def overlays(overlay: Path) -> list[str]:
    return ["--config", str(overlay), "--config", str(CONF / "augment" / "ema.yaml")]


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(
    whole: Path, overlay: Path, tones: Path, tmp_path: Path
) -> None:
    (tmp_path / "stop.py").write_text(STOP)
    run_dir = tmp_path / "stopped"
    stop = [
        "--trainer.callbacks+=stop.StopAt", "--trainer.callbacks.step", "10",
        "--trainer.callbacks.signal_name", "SIGKILL",
    ]  # fmt: skip
    assert end(begin(tmp_path, *arguments(tones, run_dir, *overlays(overlay), *stop))) == -9
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 9
    assert main(arguments(tones, run_dir, *overlays(overlay), "--ckpt_path", "last")) == 0
    one, two = weights(whole), weights(run_dir)
    assert all(torch.equal(one[name], two[name]) for name in one)
    for path in (whole, run_dir):  # what goes on training, beside the average of it
        content = torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)
        assert not torch.equal(content["current_model_state"]["head.output.weight"], one["head.output.weight"])


def test_averaged_weights_are_what_is_kept_and_tested(whole: Path) -> None:
    """`audiocls validate` of the last checkpoint gives what the run itself gave for its averaged weights."""
    assert main(["validate", "--run_dir", str(whole), "--ckpt_path", "last", "--trainer.devices", "1"]) == 0
    again = pd.read_csv(whole / "val_metrics.csv").iloc[-1]
    in_training = pd.read_csv(whole / "metrics.csv").iloc[-1]
    assert again["val/loss"] == pytest.approx(in_training["val/loss"], rel=1e-6)
    content = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    plain = dict(content, state_dict=content["current_model_state"])
    torch.save(plain, whole / "checkpoints" / "plain.ckpt")
    assert main(["validate", "--ckpt_path", str(whole / "checkpoints" / "plain.ckpt")]) == 0
    assert pd.read_csv(whole / "val_metrics.csv").iloc[-1]["val/loss"] != pytest.approx(again["val/loss"], rel=1e-3)


def test_a_model_is_used_where_its_noise_is_not(whole: Path, overlay: Path, tone_files: Path, tmp_path: Path) -> None:
    noise, away = overlay.parent / "noise", overlay.parent / "away"
    noise.rename(away)
    try:
        clip = next(tone_files.rglob("*.wav"))
        assert main(["predict", "--run_dir", str(whole), str(clip)]) == 0
        assert main(["test", "--run_dir", str(whole)]) == 0
        model = Classifier.load_from_checkpoint(whole / "checkpoints" / "best.ckpt", weights_only=True)
        assert [type(part).__name__ for part in model.augment][:2] == ["SpecAugment", "Gain"]
    finally:
        away.rename(noise)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"class_path": "audiocls.augment.Mixup", "init_args": {"labels": "union"}},
            "labels='union' is for multilabel",
        ),
        ({"class_path": "audiocls.augment.Gian"}, "did you mean 'audiocls.augment.Gain'?"),
        (
            {
                "class_path": "audiocls.augment.BackgroundNoise",
                "init_args": {
                    "recordings": {"class_path": "datamodules.noise.NoiseStore", "init_args": {"store": "nowhere"}}
                },
            },
            "nowhere does not exist: give the folder",
        ),
    ],
)
def test_a_slip_ends_in_one_line(
    setting: dict[str, Any], message: str, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "slip.yaml").write_text(yaml.safe_dump({"model": {"augment": [setting]}}))
    more = ["--config", str(tmp_path / "slip.yaml")]
    try:
        status = main(arguments(tones, tmp_path / "run", *more))
    except SystemExit as stopped:  # by the parser
        status = stopped.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


# --- averages of weights, which are Lightning's ---


class Keep(Callback):
    """The weights after every step."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.weights.append(pl_module.head.output.weight.detach().clone())


def fitted(tones: Path, folder: Path, callback: Callback) -> tuple[Classifier, list[Tensor]]:
    data, keep = AudioFolder(str(tones), clip_seconds=0.1, batch_size=3), Keep()
    model = classifier(frontend_lr=0.5)
    trainer = pl.Trainer(
        max_epochs=4, callbacks=[callback, keep], default_root_dir=folder, logger=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(model, data)
    return model, keep.weights


def test_ema_is_the_formula_over_the_steps(tones: Path, tmp_path: Path) -> None:
    model, steps = fitted(tones, tmp_path, EMAWeightAveraging(decay=0.9))
    average = steps[0]
    for weight in steps[1:]:
        average = 0.9 * average + 0.1 * weight
    torch.testing.assert_close(model.head.output.weight.detach(), average, atol=1e-6, rtol=0)


def test_swa_is_a_mean_over_epochs_and_knows_the_groups(tones: Path, tmp_path: Path) -> None:
    """Lightning's takes the weights at the beginning of each epoch, from the one before `swa_epoch_start` on."""
    model, steps = fitted(tones, tmp_path, StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=2))
    ends = steps[STEPS - 1 :: STEPS]
    expected = torch.stack(ends[:3]).mean(0)
    torch.testing.assert_close(model.head.output.weight.detach(), expected, atol=1e-6, rtol=0)
